"""One process of the daemon on the timeline: the real worker with all its loops, on fibers in place of threads.

No part of the worker is copied. Replaced are its threads and pools (by fibers), its clocks and waits (by the timeline),
and the outside (by `outside`).

Some loops poll, and mostly find nothing; 120 days have 20 million half seconds:

- The verify and archive loops poll the ledger twice a second. A poll that can see nothing new is skipped (`Looking`):
  the ledger was not written since, and no row has come due.
- The renewal of leases is skipped while there are none (`Renewing`).
- The sweep loop polls its schedule every half second; here every `SWEEP_LOOK_SECONDS`, so sweeps begin late.
- The loop of amendments polls every few seconds; here every `FOLDER_LOOK_SECONDS`, so amendments come late.
- Looks poll their pace every half second; here every `LOOK_SECONDS`, or when work fails, so they end holds late.
- The upkeep runs every 5 s, mostly as a heartbeat; here every `UPKEEP_SECONDS`, so tasks expire late.
"""

import concurrent.futures
import dataclasses
import pathlib
import random
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

from archiver.archive.transfer import TransferLimits
from archiver.archive.transfers import HostJudge, TransferQueue
from archiver.engine.api_clocks import ApiClocks
from archiver.engine.stages import Account, Clock, Stages, build_stages
from archiver.engine.threads import Threads
from archiver.engine.upkeep import Upkeep, UpkeepLoop
from archiver.engine.worker import Worker, WorkerLimits
from archiver.fetch.spool import Spool
from archiver.kling.client import KlingClient
from archiver.kling.credentials import ApiKey
from archiver.kling.limiter import RateLimiter
from archiver.leases import LeaseKeeper
from archiver.ledger import Ledger, new_daemon_name
from archiver.ledger.databases.protocol import WRITE_SECONDS_MAX, Database, Disk, Obstacle
from archiver.metrics import Metrics
from archiver.model import Callback, Stage, Status
from tests.deadlines.outside import Api, Bucket, Cdn
from tests.deadlines.timeline import Died, Fiber, Signal, Timeline
from tests.deadlines.world import FAMILIES, World

ACCOUNT = "default"
MIB = 1024 * 1024
UPKEEP_SECONDS = 1800.0
SWEEP_LOOK_SECONDS = 60.0
FOLDER_LOOK_SECONDS = 300.0
LOOK_SECONDS = 3600.0
GIVE_BACK_SECONDS = 200.0
"""After a stop: longer than any wait of what still runs."""
_STRETCHED = {
    "upkeep-loop": UPKEEP_SECONDS,
    "sweep-loop": SWEEP_LOOK_SECONDS,
    "folder-work-loop": FOLDER_LOOK_SECONDS,
    "api-look-loop": LOOK_SECONDS,
    "store-look-loop": LOOK_SECONDS,
}
_LOOKING = {"verify-loop": ("verify", "inquire"), "archive-loop": ("archive",)}


class MortalLedger(Ledger):
    """The real ledger, which refuses every call of a process that was killed."""

    def __init__(self, database: Database, **options: Any) -> None:
        self._mortal = _MortalDatabase(database)
        super().__init__(self._mortal, **options)

    def die(self) -> None:
        self._mortal.die()


class _MortalDatabase:
    def __init__(self, database: Database) -> None:
        self._database: Database | None = database
        self.name = database.name
        self.has_one_writer = database.has_one_writer

    def die(self) -> None:
        self.close()
        self._database = None

    def _living(self) -> Database:
        if self._database is None:
            raise Died
        return self._database

    def write(self, *, seconds_max: float = WRITE_SECONDS_MAX) -> AbstractContextManager[sa.Connection]:
        return self._living().write(seconds_max=seconds_max)

    def read(self) -> AbstractContextManager[sa.Connection]:
        return self._living().read()

    def now(self) -> int:
        return self._living().now()

    def begin_daemon(self, connection: sa.Connection, *, now: int) -> None:
        self._living().begin_daemon(connection, now=now)

    def insert_new_ids(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> int:
        return self._living().insert_new_ids(connection, rows)

    def try_change(self, connection: sa.Connection, change: Callable[[], object]) -> None:
        self._living().try_change(connection, change)

    def keep_bounded(self) -> None:
        self._living().keep_bounded()

    def disk(self) -> Disk | None:
        return self._living().disk()

    def obstacle(self) -> Obstacle | None:
        return self._living().obstacle()

    def close(self) -> None:
        self._living().close()


class Looking:
    """Whether the next poll of the ledger could see something new: a `Rest`.

    Only rows that are due and free can be claimed, or rows for a hold whose probe is due. So polls are skipped until
    something comes due; if due rows remain (held, or of a failing host), until the ledger is written.
    """

    def __init__(self, path: pathlib.Path, now: Callable[[], int], *, timeline: Timeline) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._now = now
        self._timeline = timeline
        self._looked_at = 0
        self._version: object = None
        self._queues: tuple[str, ...] = ()

    def look(self) -> None:
        """A loop starts its poll: it may miss what comes due from now on."""
        self._looked_at = self._now()

    def rest(self, loop: str) -> None:
        """The loop found nothing to do."""
        self._queues = _LOOKING[loop]
        self._version = self._read_version()

    def _read_version(self) -> object:
        return self._connection.execute("PRAGMA data_version").fetchone()[0]

    def has_changed(self) -> bool:
        before, self._version = self._version, self._read_version()
        if before == self._version:
            return False
        if self._first("due_at FROM tasks WHERE queue = ? AND due_at <= ? AND lease_token IS NULL LIMIT 1"):
            self._looked_at = 0
        return True

    def next_moment(self) -> int | None:
        found = self._first("due_at FROM tasks WHERE queue = ? AND due_at > ? ORDER BY due_at LIMIT 1")
        query = "SELECT min(probe_at) FROM holds WHERE probe_at > ?"
        (probe_at,) = self._connection.execute(query, (self._looked_at,)).fetchone()
        moments = found if probe_at is None else [*found, probe_at]
        return min(moments) - self._now() + self._timeline.now if moments else None

    def _first(self, what: str) -> list[int]:
        """The first time of each queue."""
        return [
            row[0]
            for queue in self._queues
            for row in self._connection.execute(f"SELECT {what}", (queue, self._looked_at))
        ]

    def close(self) -> None:
        self._connection.close()


class Renewing:
    """Whether there are leases to renew: a `Rest`."""

    def __init__(self, keeper: LeaseKeeper, timeline: Timeline) -> None:
        self._keeper = keeper
        self._timeline = timeline

    def has_changed(self) -> bool:
        return bool(self._keeper.held())

    def next_moment(self) -> int | None:
        return self._timeline.now if self.has_changed() else None


class _Wake(Signal):
    """The wake event of an idle loop, and of the renewal."""

    def __init__(self, timeline: Timeline, looking: Looking, renewing: Renewing) -> None:
        super().__init__(timeline)
        self._looking = looking
        self._renewing = renewing

    def clear(self) -> None:
        super().clear()
        self._looking.look()

    def wait(self, timeout: float | None = None, **_: object) -> bool:
        loop = "" if self._timeline.current is None else self._timeline.current.name
        if loop in _STRETCHED:
            return super().wait(None if timeout is None else max(timeout, _STRETCHED[loop]))
        if loop not in _LOOKING:
            return super().wait(timeout, rest=self._renewing)
        self._looking.rest(loop)
        return super().wait(timeout, rest=self._looking)


class _Stop(Signal):
    """The stop event, which also times the loops."""

    def wait(self, timeout: float | None = None, **_: object) -> bool:
        fiber = self._timeline.current
        minimum = 0.0 if fiber is None else _STRETCHED.get(fiber.name, 0.0)
        return super().wait(None if timeout is None else max(timeout, minimum))

    def wait_exactly(self, seconds: float) -> bool:
        """For the limiter: without stretching."""
        return super().wait(seconds)


class Fibers(Threads):
    """Fibers in place of threads."""

    def __init__(self, timeline: Timeline, make_looking: Callable[[], Looking], keeper: LeaseKeeper) -> None:
        self.alive: set[Fiber] = set()
        self._timeline = timeline
        self._make_looking = make_looking
        self._renewing = Renewing(keeper, timeline)

    def spawn(self, work: Callable[[], object], *, name: str) -> None:
        def run() -> None:
            try:
                work()
            finally:
                self.alive.discard(fiber)

        fiber = self._timeline.spawn(run, name=name)
        self.alive.add(fiber)

    def thread(self, run: Callable[[], None], *, name: str) -> threading.Thread:
        return _FiberThread(run, name=name, fibers=self)

    def event(self) -> threading.Event:
        return _Wake(self._timeline, self._make_looking(), self._renewing)

    def pool(
        self,
        size: int,  # noqa: ARG002 -- the worker counts itself
        *,
        name: str,
        begin: Callable[[], object],  # noqa: ARG002 -- it binds the log to its thread, and here is only one
    ) -> concurrent.futures.Executor:
        return _FiberPool(self, name=name)


class _FiberThread(threading.Thread):
    def __init__(self, run: Callable[[], None], *, name: str, fibers: Fibers) -> None:
        super().__init__(target=run, name=name, daemon=True)
        self._fibers = fibers

    def start(self) -> None:
        self._fibers.spawn(self.run, name=self.name)

    def join(self, timeout: float | None = None) -> None:
        """No-op: no fiber waits for the end of another."""


class _FiberPool(concurrent.futures.Executor):
    def __init__(self, fibers: Fibers, *, name: str) -> None:
        self._fibers = fibers
        self._name = name

    def submit(
        self, work: Callable[..., Any], /, *args: Any, **named: Any
    ) -> "concurrent.futures.Future[Any]":
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._fibers.spawn(lambda: _fulfil(future, lambda: work(*args, **named)), name=self._name)
        return future


class _InPlace(TransferQueue):
    """Does at once, in the fiber that asks, what the transfers' threads would do side by side. A file that waited for
    another fiber would stop the timeline."""

    def __init__(self, hosts: HostJudge) -> None:
        super().__init__(concurrent.futures.Executor(), threads=1, hosts=hosts)

    def submit(self, host: str, work: Callable[[], Any]) -> "concurrent.futures.Future[Any]":  # noqa: ARG002 -- the base's signature
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        _fulfil(future, work)
        return future


def _fulfil(future: "concurrent.futures.Future[Any]", work: Callable[[], Any]) -> None:
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 -- as in every executor: the future carries it
        future.set_exception(error)
    else:
        future.set_result(result)


class Daemon:
    """A process that runs until `kill` or `stop`. `skew_ms` is how far its wall clock is ahead."""

    def __init__(
        self,
        world: World,
        folder: pathlib.Path,
        *,
        api: Api,
        bucket: Bucket,
        rand: random.Random,
        skew_ms: int = 0,
        sweep_interval_seconds: float = 300,
        transfer_seconds: float = 1.0,
        slots: int = 16,
        families: Sequence[str] = FAMILIES,
    ) -> None:
        self.skew_ms = skew_ms
        self.deaths = 0
        self._timeline = world.timeline
        self._path = folder / "ledger.db"
        self._rand = rand
        self._families = tuple(families)
        self._lookings: list[Looking] = []
        self.ledger = MortalLedger.open(f"sqlite:///{self._path}", daemon=True, now=self.now)
        self._stop = _Stop(world.timeline)
        spool = Spool(folder / "spool", memory_bytes_max=64 * MIB)
        self.cdn = Cdn(world, spool, transfer_seconds=transfer_seconds)
        self._client = KlingClient(
            "https://api-singapore.klingai.com",
            ApiKey("key"),
            RateLimiter(2.0, wait=self._stop.wait_exactly, monotonic=self.monotonic),
            now=lambda: self.now() / 1000,
            monotonic=self.monotonic,
            transport=api,
        )
        self.metrics = Metrics()
        stages = self._stages(bucket, slots=slots)
        self._fibers = Fibers(world.timeline, self._looking, stages.keeper)
        self.worker = Worker(
            stages,
            WorkerLimits(transfer_concurrency=slots, sweep_interval_seconds=sweep_interval_seconds),
            stop=self._stop,
            on_death=self._died,
            monotonic=self.monotonic,
            threads=self._fibers,
        )
        upkeep_loop = UpkeepLoop(self._upkeep(sweep_interval_seconds=sweep_interval_seconds), stop=self._stop)
        self.worker.start()
        self.worker.guard.thread(self._fibers, upkeep_loop.name, upkeep_loop.step).start()

    def now(self) -> int:
        """Unix ms by the wall clock of its machine."""
        return self._timeline.now + self.skew_ms

    def monotonic(self) -> float:
        return self._timeline.now / 1000

    def call_back(
        self, task_id: str, *, status: Status = Status.SUCCEEDED, family: str | None = None
    ) -> None:
        """A callback that the receiver committed."""
        self.ledger.callbacks.record([Callback(ACCOUNT, task_id, status, family)])
        self.worker.wake(Stage.VERIFY)

    def kill(self) -> None:
        """kill -9: nothing that it was about to do happens."""
        self.ledger.die()
        self._end()

    def stop(self) -> None:
        """SIGTERM by an impatient supervisor: running work is given back and may not put anything more."""
        self.worker.stop(seconds=0)
        self._timeline.run(until=self._timeline.now + int(GIVE_BACK_SECONDS * 1000))
        self.ledger.daemons.leave(self._daemon_name)
        self.ledger.die()
        self._end()

    def _end(self) -> None:
        for fiber in list(self._fibers.alive):
            self._timeline.kill(fiber)
        for looking in self._lookings:
            looking.close()
        self.cdn.close()
        self._client.close()

    def _died(self) -> None:
        self.deaths += 1

    def _looking(self) -> Looking:
        looking = Looking(self._path, self.now, timeline=self._timeline)
        self._lookings.append(looking)
        return looking

    def _stages(self, bucket: Bucket, *, slots: int) -> Stages:
        account = Account(
            name=ACCOUNT,
            families=self._families,
            client=self._client,
            limits=TransferLimits(image_bytes_max=64 * MIB, video_bytes_max=64 * MIB),
        )
        stages = build_stages(
            account,
            ledger=self.ledger,
            store=bucket,
            fetcher=self.cdn,
            metrics=self.metrics,
            transfer_pool=concurrent.futures.Executor(),
            transfers=slots,
            clock=Clock(self.now, self.monotonic, self._rand.random),
        )
        archiver = dataclasses.replace(stages.archiver, transfers=_InPlace(stages.hosts))
        return dataclasses.replace(stages, archiver=archiver, swept_families=FAMILIES)

    def _upkeep(self, *, sweep_interval_seconds: float) -> Upkeep:
        self._daemon_name = new_daemon_name()
        return Upkeep(
            clocks=ApiClocks({ACCOUNT: self._client}, int(sweep_interval_seconds * 1000), now=self.now),
            ledger=self.ledger,
            metrics=self.metrics,
            daemon_name=self._daemon_name,
            version="simulated",
            started_at=self.now(),
        )
