"""Two PostgreSQL servers, of which one writes and the other follows it, as in production: streaming replication, and
COMMIT waits for the standby. After a failover they have changed places."""

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from tests.harness.disks import small_disk
from tests.postgres.server import PostgresServer

_SETTINGS = {
    "wal_level": "replica",
    "max_wal_senders": "5",
    "synchronous_standby_names": "*",
    "wal_keep_size": "64MB",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "wal_retrieve_retry_interval": "100ms",
    "deadlock_timeout": "200ms",
}
_SMALL_FILES = ("--wal-segsize=1",)
"""A log of 1 MB a file needs room on the disk often."""


class PostgresPair:
    """`primary` writes. `folder` is an address that an operator points at one of the two: a symbolic link to where its
    socket is."""

    def __init__(self, top: pathlib.Path) -> None:
        """`top`/a and `top`/b, which must be there when they start, are the servers'."""
        self.folder = top / "address"
        self.primary = PostgresServer(top / "a", settings=_SETTINGS, initdb_options=_SMALL_FILES)
        self.standby = PostgresServer(top / "b", settings=_SETTINGS, initdb_options=_SMALL_FILES)

    def start(self) -> None:
        """Return once COMMIT has a standby to wait for."""
        self.primary.start()
        self.point_at(self.primary)
        self.add_standby()

    def add_standby(self) -> None:
        """Make the second server one, whatever it was."""
        self.standby.copy(self.primary)
        self.start_standby()

    def start_standby(self) -> None:
        """Return once it follows."""
        self.standby.start()
        self.standby.wait_until(self._is_followed)

    def _is_followed(self) -> bool:
        return bool(self.primary.ask("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"))

    def point_at(self, server: PostgresServer) -> None:
        """Let the address lead to this one from now on."""
        aside = self.folder.with_name("aside")
        aside.symlink_to(server.folder)
        aside.replace(self.folder)

    def promote(self) -> None:
        """Let the standby write. Until the other one follows it, no COMMIT has an answer."""
        self.primary, self.standby = self.standby, self.primary
        self.primary.ask("SELECT pg_promote()")

    def url(self, database: str) -> str:
        """That names both, and leads to the one that writes."""
        hosts = "&".join(f"host={server.folder}" for server in self.servers)
        return f"postgresql://postgres@/{database}?{hosts}&target_session_attrs=read-write"

    @property
    def servers(self) -> tuple[PostgresServer, PostgresServer]:
        """The one that writes first."""
        return self.primary, self.standby

    def count_logged(self, words: str) -> int:
        """In the logs of both since they were made."""
        return sum(server.log.read_text(errors="replace").count(words) for server in self.servers)

    def create_database(self) -> str:
        """A fresh one; its name."""
        return self.primary.create_database()

    def kill(self) -> None:
        """SIGKILL to every process of both."""
        self.primary.kill()
        self.standby.kill()


@contextlib.contextmanager
def running_pair(*, disk_megabytes: int | None = None) -> Iterator[PostgresPair]:
    """Started, in folders of its own, which may be a small disk each. All is gone afterwards. Raises CalledProcessError
    where no such disk can be mounted."""
    with contextlib.ExitStack() as opened:
        top = pathlib.Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        opened.callback(shutil.rmtree, top, ignore_errors=True)
        pair = PostgresPair(top)
        for server in pair.servers:
            server.folder.mkdir()
            if disk_megabytes is not None:
                opened.enter_context(small_disk(server.folder, megabytes=disk_megabytes))
        opened.callback(pair.kill)
        pair.start()
        yield pair
