"""An engine whose worker runs on real threads. Its clocks are the test's.

A test waits for a log event, or until a loop finds nothing to do.
"""

import contextlib
import dataclasses
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from archiver.engine.api_clocks import ApiClocks
from archiver.engine.upkeep import Upkeep
from archiver.engine.worker import Worker, WorkerLimits
from archiver.leases import RENEW_SECONDS
from archiver.ledger import new_daemon_name
from archiver.ledger import sweeps as ledger_sweeps
from archiver.ledger.databases.protocol import Database
from archiver.model import Callback, Lane, Lease, Stage, Status
from tests.harness.engine import ACCOUNT, FAMILY, Effects, Engine, HookedClaims, HookedLedger
from tests.harness.journal import Journal
from tests.simulator import KlingSimulator, faults

OTHER_FAMILY = "images/editing/expand"
SLOTS = 8
PATIENCE_SECONDS = 60


class WatchedClaims(HookedClaims):
    """Tells when a loop has found nothing to claim, and lets a test make its questions fail."""

    def watch(self, questions: Effects) -> None:
        self._idle = threading.Condition()
        self._idle_steps = 0
        self.questions = questions

    def any_due(self, stage: Stage, *, account: str) -> bool:
        _, error = self.questions(f"any_due {stage}")
        if error is not None:
            raise error
        due = super().any_due(stage, account=account)
        self._note(stage, idle=not due)
        return due

    def archive(
        self,
        *,
        account: str,
        slots: Mapping[Lane, int],
        count_max: int,
        hosts_avoided: Collection[str] = (),
        hosts_first_tries_only: Collection[str] = (),
    ) -> list[Lease]:
        leases = super().archive(
            account=account,
            slots=slots,
            count_max=count_max,
            hosts_avoided=hosts_avoided,
            hosts_first_tries_only=hosts_first_tries_only,
        )
        self._note(Stage.ARCHIVE, idle=not leases)
        return leases

    def wait_idle(self) -> None:
        """Return once the archive loop has looked again, after this call, and found nothing to do."""
        with self._idle:
            seen = self._idle_steps
            assert self._idle.wait_for(lambda: self._idle_steps >= seen + 2, PATIENCE_SECONDS)

    def _note(self, stage: Stage, *, idle: bool) -> None:
        if stage is Stage.ARCHIVE and idle:
            with self._idle:
                self._idle_steps += 1
                self._idle.notify_all()


class WatchedSweeps(ledger_sweeps.Sweeps):
    """Lets a test make a sweep's first question fail."""

    questions: Effects

    def begin(self, *, account: str, family: str) -> str | None:
        _, error = self.questions(f"begin {family}")
        if error is not None:
            raise error
        return super().begin(account=account, family=family)


class WatchedLedger(HookedLedger):
    """A ledger with both, sharing `questions`."""

    claims: WatchedClaims

    def __init__(self, database: Database, *, now: Callable[[], int], **options: Any) -> None:
        super().__init__(database, now=now, **options)
        self.questions = Effects()
        self.claims = WatchedClaims(database, now=now)
        self.claims.watch(self.questions)
        self.sweeps = WatchedSweeps(database, now=now)
        self.sweeps.questions = self.questions

    def wait_idle(self) -> None:
        """Return once the archive loop has looked again, after this call, and found nothing to do."""
        self.claims.wait_idle()


class Running:
    """An engine whose worker runs."""

    def __init__(self, engine: Engine, journal: Journal, *, renew_seconds: float = 10.0) -> None:
        self.engine, self.journal, self.sim = engine, journal, engine.sim
        ledger = engine.ledger
        assert isinstance(ledger, WatchedLedger)
        self.ledger = ledger
        self.died = threading.Event()
        self.stopping = threading.Event()
        self.worker = Worker(
            dataclasses.replace(engine.stages, swept_families=(FAMILY, OTHER_FAMILY)),
            WorkerLimits(transfer_concurrency=SLOTS, sweep_interval_seconds=1e9),
            stop=self.stopping,
            on_death=self.died.set,
            monotonic=engine.clock.monotonic,
            renew_seconds=renew_seconds,
        )

    def _upkeep(self) -> Upkeep:
        engine, clock = self.engine, self.engine.clock
        return Upkeep(
            clocks=ApiClocks({ACCOUNT: engine.client}, 1000, now=clock.now),
            ledger=engine.ledger,
            metrics=engine.metrics,
            daemon_name=new_daemon_name(),
            version="test",
            started_at=clock.now(),
        )

    def called_back(self, count: int = 1, **task: Any) -> list[str]:
        """Tasks that have succeeded upstream and that the ledger has verified; the archive loop is told."""
        ids = []
        for _ in range(count):
            task_id = self.sim.create_task(**task)
            self.sim.succeed(task_id)
            self.sim.hide_from_list(task_id)
            self.engine.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY)])
            self.engine.verify(task_id)
            ids.append(task_id)
        self.worker.wake(Stage.ARCHIVE)
        return ids

    def advance(self, *, seconds: float) -> None:
        """Time passes, and the leases are renewed meanwhile, as they are every ten seconds."""
        while seconds > 0:
            step = min(seconds, RENEW_SECONDS)
            self.engine.clock.advance(seconds=step)
            self.engine.keeper.renew()
            seconds -= step
        for stage in (Stage.VERIFY, Stage.ARCHIVE):
            self.worker.wake(stage)

    def wait_quiet(self) -> None:
        """Return once no task is leased, and the archive loop finds none to take."""
        self.ledger.wait_idle()
        while self.engine.keeper.held():
            self.ledger.wait_idle()
        self.ledger.wait_idle()

    def pass_minutes(self, minutes: int) -> None:
        """Time passes whenever no task is leased, so that no lease ends by it: longer than the first back-offs."""
        for _ in range(minutes):
            self.wait_quiet()
            self.advance(seconds=60)

    def fresh_urls_asked_for(self) -> int:
        """For how many tasks."""
        with contextlib.closing(sqlite3.connect(self.engine.ledger_folder / "ledger.db")) as connection:
            asked = (
                "SELECT count(*) FROM tasks WHERE fresh_asked_at IS NOT NULL OR fresh_wanted_at IS NOT NULL"
            )
            (count,) = connection.execute(asked).fetchone()
        return int(count)

    def wait_archived(self, *task_ids: str) -> None:
        for task_id in task_ids:
            self.journal.wait("task.archived", task_id=task_id)

    def holds(self) -> list[tuple[str, str]]:
        return sorted((hold.stage, hold.reason) for hold in self.engine.ledger.views.status().holds)


class Gate:
    """A CDN that gives no answer until it is opened."""

    def __init__(self, sim: KlingSimulator) -> None:
        self._open = threading.Event()
        self._arrived = threading.Semaphore(0)
        sim.fault("cdn", faults.Call(self._wait))

    def _wait(self) -> None:
        self._arrived.release()
        self._open.wait(PATIENCE_SECONDS)

    def wait_arrival(self) -> None:
        assert self._arrived.acquire(timeout=PATIENCE_SECONDS)

    def open(self) -> None:
        self._open.set()
