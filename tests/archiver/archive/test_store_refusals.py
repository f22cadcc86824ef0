"""What the store refuses: everybody waits where everybody is refused, and one task waits where it alone is."""

import pathlib
from collections.abc import Iterator

import pytest

from archiver.engine.looks.outage import FAILURES_MAX
from archiver.failures import Failure, StoreRefused, UploadTooLarge
from archiver.model import Stage
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.simulator import KlingSimulator


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> Iterator[Engine]:
    with KlingSimulator() as sim, Engine(sim, tmp_path) as made:
        yield made


def refuse(engine: Engine, number: int, error: Failure) -> None:
    """The put of this number (from 1) of a `0.png` is refused."""
    label = "put 0.png" if number == 1 else f"put 0.png #{number}"
    engine.effects.plan[label] = (False, error)


def reasons(engine: Engine) -> list[str]:
    return [hold.reason for hold in engine.ledger.holds.all()]


def test_uploads_that_are_all_too_large_become_a_hold_and_bury_no_further_task(engine: Engine) -> None:
    tasks = [engine.succeeded() for _ in range(FAILURES_MAX)]
    for number in range(1, FAILURES_MAX + 1):
        refuse(engine, number, UploadTooLarge("413"))
        engine.attempt()

    assert reasons(engine) == ["upload_too_large"]
    assert sorted(engine.show(task_id)["state"] for task_id in tasks) == ["buried", "buried", "succeeded"]


def test_one_upload_that_is_too_large_among_others_buries_its_task_alone(engine: Engine) -> None:
    for number in (1, 3, 5):
        large = engine.succeeded()
        refuse(engine, number, UploadTooLarge("413"))
        engine.attempt()
        assert engine.show(large)["state"] == "buried"
        engine.succeeded()
        assert engine.attempt() is None
        engine.stages.outages.at(Stage.ARCHIVE).worked()  # as the worker says after each success

    assert reasons(engine) == []


def test_a_refusal_that_only_one_task_gets_holds_the_others_once(engine: Engine) -> None:
    poison = engine.succeeded()
    refuse(engine, 1, StoreRefused("400"))
    engine.attempt()
    assert reasons(engine) == ["store_refused"]
    assert engine.show(poison)["attempts"] == 0

    engine.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=FAMILY)  # another succeeded
    engine.clock.advance(seconds=60)
    refuse(engine, 2, StoreRefused("400"))
    engine.attempt()
    assert reasons(engine) == []
    shown = engine.show(poison)
    assert (shown["state"], shown["reason"]) == ("succeeded", "store_refused")
