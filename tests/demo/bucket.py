"""The S3 server of the demo: rclone from a wheel, serving a folder that the user can look into."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.demo.leash import leashed
from tests.demo.stopping import DemoFailed
from tests.s3_servers.process import Process, listens
from tests.s3_servers.rclone import RcloneServer
from tests.s3_servers.server import ServerMissing

BUCKET = "kling-results"


class BucketServer(RcloneServer):
    """rclone on a leash."""

    @property
    def bucket_folder(self) -> Path:
        """The bucket: objects are files in it, keys are paths."""
        return self.folder / "data" / BUCKET

    def log_tail(self) -> str:
        return (self.folder / "log" / "server.log").read_text(errors="replace")[-2000:].strip()

    def demand_alive(self) -> None:
        """Raises `DemoFailed`."""
        if not listens(self.port):
            raise DemoFailed(f"the S3 server has ended. Its log ends with:\n{self.log_tail()}")

    def _spawn(self, name: str, command: list[str], *, env: Mapping[str, str] | None = None) -> Process:
        return super()._spawn(name, leashed(command), env=env)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[BucketServer]:
    """A started server with one empty bucket. Raises `DemoFailed`."""
    try:
        BucketServer.require()
    except ServerMissing as error:
        raise DemoFailed(f"{error}.") from error
    server = BucketServer(folder)
    server.bucket_folder.mkdir()
    try:
        _start(server)
        yield server
    finally:
        server.stop()


def _start(server: BucketServer) -> None:
    try:
        server.start()
    except RuntimeError as error:
        raise DemoFailed(f"the S3 server did not start: {error}") from error
