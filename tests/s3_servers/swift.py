"""OpenStack Swift with its S3 API from the virtual environment: a real object store that needs nothing but pip.

Proxy, account, container and object server run without worker processes and without memcached. The object server
keeps metadata in extended attributes, so the temporary folder's file system must have them (ext4, xfs; TMPDIR
points elsewhere).
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from tests.s3_servers.process import free_port
from tests.s3_servers.server import S3Server, ServerMissing, Weakness

BINARIES = Path(sys.executable).parent
CLUSTER_PROGRAM = (sys.executable, "-P", str(Path(__file__).with_name("swift_cluster.py")))
LISTING_ROWS_MAX = 20
"""Rows in a page of a listing; S3 has 1,000. So few, that a test sees several pages without 3,000 objects."""

COMMON = """\
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {etc}
user = {user}
log_name = swift
log_level = WARNING
log_udp_host =
log_address = {folder}/no-syslog
"""

CLUSTER = """\
[swift-hash]
swift_hash_path_suffix = kling
swift_hash_path_prefix = archiver
[storage-policy:0]
name = Policy-0
default = yes
[swift-constraints]
max_header_size = 16384
"""

BACKEND = """\
[DEFAULT]
{common}
devices = {folder}/data
mount_check = false
fallocate_reserve = 0
disable_fallocate = true
[pipeline:main]
pipeline = {role}-server
[app:{role}-server]
use = egg:swift#{role}
recon_cache_path = {folder}/recon
"""

PROXY = """\
[DEFAULT]
{common}
[pipeline:main]
pipeline = catch_errors gatekeeper listing_formats bulk s3api tempauth slo dlo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
conn_timeout = 5
node_timeout = 60
[filter:s3api]
use = egg:swift#s3api
location = {region}
s3_acl = false
check_bucket_owner = false
max_bucket_listing = {listing_rows_max}
[filter:tempauth]
use = egg:swift#tempauth
user_{account_and_user} = {secret_key} .admin
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
[filter:symlink]
use = egg:swift#symlink
"""


class SwiftServer(S3Server):
    """Four processes: object, container, account and proxy server."""

    name: ClassVar[str] = "swift"
    weaknesses: ClassVar[frozenset[Weakness]] = frozenset({Weakness.CONDITION_RACES})
    access_key: ClassVar[str] = "test:archiver"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._ports = {role: free_port() for role in ("object", "container", "account")}

    @classmethod
    def require(cls) -> None:
        if not (BINARIES / "swift-proxy-server").exists():
            raise ServerMissing("swift: no swift-proxy-server beside the interpreter (pip install swift)")

    def start(self) -> None:
        if not (self.folder / "etc" / "swift.conf").exists():
            self._prepare()
        configs = [f"{role}={self._config(role)}" for role in (*self._ports, "proxy")]
        process = self._spawn("servers", [*CLUSTER_PROGRAM, "serve", *configs])
        for port in (*self._ports.values(), self.port):
            process.wait_until_port(port)

    def _config(self, role: str) -> Path:
        return self.folder / "etc" / f"{role}-server.conf"

    def _prepare(self) -> None:
        (self.folder / "data" / "disk").mkdir()
        (self.folder / "recon").mkdir()
        self._demand_extended_attributes()
        self._build_rings()
        for role, port in self._ports.items():
            text = BACKEND.format(common=self._common(port), folder=self.folder, role=role)
            self._config(role).write_text(text)
        self._config("proxy").write_text(
            PROXY.format(
                common=self._common(self.port),
                region=self.region,
                listing_rows_max=LISTING_ROWS_MAX,
                account_and_user=self.access_key.replace(":", "_"),
                secret_key=self.secret_key,
            )
        )
        (self.folder / "etc" / "swift.conf").write_text(CLUSTER)

    def _demand_extended_attributes(self) -> None:
        try:
            os.setxattr(self.folder / "data" / "disk", "user.swift.probe", b"1")
        except OSError as error:
            raise ServerMissing(
                f"swift: the file system of {self.folder} has no user extended attributes ({error.strerror}); "
                "set TMPDIR to one that has"
            ) from error

    def _common(self, port: int) -> str:
        user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
        return COMMON.format(port=port, etc=self.folder / "etc", user=user, folder=self.folder)

    def _build_rings(self) -> None:
        rings = [
            word
            for role, port in self._ports.items()
            for word in (str(self.folder / "etc" / f"{role}.builder"), str(port))
        ]
        command = [*CLUSTER_PROGRAM, "prepare", *rings]
        subprocess.run(command, check=True, capture_output=True, timeout=180)
