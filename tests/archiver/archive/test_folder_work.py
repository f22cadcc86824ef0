"""Amendments and `incomplete.json` as a specification: what is put beside a manifest or in its place, and when."""

import json
from typing import Any

import jsonschema
import pytest

from archiver.failures import BucketMissing, FetchTimeout, LeaseLost, LedgerUnavailable, StoreUnreachable
from archiver.model import DAY_MS, RETENTION_MS, Stage
from archiver.problems import Expected, find_problems
from tests.harness.engine import ACCOUNT, Died, Engine
from tests.harness.repository import DEPLOY
from tests.simulator import faults

SCHEMA = json.loads((DEPLOY / "manifest.schema.json").read_text())
EXPAND = "images/editing/expand"
"""Only rows of its list name the watermarked files."""
DAY = 86_400.0


@pytest.fixture
def engine(engine_of_each: Engine) -> Engine:
    """On each store: what these tests say holds for all of them."""
    return engine_of_each


def archived_without_its_watermark(engine: Engine) -> str:
    """Its single answer names one file, and it is archived with that."""
    task_id = engine.succeeded(family=EXPAND, images=1, watermark=True)
    assert engine.attempt() is None
    assert engine.names(task_id, EXPAND) == ["0.png", "manifest.json"]
    return task_id


def work(engine: Engine) -> None:
    """All folder work that is due."""
    while engine.stages.folder_worker.work_once():
        pass


def document(engine: Engine, task_id: str, name: str, family: str = EXPAND) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(engine.store.content(engine.folder(task_id, family) + name))
    jsonschema.validate(content, SCHEMA)
    return content


def assert_amended(engine: Engine, task_id: str) -> None:
    """The watermarked file is under one amendment, and nothing is left to do."""
    assert engine.names(task_id, EXPAND) == ["0.png", "0.watermark.png", "amendment-1.json", "manifest.json"]
    amendment = document(engine, task_id, "amendment-1.json")
    assert amendment["amends"] == "manifest.json"
    assert [asset["name"] for asset in amendment["assets"]] == ["0.watermark.png"]
    shown = engine.show(task_id)
    assert shown["state"] == "archived"
    assert shown["amendment_keys"] == [engine.folder(task_id, EXPAND) + "amendment-1.json"]
    assert [asset["stored"] for asset in shown["assets"]] == [True, True]
    assert engine.ledger.views.status().amendments == ()
    engine.assert_clean()


# --- amendments -----------------------------------------------------------------------------------------------


def test_an_answer_about_an_archived_task_that_names_one_more_file_is_amended(engine: Engine) -> None:
    task_id = archived_without_its_watermark(engine)
    before = engine.manifest(task_id, EXPAND)

    engine.verify(task_id, family=EXPAND, listed=True)
    work(engine)

    assert_amended(engine, task_id)
    assert engine.manifest(task_id, EXPAND) == before


def test_an_answer_that_names_nothing_new_about_an_archived_task_leaves_no_work(engine: Engine) -> None:
    task_id = archived_without_its_watermark(engine)

    engine.verify(task_id, family=EXPAND)
    work(engine)

    assert engine.names(task_id, EXPAND) == ["0.png", "manifest.json"]
    assert engine.show(task_id)["amendment_keys"] == []


def test_a_file_that_is_named_while_the_manifest_is_put_is_amended(engine: Engine) -> None:
    task_id = engine.succeeded(family=EXPAND, images=1, watermark=True)
    put = engine.store.put

    def named_meanwhile(upload: Any, **options: Any) -> Any:
        if upload.key.endswith("manifest.json"):
            engine.verify(task_id, family=EXPAND, listed=True)
        return put(upload, **options)

    engine.store.put = named_meanwhile  # type: ignore[method-assign]  # the sweep comes by just then
    assert engine.attempt() is None
    work(engine)

    assert_amended(engine, task_id)


def test_an_old_manifest_is_adopted_and_what_the_api_names_beyond_it_is_amended(engine: Engine) -> None:
    task_id = engine.succeeded(family=EXPAND, images=1, watermark=True)
    engine.effects.plan["archived"] = (False, Died())
    with pytest.raises(Died):
        engine.attempt()
    engine.restart()
    engine.verify(task_id, family=EXPAND, listed=True)

    assert engine.attempt() is None
    work(engine)

    assert_amended(engine, task_id)


def test_a_lost_ledger_is_filled_from_amendments_too(engine: Engine) -> None:
    task_id = archived_without_its_watermark(engine)
    engine.verify(task_id, family=EXPAND, listed=True)
    work(engine)
    engine.restart(ledger_lost=True)
    engine.verify(task_id, family=EXPAND, listed=True)
    fetches = engine.effects.seen.count("fetch")

    assert engine.attempt() is None

    assert_amended(engine, task_id)
    assert engine.effects.seen.count("fetch") == fetches


@pytest.mark.parametrize("happens", [False, True], ids=["failed", "failed but happened"])
@pytest.mark.parametrize("effect", ["put amendment-1.json", "head amendment-1.json", "put 0.watermark.png"])
def test_a_store_that_fails_at_an_amendment_delays_it_and_never_doubles_it(
    engine: Engine, effect: str, *, happens: bool
) -> None:
    task_id = archived_without_its_watermark(engine)
    engine.verify(task_id, family=EXPAND, listed=True)
    engine.effects.plan[effect] = (happens, StoreUnreachable("simulated"))

    work(engine)
    engine.clock.advance(seconds=16 * 60)
    work(engine)

    assert effect not in engine.effects.plan
    assert_amended(engine, task_id)


def test_an_amendment_that_was_put_before_a_crash_is_adopted(engine: Engine) -> None:
    task_id = archived_without_its_watermark(engine)
    engine.verify(task_id, family=EXPAND, listed=True)
    engine.effects.plan["put amendment-1.json"] = (True, Died())
    with pytest.raises(Died):
        work(engine)
    engine.restart()
    engine.clock.advance(seconds=60)

    work(engine)

    assert_amended(engine, task_id)


def test_a_further_file_is_a_further_amendment(engine: Engine) -> None:
    """The file that can be had does not wait for the one that cannot."""
    task_id = engine.succeeded(family=EXPAND, images=2, watermark=True)
    assert engine.attempt() is None
    engine.verify(task_id, family=EXPAND, listed=True)
    engine.sim.fault("cdn", faults.Raw(500), times=1)

    work(engine)
    assert [asset["name"] for asset in document(engine, task_id, "amendment-1.json")["assets"]] == [
        "1.watermark.png"
    ]
    engine.clock.advance(seconds=16 * 60)
    work(engine)

    assert [asset["name"] for asset in document(engine, task_id, "amendment-2.json")["assets"]] == [
        "0.watermark.png"
    ]
    assert len(engine.show(task_id)["amendment_keys"]) == 2
    engine.assert_clean()


def test_an_amendment_that_cannot_be_had_by_its_deadline_is_dropped(engine: Engine) -> None:
    task_id = archived_without_its_watermark(engine)
    engine.verify(task_id, family=EXPAND, listed=True)
    engine.sim.fault("cdn", faults.Raw(404))
    work(engine)
    assert engine.ledger.folder_work.expire() == []

    engine.clock.advance(seconds=31 * DAY)
    (dropped,) = engine.ledger.folder_work.expire()

    assert (dropped.task_id, dropped.reason) == (task_id, "asset_gone")
    assert engine.ledger.folder_work.claim(account=ACCOUNT) is None
    assert engine.show(task_id)["state"] == "archived"


def test_an_amendment_that_waits_for_an_hour_is_a_problem(engine: Engine) -> None:
    task_id = archived_without_its_watermark(engine)
    engine.verify(task_id, family=EXPAND, listed=True)

    def said() -> list[str]:
        found = find_problems(engine.ledger.views.status(), Expected({ACCOUNT: ()}, 300_000))
        return [problem.message for problem in found if problem.code == "amendment_waiting"]

    assert said() == []
    engine.clock.advance(seconds=3601)
    (message,) = said()
    assert task_id in message


def test_an_amendment_is_not_put_once_its_lease_is_over(engine: Engine) -> None:
    task_id = archived_without_its_watermark(engine)
    engine.verify(task_id, family=EXPAND, listed=True)
    engine.sim.fault("cdn", faults.Call(lambda: engine.clock.advance(seconds=120)), times=1)

    engine.stages.folder_worker.work_once()
    assert engine.names(task_id, EXPAND) == ["0.png", "manifest.json"]
    work(engine)

    assert_amended(engine, task_id)


# --- incomplete.json --------------------------------------------------------------------------------------------


def lost_with_one_of_two_files(engine: Engine) -> str:
    """One file is in the bucket; the other is gone, and the task's deadline passes."""
    task_id = engine.succeeded(images=2, created_at=engine.sim.now_ms() - RETENTION_MS + DAY_MS)
    for fetch in ("fetch", "fetch #3"):
        engine.effects.plan[fetch] = (False, FetchTimeout("simulated"))
    assert isinstance(engine.attempt(), FetchTimeout)
    engine.clock.advance(seconds=9 * DAY)
    engine.ledger.deadlines.expire()
    assert isinstance(engine.attempt(), FetchTimeout)  # the last one
    assert engine.show(task_id)["state"] == "lost"
    return task_id


def test_a_finally_lost_task_with_some_files_saved_gets_incomplete_json(engine: Engine) -> None:
    task_id = lost_with_one_of_two_files(engine)

    work(engine)

    found = document(engine, task_id, "incomplete.json", "images/generations")
    (saved,) = found["assets"]
    (missing,) = found["missing"]
    assert engine.names(task_id) == sorted([saved["name"], "incomplete.json"])
    assert {missing["name"], saved["name"].removesuffix(".png")} == {"0", "1"}
    assert missing["reason"] == FetchTimeout.reason
    engine.assert_clean()


def test_incomplete_json_survives_a_crash_at_its_put(engine: Engine) -> None:
    task_id = lost_with_one_of_two_files(engine)
    engine.effects.plan["put incomplete.json"] = (False, Died())
    with pytest.raises(Died):
        work(engine)
    engine.restart()
    engine.clock.advance(seconds=60)

    work(engine)

    assert "incomplete.json" in engine.names(task_id)
    engine.assert_clean()


def test_a_lost_task_without_any_file_leaves_nothing_in_the_bucket(engine: Engine) -> None:
    task_id = engine.succeeded(images=1, created_at=engine.sim.now_ms() - RETENTION_MS + DAY_MS)
    engine.sim.fault("cdn", faults.Raw(404))
    engine.attempt()
    engine.clock.advance(seconds=2 * DAY)
    engine.ledger.deadlines.expire()

    work(engine)

    assert engine.names(task_id) == []


def test_a_ledger_that_fails_at_the_claim_leaves_the_work(engine: Engine) -> None:
    task_id = lost_with_one_of_two_files(engine)
    claim = engine.ledger.folder_work.claim

    def refuse(**_options: Any) -> None:
        raise LedgerUnavailable("simulated")

    engine.ledger.folder_work.claim = refuse  # type: ignore[method-assign]  # a full disk
    with pytest.raises(LedgerUnavailable):
        work(engine)
    engine.ledger.folder_work.claim = claim  # type: ignore[method-assign]
    work(engine)

    assert "incomplete.json" in engine.names(task_id)


def test_a_lost_task_whose_last_failure_would_hold_the_others_gets_incomplete_json(engine: Engine) -> None:
    task_id = engine.succeeded(images=2, created_at=engine.sim.now_ms() - RETENTION_MS + DAY_MS)
    engine.effects.plan["fetch"] = (False, FetchTimeout("simulated"))
    engine.attempt()
    engine.clock.advance(seconds=9 * DAY)
    engine.ledger.deadlines.expire()

    def refuse(_operation: str, _key: str) -> tuple[bool, BaseException | None]:
        return False, BucketMissing("simulated")

    engine.store.hook = refuse
    engine.attempt()  # a hold, which another task's success lifts: the next failure is the task's own
    engine.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family="images/generations")
    engine.clock.advance(seconds=60)
    engine.attempt()
    assert engine.show(task_id)["due_at"] is None
    engine.store.hook = engine.effects

    work(engine)

    assert "incomplete.json" in engine.names(task_id)


def test_a_lost_task_is_not_described_before_its_last_try(engine: Engine) -> None:
    task_id = engine.succeeded(images=2, created_at=engine.sim.now_ms() - RETENTION_MS + DAY_MS)
    path = engine.sim.url(task_id, "1").partition("?")[0].removeprefix(engine.sim.origin)
    engine.sim.fault("cdn", faults.Raw(403), match=path)
    engine.clock.advance(seconds=2 * DAY)
    engine.ledger.deadlines.expire()
    engine.attempt()
    engine.clock.advance(seconds=7 * DAY)
    engine.sim.fault("query", faults.server_error())
    assert engine.refresh()  # the API cannot be asked; the old URL has its turn an hour after it was refused

    work(engine)
    assert "incomplete.json" not in engine.names(task_id)

    engine.sim.clear_faults()
    assert engine.attempt() is None
    engine.assert_archived(task_id)


def test_a_lease_that_ends_before_its_failure_is_settled_ends_the_work_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = archived_without_its_watermark(engine)
    engine.verify(task_id, family=EXPAND, listed=True)
    engine.effects.plan["read manifest.json"] = (False, StoreUnreachable("simulated"))

    def taken_over(*_: object, **__: object) -> None:
        raise LeaseLost("another worker holds the lease")

    with monkeypatch.context() as patch:
        patch.setattr(engine.ledger.folder_work, "retry", taken_over)
        assert engine.stages.folder_worker.work_once()
    engine.clock.advance(seconds=60)
    work(engine)
    assert_amended(engine, task_id)
