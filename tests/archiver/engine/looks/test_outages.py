"""What tasks meet is an outage, or is not, whatever looks say."""

import pathlib
from collections.abc import Iterator

import pytest

from archiver.engine.looks.look import StoreLook
from archiver.engine.looks.loop import LookLoop
from archiver.engine.sweep_loop import SweepLoop
from archiver.failures import ApiTimeout, Outside, StoreError
from archiver.model import Stage
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.harness.looks import MINUTE, right_look
from tests.harness.pipeline import Unwaiting
from tests.simulator import KlingSimulator, faults


@pytest.fixture
def engine(tmp_path: pathlib.Path, sim: KlingSimulator) -> Iterator[Engine]:
    with Engine(sim, tmp_path) as opened:
        yield opened


def refuse_puts(engine: Engine) -> None:
    """Every put; whatever reads is answered."""

    def hook(operation: str, key: str = "") -> tuple[bool, BaseException | None]:
        del key
        refused = operation == "put"
        return not refused, StoreError("405 MethodNotAllowed") if refused else None

    engine.store.hook = hook


def looks_of(engine: Engine) -> LookLoop:
    return LookLoop(
        StoreLook(engine.store, "kling/"),
        engine.stages.outages.of(Outside.STORE),
        account=ACCOUNT,
        ledger=engine.ledger,
        metrics=engine.metrics,
        wake=Unwaiting(),
        wake_stage=lambda _stage: None,
        monotonic=engine.clock.monotonic,
    )


def test_a_store_that_refuses_every_put_of_one_task_is_a_hold_within_a_minute_and_good_looks_do_not_end_it(
    engine: Engine,
) -> None:
    task_id, looks = engine.succeeded(), looks_of(engine)
    looks.step()
    refuse_puts(engine)
    began = engine.clock.monotonic()
    while not engine.ledger.holds.all():
        engine.attempt()
        looks.step()
        engine.clock.advance(seconds=8)

    assert engine.clock.monotonic() - began < MINUTE
    for _ in range(2 * MINUTE):
        engine.clock.advance(seconds=1)
        looks.step()
    (hold,) = engine.ledger.holds.all()
    assert (hold.stage, hold.reason) == (Stage.ARCHIVE, "store_error")
    assert engine.show(task_id)["attempts"] == 2


def test_a_hold_that_tasks_have_met_costs_no_attempt_after_a_restart_either(engine: Engine) -> None:
    task_id = engine.succeeded()
    refuse_puts(engine)
    engine.ledger.holds.set(StoreError("405"), account=ACCOUNT, stage=Stage.ARCHIVE)
    engine.clock.advance(seconds=3)

    engine.attempt()

    assert engine.show(task_id)["attempts"] == 0


def test_one_success_between_failures_is_no_outage(engine: Engine) -> None:
    outage = engine.stages.outages.of(Outside.STORE)
    for number in range(10):
        if number % 2:
            outage.worked()
        assert not outage.failed(StoreError("500"))


def test_failures_that_are_a_minute_apart_are_no_outage(engine: Engine) -> None:
    outage = engine.stages.outages.of(Outside.STORE)
    for _ in range(10):
        assert not outage.failed(StoreError("500"))
        engine.clock.advance(seconds=31)


def test_one_question_for_twenty_tasks_fails_once(engine: Engine) -> None:
    outage, error = engine.stages.outages.of(Outside.API), ApiTimeout("no answer")

    assert not any(outage.failed(error, task_id=str(number)) for number in range(20))


def test_one_task_that_the_api_cannot_show_is_no_outage_of_the_api(engine: Engine) -> None:
    outage = engine.stages.outages.of(Outside.API)

    assert not any(outage.failed(ApiTimeout("no answer"), task_id="poison") for _ in range(20))
    assert [outage.failed(ApiTimeout("no answer"), task_id=name) for name in ("second", "third")] == [
        False,
        True,
    ]


def test_a_hold_that_only_tasks_have_met_ends_with_the_last_of_them(engine: Engine) -> None:
    holds = engine.ledger.holds
    holds.set(StoreError("405"), account=ACCOUNT, stage=Stage.ARCHIVE)
    holds.set_by_look(ApiTimeout("no answer"), account=ACCOUNT, stages=[Stage.VERIFY])
    task_id = engine.succeeded()
    assert holds.drop_idle() == []
    engine.clock.advance(seconds=3)
    engine.attempt()
    engine.assert_archived(task_id)

    assert [hold.stage for hold in holds.drop_idle()] == [Stage.ARCHIVE]
    assert [hold.stage for hold in holds.all()] == [Stage.VERIFY]


def sweeps_of(engine: Engine) -> SweepLoop:
    return SweepLoop(
        sweeper=engine.stages.sweeper,
        families=(FAMILY, "images/editing/expand", "images/omni-image"),
        ledger=engine.ledger,
        interval_seconds=300,
        stop=Unwaiting(),
        on_swept=lambda _family: None,
        outages=engine.stages.outages,
        monotonic=engine.clock.monotonic,
    )


def test_lists_that_fail_alone_are_a_hold_of_the_sweep_alone(engine: Engine) -> None:
    sweeps = sweeps_of(engine)
    engine.sim.fault("list", faults.server_error())
    right_look(engine.sim).look()

    sweeps.step()

    assert [(hold.stage, hold.reason) for hold in engine.ledger.holds.all()] == [
        (Stage.SWEEP, "api_server_error")
    ]


def test_lists_that_a_gateway_does_not_offer_are_no_hold(engine: Engine) -> None:
    sweeps = sweeps_of(engine)
    engine.sim.fault("list", faults.Html(200))
    for _ in range(10):
        sweeps.step()
        engine.clock.advance(seconds=60)

    assert engine.ledger.holds.all() == ()


def test_an_outage_that_answers_with_pages_does_not_make_lists_unavailable(engine: Engine) -> None:
    for endpoint_name in ("list", "query"):
        engine.sim.fault(endpoint_name, faults.Html(200))
    sweeps, families = sweeps_of(engine), (FAMILY, "images/editing/expand", "images/omni-image")
    engine.ledger.holds.set_by_look(
        ApiTimeout("no answer"), account=ACCOUNT, stages=[Stage.VERIFY, Stage.SWEEP]
    )
    for _ in range(30):
        sweeps.step()
        engine.clock.advance(seconds=60)
    engine.sim.clear_faults()

    assert not any(engine.stages.sweeper.is_unavailable(family) for family in families)
