"""A single-node Ceph: one monitor, one BlueStore OSD on a sparse file, one RADOS gateway.

It comes with apt, not with pip, so it is used where it is installed (`.ci/run` installs it). The temporary folder's
file system must know O_DIRECT (ext4, xfs).
"""

import shutil
import subprocess
import uuid
from pathlib import Path
from typing import ClassVar

from tests.s3_servers.process import free_port
from tests.s3_servers.server import S3Server, ServerMissing, Weakness

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph-authtool", "ceph")
PACKAGES = "radosgw ceph-mon ceph-osd ceph-common"

CONFIG = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{monitor_port}/0]
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = {folder}/etc/keyring
run_dir = {folder}/run
admin_socket =
log_file =
log_to_stderr = true
err_to_stderr = true
mon_cluster_log_file = {folder}/log/cluster.log
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 2
osd_pool_default_pgp_num = 2
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_max_pg_per_osd = 1000
ms_bind_ipv6 = false
# a test node, not a data centre: little memory
osd_memory_target = 939524096
bluestore_cache_autotune = false
bluestore_cache_size = 134217728
# a lone monitor need not wait to batch its map changes: a fresh store is up in seconds
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
mon_tick_interval = 1
[mon]
mon_data = {folder}/data/mon
mon_data_avail_crit = 1
mon_data_avail_warn = 2
[osd]
osd_data = {folder}/data/osd
osd_objectstore = bluestore
bluestore_block_size = 10737418240
bluestore_fsck_on_mount = false
osd_class_update_on_start = true
osd_scrub_begin_hour = 0
osd_scrub_end_hour = 0
# after kill -9, do not wait 30 s for the dead gateway to hear of a new bucket; on a slow machine less is too short for
# a gateway that lives
osd_client_watch_timeout = 5
[client]
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_data = {folder}/data/rgw
rgw_run_sync_thread = false
rgw_enable_usage_log = false
rgw_enable_ops_log = false
"""


ABORTS_MAX = 5
"""So often a program of Ceph may abort. On a busy machine it has done so twice."""


class CephServer(S3Server):
    """Three processes: monitor, OSD and gateway."""

    name: ClassVar[str] = "ceph"
    weaknesses: ClassVar[frozenset[Weakness]] = frozenset()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._monitor_port = free_port()
        self._config = folder / "etc" / "ceph.conf"

    @classmethod
    def require(cls) -> None:
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
        if missing:
            raise ServerMissing(f"ceph: {', '.join(missing)} not installed (apt-get install {PACKAGES})")

    def start(self) -> None:
        fresh = not self._config.exists()
        if fresh:
            self._prepare_monitor()
        self._spawn("mon", self._of("ceph-mon", "-f", "-i", "a")).wait_until_port(self._monitor_port)
        if fresh:
            self._prepare_osd()
        # A gateway that starts before its OSD is in the map waits out a timeout of 10 s.
        (self.folder / "log" / "osd.log").unlink(missing_ok=True)
        osd = self._spawn("osd", self._of("ceph-osd", "-f", "-i", "0"))
        osd.wait_until(lambda: osd.logged("booting -> active"))
        if fresh:
            self.create_user("archiver", access_key=self.access_key, secret_key=self.secret_key)
        self._spawn("rgw", self._of("radosgw", "-f", "-n", "client.rgw")).wait_until_port(self.port)

    def create_user(self, name: str, *, access_key: str, secret_key: str) -> str:
        """Another user of the gateway, without any right to others' buckets. Returns its ARN."""
        keys = ["--access-key", access_key, "--secret-key", secret_key]
        self._run("radosgw-admin", "user", "create", "--uid", name, "--display-name", name, *keys)
        return f"arn:aws:iam:::user/{name}"

    def suspend_user(self, name: str, *, suspended: bool) -> None:
        """From now on the gateway refuses the user's keys, or takes them again."""
        self._run("radosgw-admin", "user", "suspend" if suspended else "enable", "--uid", name)

    def limit_objects(self, name: str, objects_max: int) -> None:
        """A quota on all buckets of a user; enforced at once for a user that has written nothing yet."""
        scope = ["--quota-scope", "user", "--uid", name]
        self._run("radosgw-admin", "quota", "set", *scope, "--max-objects", str(objects_max))
        self._run("radosgw-admin", "quota", "enable", *scope)

    def _of(self, program: str, *arguments: str) -> list[str]:
        return [program, "-c", str(self._config), *arguments]

    def _run(self, program: str, *arguments: str) -> str:
        """Run a program to its end, again if a signal ended it: radosgw-admin 16.2 may abort while it lets go of the
        cluster (`RGWWatcher::reinit`), with its work done or not. What it does, it can do twice; but where the first
        time has created a user, the second says that the user exists."""
        done = self._run_once(program, *arguments)
        for _ in range(ABORTS_MAX):
            if done.returncode >= 0:
                break
            done = self._run_once(program, *arguments)
            if done.stderr.rstrip().endswith(" exists"):
                return done.stdout
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(arguments)}: {done.stderr[-2000:]}")
        return done.stdout

    def _run_once(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._of(program, *arguments), check=False, capture_output=True, text=True, timeout=180
        )

    def _prepare_monitor(self) -> None:
        fsid = str(uuid.uuid4())
        for name in ("run", "data/mon", "data/osd", "data/rgw"):
            (self.folder / name).mkdir()
        self._config.write_text(
            CONFIG.format(fsid=fsid, folder=self.folder, port=self.port, monitor_port=self._monitor_port)
        )
        keyring, map_file = str(self.folder / "etc" / "keyring"), str(self.folder / "etc" / "monmap")
        create_key = ["ceph-authtool", keyring, "--gen-key", "-n"]
        subprocess.run(
            [*create_key, "mon.", "--create-keyring", "--cap", "mon", "allow *"],
            check=True,
            capture_output=True,
        )
        for name in ("client.admin", "client.rgw", "osd.0"):
            rights = [word for part in ("mon", "osd", "mgr") for word in ("--cap", part, "allow *")]
            subprocess.run([*create_key, name, *rights], check=True, capture_output=True)
        address = f"[v2:127.0.0.1:{self._monitor_port}]"
        make_map = ["monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", address, map_file]
        subprocess.run(make_map, check=True, capture_output=True)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", map_file, "--keyring", keyring)

    def _prepare_osd(self) -> None:
        identity = str(uuid.uuid4())
        self._run("ceph", "osd", "new", identity)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", identity)
