"""Trust is earned: which looks a store that has never lost anything is spared, and when they are back."""

import dataclasses

import pytest

from archiver.model import Callback, Status
from archiver.store import ConditionalPut, Put, Upload
from tests.harness.engine import ACCOUNT, FAMILY, Engine

BEFORE = ["list", "put 0.png", "list", "put manifest.json", "head manifest.json"]
AFTER_PUTS_TRUSTED = ["list", "put 0.png", "put manifest.json"]
ALL_TRUSTED = ["put 0.png", "put manifest.json"]


def trust(engine: Engine, *, objects: int = 1000, second_put: str | None = None) -> None:
    """So many objects were seen again without a miss."""
    row = (engine.store.location, objects, second_put)
    with engine.ledger.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM trust")
        connection.exec_driver_sql("INSERT INTO trust (place, objects, second_put) VALUES (?, ?, ?)", row)


def first_started(engine: Engine, *, at: int) -> None:
    with engine.ledger.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM facts WHERE name = 'first_started_at'")
        connection.exec_driver_sql("INSERT INTO facts VALUES ('first_started_at', ?)", (str(at),))


def requests_of(engine: Engine, task_id: str) -> list[str]:
    """What archiving this task asks of the store."""
    before = len(engine.effects.seen)
    assert engine.attempt() is None
    engine.assert_archived(task_id)
    ours = [label.partition(" #")[0] for label in engine.effects.seen[before:]]
    return [
        label for label in ours if label.partition(" ")[0] in ("list", "put", "put_again", "head", "read")
    ]


def known_as_running(engine: Engine) -> str:
    """The API has said that it runs before it said that it has succeeded."""
    task_id = engine.sim.create_task(family=FAMILY)
    engine.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.RUNNING, FAMILY)])
    engine.verify(task_id)
    engine.sim.succeed(task_id)
    engine.verify(task_id)
    return task_id


def test_looks_right_after_the_puts_are_left_out_where_trust_is_earned(engine_of_each: Engine) -> None:
    engine = engine_of_each
    trust(engine, objects=999)
    assert requests_of(engine, engine.succeeded()) == BEFORE

    trust(engine, second_put="ignored")
    assert requests_of(engine, engine.succeeded()) == AFTER_PUTS_TRUSTED


def test_what_a_store_does_with_a_second_put_is_learned_once(engine_of_each: Engine) -> None:
    engine = engine_of_each
    trust(engine)

    assert "put_again" in requests_of(engine, engine.succeeded())[-1]

    found = engine.ledger.trust.of(engine.store.location).second_put
    assert found in set(ConditionalPut)
    assert requests_of(engine, engine.succeeded()) == AFTER_PUTS_TRUSTED


def test_the_first_miss_brings_the_looks_back(engine: Engine) -> None:
    trust(engine, second_put="respected")
    task_id = engine.succeeded()
    assert engine.attempt() is None
    engine.store.vanish(engine.folder(task_id) + "0.png")
    engine.clock.advance(seconds=20 * 60)
    assert engine.second_look.look_once()

    assert requests_of(engine, engine.succeeded()) == BEFORE


def test_a_store_whose_etags_are_no_md5_earns_no_trust(engine: Engine) -> None:
    """The first put of a process shows it."""
    trust(engine, second_put="respected")
    put = engine.store.put

    def encrypting(upload: Upload, *, look_first: bool) -> Put:
        engine.store.etags_are_md5 = False
        return put(upload, look_first=look_first)

    engine.store.put = encrypting  # type: ignore[method-assign]  # KMS

    assert requests_of(engine, engine.succeeded()) == BEFORE


def test_the_look_before_the_first_put_is_left_out_for_a_task_that_was_known_as_running(
    engine: Engine,
) -> None:
    trust(engine, second_put="respected")

    assert requests_of(engine, known_as_running(engine)) == ALL_TRUSTED


def test_the_look_before_the_first_put_is_left_out_for_a_task_younger_than_the_ledger(engine: Engine) -> None:
    trust(engine, second_put="respected")
    now = engine.clock.now()

    first_started(engine, at=now - 3600_000)
    assert requests_of(engine, engine.succeeded()) == ALL_TRUSTED
    first_started(engine, at=now + 3600_000)
    assert requests_of(engine, engine.succeeded()) == AFTER_PUTS_TRUSTED


@pytest.mark.parametrize("second_put", [None, "ignored", "refused"])
def test_the_look_before_the_first_put_stays_where_no_412_was_seen(
    engine: Engine, second_put: str | None
) -> None:
    trust(engine, second_put=second_put)

    assert requests_of(engine, known_as_running(engine))[0] == "list"


def test_the_look_before_the_first_put_is_back_at_the_second_attempt(engine: Engine) -> None:
    trust(engine, second_put="respected")
    task_id = known_as_running(engine)
    engine.effects.plan["put manifest.json"] = (True, TimeoutError("simulated"))
    assert engine.attempt() is not None
    engine.clock.advance(seconds=16 * 60)

    assert requests_of(engine, task_id)[0] == "list"


def test_an_unexpected_manifest_is_adopted_and_not_overwritten(
    engine: Engine,
) -> None:
    """The ledger was lost, and the account's clock was wrong when the new one began."""
    task_id = engine.succeeded()
    assert engine.attempt() is None
    before = engine.manifest(task_id)
    engine.restart(ledger_lost=True)
    engine.clock.advance(seconds=60)
    trust(engine, second_put="respected")
    engine.verify(task_id)
    lease = dataclasses.replace(engine.claim(), was_running=True)

    assert engine.attempt(lease) is None

    engine.assert_archived(task_id)
    assert engine.manifest(task_id) == before
