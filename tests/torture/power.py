"""The power fails at random moments under load: only a snapshot of the ledger's files remains.

The daemon stands still (SIGSTOP) during a snapshot, so that ledger and log are of one moment, as in a snapshot of a
file system or disk. Some snapshots lack the `-shm` file, which is never synced; some have a torn write at the end of
the log. From each, a fresh daemon goes on against the same bucket, and must archive every task that was answered 200
before that moment, with one set of objects.
"""

import contextlib
import dataclasses
import enum
import pathlib
import random
import shutil
import sqlite3
import threading

from tests.harness.daemons import Daemon, Load, Site
from tests.s3_servers import RcloneServer, S3Server, running
from tests.simulator import faults
from tests.torture.counting import compare, not_archived, wait_archived
from tests.torture.figures import Figure, none_of
from tests.torture.options import Options

ROUNDS_A_COPY = 10
"""A recovery takes as long as several kills."""
TORN_BYTES_MAX = 6000
"""More than one frame of SQLite's log."""


class Files(enum.Enum):
    """The files of a snapshot beside the ledger itself."""

    ALL = "-wal and -shm"
    WITHOUT_SHM = "-wal alone"
    TORN = "-wal with a torn write at its end"


@dataclasses.dataclass(frozen=True)
class Copy:
    """The ledger's files at one moment, and the tasks answered 200 by then."""

    folder: pathlib.Path
    acknowledged: frozenset[str]

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'ledger.db'}"


@dataclasses.dataclass
class Tally:
    """What was counted."""

    copies: int = 0
    acknowledged: int = 0
    """Tasks answered 200 before the last copy."""
    open_tasks: int = 0
    """Tasks not archived in a copy: its daemon had to finish them."""
    unsound: int = 0
    """Copies that fail SQLite's check or lack an id that was answered 200."""
    lost: int = 0
    extra: int = 0
    wrong: int = 0

    def figures(self, *, copies: int) -> list[Figure]:
        return [
            Figure("copies recovered from", self.copies, minimum=copies),
            Figure("tasks acknowledged before the last one", self.acknowledged, minimum=copies),
            Figure("tasks finished after a recovery", self.open_tasks, minimum=copies),
            none_of("copies that are not a sound database", self.unsound),
            none_of("acknowledged before a copy and lost", self.lost),
            none_of("objects with wrong bytes", self.wrong),
            none_of("extra objects", self.extra),
        ]


def measure(options: Options) -> list[Figure]:
    """One copy for every `ROUNDS_A_COPY` of `options.rounds`, and at least one with each kind of files."""
    copies = max(len(Files), options.rounds // ROUNDS_A_COPY)
    with running(RcloneServer) as server:
        tally = fail(options, server, copies=copies)
    return tally.figures(copies=copies)


def fail(options: Options, server: S3Server, *, copies: int) -> Tally:
    """Copy one site at random moments, recover from each copy, and count."""
    choose = random.Random(options.seed)
    tally = Tally()
    with Site(options.folder, server) as site:
        site.sim.fault("cdn", faults.Drip(piece_bytes=400, pause_seconds=0.05))
        daemon = site.start()
        daemon.wait_ready()
        taken = []
        with Load(site, seed=options.seed) as load:
            for number in range(copies):
                # The random moment is the point, so this waits for time only.
                threading.Event().wait(choose.uniform(0.1, 1.0))
                files = list(Files)[number % len(Files)]
                taken.append(_copy(site, daemon, load, folder=site.folder / f"copy-{number}", files=files))
        daemon.kill()
        site.sim.clear_faults()
        # The newest first: an older copy would put objects that the newest should put.
        for done, copy in enumerate(reversed(taken), start=1):
            _recover(site, copy, tally)
            options.on_progress(done, copies)
        tally.acknowledged = len(taken[-1].acknowledged)
        found = compare(site, load.created)
        tally.lost += len(found.incomplete & taken[-1].acknowledged)
        tally.wrong, tally.extra = found.wrong, found.extra
        assert site.sim.complaints == []
    return tally


def _copy(site: Site, daemon: Daemon, load: Load, *, folder: pathlib.Path, files: Files) -> Copy:
    folder.mkdir()
    with daemon.frozen():
        acknowledged = frozenset(load.acknowledged)
        for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
            shutil.copy(site.folder / name, folder / name)
    if files is not Files.ALL:
        (folder / "ledger.db-shm").unlink()
    if files is Files.TORN:
        with (folder / "ledger.db-wal").open("ab") as log:
            log.write(random.Random(len(acknowledged)).randbytes(TORN_BYTES_MAX))
    return Copy(folder, acknowledged)


def _recover(site: Site, copy: Copy, tally: Tally) -> None:
    """Start a daemon on the copy, as after the power is back."""
    tally.copies += 1
    tally.unsound += not _is_sound(copy)
    site.environment["KLING_LEDGER_URL"] = copy.url
    tally.open_tasks += len(not_archived(site, copy.acknowledged))
    daemon = site.start()
    daemon.wait_ready()
    wait_archived(site, copy.acknowledged)
    tally.lost += len(not_archived(site, copy.acknowledged))
    assert daemon.stop() == 0, daemon.output


def _is_sound(copy: Copy) -> bool:
    """SQLite's own check, on a second copy: opening a database with a log changes its files."""
    with contextlib.ExitStack() as stack:
        folder = copy.folder.with_name(f"{copy.folder.name}-checked")
        shutil.copytree(copy.folder, folder)
        stack.callback(shutil.rmtree, folder)
        connection = stack.enter_context(contextlib.closing(sqlite3.connect(folder / "ledger.db")))
        known = {row[0] for row in connection.execute("SELECT task_id FROM tasks")}
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        return verdict == "ok" and copy.acknowledged <= known
