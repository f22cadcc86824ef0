"""An attacker with the token posts forged ids by the hundred thousand; genuine callbacks come in between.

Real are the ledger, the verification, the limiter, the client and its HTTP; the account is the simulator, which counts.
Time is virtual: a call to the API takes `LATENCY_SECONDS`, and a wait for the limiter its full length. Computing takes
no time, so the figures measure our rules, not this machine.
"""

import concurrent.futures
import dataclasses
import pathlib
import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from archiver.archive.transfer import TransferLimits
from archiver.engine.stages import Account, Clock, build_stages
from archiver.engine.threads import IDLE_SECONDS
from archiver.engine.upkeep import BATCHES_MAX, UPKEEP_SECONDS
from archiver.engine.verify_loop import MATCH_SECONDS
from archiver.engine.worker import VERIFY_THREADS
from archiver.fetch.fetcher import Fetcher
from archiver.fetch.spool import Spool
from archiver.fetch.urls import EgressPolicy
from archiver.kling.client import KlingClient
from archiver.kling.credentials import KeyPair
from archiver.kling.limiter import Priority, RateLimiter
from archiver.leases import RENEW_SECONDS
from archiver.ledger import Ledger, RecordedTask
from archiver.ledger.records import Records
from archiver.metrics import Metrics
from archiver.model import Callback, Lease, Status, Task
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import ACCOUNT, START
from tests.harness.virtual_time import VirtualTime
from tests.simulator import KlingSimulator

FAMILIES = ("images/generations", "images/editing/expand", "images/multi-image2image", "images/omni-image")
RATE_PER_SECOND = 2.0
LATENCY_SECONDS = 0.3
FORGED_PER_SECOND = 500
GENUINE_EVERY_SECONDS = 7.0
DELAY_SECONDS_MAX = 5.0
AFTERMATH_SECONDS = 120.0
"""How long the simulation goes on after the last forged id: the flood is still in the queue."""


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """What a flood cost. Delays run from the commit of a callback to the API's word about it in the ledger."""

    forged: int
    genuine: int
    seconds: float
    """Virtual."""
    calls: int
    calls_allowed: float
    calls_in_background: int
    calls_in_background_allowed: float
    delay_median_seconds: float
    delay_max_seconds: float
    unanswered: int
    """Genuine callbacks not verified by the end."""
    rows_max: int
    rows_allowed: int

    def broken(self) -> list[str]:
        """One sentence for each broken promise."""
        kept = {
            f"{self.unanswered} of {self.genuine} genuine callbacks were never verified": self.unanswered
            == 0,
            f"a genuine callback waited {self.delay_max_seconds:.1f} s": self.delay_max_seconds
            <= DELAY_SECONDS_MAX,
            f"{self.calls} calls, {self.calls_allowed:.0f} allowed": self.calls <= self.calls_allowed,
            f"{self.calls_in_background} calls in the background, {self.calls_in_background_allowed:.0f} allowed": (
                self.calls_in_background <= self.calls_in_background_allowed
            ),
            f"{self.rows_max} rows, {self.rows_allowed} allowed": self.rows_max <= self.rows_allowed,
        }
        return [sentence for sentence, is_kept in kept.items() if not is_kept]


class _Limiter(RateLimiter):
    """Counts background calls, and lets each call take its latency."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__(RATE_PER_SECOND, wait=time.wait, monotonic=time.monotonic)
        self._time = time
        self.background = 0

    def acquire(self, priority: Priority, *, timeout_seconds: float | None = None) -> bool:
        allowed = super().acquire(priority, timeout_seconds=timeout_seconds)
        self.background += allowed and priority is Priority.BACKGROUND
        self._time.sleep(LATENCY_SECONDS)
        return allowed


class _Records(Records):
    """Reports what was recorded."""

    on_recorded: Callable[[Sequence[Task]], None]

    def record(self, tasks: Sequence[Task], **named: Any) -> list[RecordedTask]:
        recorded = super().record(tasks, **named)
        self.on_recorded(tasks)
        return recorded


class _Ledger(Ledger):
    """Records when a genuine task was called back and when it was verified."""

    records: _Records

    def watch(self, time: VirtualTime) -> None:
        self._time = time
        self.called_back_at: dict[str, float] = {}
        self.delays: dict[str, float] = {}
        self.records = _Records(self.database, now=time.unix_ms)
        self.records.on_recorded = self._note

    def _note(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if task.task_id in self.called_back_at and task.task_id not in self.delays:
                self.delays[task.task_id] = self._time.monotonic() - self.called_back_at[task.task_id]


class _Flood:
    def __init__(
        self,
        folder: pathlib.Path,
        sim: KlingSimulator,
        time: VirtualTime,
        *,
        ids: int,
        others: int,
        ledger_url: str | None,
    ) -> None:
        self.others = others
        self.time, self.sim, self.ids = time, sim, ids
        self.rows_allowed, self.rows_max = max(1000, ids // 2), 0
        self.ends_at = ids / FORGED_PER_SECOND + AFTERMATH_SECONDS
        self.limiter = _Limiter(time)
        self.client = KlingClient(
            sim.base_url,
            KeyPair(sim.access_key, sim.secret_key),
            self.limiter,
            now=self._unix_seconds,
        )
        self.ledger = _Ledger.open(
            ledger_url or f"sqlite:///{folder}/ledger.db",
            daemon=True,
            now=time.unix_ms,
            unconfirmed_max=self.rows_allowed,
        )
        self.ledger.watch(time)
        stages = build_stages(
            Account(
                name=ACCOUNT,
                families=FAMILIES,
                client=self.client,
                limits=TransferLimits(image_bytes_max=0, video_bytes_max=0),
            ),
            ledger=self.ledger,
            store=FakeStore(),
            fetcher=Fetcher(policy=EgressPolicy.parse([sim.origin]), spool=Spool(folder / "spool")),
            metrics=Metrics(),
            transfer_pool=concurrent.futures.ThreadPoolExecutor(1),
            clock=Clock(time.unix_ms, time.monotonic, random.Random(ids).random),
        )
        self.keeper, self.list_matcher, self.verifier = stages.keeper, stages.list_matcher, stages.verifier
        self.failure_handler = stages.failure_handler
        self._asking = self._asked = 0

    def _unix_seconds(self) -> float:
        return self.time.unix_ms() / 1000

    def _goes_on(self) -> bool:
        return self.time.monotonic() < self.ends_at

    # --- what comes in ------------------------------------------------------------------------------------------

    def forge(self) -> None:
        """Forged ids, `FORGED_PER_SECOND`, spread over the families, no family, and an unknown one."""
        for first in range(0, self.ids, FORGED_PER_SECOND):
            families = (*FAMILIES, None, "images/made-up")
            forged = [
                Callback(ACCOUNT, f"{10**17 + number}", Status.SUCCEEDED, families[number % len(families)])
                for number in range(first, min(first + FORGED_PER_SECOND, self.ids))
            ]
            self.ledger.callbacks.record(forged)
            self.time.sleep(1.0)

    def call_back(self) -> None:
        """Genuine tasks, whose callbacks come as they finish."""
        while self.time.monotonic() < self.ends_at - AFTERMATH_SECONDS / 2:
            self.time.sleep(GENUINE_EVERY_SECONDS)
            task_id = self.sim.create_task(created_at=self.time.unix_ms() - 24_000, status="succeed")
            self.ledger.called_back_at[task_id] = self.time.monotonic()
            self.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILIES[0])])

    # --- what the worker does about it --------------------------------------------------------------------------

    def verify(self) -> None:
        """The worker's verify loop, with a tenth of its idle time in place of its wake-ups."""
        matched_at = float("-inf")
        while self._goes_on():
            self.time.wait(max(0.0, matched_at + MATCH_SECONDS - self.time.monotonic()))
            due_before = self.list_matcher.match().began
            matched_at = self.time.monotonic()
            free = VERIFY_THREADS - self._asking
            asked_at = self.keeper.asking()
            leases = (
                self.ledger.claims.verify(
                    count=free, offset=self._asked, due_before=due_before, account=ACCOUNT
                )
                if free
                else []
            )
            self.keeper.keep(leases, asked_at=asked_at)
            for lease in leases:
                self._asking, self._asked = self._asking + 1, self._asked + 1
                self.time.spawn(lambda lease=lease: self._ask(lease))  # type: ignore[misc]  # bound, as it changes
            if not leases:
                self.time.sleep(IDLE_SECONDS / 10)

    def _ask(self, lease: Lease) -> None:
        try:
            self.verifier.ask(lease)
        except Exception as error:  # noqa: BLE001 -- as in the worker, which handles every failure
            self.failure_handler.handle(lease, error)
        finally:
            self.keeper.drop(lease)
            self._asking -= 1

    def renew(self) -> None:
        while self._goes_on():
            self.time.sleep(RENEW_SECONDS)
            self.keeper.renew()

    def prune(self) -> None:
        while self._goes_on():
            for _ in range(BATCHES_MAX):
                if not self.ledger.deadlines.prune(by_age=True):
                    break
            self.time.sleep(UPKEEP_SECONDS)
            self.rows_max = max(self.rows_max, sum(self.ledger.views.status().states.values()))

    def figures(self) -> Figures:
        delays, seconds = list(self.ledger.delays.values()), self.time.monotonic()
        return Figures(
            forged=self.ids,
            genuine=len(self.ledger.called_back_at),
            seconds=seconds,
            calls=sum(self.sim.requests.values()),
            calls_allowed=RATE_PER_SECOND * (seconds + 1),
            calls_in_background=self.limiter.background,
            calls_in_background_allowed=RATE_PER_SECOND / 2 * (seconds + 1),
            delay_median_seconds=statistics.median(delays) if delays else float("inf"),
            delay_max_seconds=max(delays, default=float("inf")),
            unanswered=len(self.ledger.called_back_at) - len(delays),
            rows_max=self.rows_max,
            # The forged ids that come between two prunings are added, and confirmed tasks are never pruned.
            rows_allowed=self.rows_allowed
            + int((UPKEEP_SECONDS + 1) * FORGED_PER_SECOND)
            + len(self.ledger.called_back_at)
            + self.others,
        )


def flood(
    ids: int, *, seed: int = 1, tasks_in_the_last_hour: int = 0, ledger_url: str | None = None
) -> Figures:
    """Flood a ledger that keeps at most half of the `ids`; 100,000 take 15 s. The account may also have tasks of the
    last hour that the ledger does not know yet. `ledger_url` is a new ledger's; by default it is a file."""
    time = VirtualTime(start_ms=START, seed=seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        KlingSimulator(now=lambda: time.unix_ms() / 1000) as sim,
    ):
        for number in range(tasks_in_the_last_hour):
            age = 3_600_000 * (tasks_in_the_last_hour - number) // (tasks_in_the_last_hour + 1)
            sim.create_task(created_at=time.unix_ms() - age, status="succeed")
        attack = _Flood(
            pathlib.Path(folder),
            sim,
            time,
            ids=ids,
            others=tasks_in_the_last_hour,
            ledger_url=ledger_url,
        )
        for work in (attack.forge, attack.call_back, attack.verify, attack.renew, attack.prune):
            time.spawn(work)
        try:
            time.run()
            return attack.figures()
        finally:
            attack.client.close()
            attack.ledger.close()
