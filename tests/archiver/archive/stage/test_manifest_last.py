"""No manifest is put before all of its objects were seen in the bucket."""

import pathlib

import pytest

from archiver.failures import (
    BucketForbidden,
    StoreMismatch,
    StoreUnreachable,
)
from archiver.store import ConditionalPut
from tests.harness.engine import Engine
from tests.harness.fake_store import FakeStore
from tests.simulator import KlingSimulator, faults


@pytest.mark.parametrize("content", [None, b"shorter"])
def test_no_manifest_is_put_over_an_object_that_is_gone_or_of_another_size(
    engine: Engine, content: bytes | None
) -> None:
    task_id = engine.succeeded(watermark=True)
    key = engine.folder(task_id) + "0.png"

    def spoil() -> None:
        if content is None:
            engine.store.vanish(key)
        else:
            engine.store.place(key, content)

    engine.act_before("list #2", spoil)

    assert isinstance(engine.attempt(), StoreMismatch)
    assert "manifest.json" not in engine.names(task_id)
    assert engine.show(task_id)["state"] == "succeeded"


def test_a_manifest_that_the_store_took_and_did_not_keep_is_put_again(engine: Engine) -> None:
    task_id = engine.succeeded()
    forgotten: list[str] = []

    def forget_once(operation: str, key: str) -> tuple[bool, BaseException | None]:
        if operation == "head" and key.endswith("manifest.json") and not forgotten:
            engine.store.vanish(key)
            forgotten.append(key)
        return engine.effects(operation, key)

    engine.store.hook = forget_once

    assert isinstance(engine.attempt(), StoreMismatch)
    assert engine.attempt_again() is None
    engine.assert_archived(task_id)


def test_an_object_that_vanished_is_fetched_and_put_again(engine: Engine) -> None:
    task_id = engine.succeeded(watermark=True)
    key = engine.folder(task_id) + "0.png"
    engine.act_before("list #2", lambda: engine.store.vanish(key))
    engine.attempt()

    assert engine.attempt_again() is None
    engine.assert_archived(task_id)


def test_a_listing_that_lags_behind_is_no_reason_to_wait(engine: Engine) -> None:
    task_id = engine.succeeded(watermark=True)
    engine.store.unlisted.add(engine.folder(task_id) + "0.png")

    assert engine.attempt() is None
    engine.assert_archived(task_id)


@pytest.mark.parametrize("happened", [True, False])
def test_nothing_is_overwritten_after_a_hold_where_lists_lag_and_the_store_knows_no_condition(
    sim: KlingSimulator, tmp_path: pathlib.Path, happened: bool
) -> None:
    with Engine(sim, tmp_path, store=FakeStore(conditional=ConditionalPut.IGNORED)) as engine:
        engine.succeeded(images=2)
        engine.effects.plan["put 1.png"] = (happened, BucketForbidden("the answer of a broken gateway"))
        assert isinstance(engine.attempt(), BucketForbidden)
        engine.store.unlisted.update(engine.store.all_keys())
        sim.fault("cdn", faults.Raw(200, sim.expected_bytes(engine.sim.create_task(), "0")))
        engine.clock.advance(seconds=60)

        lease = engine.claim()
        assert lease.attempt == 1
        engine.attempt(lease)
        assert engine.store.complaints == []


def test_what_lists_do_not_show_yet_is_not_fetched_again(engine: Engine, sim: KlingSimulator) -> None:
    task_id = engine.succeeded(images=2)
    engine.effects.plan["put 1.png"] = (False, StoreUnreachable("simulated"))
    engine.attempt()
    engine.store.unlisted.update(engine.store.all_keys())
    fetched = sim.requests["cdn"]

    assert engine.attempt_again() is None
    assert sim.requests["cdn"] == fetched + 1
    engine.assert_archived(task_id)


def test_what_is_stored_already_is_not_fetched_again(engine: Engine, sim: KlingSimulator) -> None:
    task_id = engine.succeeded(images=3)
    engine.effects.plan["put 1.png"] = (False, StoreUnreachable("simulated"))
    engine.attempt()
    fetched = sim.requests["cdn"]

    assert engine.attempt_again() is None
    assert sim.requests["cdn"] == fetched + 1
    engine.assert_archived(task_id)
