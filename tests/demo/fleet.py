"""The processes of the product that the demo runs: one whole daemon, or doors and workers on PostgreSQL."""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.demo.arrivals import LogTail
from tests.demo.daemon import Daemon, PrintEvent
from tests.demo.folder import DemoFolder
from tests.demo.leash import leashed
from tests.demo.stopping import DemoFailed
from tests.s3_servers.process import free_port

DOORS = WORKERS = 2
SOCKET_PATH_BYTES_MAX = 107
OF_A_DOOR = ("KLING_CALLBACK_TOKEN",)
OF_ALL = ("KLING_LEDGER_URL", "KLING_DRAIN_SECONDS", "KLING_SHUTDOWN_SECONDS", "KLING_LOG_FORMAT")


class Fleet:
    """All of them are supervised alike; `doors` take callbacks, `workers` do the rest."""

    def __init__(self, doors: Sequence[Daemon], workers: Sequence[Daemon]) -> None:
        self.doors = doors
        self.workers = workers
        self.all = tuple(dict.fromkeys((*doors, *workers)))
        self.logs = [LogTail(daemon.log) for daemon in self.all]
        self._killed: set[Daemon] = set()

    @classmethod
    def of_one(cls, settings: Mapping[str, str], *, folder: DemoFolder, print_event: PrintEvent) -> "Fleet":
        """The daemon on an SQLite ledger."""
        daemon = Daemon(
            settings=settings,
            working_folder=folder.root,
            log=folder.root / "daemon.log",
            print_event=print_event,
        )
        return cls([daemon], [daemon])

    @classmethod
    def of_many(cls, settings: Mapping[str, str], *, folder: DemoFolder, print_event: PrintEvent) -> "Fleet":
        """Doors and workers, each with its own settings only."""

        def member(role: str, number: int, program: Sequence[str]) -> Daemon:
            is_door = role == "door"
            port = settings["KLING_PORT"] if is_door and not number else str(free_port())
            own = {
                name: value
                for name, value in settings.items()
                if name in OF_ALL or (name in OF_A_DOOR) is is_door
            }
            return Daemon(
                settings={**own, "KLING_PORT": port},
                working_folder=folder.root,
                log=folder.root / f"{role}-{number + 1}.log",
                print_event=print_event,
                name=f"{role} {number + 1}",
                program=program,
            )

        doors = [member("door", number, ("receiver", "--edge-only")) for number in range(DOORS)]
        workers = [member("worker", number, ("archiver", "work")) for number in range(WORKERS)]
        return cls(doors, workers)

    @property
    def is_ready(self) -> bool:
        return all(daemon.is_ready for daemon in self.all)

    @property
    def starts(self) -> int:
        return sum(daemon.starts for daemon in self.all)

    def start(self) -> None:
        for daemon in self.all:
            daemon.start()

    def supervise(self) -> None:
        """As `Daemon.supervise`."""
        for daemon in self.all:
            daemon.supervise()

    def stop(self) -> list[str]:
        """SIGTERM to each; what was wrong about how they ended."""
        for daemon in self.all:
            daemon.terminate()
        return [problem for daemon in self.all for problem in daemon.stop()]

    def kill_once(self, daemon: Daemon, print_event: PrintEvent) -> None:
        """kill -9, the first time that this is called for it."""
        if daemon not in self._killed and daemon.is_ready:
            self._killed.add(daemon)
            print_event("killed", f"{daemon.name} (pid {daemon.pid}) by kill -9; the others go on")
            os.kill(daemon.pid, signal.SIGKILL)

    def tasks(self) -> dict[str, int]:
        """Tasks by state, as any of them says."""
        return next((tasks for daemon in self.all if (tasks := daemon.tasks())), {})

    @property
    def noun(self) -> str:
        return "the daemon" if len(self.all) == 1 else "doors and workers"

    def words(self) -> str:
        """For the screen."""
        ready = sum(daemon.is_ready for daemon in self.all)
        if len(self.all) == 1:
            return f"pid {self.all[0].pid}" if ready else "starting"
        return f"{ready} of {len(self.all)} processes"


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The URL of a ledger in a PostgreSQL server that runs meanwhile. Raises `DemoFailed`."""
    from tests.postgres import PostgresServer  # noqa: PLC0415 -- a wheel plays the demo without it

    if len(os.fsencode(folder / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES_MAX:
        raise DemoFailed(
            f"the path of {folder} is too long for a PostgreSQL socket: start in another folder."
        )
    folder.mkdir()
    server = PostgresServer(folder, leash=leashed)
    try:
        server.start()
        yield server.url(server.create_database())
    finally:
        server.kill()
