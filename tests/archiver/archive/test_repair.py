"""`verify --repair` as a specification: what the command finds missing, the engine brings back."""

import json
from typing import Any

import pytest

from archiver.audit.objects import ObjectFinding
from archiver.audit.places import Span
from archiver.audit.sample import Sample
from archiver.audit.verification import Verification, VerifiedAccount
from archiver.failures import FetchTimeout
from archiver.model import DAY_MS, RETENTION_MS
from tests.harness.engine import ACCOUNT, Died, Engine
from tests.harness.patience import patient


def verify(engine: Engine, *, repair: bool = False) -> list[ObjectFinding]:
    """What is wrong."""
    values: dict[str, Any] = {"span": Span(), "sample": Sample(), "repair": repair}
    account = VerifiedAccount(ACCOUNT, frozenset({ACCOUNT}), "kling/")
    verification = Verification(
        patient(engine.store),
        engine.ledger,
        [account],
        now=engine.clock.now,
        on_bytes=lambda _: None,
        **values,
    )
    return [finding for finding in verification.run() if finding.is_fault]


def restore(engine: Engine) -> None:
    """The API is asked, and then the worker has its turn."""
    questions = engine.stages.restore_questions
    while (lease := questions.claim()) is not None:
        questions.answer(lease)
    while engine.stages.folder_worker.work_once():
        pass


def test_missing_objects_are_restored_and_damaged_ones_too_once_they_are_removed(engine: Engine) -> None:
    missing, rotten = (engine.succeeded(images=2) for _ in range(2))
    for _ in range(2):
        assert engine.attempt() is None
    assert verify(engine) == []
    gone = [engine.folder(missing) + name for name in ("0.png", "manifest.json")]
    bad = engine.folder(rotten) + "1.png"
    for key in (*gone, bad):
        engine.store.vanish(key)
    engine.store.place(bad, b"rotten")

    found = {finding.key: finding.symbol for finding in verify(engine, repair=True)}
    assert found == {gone[0]: "+", gone[1]: "+", bad: "*"}
    restore(engine)

    (fault,) = verify(engine, repair=True)
    assert (fault.key, engine.store.content(bad)) == (bad, b"rotten"), "nothing is overwritten"
    engine.store.vanish(bad)
    verify(engine, repair=True)
    restore(engine)

    assert verify(engine) == []
    for task_id in (missing, rotten):
        engine.assert_archived(task_id)


def test_an_object_that_was_restored_and_is_missing_again_is_restored_if_the_operator_asks(
    engine: Engine,
) -> None:
    task_id = engine.succeeded()
    assert engine.attempt() is None
    key = engine.folder(task_id) + "0.png"

    for _ in range(3):
        engine.store.vanish(key)
        assert [finding.key for finding in verify(engine, repair=True)] == [key]
        restore(engine)
        assert verify(engine) == []


def lost_with_one_of_two_files(engine: Engine) -> str:
    """One file and `incomplete.json` are in the bucket."""
    task_id = engine.succeeded(images=2, created_at=engine.sim.now_ms() - RETENTION_MS + DAY_MS)
    for fetch in ("fetch", "fetch #3"):
        engine.effects.plan[fetch] = (False, FetchTimeout("simulated"))
    engine.attempt()
    engine.clock.advance(seconds=9 * 86_400)
    engine.ledger.deadlines.expire()
    engine.attempt()  # the last one
    while engine.stages.folder_worker.work_once():
        pass
    return task_id


def test_an_incomplete_json_that_is_gone_is_written_again_as_it_was(engine: Engine) -> None:
    """Long after Kling has deleted the task: nothing of it is asked for."""
    task_id = lost_with_one_of_two_files(engine)
    key = engine.folder(task_id) + "incomplete.json"
    before = json.loads(engine.store.content(key))
    engine.store.vanish(key)
    engine.clock.advance(seconds=60 * 86_400)

    assert [finding.key for finding in verify(engine, repair=True)] == [key]
    restore(engine)

    assert verify(engine) == []
    after = json.loads(engine.store.content(key))
    assert after | {"archived_at": ""} == before | {"archived_at": ""}
    assert engine.show(task_id)["state"] == "lost"


@pytest.mark.parametrize("happens", [False, True])
def test_a_crash_while_it_is_written_again_leaves_the_work_to_the_next_worker(
    engine: Engine, happens: bool
) -> None:
    task_id = lost_with_one_of_two_files(engine)
    key = engine.folder(task_id) + "incomplete.json"
    engine.store.vanish(key)
    verify(engine, repair=True)
    engine.effects.plan["put incomplete.json #2"] = (happens, Died())
    with pytest.raises(Died):
        restore(engine)
    engine.restart()
    engine.clock.advance(seconds=60)

    restore(engine)

    assert verify(engine) == []
    engine.assert_clean()
