"""URLs that no longer work: fresh ones, further tries, and burial."""

from collections.abc import Callable

import pytest
import structlog.testing

from archiver.failures import (
    ApiCredentialsRefused,
    AssetGone,
    FetchRefused,
    ResultsMissing,
    advice,
)
from archiver.model import Callback, Stage, Status
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.simulator import KlingSimulator, faults

DAY = 86_400.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_dead_url_is_exchanged_for_a_fresh_one_by_one_question_of_verification(
    engine: Engine, sim: KlingSimulator, status: int
) -> None:
    task_id = engine.succeeded(images=2)
    sim.fault("cdn", faults.Raw(status), times=2)
    asked = sim.requests["query"]

    assert isinstance(engine.attempt(), AssetGone | FetchRefused)
    assert (engine.due(), sim.requests["query"]) == (0, asked)
    assert engine.refresh()
    assert sim.requests["query"] == asked + 1
    assert engine.attempt() is None
    engine.assert_archived(task_id)


def test_a_revoked_url_is_followed_by_the_fresh_one_of_the_api(engine: Engine, sim: KlingSimulator) -> None:
    task_id = engine.succeeded(images=2)
    sim.revoke_urls(task_id)

    engine.attempt()
    assert engine.refresh()
    assert engine.attempt() is None
    engine.assert_archived(task_id)
    assert [asset["source_url"] for asset in engine.manifest(task_id)["assets"]] == [
        sim.url(task_id, "0"),
        sim.url(task_id, "1"),
    ]


@pytest.mark.parametrize("status", [404, 410])
def test_a_file_that_is_gone_at_a_fresh_url_too_buries_the_task_with_its_other_assets_saved(
    engine: Engine, sim: KlingSimulator, status: int, logged: Callable[[], list[str]]
) -> None:
    task_id = engine.succeeded(images=3)
    path = sim.url(task_id, "1").partition("?")[0].removeprefix(sim.origin)
    sim.fault("cdn", faults.Raw(status), match=path)
    asked = sim.requests["query"]

    assert isinstance(engine.attempt(), AssetGone)
    assert engine.refresh()
    assert isinstance(engine.attempt(), AssetGone)
    assert sim.requests["query"] == asked + 1
    assert engine.names(task_id) == ["0.png", "2.png"]
    shown = engine.show(task_id)
    assert (shown["state"], shown["reason"]) == ("buried", "asset_gone")
    assert shown["message"].startswith("file 1: ")
    assert [asset["stored"] for asset in shown["assets"]] == [True, False, True]
    assert [asset["reason"] for asset in shown["assets"]] == [None, "asset_gone", None]
    assert logged() == ["task.buried"]
    assert engine.failures() == {"asset_gone": 2.0}


def test_a_retry_or_burial_names_its_files_in_message_history_and_log(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = engine.succeeded(images=9)
    for stem in range(8):
        path = sim.url(task_id, str(stem)).partition("?")[0].removeprefix(sim.origin)
        sim.fault("cdn", faults.Raw(404), match=path)

    with structlog.testing.capture_logs() as lines:
        engine.attempt()
        assert engine.refresh()
        engine.attempt()

    named = [line for line in lines if line["event"] in ("task.retried", "task.buried")]
    assert [line["files"] for line in named] == [[str(stem) for stem in range(8)]] * 2
    shown = engine.show(task_id)
    begin = "files 0, 1, 2, 3, 4 and 3 more: "
    assert shown["message"].startswith(begin)
    details = [line["detail"] for line in shown["history"] if line["event"].startswith("task.")]
    assert [begin in detail for detail in details[-2:]] == [True, True]


@pytest.mark.parametrize("reason", ["fetch_refused", "fetch_failed", "fetch_timeout", "body_incomplete"])
def test_a_file_that_is_tried_again_by_itself_says_so(reason: str) -> None:
    assert "tried again by itself until the task's deadline" in advice.what_to_do(reason)


@pytest.mark.parametrize("status", [400, 401, 403, 451])
def test_a_refusal_ends_no_task_it_is_tried_until_the_deadline_and_as_a_lost_one_after_it(
    engine: Engine, sim: KlingSimulator, status: int
) -> None:
    task_id = engine.succeeded()
    sim.fault("cdn", faults.Raw(status))
    engine.attempt()
    engine.refresh()
    for _ in range(20):
        assert isinstance(engine.attempt_again(), FetchRefused)
    assert engine.show(task_id)["state"] == "succeeded"

    engine.clock.advance(seconds=30 * DAY)
    engine.ledger.deadlines.expire()
    for _ in range(5):
        assert isinstance(engine.attempt(), FetchRefused)
        engine.refresh()
        engine.clock.advance(seconds=3601)
    assert engine.show(task_id)["state"] == "lost"

    sim.clear_faults()
    assert engine.attempt() is None
    engine.assert_archived(task_id)


def test_a_task_is_asked_about_once_a_day_however_often_its_file_is_refused(
    engine: Engine, sim: KlingSimulator
) -> None:
    engine.succeeded()
    sim.fault("cdn", faults.Raw(403))
    asked = sim.requests["query"]
    for _ in range(3 * 24 * 4):
        if engine.due():
            engine.attempt()
        engine.refresh()
        engine.clock.advance(seconds=15 * 60)

    assert sim.requests["query"] - asked == 3


def test_a_buried_task_whose_file_is_back_is_archived_by_its_own_retry(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = engine.succeeded()
    sim.fault("cdn", faults.Raw(404), times=2)
    engine.attempt()
    engine.refresh()
    assert isinstance(engine.attempt(), AssetGone)
    assert engine.show(task_id)["state"] == "buried"
    engine.clock.advance(seconds=DAY + 1)
    engine.verify(task_id)

    assert engine.attempt() is None
    engine.assert_archived(task_id)


@pytest.mark.parametrize(
    "fault",
    [
        faults.server_error(),
        faults.Html(),
        faults.ErrorCode(401, 1002),
        faults.ErrorCode(429, 1101),
        faults.ErrorCode(429, 1302),
    ],
    ids=["5000", "html", "1002", "1101", "1302"],
)
def test_an_api_that_gives_no_fresh_url_delays_this_task_only_and_costs_nothing_that_is_stored(
    engine: Engine, sim: KlingSimulator, fault: faults.Fault
) -> None:
    task_id = engine.succeeded(images=2)
    path = sim.url(task_id, "1").partition("?")[0].removeprefix(sim.origin)
    sim.fault("cdn", faults.Raw(403), match=path, times=1)
    sim.fault("query", fault, times=1)

    engine.attempt()
    assert engine.refresh()
    assert [asset["stored"] for asset in engine.show(task_id)["assets"]] == [True, False]
    engine.clock.advance(seconds=3601)
    assert engine.attempt() is None
    engine.assert_archived(task_id)


def test_while_questions_are_held_the_old_url_is_tried_again_after_an_hour(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = engine.succeeded()
    sim.fault("cdn", faults.Raw(403), times=1)
    engine.attempt()
    engine.ledger.holds.set(ApiCredentialsRefused("simulated"), account=ACCOUNT, stage=Stage.VERIFY)
    asked = sim.requests["query"]

    assert not engine.refresh()
    assert engine.due() == 0
    engine.clock.advance(seconds=3601)
    assert engine.attempt() is None
    assert sim.requests["query"] == asked
    engine.assert_archived(task_id)


def test_the_files_of_a_task_whose_external_id_is_ours_are_not_ours(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either id can fill the path of a question, so once ours is purged the other one may answer."""
    ours, other = engine.succeeded(), engine.succeeded()
    path = engine.sim.url(ours, "0").partition("?")[0].removeprefix(engine.sim.origin)
    engine.sim.fault("cdn", faults.Raw(404), match=path)
    query = engine.client.query
    monkeypatch.setattr(engine.client, "query", lambda family, _id, **named: query(family, other, **named))

    for _ in range(2):
        engine.attempt()
    engine.refresh()
    engine.clock.advance(seconds=60)
    engine.attempt()

    assert engine.show(ours)["state"] == "buried"
    assert engine.names(ours) == []
    engine.assert_archived(other)


def test_a_dead_url_of_a_task_that_the_api_no_longer_knows_is_a_burial(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = engine.succeeded()
    sim.fault("cdn", faults.Raw(404))
    sim.fault("query", faults.ErrorCode(400, 1201, "task not found"))
    engine.attempt()
    engine.refresh()
    engine.clock.advance(seconds=60)

    assert isinstance(engine.attempt(), AssetGone)
    assert engine.show(task_id)["state"] == "buried"


def test_a_success_without_results_is_buried_and_puts_nothing(engine: Engine, sim: KlingSimulator) -> None:
    task_id = sim.create_task(indexes=[])
    sim.succeed(task_id)
    engine.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY)])
    engine.verify(task_id)

    shown = engine.show(task_id)
    assert (shown["state"], shown["reason"]) == ("buried", ResultsMissing.reason)
    assert engine.store.objects == {}
