"""When the sweep loop reads which family, and which holds its failures set and end."""

import threading

import pytest

from archiver.engine.hold_release import HoldRelease
from archiver.engine.leased_work import LeasedWork
from archiver.engine.sweep_loop import SweepLoop
from archiver.engine.threads import Guard
from archiver.failures import (
    ApiCredentialsRefused,
)
from archiver.model import Callback, Lease, Stage, Status
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.harness.journal import Impatient, Journal
from tests.harness.running_engine import OTHER_FAMILY, WatchedLedger
from tests.simulator import faults


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


def test_an_unexpected_failure_of_a_sweep_delays_no_other_family(
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


def test_a_failure_of_the_account_is_tried_once_in_30_seconds_for_all_families(
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


def test_an_answered_query_ends_no_hold_that_a_list_has_set(engine: Engine) -> None:
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
