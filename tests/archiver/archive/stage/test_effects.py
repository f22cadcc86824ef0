"""Every effect of an attempt, failed and failed but happened: the next attempt makes it good."""

import pathlib

import pytest

from archiver.failures import (
    BucketMissing,
    Failure,
    FetchFailed,
    FetchTimeout,
    LedgerUnavailable,
    StoreUnreachable,
)
from archiver.store import ConditionalPut
from tests.harness.engine import Died, Engine
from tests.harness.fake_store import FakeStore
from tests.simulator import KlingSimulator

ERRORS: dict[str, type[Failure]] = {
    "list": StoreUnreachable,
    "list #2": StoreUnreachable,
    "fetch": FetchFailed,
    "fetch #2": FetchTimeout,
    "put 0.png": StoreUnreachable,
    "put 0.watermark.png": StoreUnreachable,
    "put manifest.json": StoreUnreachable,
    "head manifest.json": StoreUnreachable,
    "assets": LedgerUnavailable,
    "archived": LedgerUnavailable,
}
"""Every effect of the archiving of one task, and how it fails."""


def test_the_table_of_effects_is_whole(engine: Engine) -> None:
    engine.succeeded(watermark=True)
    engine.attempt()

    assert set(engine.effects.seen) == ERRORS.keys()


def test_the_order_of_effects_is_the_guarantee(engine: Engine) -> None:
    engine.succeeded(watermark=True)
    engine.attempt()

    assert engine.effects.seen[0] == "list"
    assert engine.effects.seen[-5:] == [
        "list #2",
        "assets",
        "put manifest.json",
        "head manifest.json",
        "archived",
    ]


@pytest.mark.parametrize("store", [ConditionalPut.RESPECTED, ConditionalPut.IGNORED])
@pytest.mark.parametrize("happens", [False, True], ids=["failed", "failed-but-happened"])
@pytest.mark.parametrize("effect", ERRORS)
def test_an_effect_that_fails_is_made_good_by_the_next_attempt(
    sim: KlingSimulator, tmp_path: pathlib.Path, effect: str, happens: bool, store: ConditionalPut
) -> None:
    with Engine(sim, tmp_path, store=FakeStore(conditional=store)) as engine:
        task_id = engine.succeeded(watermark=True)
        engine.effects.plan[effect] = (happens, ERRORS[effect]("simulated"))

        failed = engine.attempt()
        # A completion that happened ends the task, whatever its answer was.
        done = effect == "archived" and happens
        while not done and engine.show(task_id)["state"] != "archived":
            assert isinstance(failed, ERRORS[effect])
            failed = engine.attempt_again()

        engine.assert_archived(task_id)


@pytest.mark.parametrize("happens", [False, True], ids=["died-before", "died-after"])
@pytest.mark.parametrize("effect", ERRORS)
def test_a_process_that_dies_at_an_effect_leaves_what_the_next_one_can_finish(
    engine: Engine, effect: str, happens: bool
) -> None:
    task_id = engine.succeeded(watermark=True)
    engine.effects.plan[effect] = (happens, Died())
    with pytest.raises(Died):
        engine.attempt()
    engine.restart()

    if engine.show(task_id)["state"] != "archived":
        assert engine.attempt() is None
    engine.assert_archived(task_id)


def test_a_hold_takes_its_attempt_back_and_the_next_one_looks_before_it_puts_all_the_same(
    sim: KlingSimulator, tmp_path: pathlib.Path
) -> None:
    with Engine(sim, tmp_path, store=FakeStore(conditional=ConditionalPut.IGNORED)) as engine:
        task_id = engine.succeeded(watermark=True)
        engine.effects.plan["put 0.watermark.png"] = (True, BucketMissing("simulated"))
        engine.effects.plan["put 0.png"] = (True, BucketMissing("simulated"))
        assert isinstance(engine.attempt(), BucketMissing)
        before = dict(engine.store.objects)
        assert engine.show(task_id)["attempts"] == 0

        assert engine.attempt_again() is None
        engine.assert_archived(task_id)
        assert {key: engine.store.objects[key] is before[key] for key in before} == dict.fromkeys(
            before, True
        )
