"""The whole pipeline as one process without threads: callbacks in, verify, sweep, archive, upkeep, by the real worker's
own steps, one after the other. Real ledger, real API client and fetcher, the simulator, and a store that complains.

Time is the test's. Every effect goes through `mishaps`; a `Died` there is a kill -9 right there, and the next round
belongs to the next process, which finds what is written down and nothing else.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import pathlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from archiver import log
from archiver.archive.second_look import SecondLook, SecondLookLoop
from archiver.archive.transfers import TransferQueue
from archiver.create.callback_urls import CallbackUrls
from archiver.engine.api_clocks import ApiClocks
from archiver.engine.archive_loop import ArchiveLoop
from archiver.engine.forwarding.loop import ForwardLoop
from archiver.engine.stages import Stages
from archiver.engine.threads import Threads
from archiver.engine.upkeep import Upkeep, UpkeepLoop
from archiver.engine.worker import Loop, Worker, WorkerLimits
from archiver.failures import LedgerUnavailable
from archiver.fetch.urls import ConsumerPolicy, vet_own
from archiver.forward.stage import ForwardAccount, Forwarder, Operator
from archiver.forward.urls import DurableUrls, UrlKind
from archiver.ledger import Ledger, new_daemon_name
from archiver.model import Callback, Problem, State, Status
from archiver.webhooks.sender import UNSIGNED, Signing, WebhookSender
from tests.harness.by_hand import PostgresByHand
from tests.harness.consumer import SECRET, Consumer
from tests.harness.consumer import consumer as consuming
from tests.harness.engine import ACCOUNT, FAMILY, TRANSFERS, Died, Engine
from tests.pipeline.effects import Mishap, Mishaps
from tests.simulator import KlingSimulator

ROUND_SECONDS = 60
"""Time between two rounds: longer than a lease, a hold's probe, and the first few backoffs."""
ROUNDS_MAX = 14
"""All together less than the 15 minutes within which the API must have told its time for a clock to be believed."""


class Inline(concurrent.futures.ThreadPoolExecutor):
    """A pool whose work runs in the submitting thread; exceptions are in the future, as with any pool."""

    def submit(
        self, fn: Callable[..., Any], /, *positional: Any, **named: Any
    ) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            future.set_result(fn(*positional, **named))
        except BaseException as error:  # noqa: BLE001 -- as a thread's pool does
            future.set_exception(error)
        return future


class Unwaiting(threading.Event):
    """The test moves the time, so no wait lasts."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 -- the base's signature
        return self.is_set()


class InlineThreads(Threads):
    """No threads: whatever is handed over is done at once, and nothing waits."""

    def event(self) -> threading.Event:
        return Unwaiting()

    def pool(self, size: int, *, name: str, begin: Callable[[], object]) -> concurrent.futures.Executor:  # noqa: ARG002 -- the base's signature
        return Inline()


class ByHand:
    """The real worker and the real upkeep, of which a test does the steps."""

    def __init__(
        self,
        stages: Stages,
        upkeep: Upkeep,
        second_look: SecondLook,
        forwarder: Forwarder,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        stop = Unwaiting()
        self._worker = Worker(
            stages,
            WorkerLimits(transfer_concurrency=4, sweep_interval_seconds=1e9),
            stop=stop,
            on_death=lambda: None,
            monotonic=monotonic,
            threads=InlineThreads(),
        )
        self._loops: list[Loop] = [
            *self._worker.loops,
            *self._worker.look_loops,
            UpkeepLoop(upkeep, stop=stop),
            SecondLookLoop(second_look, stop=stop),
            ForwardLoop(forwarder, Inline(), self._worker.guard, wake=stop, monotonic=monotonic),
        ]

    def steps(self, *, archiving: bool) -> list[Callable[[], None]]:
        """Every loop's step, guarded as the loops guard it; two of the archive's, which takes four tasks at a time."""
        guarded: list[Callable[[], None]] = []
        for loop in self._loops:
            times = 1 if loop.name != ArchiveLoop.name else 2 * archiving
            guarded += [functools.partial(self._worker.guard.attempt, loop.name, loop.step)] * times
        return guarded


class Pipeline:
    """Use as a context. Tell, `expect`, and `run`."""

    def __init__(
        self, sim: KlingSimulator, folder: pathlib.Path, *, by_hand: PostgresByHand | None = None
    ) -> None:
        """`by_hand` is where the ledger is; by default a file in `folder`."""
        self.sim = sim
        self.folder = folder
        self.mishaps = Mishaps()
        self.engine = Engine(sim, folder, by_hand=by_hand)
        self.mishaps.hook("store", self.engine.store)
        self.expected: dict[str, State | None] = {}
        """Where each id ends; None: dropped from the ledger."""
        self.incomplete: list[str] = []
        """Lost tasks that end with an `incomplete.json`."""
        self.missed = 0
        """How many callbacks are counted as missed in the end."""
        self.applications: list[Consumer] = []
        """Told of every task that ends."""
        self._operator: Operator | None = None
        self._clients: list[str] = []
        """Origins of clients of the gateway."""
        self._open = contextlib.ExitStack()
        self._errands: list[Callable[[Ledger], object]] = []
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()
        self.engine.__exit__(kind, error, trace)

    def _begin(self) -> None:
        """A process has started."""
        engine, clock = self.engine, self.engine.clock
        self.mishaps.hook_ledger(engine.ledger)
        for owner in ("client", "fetcher", "spool"):
            self.mishaps.hook(owner, getattr(engine, owner))
        transfers = TransferQueue(Inline(), threads=TRANSFERS, hosts=engine.stages.hosts)
        stages = dataclasses.replace(
            engine.stages, archiver=dataclasses.replace(engine.archiver, transfers=transfers)
        )
        upkeep = Upkeep(
            clocks=ApiClocks({ACCOUNT: engine.client}, 1000, now=clock.now),
            ledger=engine.ledger,
            metrics=engine.metrics,
            daemon_name=new_daemon_name(),
            version="test",
            started_at=clock.now(),
            warnings=[lambda: [Problem("settings", "a setting", "set it")]],
        )
        sender = WebhookSender()
        self.mishaps.hook("sender", sender)
        forwarder = Forwarder(
            ledger=engine.ledger,
            store=engine.store,
            sender=sender,
            accounts={
                ACCOUNT: ForwardAccount(
                    DurableUrls(UrlKind.S3, "bucket", engine.store),
                    Signing([SECRET]) if self._clients else UNSIGNED,
                    CallbackUrls([]),
                )
            },
            operator=self._operator,
            policy=ConsumerPolicy.parse(self._clients),
            bucket="bucket",
            metrics=engine.metrics,
            now=clock.now,
            monotonic=clock.monotonic,
            random=lambda: 0.5,
            retries=log.Sparing(),
        )
        self._worker = ByHand(stages, upkeep, engine.second_look, forwarder, monotonic=clock.monotonic)

    def use_application(self) -> Consumer:
        """The next process has an application to tell."""
        consumer = self._open.enter_context(consuming())
        self._operator = Operator(vet_own(consumer.url), Signing([SECRET]))
        self.applications.append(consumer)
        self.restart()
        self.engine.ledger.forwards.set_operator(is_told=True)
        return consumer

    def use_client(self) -> Consumer:
        """The next process may call a client of the gateway."""
        consumer = self._open.enter_context(consuming())
        self._clients.append("/".join(consumer.url.split("/")[:3]))
        self.applications.append(consumer)
        self.restart()
        return consumer

    def use_api_key(self) -> None:
        """The next process has an API Key, and no pair of keys."""
        self.engine.use_api_key()
        self.restart()

    def restart(self, *, ledger_lost: bool = False) -> None:
        """The process has ended, whatever it was at; the next one starts."""
        self.engine.restart(ledger_lost=ledger_lost)
        self.mishaps.dead = False
        self._begin()

    # --- what comes in --------------------------------------------------------------------------------------

    def task(self, *, listed: bool = True, ends: State = State.ARCHIVED, **task: Any) -> str:
        """A task that has succeeded upstream; its id."""
        task_id = self.sim.create_task(**task)
        self.sim.succeed(task_id)
        if not listed:
            self.sim.hide_from_list(task_id)
        self.expected[task_id] = ends
        return task_id

    def tell(self, *task_ids: str, family: str | None = FAMILY) -> None:
        """Callbacks, which their sender repeats until they are answered 200."""
        callbacks = [Callback(ACCOUNT, task_id, Status.SUCCEEDED, family) for task_id in task_ids]
        self.errand(lambda ledger: ledger.callbacks.record(callbacks))

    def errand(self, errand: Callable[[Ledger], object]) -> None:
        """A query of the ledger, repeated until it is answered."""
        self._errands.append(errand)

    def write(self, statement: str, *values: object) -> None:
        """Something that only time could write: straight into the database, past the code that is tested."""
        self.engine.by_hand.write(statement, *values)

    # --- what happens ---------------------------------------------------------------------------------------

    def run(self, *mishaps: Mishap) -> None:
        """Rounds until everything is where it is expected, one mishap and all."""
        self.mishaps.plan += mishaps
        for _ in range(ROUNDS_MAX):
            self.round()
            if self.is_settled():
                return
            self.engine.clock.advance(seconds=ROUND_SECONDS)

    def round(self, *, archiving: bool = True) -> None:
        """Everything that the loops would do within a moment, or all except archiving."""
        for errand in list(self._errands):
            self._step(lambda errand=errand: self._do(errand))  # type: ignore[misc]  # mypy cannot type a lambda's default
        for step in self._worker.steps(archiving=archiving):
            self._step(step)
            if self.mishaps.dead:
                self.restart()
                return

    def _step(self, step: Callable[[], None]) -> None:
        with contextlib.suppress(Died):
            step()

    def _do(self, errand: Callable[[Ledger], object]) -> None:
        with contextlib.suppress(LedgerUnavailable):
            errand(self.engine.ledger)
            self._errands.remove(errand)

    # --- what comes out -------------------------------------------------------------------------------------

    def is_settled(self) -> bool:
        status = self.engine.ledger.views.status()
        missed = sum(status.missed_callbacks.values())
        waiting = self._errands or status.holds or self._count("SELECT count(*) FROM folder_work")
        waiting = waiting or self._count("SELECT count(*) FROM missing_objects WHERE state = 'doubted'")
        waiting = waiting or self._count("SELECT count(*) FROM forwards WHERE state = 'waiting'")
        return not waiting and (self.states(), missed) == (self.expected, self.missed)

    def _count(self, query: str) -> int:
        return int(self.rows(query)[0][0])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Straight from the database."""
        return [tuple(row.values()) for row in self.engine.by_hand.rows(query)]

    def states(self) -> dict[str, State | None]:
        """Where every expected id is."""
        found = self.engine.ledger.records.states(account=ACCOUNT, task_ids=list(self.expected))
        return {task_id: found.get(task_id) for task_id in self.expected}

    def assert_settled(self) -> None:
        """Ledger and bucket are as they are when nothing goes wrong: each task where it belongs, one set of right bytes
        under each manifest, nothing besides, no lease, no hold, nothing in the spool."""
        status = self.engine.ledger.views.status()
        assert self.states() == self.expected
        assert sum(status.missed_callbacks.values()) == self.missed
        assert self._errands == []
        folders = set()
        for task_id, state in self.expected.items():
            if state is State.ARCHIVED:
                family = self.engine.show(task_id)["family"]
                self.engine.assert_archived(task_id, family)
                folders.add(self.engine.folder(task_id, family))
        for task_id in self.incomplete:
            assert "incomplete.json" in self.engine.names(task_id)
            folders.add(self.engine.folder(task_id))
        assert {f"{key.rpartition('/')[0]}/" for key in self.engine.store.objects} == folders
        assert status.holds == ()
        assert self._count("SELECT count(*) FROM tasks WHERE lease_token IS NOT NULL") == 0
        assert self._count("SELECT count(*) FROM folder_work") == 0
        assert self._count("SELECT count(*) FROM missing_objects WHERE state != 'restored'") == 0
        for application in self.applications:
            told = sorted(body["archive"]["task_id"] for body in application.taken)
            assert told == sorted(self.expected)
            assert self._count("SELECT count(*) FROM forwards") == len(told)
        self.engine.assert_clean()
