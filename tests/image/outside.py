"""A simulated account with its CDN and a real S3 server, where the containers of a composition reach them."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from archiver.model import task_folder
from tests.harness.daemons import until
from tests.harness.programs import program
from tests.s3_servers import RcloneServer, running
from tests.s3_servers.process import Process, free_port
from tests.simulator import KlingSimulator, Switches

BUCKET = "results"
ROOT_CERTIFICATE = "kling/root.crt"
"""Beside the keys, where workers and gateways read it."""
CADDYFILE = """\
{{
	admin off
	skip_install_trust
}}
https://{address}:{api_port} {{
	bind {address}
	tls internal
	reverse_proxy 127.0.0.1:{simulator_port}
}}
http://{address}:{cdn_port} {{
	bind {address}
	reverse_proxy 127.0.0.1:{simulator_port}
}}
http://{address}:{store_port} {{
	bind {address}
	reverse_proxy 127.0.0.1:{rclone_port}
}}
"""
"""With TLS before the API: without it, the program asks an API on its own machine only, which is the container."""


class Outside:
    """Reached with these settings and secrets."""

    def __init__(self, simulator: KlingSimulator, store: RcloneServer, address: str) -> None:
        self._simulator, self._store = simulator, store
        self._ports = {name: free_port() for name in ("api_port", "cdn_port", "store_port")}
        self._address = address
        cdn = f"http://{address}:{self._ports['cdn_port']}"
        simulator.switches.cdn_origin = cdn
        self.settings = {
            "KLING_BASE_URL": f"https://{address}:{self._ports['api_port']}",
            "KLING_ASSET_HOSTS": cdn,
            "KLING_S3_ENDPOINT_URL": f"http://{address}:{self._ports['store_port']}",
            "KLING_S3_REGION": store.region,
            "KLING_S3_BUCKET": BUCKET,
            "SSL_CERT_FILE": f"/run/secrets/{ROOT_CERTIFICATE}",
        }
        self.secrets = {
            "kling/access_key": simulator.access_key,
            "kling/secret_key": simulator.secret_key,
            "store/aws_credentials": "[default]\n"
            f"aws_access_key_id = {store.access_key}\naws_secret_access_key = {store.secret_key}",
        }
        store.client.create_bucket(Bucket=BUCKET)

    def caddyfile(self) -> str:
        """What lets containers in."""
        return CADDYFILE.format(
            address=self._address,
            simulator_port=self._simulator.port,
            rclone_port=self._store.port,
            **self._ports,
        )

    def create_task(self) -> str:
        """One that has succeeded, and that only its callback can bring."""
        task = self._simulator.create_task()
        self._simulator.succeed(task)
        self._simulator.hide_from_list(task)
        return task

    def wait_archived(self, task: str) -> None:
        """Return once its manifest is in the bucket."""
        until(lambda: f"{self.folder_of(task)}manifest.json" in self._keys(), what=f"manifest of {task}")

    def folder_of(self, task: str) -> str:
        """Where the task's files are in the bucket."""
        found = self._simulator.task(task)
        return task_folder(prefix="", family=found.family.path, created_at=found.created_at, task_id=task)

    def expected_bytes(self, task: str) -> bytes:
        """Of its only file."""
        [name] = self._simulator.expected_names(task)
        return self._simulator.expected_bytes(task, name)

    @property
    def complaints(self) -> list[str]:
        """What the real account would not have expected."""
        return self._simulator.complaints

    def _keys(self) -> set[str]:
        listed: Any = self._store.client.list_objects_v2(Bucket=BUCKET)
        return {row["Key"] for row in listed.get("Contents", [])}


@contextlib.contextmanager
def running_outside(address: str, folder: pathlib.Path) -> Iterator[Outside]:
    """`address` is this machine's own on the network of the containers."""
    folder.mkdir()
    with KlingSimulator(switches=Switches()) as simulator, running(RcloneServer) as store:
        assert isinstance(store, RcloneServer)
        outside = Outside(simulator, store, address)
        file = folder / "Caddyfile"
        file.write_text(outside.caddyfile())
        root = folder / "caddy/pki/authorities/local/root.crt"
        caddy = Process(
            "caddy",
            [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(file)],
            log=folder / "caddy.log",
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": str(folder)},
        )
        try:
            caddy.wait_until(root.exists)
            outside.secrets[ROOT_CERTIFICATE] = root.read_text()
            yield outside
        finally:
            caddy.stop()
