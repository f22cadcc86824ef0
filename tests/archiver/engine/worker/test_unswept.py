"""Tasks of families that KLING_FAMILIES leaves out, as a running daemon finds them."""

import pytest

from archiver.engine.sweep_loop import SweepLoop
from archiver.failures import LedgerUnavailable
from archiver.families import FAMILIES, collection_of
from archiver.model import PROBLEM_CODES, Callback, Problem, Status
from archiver.sweep.unswept import (
    FAILURES_IN_A_ROW_MAX,
    FIRST_LOOK_SECONDS,
    HANDED_OVER_SECONDS,
    LOOK_SECONDS,
    RETRY_SECONDS,
    unswept,
)
from archiver.sweep.unswept_list import QUERIES_MAX, ROWS
from tests.harness.engine import ACCOUNT, Engine
from tests.harness.journal import Impatient
from tests.simulator import faults
from tests.simulator.switches import ListOrder

OTHER = "videos/text2video"
HOUR = 3600.0
STEPS = 4 * len(FAMILIES)
"""Each step reads one page, and two empty ones end a list."""


@pytest.fixture
def loop(engine: Engine) -> SweepLoop:
    """Sweeps the families of the settings in an hour's time, so that it is idle."""
    loop = SweepLoop(
        sweeper=engine.stages.sweeper,
        families=engine.stages.swept_families,
        ledger=engine.ledger,
        interval_seconds=1000 * HOUR,
        stop=Impatient(),
        on_swept=lambda _: None,
        monotonic=engine.clock.monotonic,
        unswept=engine.stages.unswept,
    )
    loop.step()
    return loop


def look(engine: Engine, loop: SweepLoop, *, after_seconds: float = 2 * HOUR) -> list[Problem]:
    """What is found once each list has had its turn."""
    engine.clock.advance(seconds=after_seconds)
    for _ in range(STEPS):
        loop.step()
    return engine.stages.unswept.problems()


def queries(engine: Engine, loop: SweepLoop, *, after_seconds: float) -> int:
    """How many list pages a look asks for."""
    before = engine.sim.requests["list"]
    look(engine, loop, after_seconds=after_seconds)
    return engine.sim.requests["list"] - before


def test_a_task_that_no_sweep_finds_and_nothing_has_named_is_a_problem_with_what_to_do(
    engine: Engine, loop: SweepLoop
) -> None:
    task_id = engine.sim.create_task(family=OTHER, status="succeed")

    (problem,) = look(engine, loop)

    assert problem.code in PROBLEM_CODES
    assert (problem.code, problem.reason) == ("settings", "family_not_swept")
    assert f"{OTHER} (such as {task_id})" in problem.message
    assert "KLING_FAMILIES" in problem.what_to_do


def test_a_task_that_a_callback_has_named_is_none_and_neither_is_a_failed_or_a_fresh_or_a_forgotten_one(
    engine: Engine, loop: SweepLoop
) -> None:
    engine.succeeded(family=OTHER)
    engine.sim.create_task(family=OTHER, status="failed")
    forgotten = engine.succeeded(family=OTHER)
    engine.ledger.tombstones.forget(forgotten, account=engine.stages.account.name)
    assert look(engine, loop) == []

    fresh = engine.sim.now_ms() + int((2 * HOUR + LOOK_SECONDS) * 1000)
    engine.sim.create_task(family=OTHER, status="succeed", created_at=fresh)
    assert look(engine, loop, after_seconds=LOOK_SECONDS) == [], "its callback may still come"


def test_it_looks_ten_minutes_after_the_start_and_once_a_day(engine: Engine, loop: SweepLoop) -> None:
    early, first, soon, tomorrow = (
        queries(engine, loop, after_seconds=each) for each in (FIRST_LOOK_SECONDS - 1, 1, HOUR, LOOK_SECONDS)
    )
    assert (early, soon) == (0, 0)
    # The simulator counts no list that it does not offer.
    assert 0 < first == tomorrow <= 2 * len(unswept(engine.stages.account.families))


def test_what_is_swept_and_what_has_no_list_of_its_own_is_not_asked_for() -> None:
    assert unswept(list(FAMILIES)) == []
    assert {OTHER} <= set(unswept(["images/generations"])) <= set(FAMILIES) - {"images/generations"}
    assert all(collection_of(name) is None for name in unswept([]))


def test_families_that_the_operator_ignores_are_not_looked_at() -> None:
    assert OTHER not in unswept(["images/generations"], ignored=[OTHER])
    assert unswept([], ignored=list(FAMILIES)) == []


def test_a_family_that_the_account_may_not_use_is_passed_over(engine: Engine, loop: SweepLoop) -> None:
    first, *_ = unswept(engine.stages.account.families)
    engine.sim.fault("list", faults.ErrorCode(403, 1103), match=first)
    engine.sim.create_task(family=OTHER, status="succeed")

    (problem,) = look(engine, loop)

    assert OTHER in problem.message


@pytest.mark.parametrize("fault", [(500, 5000), (400, 1201), (400, 1200), (404, 1203)])
def test_a_list_that_fails_again_and_again_hides_no_other_and_is_asked_a_few_times_a_day(
    engine: Engine, loop: SweepLoop, fault: tuple[int, int]
) -> None:
    first, *_ = unswept(engine.stages.account.families)
    engine.sim.fault("list", faults.ErrorCode(*fault), match=first)
    engine.sim.create_task(family=OTHER, status="succeed")

    (problem,) = look(engine, loop)

    assert OTHER in problem.message
    for _ in range(23):
        look(engine, loop, after_seconds=HOUR)
    asked = [request for request in engine.sim.log if request.kind == "list" and first in request.path]
    assert len(asked) <= len(ROWS)


def test_a_list_that_cannot_be_answered_with_so_many_rows_is_read_in_smaller_pages(
    engine: Engine, loop: SweepLoop
) -> None:
    engine.sim.fault("list", faults.ErrorCode(400, 1201), match="pageSize=500")
    engine.sim.create_task(family=OTHER, status="succeed")

    found = [problem for _ in range(12) for problem in look(engine, loop)]

    assert OTHER in found[-1].message


def test_an_api_that_is_down_is_no_problem_of_the_settings_and_is_asked_again_in_an_hour(
    engine: Engine, loop: SweepLoop
) -> None:
    engine.sim.create_task(family=OTHER, status="succeed")
    engine.sim.fault("list", faults.ErrorCode(401, 1002))
    assert look(engine, loop) == []
    asked = engine.sim.requests["list"]
    assert look(engine, loop, after_seconds=1) == []
    assert engine.sim.requests["list"] == asked

    engine.sim.faults.clear()
    assert len(look(engine, loop, after_seconds=RETRY_SECONDS)) == 1


@pytest.mark.parametrize("fault", [(429, 1302), (429, 1303), (402, 1101)])
def test_a_failure_of_the_whole_account_ends_the_look_for_an_hour(
    engine: Engine, loop: SweepLoop, fault: tuple[int, int]
) -> None:
    engine.sim.create_task(family=OTHER, status="succeed")
    engine.sim.fault("list", faults.ErrorCode(*fault))
    engine.clock.advance(seconds=2 * HOUR)

    assert queries(engine, loop, after_seconds=0) == 1
    engine.sim.clear_faults()
    assert len(look(engine, loop, after_seconds=RETRY_SECONDS)) == 1


def test_an_api_that_answers_no_list_is_asked_a_few_times_an_hour(engine: Engine, loop: SweepLoop) -> None:
    engine.sim.create_task(family=OTHER, status="succeed")
    engine.sim.fault("list", faults.ErrorCode(500, 5000))
    assert queries(engine, loop, after_seconds=2 * HOUR) == FAILURES_IN_A_ROW_MAX
    assert queries(engine, loop, after_seconds=RETRY_SECONDS) == FAILURES_IN_A_ROW_MAX

    engine.sim.clear_faults()
    assert len(look(engine, loop, after_seconds=RETRY_SECONDS)) == 1


@pytest.mark.parametrize("order", ["newest_first", "oldest_first", "shuffled"])
def test_a_family_whose_newest_tasks_have_all_just_ended_is_seen(
    engine: Engine, loop: SweepLoop, order: ListOrder
) -> None:
    engine.sim.switches.list_order = order
    look(engine, loop)
    engine.clock.advance(seconds=LOOK_SECONDS)
    now = engine.clock.now()
    for number in range(800):
        engine.sim.create_task(family=OTHER, status="succeed", created_at=now - number * 6_000)

    assert len(look(engine, loop, after_seconds=0)) == 1


def bury_under_good_tasks(engine: Engine) -> None:
    """Fifty tasks whose callbacks came, newer than what the list has shown: more than two of its pages."""
    for _ in range(50):
        engine.clock.advance(seconds=60)
        engine.succeeded(family=OTHER)
    engine.sim.switches.list_page_rows_max = 20


def test_a_lost_callback_behind_many_good_ones_is_seen(engine: Engine, loop: SweepLoop) -> None:
    lost = engine.sim.create_task(family=OTHER, status="succeed")
    bury_under_good_tasks(engine)

    (problem,) = look(engine, loop)

    assert lost in problem.message


def test_a_task_that_was_running_at_the_look_before_is_judged_by_the_next(
    engine: Engine, loop: SweepLoop
) -> None:
    running = engine.sim.create_task(family=OTHER, status="processing")
    assert look(engine, loop) == []
    engine.clock.advance(seconds=LOOK_SECONDS)
    engine.sim.succeed(running)
    bury_under_good_tasks(engine)

    (problem,) = look(engine, loop)

    assert running in problem.message


def test_a_list_without_end_costs_a_bounded_number_of_queries_a_day(engine: Engine, loop: SweepLoop) -> None:
    engine.sim.switches.list_page_rows_max = 1
    now = engine.sim.now_ms()
    for number in range(2 * QUERIES_MAX):
        engine.sim.create_task(family=OTHER, status="failed", created_at=now - number * 1000)

    days = [queries(engine, loop, after_seconds=LOOK_SECONDS) for _ in range(3)]

    others = len(unswept(engine.stages.account.families)) - 1
    assert days == [days[0]] * 3
    assert QUERIES_MAX <= days[0] <= QUERIES_MAX + 2 * others


def test_a_list_whose_last_page_is_not_found_in_one_look_is_read_by_the_next(
    engine: Engine, loop: SweepLoop
) -> None:
    engine.sim.switches.list_page_rows_max, engine.sim.switches.list_order = 2, "oldest_first"
    now = engine.clock.now()
    for number in range(1, 422):
        engine.sim.create_task(family=OTHER, status="failed", created_at=now - number * 1000)
    newest = engine.sim.create_task(family=OTHER, status="succeed", created_at=now)
    assert look(engine, loop) == []
    engine.sim.fault("list", faults.ErrorCode(500, 5000), match=OTHER, times=1)

    (problem,) = look(engine, loop, after_seconds=LOOK_SECONDS)

    assert newest in problem.message


def test_what_a_look_has_found_clean_is_not_read_again(engine: Engine, loop: SweepLoop) -> None:
    engine.sim.switches.list_page_rows_max = 5
    for _ in range(15):
        engine.succeeded(family=OTHER)
        engine.clock.advance(seconds=60)

    first, second = (queries(engine, loop, after_seconds=LOOK_SECONDS) for _ in range(2))

    assert second < first


def test_while_the_ledger_is_away_the_api_is_asked_once_an_hour(
    engine: Engine, loop: SweepLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: object) -> None:
        raise LedgerUnavailable("The ledger is away.")

    engine.sim.create_task(family=OTHER, status="succeed")
    engine.clock.advance(seconds=2 * HOUR)
    with monkeypatch.context() as patch:
        patch.setattr(engine.ledger.records, "states", away)
        before = engine.sim.requests["list"]
        refused = 0
        for _ in range(200):
            try:
                loop.step()
            except LedgerUnavailable:
                refused += 1
        asked = engine.sim.requests["list"] - before
    assert refused == 1
    assert asked <= 2 * len(FAMILIES)

    assert len(look(engine, loop, after_seconds=RETRY_SECONDS)) == 1


def test_what_was_found_is_a_problem_until_a_look_says_otherwise_also_across_a_handover(
    engine: Engine, loop: SweepLoop
) -> None:
    task_id = engine.sim.create_task(family=OTHER, status="succeed")
    assert len(look(engine, loop)) == 1
    loop.end()
    assert len(engine.stages.unswept.problems()) == 1, "the other process has not looked yet"

    loop.begin()
    assert len(engine.stages.unswept.problems()) == 1
    engine.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, OTHER)])
    assert look(engine, loop) == []


def test_what_was_found_before_another_process_has_looked_is_not_said_again(
    engine: Engine, loop: SweepLoop
) -> None:
    engine.sim.create_task(family=OTHER, status="succeed")
    assert len(look(engine, loop)) == 1

    loop.end()
    engine.clock.advance(seconds=HANDED_OVER_SECONDS)
    assert engine.stages.unswept.problems() == []
    loop.begin()
    assert engine.stages.unswept.problems() == []
    assert len(look(engine, loop)) == 1


def test_a_list_that_cannot_be_read_keeps_what_was_found_there(engine: Engine, loop: SweepLoop) -> None:
    task_id = engine.sim.create_task(family=OTHER, status="succeed")
    assert len(look(engine, loop)) == 1
    engine.sim.fault("list", faults.ErrorCode(403, 1103), match=OTHER)

    assert len(look(engine, loop, after_seconds=LOOK_SECONDS)) == 1
    engine.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, OTHER)])
    assert look(engine, loop, after_seconds=LOOK_SECONDS) == []


def test_a_look_at_once_ends_with_its_time_and_names_the_lists_that_it_has_not_read(engine: Engine) -> None:
    """As `doctor` looks."""
    families = engine.stages.unswept
    lists = unswept(engine.stages.account.families)
    now = engine.clock.monotonic

    assert families.look(ends_at=now()) == lists
    assert families.look(ends_at=now() + HOUR) == []
