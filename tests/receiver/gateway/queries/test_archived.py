"""What Kling cannot say of archived tasks is answered from the archive."""

import re
from collections.abc import Sequence

import pytest

from archiver.failures import StoreUnreachable
from archiver.model import DAY_MS
from receiver.gateway.exchange import (
    NoAnswer,
    Source,
)
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.receiver.gateway.queries.gate import EXPAND, PUBLIC, Gate, link, said, urls_of
from tests.simulator import KlingSimulator, faults

UNABLE: Sequence[faults.Fault] = (
    faults.ErrorCode(400, 1201, "no such task"),
    faults.ErrorCode(429, 1101, "in arrears"),
    faults.ErrorCode(401, 1000, "revoked"),
    faults.too_fast(),
    faults.server_error(),
    faults.Html(),
    faults.Empty(),
    faults.Drop(),
    faults.Json({"code": 0, "data": {"task_id": "other", "task_status": "submitted"}}),
    faults.Json({"code": 0, "data": None}),
)


def test_an_archived_task_is_answered_whatever_kling_says(gate: Gate) -> None:
    task_id = gate.archived(images=2)
    for fault in UNABLE:
        gate.seconds += 1.0
        gate.sim.clear_faults()
        gate.sim.fault("query", fault)
        answer = gate.ask(f"/v1/{FAMILY}/{task_id}")

        body = said(answer)
        assert (answer.status, answer.source) == (200, Source.MANIFEST), fault
        assert (body["code"], body["message"]) == (0, "SUCCEED")
        assert re.fullmatch(r"[0-9a-f-]{36}", body["request_id"])
        assert body["data"]["task_id"] == task_id
        assert body["data"]["task_status"] == "succeed"
        assert urls_of(body) == [link(gate.engine, task_id, f"{number}") for number in range(2)]


def test_a_succeed_whose_results_are_gone_is_answered_from_the_archive(gate: Gate) -> None:
    task_id = gate.archived()
    gone = {"task_id": task_id, "task_status": "succeed", "task_result": {"images": []}}
    gate.sim.fault("query", faults.Json({"code": 0, "data": gone}))
    answer = gate.ask(f"/v1/{FAMILY}/{task_id}")

    assert answer.source is Source.MANIFEST
    assert urls_of(said(answer)) == [link(gate.engine, task_id, "0")]


def test_an_answer_that_takes_too_long_is_not_waited_for(sim: KlingSimulator, engine: Engine) -> None:
    with Gate(sim, engine, patience_seconds=0.05) as gate:
        task_id = gate.archived()
        sim.fault("query", faults.Hang())
        answer = gate.ask(f"/v1/{FAMILY}/{task_id}")

        assert answer.source is Source.MANIFEST
        assert urls_of(said(answer)) == [link(engine, task_id, "0")]


def test_without_kling_and_its_ledger_or_bucket_there_is_no_answer(gate: Gate) -> None:
    task_id, running = gate.archived(), gate.engine.succeeded()
    gate.sim.fault("query", faults.Drop())

    with pytest.raises(NoAnswer):
        gate.ask(f"/v1/{FAMILY}/{running}")
    gate.engine.effects.plan["read manifest.json"] = (False, StoreUnreachable("gone"))
    with pytest.raises(NoAnswer):
        gate.ask(f"/v1/{FAMILY}/{task_id}")


def test_a_forgotten_task_has_no_links_and_no_answer_but_kling_s(gate: Gate) -> None:
    task_id = gate.archived()
    gate.engine.ledger.tombstones.forget(task_id, account=ACCOUNT)

    answered = gate.ask(f"/v1/{FAMILY}/{task_id}")
    gate.seconds += 1.0
    gate.sim.fault("query", faults.ErrorCode(404, 1203, "no such task"))
    lost = gate.ask(f"/v1/{FAMILY}/{task_id}")

    assert answered.source is Source.KLING
    assert [url for url in urls_of(said(answered)) if url.startswith(PUBLIC)] == []
    assert (lost.source, said(lost)["code"]) == (Source.KLING, 1203)
    assert gate.state(task_id) is None


def test_a_path_of_another_family_says_what_kling_says(gate: Gate) -> None:
    task_id = gate.archived()
    answer = gate.ask(f"/v1/{EXPAND}/{task_id}")

    assert (said(answer)["code"], answer.source) == (1201, Source.KLING)


def test_tasks_appends_the_archived_ones_that_kling_leaves_out(gate: Gate) -> None:
    task_id = gate.archived(images=1, external_task_id="mine-77")
    running = gate.sim.create_task(external_task_id="mine-78")
    expected = link(gate.engine, task_id, "0")
    gate.sim.task(task_id).created_at -= 40 * DAY_MS  # Kling has purged it
    by_id = gate.ask(f"/tasks?task_ids={task_id},{running}")
    by_name = gate.ask("/tasks?external_task_ids=mine-78,mine-77,mine-79")
    legacy = gate.ask(f"/v1/{FAMILY}/mine-77")

    for answer in (by_id, by_name):
        shown, appended = said(answer)["data"]
        assert (shown["id"], appended["id"], appended["status"]) == (running, task_id, "succeeded")
        assert appended["outputs"][0]["type"] == "image"
        assert urls_of(appended) == [expected]
        assert answer.source is Source.MANIFEST
    assert said(legacy)["data"]["task_id"] == task_id
    assert legacy.source is Source.MANIFEST


def test_tasks_refuses_in_kling_s_words_unless_all_that_was_asked_for_is_archived(gate: Gate) -> None:
    task_id, running = gate.archived(), gate.sim.create_task()
    gate.sim.fault("tasks", faults.ErrorCode(429, 1101, "in arrears"))
    both, one = gate.ask(f"/tasks?task_ids={task_id},{running}", f"/tasks?task_ids={task_id}")

    assert (said(both)["code"], both.source) == (1101, Source.KLING)
    assert ([row["id"] for row in said(one)["data"]], one.source) == ([task_id], Source.MANIFEST)


@pytest.mark.parametrize("data", [None, {"count": 0, "has_more": False}, {"result": None, "count": 0}])
def test_archived_tasks_are_shown_at_tasks_where_kling_shows_none(gate: Gate, data: object) -> None:
    task_id = gate.archived()
    gate.sim.fault("tasks", faults.Json({"code": 0, "data": data}))
    answer = gate.ask(f"/tasks?task_ids=1234,{task_id}")

    assert ([row["id"] for row in said(answer)["data"]], answer.source) == ([task_id], Source.MANIFEST)


def test_a_count_of_rows_counts_the_archived_ones_too(gate: Gate) -> None:
    task_id = gate.archived()
    data = {"count": 1, "result": [{"id": "1234", "status": "submitted"}], "has_more": False}
    gate.sim.fault("tasks", faults.Json({"code": 0, "data": data}))
    shown = said(gate.ask(f"/tasks?task_ids=1234,{task_id}"))["data"]

    assert ([row["id"] for row in shown["result"]], shown["count"]) == (["1234", task_id], 2)


def test_an_amended_task_is_answered_with_all_its_files(gate: Gate) -> None:
    engine = gate.engine
    task_id = gate.archived(family=EXPAND, watermark=True)
    engine.verify(task_id, family=EXPAND, listed=True)
    while engine.stages.folder_worker.work_once():
        pass
    gate.sim.fault("query", faults.Drop())
    answer = gate.ask(f"/v1/{EXPAND}/{task_id}")

    (row,) = said(answer)["data"]["task_result"]["images"]
    assert row["url"] == link(engine, task_id, "0", family=EXPAND)
    assert row["watermark_url"] == link(engine, task_id, "0.watermark", family=EXPAND)


def used_again(gate: Gate, name: str, *, is_archived: bool) -> tuple[str, str]:
    """An archived task that Kling has deleted, and a newer one with its external id."""
    first = gate.archived(external_task_id=name)
    gate.sim.purge(first)
    gate.engine.clock.advance(seconds=60)
    second = gate.sim.create_task(external_task_id=f"{name}, again")
    gate.sim.task(second).external_task_id = name
    if is_archived:
        gate.sim.succeed(second)
    gate.ask(f"/v1/{FAMILY}/{second}")
    if is_archived:
        assert gate.engine.attempt() is None
    return first, second


def test_an_archived_task_is_no_answer_for_an_external_id_that_a_newer_one_has(gate: Gate) -> None:
    first, _ = used_again(gate, "order-7", is_archived=False)
    gate.sim.fault("query", faults.too_fast())
    gate.sim.fault("tasks", faults.server_error())
    by_name, by_query, by_id = gate.ask(
        f"/v1/{FAMILY}/order-7", "/tasks?external_task_ids=order-7", f"/v1/{FAMILY}/{first}"
    )

    assert (said(by_name)["code"], by_name.source) == (1302, Source.KLING)
    assert (said(by_query)["code"], by_query.source) == (5000, Source.KLING)
    assert (said(by_id)["data"]["task_id"], by_id.source) == (first, Source.MANIFEST)


def test_an_external_id_means_the_newest_archived_task_that_has_it(gate: Gate) -> None:
    _, second = used_again(gate, "order-8", is_archived=True)
    gate.sim.fault("query", faults.Drop())
    gate.sim.fault("tasks", faults.Json({"code": 0, "data": []}))
    by_name, by_query = gate.ask(f"/v1/{FAMILY}/order-8", "/tasks?external_task_ids=order-8")

    assert said(by_name)["data"]["task_id"] == second
    assert [row["id"] for row in said(by_query)["data"]] == [second]
