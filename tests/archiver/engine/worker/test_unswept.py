"""Tasks of families that KLING_FAMILIES leaves out, as a running daemon finds them."""

import pytest

from archiver.engine.sweep_loop import SweepLoop
from archiver.families import FAMILIES, collection_of
from archiver.model import PROBLEM_CODES, Problem
from archiver.sweep.unswept import FIRST_LOOK_SECONDS, LOOK_SECONDS, RETRY_SECONDS, unswept
from tests.harness.engine import Engine
from tests.harness.journal import Impatient
from tests.simulator import faults

OTHER = "videos/text2video"
HOUR = 3600.0


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
    for _ in FAMILIES:
        loop.step()
    return engine.stages.unswept.problems()


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


def test_it_looks_ten_minutes_after_the_start_and_once_a_day_one_page_of_each_list(
    engine: Engine, loop: SweepLoop
) -> None:
    def asked_in(seconds: float) -> int:
        before = engine.sim.requests["list"]
        look(engine, loop, after_seconds=seconds)
        return engine.sim.requests["list"] - before

    early, first, soon, tomorrow = (
        asked_in(each) for each in (FIRST_LOOK_SECONDS - 1, 1, HOUR, LOOK_SECONDS)
    )
    assert (early, soon) == (0, 0)
    # The simulator counts no list that it does not offer.
    assert 0 < first == tomorrow <= len(unswept(engine.stages.account.families))


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


def test_the_problem_ends_where_the_task_is_followed_and_where_another_process_asks(
    engine: Engine, loop: SweepLoop
) -> None:
    engine.sim.create_task(family=OTHER, status="succeed")
    assert len(look(engine, loop)) == 1
    loop.end()
    assert engine.stages.unswept.problems() == []

    loop.begin()
    assert len(look(engine, loop)) == 1
