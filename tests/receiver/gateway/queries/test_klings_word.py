"""Kling's answer to a query: recorded, with links and without our callback URL; nothing else in it changes."""

import re
import threading
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from archiver.ledger.gateway_creates.registering import CreatedTask, GatewayCreate
from archiver.model import State
from receiver.gateway.exchange import (
    Source,
)
from receiver.gateway.queries.absence import JUDGED_BYTES_MAX
from receiver.gateway.queries.answers import RecordedAnswer
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.receiver.gateway.queries.gate import (
    CLIENTS_URL,
    OTHER,
    PATIENCE_SECONDS,
    PUBLIC,
    SIGNER,
    Gate,
    link,
    never,
    said,
    urls_of,
)
from tests.simulator import KlingSimulator, faults


def test_the_first_succeed_that_a_client_sees_carries_links_and_is_recorded(gate: Gate) -> None:
    task_id = gate.sim.create_task(images=2, watermark=True)
    path = f"/v1/{FAMILY}/{task_id}"
    before = gate.ask(path)
    gate.sim.succeed(task_id)
    gate.engine.clock.advance(seconds=5)
    gate.seconds += 1.0
    answer = gate.ask(path)

    assert said(before)["data"]["task_status"] == "submitted"
    assert gate.state(task_id) is State.SUCCEEDED
    images = said(answer)["data"]["task_result"]["images"]
    stems = [(f"{number}", f"{number}.watermark") for number in range(2)]
    expected = [tuple(link(gate.engine, task_id, stem) for stem in pair) for pair in stems]
    assert [(row["url"], row["watermark_url"]) for row in images] == expected
    assert (answer.status, answer.source, gate.unlinked()) == (200, Source.KLING, 0.0)


def test_nothing_but_the_urls_differs_from_what_kling_said(gate: Gate) -> None:
    task_id = gate.sim.create_task(images=1)
    url = "https://p1.klingai.com/a.png?x=1"
    text = (
        '{ "code" : 0,"data":{"task_id":"%s", "task_status":"succeed" ,"n":1.50,"task_info":{},"x":"\\u00e9\\/",\n'
        '"task_result":{"images":[{"index":0,"url":"%s","note":"%s"}]}}, "code":0 }'
    )
    gate.sim.fault("query", faults.Json(text % (task_id, url.replace("/", "\\/"), url)))
    answer = gate.ask(f"/v1/{FAMILY}/{task_id}")

    folder = re.search(r"default/(images/.*)/0\.png", answer.body.decode())
    assert folder is not None
    linked = SIGNER.url(account=ACCOUNT, folder=folder[1], stem="0", extension="png")
    assert answer.body.decode() == text % (task_id, linked, url)


@pytest.mark.parametrize(
    "broken", [b"\xf0\x9f", b"a\tb\n", b'","n":' + b"7" * 5000 + b',"m":"'], ids=lambda _: ""
)
def test_a_whole_answer_with_something_broken_in_it_is_recorded_and_linked(gate: Gate, broken: bytes) -> None:
    task_id = gate.sim.create_task()
    ours = f"{PUBLIC}/callbacks/{'t' * 43}.ref/images/generations".encode()
    text = (
        b'{"code":0,"message":"%b","data":{"task_id":"%b","task_status":"succeed","task_status_msg":"%b",'
        b'"task_info":{"callback_url":"%b"},'
        b'"task_result":{"images":[{"index":0,"url":"https://p1.klingai.com/a.png?x=1"}]}}}'
    )
    body = text % (broken, task_id.encode(), broken, ours)
    gate.sim.fault("query", faults.Raw(200, body, {"content-type": "application/json"}))
    answer = gate.ask(f"/v1/{FAMILY}/{task_id}")

    assert gate.state(task_id) is State.SUCCEEDED
    (linked,) = re.findall(rb'"(https://kling.example.com/files/[^"]*)"', answer.body)
    assert answer.body == body.replace(b"https://p1.klingai.com/a.png?x=1", linked).replace(ours, b"")


def test_a_poll_that_brings_no_news_writes_nothing(gate: Gate) -> None:
    archived_id, succeeded_id = gate.archived(), gate.engine.succeeded()
    task_ids = [gate.sim.create_task(), succeeded_id, archived_id]
    paths = [f"/v1/{FAMILY}/{task_id}" for task_id in task_ids]
    gate.ask(*paths)
    gate.seconds += 1.0
    gate.engine.ledger.records.record = never  # type: ignore[method-assign]  # the poll would write
    running, succeeded, archived = gate.ask(*paths)

    assert gate.unlinked() == 0.0
    assert said(running)["data"]["task_status"] == "submitted"
    assert [urls_of(said(answer)) for answer in (succeeded, archived)] == [
        [link(gate.engine, task_id, "0")] for task_id in task_ids[1:]
    ]


def test_tasks_are_found_by_external_ids_and_recorded_once(gate: Gate) -> None:
    name = "order 7/é"
    task_id = gate.sim.create_task(external_task_id=name)
    gate.sim.succeed(task_id)
    by_path, by_query = gate.ask(
        f"/v1/{FAMILY}/{quote(name.replace('/', '-'), safe='')}", f"/v1/{FAMILY}/{task_id}"
    )

    assert said(by_path)["code"] == 1201
    assert urls_of(said(by_query)) == [link(gate.engine, task_id, "0")]
    shown = gate.engine.show(task_id)
    assert (shown["external_task_id"], shown["discovered_by"]) == (name, "registration")


def test_kling_s_urls_go_out_and_are_counted_where_the_ledger_cannot_take_the_answer(gate: Gate) -> None:
    task_id = gate.sim.create_task()
    gate.sim.succeed(task_id)

    gate.engine.ledger.records.record = never  # type: ignore[method-assign]  # the disk is full
    answer = gate.ask(f"/v1/{FAMILY}/{task_id}")

    assert [urlsplit(url).netloc for url in urls_of(said(answer))] == [urlsplit(gate.sim.origin).netloc]
    assert (answer.status, gate.unlinked(), gate.state(task_id)) == (200, 1.0, None)


def test_an_answer_that_the_ledger_takes_too_long_for_goes_out_as_it_came(
    sim: KlingSimulator, engine: Engine
) -> None:
    task_id = sim.create_task()
    sim.succeed(task_id)
    goes_on, ended = threading.Event(), threading.Event()
    record = engine.ledger.records.record

    def slow(*args: Any, **options: Any) -> Any:
        gate.loop.let_pass(PATIENCE_SECONDS)
        goes_on.wait(PATIENCE_SECONDS)
        try:
            return record(*args, **options)
        finally:
            ended.set()

    engine.ledger.records.record = slow  # type: ignore[method-assign]  # a lock that lasts
    with Gate(sim, engine) as gate:
        answer = gate.ask(f"/v1/{FAMILY}/{task_id}")
        goes_on.set()
        assert ended.wait(PATIENCE_SECONDS), "it is recorded all the same"

        assert PUBLIC not in answer.body.decode()
        assert gate.unlinked() == 1.0


def test_a_task_of_another_account_never_gets_a_link(gate: Gate) -> None:
    task_id = gate.archived()
    gate.sim.fault("query", faults.ErrorCode(400, 1201, "no such task"))
    answer = gate.ask(f"/v1/{FAMILY}/{task_id}", account=OTHER)
    by_batch = gate.ask(f"/tasks?task_ids={task_id}x", account=OTHER)

    assert (said(answer)["code"], answer.source) == (1201, Source.KLING)
    assert (said(by_batch)["data"], by_batch.source) == ([], Source.KLING)


def test_our_callback_url_never_shows(gate: Gate) -> None:
    ours = f"{PUBLIC}/callbacks/{'t' * 43}.ref/images/generations"
    task_id = gate.sim.create_task()
    create = GatewayCreate("r" * 22, ACCOUNT, FAMILY, None, CLIENTS_URL, None)
    gate.engine.ledger.gateway_creates.commit(created=[CreatedTask(create, task_id)])
    task = {"task_id": task_id, "task_status": "submitted", "task_info": {"callback_url": ours}}
    gate.sim.fault("query", faults.Json({"code": 0, "message": f"for {ours}!", "data": task}))
    answer = gate.ask(f"/v1/{FAMILY}/{task_id}")
    gate.sim.clear_faults()
    gate.sim.fault("query", faults.ErrorCode(400, 1201, f"bad callback_url {ours}"))
    refused = gate.ask(f"/v1/{FAMILY}/{task_id}x")

    assert said(answer)["message"] == "for "
    assert said(answer)["data"]["task_info"]["callback_url"] == CLIENTS_URL
    assert said(refused)["message"] == "bad callback_url "


def test_a_long_refusal_is_read_beside_the_event_loop(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    read = gate.recorder.refused

    def noted(body: bytes) -> RecordedAnswer:
        threads.append(threading.current_thread())
        return read(body)

    monkeypatch.setattr(gate.recorder, "refused", noted)
    ours = f"{PUBLIC}/callbacks/{'t' * 43}/images/generations"
    for length in (1, JUDGED_BYTES_MAX):
        gate.sim.fault("query", faults.ErrorCode(400, 1201, f"{'m' * length} {ours}"), times=1)
        assert ours.encode() not in gate.ask(f"/v1/{FAMILY}/no-such-{length}").body

    assert [thread is threading.main_thread() for thread in threads] == [True, False]
