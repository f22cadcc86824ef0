"""The worker: loops that outlive what nobody expected, holds that let go by themselves, and a stop that gives back.

Its threads are real, its clocks are the test's. A test waits for a log event, or until a loop finds nothing to do.
"""

import contextlib
import dataclasses
import pathlib
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import pytest

from archiver.engine.api_clocks import ApiClocks
from archiver.engine.hold_release import HoldRelease
from archiver.engine.host_watch import DOWN_IN_A_ROW, REFUSED_IN_A_ROW
from archiver.engine.leased_work import LeasedWork
from archiver.engine.sweep_loop import SweepLoop
from archiver.engine.threads import Guard
from archiver.engine.upkeep import Upkeep
from archiver.engine.worker import Worker, WorkerLimits
from archiver.failures import (
    ApiCredentialsRefused,
    BucketMissing,
    HostDown,
    LedgerUnavailable,
)
from archiver.leases import RENEW_SECONDS, LeaseKeeper
from archiver.ledger import new_daemon_name
from archiver.ledger import sweeps as ledger_sweeps
from archiver.ledger.databases.protocol import Database
from archiver.model import Callback, DiscoveredBy, Lane, Lease, Stage, Status
from tests.harness.engine import ACCOUNT, FAMILY, Died, Effects, Engine, HookedClaims, HookedLedger
from tests.harness.journal import Impatient, Journal
from tests.simulator import KlingSimulator, faults

OTHER_FAMILY = "images/editing/expand"
SLOTS = 8
PATIENCE_SECONDS = 20


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


@pytest.fixture
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def engine(sim: KlingSimulator, tmp_path: pathlib.Path, journal: Journal) -> Iterator[Engine]:  # noqa: ARG001 -- logging is set up first
    with Engine(sim, tmp_path, ledger_class=WatchedLedger, families=(FAMILY, OTHER_FAMILY)) as made:
        yield made


@pytest.fixture
def running(engine: Engine, journal: Journal) -> Iterator[Running]:
    run = Running(engine, journal)
    run.worker.start()
    yield run
    run.sim.clear_faults()
    assert run.worker.stop(seconds=PATIENCE_SECONDS)


@pytest.fixture
def running_by_api_key(sim: KlingSimulator, tmp_path: pathlib.Path, journal: Journal) -> Iterator[Running]:
    families = (FAMILY, OTHER_FAMILY)
    with Engine(sim, tmp_path, ledger_class=WatchedLedger, api_key=True, families=families) as engine:
        run = Running(engine, journal)
        run.worker.start()
        yield run
        assert run.worker.stop(seconds=PATIENCE_SECONDS)


class Gate:
    """A CDN that answers nobody until it is opened."""

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


# --- the main path ----------------------------------------------------------------------------------------------


def test_a_callback_becomes_objects_and_a_manifest(running: Running) -> None:
    task_id = running.sim.create_task(images=2, watermark=True)
    running.sim.succeed(task_id)
    running.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY)])
    running.worker.wake(Stage.VERIFY)

    running.wait_archived(task_id)
    running.engine.assert_archived(task_id)


def test_a_sweep_brings_what_nobody_called_back(engine: Engine, journal: Journal) -> None:
    task_id = engine.sim.create_task(family=OTHER_FAMILY, status="succeed")
    run = Running(engine, journal)
    run.worker.start()

    run.wait_archived(task_id)
    assert run.worker.stop(seconds=PATIENCE_SECONDS)
    assert engine.show(task_id)["discovered_by"] == DiscoveredBy.SWEEP


# --- with an API Key --------------------------------------------------------------------------------------------------


def test_a_crowd_that_only_tasks_can_tell_is_asked_for_together(running_by_api_key: Running) -> None:
    run = running_by_api_key
    ids = [run.sim.create_task(family="tasks/video", status="succeed") for _ in range(50)]
    run.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, None) for task_id in ids])
    run.worker.wake(Stage.VERIFY)
    run.wait_archived(*ids)

    for task_id in ids:
        run.engine.assert_archived(task_id, "tasks/video")
    assert run.sim.requests["tasks"] == 3
    assert run.sim.requests["query"] == 0


def test_an_outage_of_tasks_is_each_ids_own_setback_and_heals_by_itself(running_by_api_key: Running) -> None:
    run = running_by_api_key
    run.sim.fault("tasks", faults.server_error())
    ids = [run.sim.create_task(family="tasks/image", status="succeed") for _ in range(3)]
    run.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, None) for task_id in ids])
    run.worker.wake(Stage.VERIFY)
    for task_id in ids:
        run.journal.wait("task.retried", task_id=task_id, reason="api_server_error")
    run.sim.clear_faults()
    run.advance(seconds=60)
    run.wait_archived(*ids)

    assert [run.engine.show(task_id)["family"] for task_id in ids] == ["tasks/image"] * 3


# --- hosts --------------------------------------------------------------------------------------------------------


def test_a_failing_host_gets_a_quarter_of_the_slots(running: Running) -> None:
    running.sim.fault("cdn", faults.Raw(500), times=1)
    (failing,) = running.called_back()
    running.journal.wait("task.retried", task_id=failing)
    gate = Gate(running.sim)
    others = running.called_back(SLOTS)
    running.ledger.wait_idle()

    assert len(running.engine.keeper.held()) == SLOTS // 4
    gate.open()
    running.wait_archived(*others)
    running.advance(seconds=60)
    running.wait_archived(failing)


def test_a_host_without_an_answer_to_five_tasks_is_held_and_a_fresh_task_is_tried_once_all_the_same(
    running: Running,
) -> None:
    running.sim.fault("cdn", faults.Raw(503))
    for number in range(DOWN_IN_A_ROW):
        running.called_back()
        if number < DOWN_IN_A_ROW - 1:
            running.journal.wait("task.retried", times=number + 1, reason="fetch_failed")
    running.journal.wait("hold.set", reason="host_down", host="127.0.0.1")
    fetched = running.sim.requests["cdn"]
    running.called_back(3)
    running.wait_quiet()
    assert running.sim.requests["cdn"] == fetched + 3
    running.advance(seconds=1)
    running.wait_quiet()
    assert running.sim.requests["cdn"] == fetched + 3

    running.sim.clear_faults("cdn")
    running.advance(seconds=31)
    running.journal.wait("hold.released", reason="host_down")
    running.pass_minutes(3)
    running.journal.wait("task.archived", times=DOWN_IN_A_ROW + 3)
    assert running.holds() == []


def test_a_host_that_refuses_ten_tasks_is_held_buries_nobody_and_goes_on_with_the_first_whole_file(
    running: Running,
) -> None:
    running.sim.fault("cdn", faults.Raw(403))
    for number in range(REFUSED_IN_A_ROW):
        running.called_back()
        if number < REFUSED_IN_A_ROW - 1:
            running.journal.wait("task.retried", times=number + 1, reason="fetch_refused")
    running.journal.wait("hold.set", reason="host_refusing", host="127.0.0.1")
    running.called_back(20)
    running.wait_quiet()
    assert running.fresh_urls_asked_for() < REFUSED_IN_A_ROW
    assert running.journal.find("task.buried") == []

    running.sim.clear_faults("cdn")
    running.advance(seconds=31)
    running.journal.wait("hold.released", reason="host_refusing")
    running.pass_minutes(3)
    running.journal.wait("task.archived", times=REFUSED_IN_A_ROW + 20)
    assert running.holds() == []


# --- holds --------------------------------------------------------------------------------------------------------


def test_a_missing_bucket_holds_the_archive_probes_it_in_30_seconds_at_most_and_goes_on_by_itself(
    running: Running,
) -> None:
    missing = threading.Event()
    missing.set()
    listed = threading.Semaphore(0)

    def hook(operation: str, key: str) -> tuple[bool, BaseException | None]:
        if missing.is_set():
            listed.release()
            return False, BucketMissing("bucket results: no such bucket")
        return running.engine.effects(operation, key)

    def tried() -> int:
        count = 0
        while listed.acquire(blocking=False):
            count += 1
        return count

    running.engine.store.hook = hook
    running.called_back()
    running.journal.wait("hold.set", stage="archive", reason="bucket_missing")
    running.called_back(4)
    running.ledger.wait_idle()
    assert tried() == 1
    for wait in (2, 4, 8, 16, 30, 30):
        running.advance(seconds=wait - 1)
        running.ledger.wait_idle()
        assert tried() == 0
        running.advance(seconds=1)
        assert listed.acquire(timeout=PATIENCE_SECONDS)
        running.ledger.wait_idle()
        assert tried() == 0

    missing.clear()
    running.advance(seconds=31)
    running.journal.wait("hold.released", reason="bucket_missing")
    running.ledger.wait_idle()  # what goes on at once holds leases, which the next advance would end
    running.advance(seconds=31)
    running.journal.wait("task.archived", times=5)
    assert running.holds() == []
    assert {line["attempt"] for line in running.journal.find("task.archived")} == {1}


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (401, 1000, "api_credentials_refused"),
        (401, 1002, "api_credentials_refused"),
        (429, 1101, "api_account_in_arrears"),
        (429, 1304, "api_address_not_allowed"),
    ],
)
def test_refused_credentials_hold_verify_and_sweep_and_both_go_on_when_one_is_let_in(
    engine: Engine, journal: Journal, status: int, code: int, reason: str
) -> None:
    sim = engine.sim
    sim.fault("query", faults.ErrorCode(status, code))
    sim.fault("list", faults.ErrorCode(status, code))
    run = Running(engine, journal)
    missed = sim.create_task(family=OTHER_FAMILY, status="succeed")
    named = sim.create_task(status="succeed")
    engine.ledger.callbacks.record([Callback(ACCOUNT, named, Status.SUCCEEDED, FAMILY)])
    run.worker.start()
    journal.wait("hold.set", stage="verify", reason=reason)
    journal.wait("hold.set", stage="sweep", reason=reason)
    assert run.holds() == [("sweep", reason), ("verify", reason)]
    assert engine.show(named)["state"] == "reported"

    sim.clear_faults()
    engine.clock.advance(seconds=31)
    run.worker.wake(Stage.VERIFY)
    run.wait_archived(named, missed)
    assert run.worker.stop(seconds=PATIENCE_SECONDS)
    assert run.holds() == []


# --- trouble that nobody expected -----------------------------------------------------------------------------------


def test_a_task_that_crashes_its_stage_is_retried_and_the_others_go_on(running: Running) -> None:
    running.engine.effects.plan["list"] = (False, ZeroDivisionError("a mistake of ours"))
    (crashing,) = running.called_back()
    running.journal.wait("task.retried", task_id=crashing, reason="unexpected")
    (other,) = running.called_back()
    running.wait_archived(other)

    assert "ZeroDivisionError" in running.journal.find("task.retried", task_id=crashing)[0]["exception"]
    running.advance(seconds=5)
    running.wait_archived(crashing)


def test_work_for_which_no_thread_can_be_had_is_given_back_and_costs_no_attempt(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = running.worker.archive_loop.pool  # what a system without threads to give does to it
    start, refused = pool.run, threading.Event()

    def run(work: Callable[[Lease], None], lease: Lease) -> None:
        if not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        start(work, lease)

    monkeypatch.setattr(pool, "run", run)
    ids = running.called_back(3)
    running.wait_archived(*ids)

    assert refused.is_set()
    assert {line["attempt"] for line in running.journal.find("task.archived")} == {1}


@pytest.mark.parametrize("stage", [Stage.VERIFY, Stage.ARCHIVE])
@pytest.mark.parametrize(
    ("error", "event"),
    [(ZeroDivisionError("x"), "worker.crashed"), (LedgerUnavailable("x"), "ledger.unavailable")],
)
def test_a_step_that_fails_does_not_end_its_loop(
    engine: Engine, journal: Journal, stage: Stage, error: Exception, event: str
) -> None:
    run = Running(engine, journal)
    run.ledger.questions.plan[f"any_due {stage}"] = (False, error)
    task_id = engine.sim.create_task(status="succeed")
    engine.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY)])
    run.worker.start()
    journal.wait(event, loop=f"{stage}-loop")

    run.wait_archived(task_id)
    assert not run.died.is_set()
    assert run.worker.stop(seconds=PATIENCE_SECONDS)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is what is tested
@pytest.mark.parametrize("stage", [Stage.VERIFY, Stage.ARCHIVE])
def test_a_loop_that_ends_all_the_same_ends_the_process(
    engine: Engine, journal: Journal, stage: Stage
) -> None:
    run = Running(engine, journal)
    run.ledger.questions.plan[f"any_due {stage}"] = (False, Died())
    run.worker.start()

    assert run.died.wait(PATIENCE_SECONDS)
    journal.wait("worker.crashed", loop=f"{stage}-loop", level="critical")
    run.worker.stop(seconds=PATIENCE_SECONDS)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is what is tested
def test_a_renewal_that_ends_ends_the_process(engine: Engine, journal: Journal) -> None:
    class Broken(LeaseKeeper):
        def renew(self) -> None:
            raise Died

    engine.stages = dataclasses.replace(engine.stages, keeper=Broken(engine.ledger))
    run = Running(engine, journal, renew_seconds=0)
    run.worker.start()

    assert run.died.wait(PATIENCE_SECONDS)
    run.worker.stop(seconds=PATIENCE_SECONDS)


# --- stop -----------------------------------------------------------------------------------------------------------


def test_a_stop_waits_for_what_runs(running: Running) -> None:
    gate = Gate(running.sim)
    (task_id,) = running.called_back()
    gate.wait_arrival()
    stopped: list[bool] = []
    stopper = threading.Thread(target=lambda: stopped.append(running.worker.stop(seconds=PATIENCE_SECONDS)))
    stopper.start()
    assert running.stopping.wait(PATIENCE_SECONDS)
    gate.open()
    stopper.join()

    assert stopped == [True]
    running.engine.assert_archived(task_id)


def test_a_stop_gives_back_what_has_not_ended_and_lets_it_put_nothing_more(
    engine: Engine, journal: Journal
) -> None:
    run = Running(engine, journal)
    run.worker.start()
    gate = Gate(run.sim)
    (task_id,) = run.called_back()
    gate.wait_arrival()
    ended = run.worker.stop(seconds=0)

    shown = engine.show(task_id)
    assert (ended, shown["state"], shown["attempts"]) == (False, "succeeded", 0)
    assert engine.keeper.held() == []
    gate.open()
    journal.wait("lease.lost", task_id=task_id)
    assert engine.store.objects == {}
    assert engine.attempt() is None  # due at once, for whoever comes next
    engine.assert_archived(task_id)


# --- the sweep's times ------------------------------------------------------------------------------------------------


@pytest.fixture
def sweeps(engine: Engine) -> tuple[SweepLoop, list[str]]:
    """A loop of two families with an interval of a second, and the families that it has swept."""
    stages = engine.stages
    swept: list[str] = []
    loop = SweepLoop(
        sweeper=stages.sweeper,
        families=stages.swept_families,
        ledger=engine.ledger,
        interval_seconds=1,
        stop=Impatient(),
        on_swept=swept.append,
        monotonic=engine.clock.monotonic,
    )
    return loop, swept


Sweeps = tuple[SweepLoop, list[str]]


def test_every_family_is_swept_once_an_interval(engine: Engine, sweeps: Sweeps) -> None:
    loop, swept = sweeps
    for _ in range(2):
        loop.step()
        loop.step()
        engine.clock.advance(seconds=1)

    assert swept == [FAMILY, OTHER_FAMILY] * 2


def test_a_sweep_that_nobody_expected_to_fail_keeps_no_other_family_waiting(
    engine: Engine, sweeps: Sweeps, journal: Journal
) -> None:
    loop, swept = sweeps
    assert isinstance(engine.ledger, WatchedLedger)
    engine.ledger.questions.plan[f"begin {FAMILY}"] = (False, ZeroDivisionError("x"))
    loop.step()
    assert swept == [OTHER_FAMILY]
    assert len(journal.find("worker.crashed", family=FAMILY)) == 1

    engine.clock.advance(seconds=1)
    loop.step()
    assert swept == [OTHER_FAMILY, FAMILY, OTHER_FAMILY]


def test_what_concerns_the_account_is_tried_once_in_30_seconds_for_all_families(
    engine: Engine, sweeps: Sweeps
) -> None:
    loop, _ = sweeps
    engine.sim.fault("list", faults.ErrorCode(401, 1002))
    listed = engine.sim.requests["list"]
    asked = []
    for _ in range(62):
        loop.step()
        asked.append(engine.sim.requests["list"] - listed)
        engine.clock.advance(seconds=1)

    assert [asked[0], asked[29], asked[30], asked[59], asked[60]] == [1, 1, 2, 2, 3]


def test_a_family_that_the_key_may_not_read_stops_no_other(engine: Engine, sweeps: Sweeps) -> None:
    loop, swept = sweeps
    engine.sim.fault("list", faults.ErrorCode(403, 1103), match=FAMILY)
    for _ in range(3):
        loop.step()
        engine.clock.advance(seconds=1)

    assert swept == [OTHER_FAMILY] * 3
    (hold,) = engine.ledger.views.status().holds
    assert (hold.stage, hold.reason, hold.family) == ("sweep", "api_forbidden", FAMILY)


def test_when_a_list_is_let_in_again_the_others_do_not_wait_for_their_probe(
    engine: Engine, sweeps: Sweeps
) -> None:
    loop, swept = sweeps
    engine.sim.fault("list", faults.ErrorCode(401, 1002), times=1)
    loop.step()
    loop.resume()
    loop.step()

    assert sorted(swept) == sorted([FAMILY, OTHER_FAMILY])


def test_a_question_that_is_answered_ends_no_hold_that_a_list_has_set(engine: Engine) -> None:
    stages, woken = engine.stages, list[Stage]()
    holds = HoldRelease(engine.ledger, stages.outages, account=ACCOUNT, wake=woken.append)
    for stage in (Stage.VERIFY, Stage.SWEEP):
        engine.ledger.holds.set(ApiCredentialsRefused("no"), account=ACCOUNT, stage=stage)
    task_id = engine.sim.create_task(status="succeed")
    engine.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY)])
    engine.clock.advance(seconds=31)
    (lease,) = engine.ledger.claims.verify(count=1, offset=0, account=ACCOUNT)
    stages.verifier.ask(lease)

    holds.after_work(lease)
    assert ([hold.stage for hold in engine.ledger.holds.all()], woken) == ([Stage.SWEEP], [Stage.VERIFY])
    holds.after_sweep(FAMILY)
    assert engine.ledger.holds.all() == ()


@pytest.mark.parametrize(("is_proof", "told"), [(False, 0), (True, 1), (None, 1)])
def test_work_that_proves_nothing_of_the_outside_ends_no_hold(
    engine: Engine, is_proof: bool | None, told: int
) -> None:
    successes = list[Lease]()
    guard = Guard(stop=threading.Event(), on_death=lambda: None)
    work = LeasedWork(engine.stages, guard, on_success=successes.append)
    engine.succeeded()

    assert work.run(engine.claim(), lambda: is_proof)
    assert len(successes) == told


def test_a_list_that_alone_is_refused_costs_no_other_family_a_sweep_and_none_an_extra_one(
    engine: Engine, sweeps: Sweeps
) -> None:
    loop, swept = sweeps
    engine.sim.fault("list", faults.ErrorCode(401, 1002), match=FAMILY)
    loop._interval_seconds = 300  # noqa: SLF001 -- the fixture's is a second
    for _ in range(20):
        loop.step()
        if swept:
            loop.resume()  # as a hold does that ends
        engine.clock.advance(seconds=30)

    assert swept == [OTHER_FAMILY] * 2


def test_a_full_sweep_of_many_pages_delays_no_other_family_by_more_than_a_page_of_each(
    engine: Engine, sweeps: Sweeps
) -> None:
    loop, swept = sweeps
    engine.sim.switches.list_page_rows_max = 1
    for _ in range(30):
        engine.sim.create_task(status="succeed")
    engine.sim.create_task(family=OTHER_FAMILY, status="succeed")
    loop.step()

    families = [request.path for request in engine.sim.log if request.kind == "list"]
    assert max(place for place, path in enumerate(families) if path.endswith(OTHER_FAMILY)) < 10
    assert swept == [OTHER_FAMILY, FAMILY]


def test_a_stop_ends_the_step_between_two_families(engine: Engine) -> None:
    stages = engine.stages
    stop, swept = Impatient(), list[str]()

    def swept_one(family: str) -> None:
        swept.append(family)
        stop.set()

    loop = SweepLoop(
        sweeper=stages.sweeper,
        families=stages.swept_families,
        ledger=engine.ledger,
        interval_seconds=1,
        stop=stop,
        on_swept=swept_one,
        monotonic=engine.clock.monotonic,
    )
    loop.step()

    assert swept == [FAMILY]


def test_a_ledger_that_cannot_end_a_host_s_hold_now_crashes_nothing_and_the_next_file_ends_it(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds = running.engine.ledger.holds
    holds.set(HostDown("simulated", host="127.0.0.1"), account=ACCOUNT, stage=Stage.ARCHIVE)

    def unavailable(**_: object) -> list[str]:
        raise LedgerUnavailable("simulated")

    with monkeypatch.context() as patch:
        patch.setattr(holds, "release_host", unavailable)
        running.wait_archived(*running.called_back())
        running.journal.wait("ledger.unavailable", loop="hold-release")
        running.wait_quiet()
    running.wait_archived(*running.called_back())
    running.journal.wait("hold.released", reason="host_down")

    assert running.journal.find("worker.crashed") == []
