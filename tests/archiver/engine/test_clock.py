"""A clock that is wrong, jumps, or is set right: no task is lost by it, none expires early, and none waits for it."""

import pathlib
from collections.abc import Callable, Iterator

import pytest
import structlog.testing

from archiver.engine.api_clocks import ApiClocks
from archiver.engine.upkeep import Upkeep
from archiver.failures import ApiUnreachable, BucketMissing, NeverMedia, StoreError
from archiver.model import Callback, Stage, State, Status
from tests.harness.engine import ACCOUNT, FAMILY
from tests.harness.ledgers import DAY, HOUR, MINUTE, SECOND, START, Desk, answer
from tests.harness.pipeline import Pipeline
from tests.harness.questions import Questions
from tests.simulator import KlingSimulator, Switches, faults

YEAR = 365 * DAY
JUMPS = {"3 hours": 3 * HOUR, "2 days": 2 * DAY, "a year": YEAR}


# --- what waits in the ledger -----------------------------------------------------------------------------------------


def failed_fetch(desk: Desk) -> Stage:
    desk.bring(State.SUCCEEDED)
    desk.fail(desk.claim(Stage.ARCHIVE), StoreError("500"))
    return Stage.ARCHIVE


def never_tried(desk: Desk) -> Stage:
    desk.bring(State.SUCCEEDED)
    return Stage.ARCHIVE


def running(desk: Desk) -> Stage:
    desk.bring(State.RUNNING)
    return Stage.VERIFY


WAITING = [failed_fetch, never_tried, running]


def reported(desk: Desk) -> Stage:
    desk.tell()
    return Stage.VERIFY


def buried(desk: Desk) -> Stage:
    desk.bring(State.BURIED)
    return Stage.VERIFY


def asked_in_vain(desk: Desk) -> Stage:
    desk.tell()
    desk.fail(desk.claim(Stage.VERIFY), ApiUnreachable("away"))
    return Stage.VERIFY


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("wait", WAITING)
def test_work_that_a_fast_clock_has_delayed_is_due_once_the_clock_is_right(
    desk: Desk, wait: Callable[[Desk], Stage], jump: str
) -> None:
    desk.clock.now = START + JUMPS[jump]
    stage = wait(desk)
    desk.clock.now = START
    assert desk.claim_all(stage) == []

    assert desk.ledger.deadlines.bring_forward() == 1

    assert [lease.task_id for lease in desk.claim_all(stage)] == ["t"]
    assert desk.ledger.deadlines.bring_forward() == 0


@pytest.mark.parametrize("wait", [reported, buried, asked_in_vain])
def test_work_that_may_wait_a_day_waits_no_longer(desk: Desk, wait: Callable[[Desk], Stage]) -> None:
    desk.clock.now = START + YEAR
    stage = wait(desk)
    desk.clock.now = START

    desk.ledger.deadlines.bring_forward()

    assert [lease.task_id for lease in desk.claim_all(stage)] == ["t"]


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_a_lease_of_a_living_process_is_left_alone_and_one_of_a_dead_process_ends(
    desk: Desk, jump: int
) -> None:
    desk.clock.now = START + jump
    desk.bring(State.SUCCEEDED, "alive")
    living = desk.claim(Stage.ARCHIVE)
    desk.bring(State.SUCCEEDED, "dead")
    desk.claim(Stage.ARCHIVE)
    desk.clock.now = START

    desk.ledger.deadlines.bring_forward()

    assert desk.claim_all(Stage.ARCHIVE) == []
    desk.clock.advance(10 * SECOND)
    assert desk.ledger.claims.renew([living]) == {living.row_id}
    desk.clock.advance(25 * SECOND)
    assert [lease.task_id for lease in desk.claim_all(Stage.ARCHIVE)] == ["dead"]


def test_a_hold_of_a_clock_ahead_is_probed_once_the_clock_is_right(desk: Desk) -> None:
    desk.clock.now = START + YEAR
    desk.ledger.holds.set(BucketMissing("gone"), account=ACCOUNT, stage=Stage.ARCHIVE)
    desk.clock.now = START
    desk.bring(State.SUCCEEDED)
    assert desk.claim_all(Stage.ARCHIVE) == []

    assert desk.ledger.deadlines.bring_forward() == 1

    assert [lease.is_probe for lease in desk.claim_all(Stage.ARCHIVE)] == [True]


def test_a_full_sweep_of_a_clock_ahead_does_not_stand_for_the_next_year(desk: Desk) -> None:
    """It has passed every task by as long gone."""
    desk.clock.now = START + YEAR
    token = desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
    assert token is not None
    desk.ledger.sweeps.end(token, succeeded_at=desk.clock(), full=True, oldest_first=False, last_page=None)
    desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
    desk.clock.now = START

    assert desk.ledger.deadlines.bring_forward() == 1

    memory = desk.ledger.sweeps.memory(account=ACCOUNT, family=FAMILY)
    assert (memory.last_full_at, memory.last_success_at) == (None, None)
    assert desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY) is not None


def test_nothing_is_brought_forward_by_a_clock_that_only_goes_on(desk: Desk) -> None:
    """However often anything fails, in whatever way: nothing ever waits for longer than what is taken for absurd."""
    for number, error in enumerate((StoreError("500"), BucketMissing("gone"), NeverMedia("html"))):
        desk.say(answer(f"t{number}"))
        for _ in range(14):
            desk.clock.advance(16 * MINUTE)
            for lease in desk.claim_all(Stage.ARCHIVE):
                desk.fail(lease, error)
            assert desk.ledger.deadlines.bring_forward() == 0
        desk.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=FAMILY)


@pytest.mark.parametrize("state", State)
def test_no_state_by_itself_is_brought_forward(desk: Desk, state: State) -> None:
    desk.bring(state)

    assert desk.ledger.deadlines.bring_forward() == 0


# --- verdicts ---------------------------------------------------------------------------------------------------------


def tender_of(questions: Questions) -> Upkeep:
    return Upkeep(
        clocks=ApiClocks({ACCOUNT: questions.client}, 5 * MINUTE, now=questions.clock),
        ledger=questions.desk.ledger,
        metrics=questions.metrics,
        daemon_name="d1",
        version="0.1.0",
        started_at=START,
    )


def test_late_work_that_the_counts_do_not_know_is_due_within_the_hour(questions: Questions) -> None:
    """A count is wrong by a fault that is unknown: the worst outcome must not follow from it."""
    upkeep = tender_of(questions)
    upkeep.run_once()
    questions.clock.advance(2 * DAY)
    never_tried(questions.desk)
    questions.clock.advance(-2 * DAY)
    questions.desk.is_forged = True
    questions.desk.by_hand.write("DELETE FROM task_counts")
    upkeep.run_once()
    assert questions.desk.claim_all(Stage.ARCHIVE) == []

    questions.clock.advance(HOUR)
    with structlog.testing.capture_logs() as logged:
        upkeep.run_once()

    assert [line["count"] for line in logged if line["event"] == "clock.set_back"] == [1]
    assert [lease.task_id for lease in questions.desk.claim_all(Stage.ARCHIVE)] == ["t"]


def test_a_callback_that_came_by_a_clock_a_year_behind_is_asked_about_and_not_dropped(
    questions: Questions,
) -> None:
    upkeep = tender_of(questions)
    (task_id,) = questions.history(1)
    questions.sim.hide_from_list(task_id)
    questions.clock.advance(-YEAR)
    questions.sim.advance(YEAR / SECOND)  # the API's clock is right all the time
    questions.tell(task_id)
    questions.ask_due()  # the token is of last year
    assert questions.desk.state(task_id) is State.REPORTED
    questions.clock.advance(YEAR)
    questions.sim.advance(-YEAR / SECOND)
    questions.sweeper.sweep(FAMILY, full=False)  # the API has answered: from now on the clock is believed

    with structlog.testing.capture_logs():
        upkeep.run_once()
        upkeep.run_once()

    questions.ask_due()
    assert questions.desk.state(task_id) is State.SUCCEEDED


# --- the whole pipeline -----------------------------------------------------------------------------------------------


@pytest.fixture
def pipeline(tmp_path: pathlib.Path) -> Iterator[Pipeline]:
    with (
        KlingSimulator(switches=Switches(fresh_urls=False)) as sim,
        structlog.testing.capture_logs(),
        Pipeline(sim, tmp_path) as made,
    ):
        yield made


@pytest.mark.parametrize("jump", [-YEAR, -3 * HOUR, 3 * HOUR, 40 * DAY])
def test_everything_ends_as_ever_by_a_clock_that_is_wrong_from_the_start(
    pipeline: Pipeline, jump: int
) -> None:
    pipeline.engine.clock.set_ahead(seconds=jump / SECOND)
    pipeline.restart(ledger_lost=True)
    pipeline.sim.fault("cdn", faults.Raw(500), times=2)
    pipeline.tell(pipeline.task(listed=False), pipeline.task())

    pipeline.run()

    pipeline.assert_settled()


@pytest.mark.parametrize("jump", [-40 * DAY, -3 * HOUR, 3 * HOUR, 40 * DAY])
def test_a_clock_that_jumps_while_tasks_wait_makes_none_wait_longer(pipeline: Pipeline, jump: int) -> None:
    pipeline.sim.fault("cdn", faults.Raw(500), times=2)
    pipeline.tell(pipeline.task(listed=False), pipeline.task())
    pipeline.round()
    assert set(pipeline.states().values()) == {State.SUCCEEDED}

    pipeline.engine.clock.set_ahead(seconds=jump / SECOND)
    pipeline.run()

    pipeline.assert_settled()


def test_a_task_that_a_fast_clock_passed_by_is_found_by_a_later_sweep(pipeline: Pipeline) -> None:
    task_id = pipeline.task()
    pipeline.missed = 1
    pipeline.engine.clock.set_ahead(seconds=40 * DAY / SECOND)
    pipeline.round()
    assert pipeline.states() == {task_id: None}
    pipeline.engine.clock.set_ahead(seconds=-40 * DAY / SECOND)
    pipeline.round()

    pipeline.restart()
    pipeline.run()

    pipeline.assert_settled()


def test_the_callback_of_the_wrong_time_is_a_callback_all_the_same(pipeline: Pipeline) -> None:
    """A jump back between two of them: counts and times are of the later one, and nothing is refused."""
    task_id = pipeline.task()
    callback = Callback(ACCOUNT, task_id, Status.RUNNING, FAMILY)
    pipeline.engine.ledger.callbacks.record([callback])
    pipeline.engine.clock.set_ahead(seconds=-YEAR / SECOND)
    pipeline.tell(task_id)

    pipeline.run()

    pipeline.assert_settled()
    assert pipeline.engine.show(task_id)["callbacks"] == 2
