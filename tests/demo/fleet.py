"""The processes of the product that the demo runs: one whole daemon, or doors, a gateway and workers on PostgreSQL."""

import contextlib
import os
import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from tests.demo.arrivals import LogTail
from tests.demo.daemon import Daemon, PrintEvent
from tests.demo.folder import DemoFolder
from tests.demo.leash import leashed
from tests.demo.stopping import DemoFailed
from tests.s3_servers.process import free_port

DOORS = WORKERS = 2
SOCKET_PATH_BYTES_MAX = 107
OF_ALL = ("KLING_LEDGER_URL", "KLING_DRAIN_SECONDS", "KLING_SHUTDOWN_SECONDS", "KLING_LOG_FORMAT")
OF_A_DOOR = frozenset({*OF_ALL, "KLING_CALLBACK_TOKEN"})
NOT_OF_A_WORKER = frozenset({"KLING_CALLBACK_TOKEN", "KLING_GATEWAY", "KLING_ADMIN_TOKEN"})
NOT_OF_A_GATEWAY = frozenset({"KLING_ADMIN_TOKEN"})
"""Names of settings, by what a process is for."""


class Fleet:
    """All of them are supervised alike; `doors` take callbacks, `gateway` serves clients, `workers` do the rest."""

    def __init__(self, doors: Sequence[Daemon], gateway: Daemon, workers: Sequence[Daemon]) -> None:
        self.doors = doors
        self.gateway = gateway
        self.workers = workers
        self.all = tuple(dict.fromkeys((*doors, gateway, *workers)))
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
        return cls([daemon], daemon, [daemon])

    @classmethod
    def of_many(cls, settings: Mapping[str, str], *, folder: DemoFolder, print_event: PrintEvent) -> "Fleet":
        """Doors, a gateway and workers, each with its own settings only."""

        def member(name: str, program: Sequence[str], own: Collection[str]) -> Daemon:
            given = {setting: value for setting, value in settings.items() if setting in own}
            return Daemon(
                settings={**given, "KLING_PORT": str(free_port())},
                working_folder=folder.root,
                log=folder.root / f"{name.replace(' ', '-')}.log",
                print_event=print_event,
                name=name,
                program=program,
            )

        of_a_gateway, of_a_worker = settings.keys() - NOT_OF_A_GATEWAY, settings.keys() - NOT_OF_A_WORKER
        return cls(
            [
                member(f"door {number}", ("receiver", "--edge-only"), OF_A_DOOR)
                for number in range(1, DOORS + 1)
            ],
            member("gateway", ("receiver", "--gateway-only"), of_a_gateway),
            [
                member(f"worker {number}", ("archiver", "work"), of_a_worker)
                for number in range(1, WORKERS + 1)
            ],
        )

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
        return "the daemon" if len(self.all) == 1 else "doors, gateway and workers"

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
