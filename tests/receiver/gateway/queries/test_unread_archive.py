"""A ledger or a bucket that cannot be read, or is slow, while a client asks."""

import concurrent.futures
import pathlib
import threading
from typing import Any

import httpx2
import pytest

from archiver.failures import LedgerUnavailable
from archiver.record import Recorder
from receiver.gateway.exchange import (
    Source,
)
from receiver.gateway.gateway import QUERY_THREADS, QueryParts
from receiver.gateway.queries import archive_answers
from receiver.gateway.queries.absence import JUDGED_BYTES_MAX
from receiver.gateway.queries.account_tasks import AccountTasks
from tests.harness.daemons import until
from tests.harness.edge import SECONDS_MAX
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.harness.gateway import BEARER, gateway_to
from tests.receiver.gateway.queries.gate import PUBLIC, SIGNER, Gate, link, never, said, urls_of
from tests.simulator import KlingSimulator, faults


@pytest.mark.parametrize("part", ["ledger", "bucket"])
def test_kling_s_not_found_does_not_go_out_while_the_archive_cannot_be_read(
    gate: Gate, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id, running = gate.archived(), gate.sim.create_task()
    gate.sim.purge(task_id)
    if part == "ledger":
        monkeypatch.setattr(gate.engine.ledger.views, "known_tasks", never)
    else:
        monkeypatch.setattr(gate.engine.store, "read", never)
    paths = f"/v1/{FAMILY}/{task_id}", f"/tasks?task_ids={task_id}", f"/tasks?task_ids={running},{task_id}"
    for path in paths:
        answer = gate.ask(path)
        assert (answer.status, said(answer)["code"], answer.source) == (503, 5001, Source.GATEWAY)
        assert dict(answer.headers)[b"retry-after"] == b"5"
    shown = gate.ask(f"/v1/{FAMILY}/{running}")
    gate.sim.fault("query", faults.ErrorCode(429, 1101, "in arrears"))
    refused = gate.ask(f"/v1/{FAMILY}/{task_id}")

    assert (said(shown)["data"]["task_id"], shown.source) == (running, Source.KLING)
    assert (said(refused)["code"], refused.source) == (1101, Source.KLING)


def test_a_long_list_goes_out_with_its_archived_tasks_or_not_at_all(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived, running = gate.archived(), gate.sim.create_task()
    row = {"id": running, "status": "submitted", "message": "m" * JUDGED_BYTES_MAX}
    gate.sim.fault("tasks", faults.Json({"code": 0, "message": "", "data": [row]}))
    path = f"/tasks?task_ids={running},{archived}"
    whole = gate.ask(path)
    monkeypatch.setattr(archive_answers, "append_items", never)
    gate.seconds += 2.0
    answer = gate.ask(path)

    assert [shown["id"] for shown in said(whole)["data"]] == [running, archived]
    assert (answer.status, said(answer)["code"], answer.source) == (503, 5001, Source.GATEWAY)


def test_a_ledger_that_takes_nothing_hides_nothing_that_it_knows(gate: Gate) -> None:
    deleted, archived, news = gate.archived(), gate.archived(), gate.sim.create_task(family="tasks/video")
    gate.engine.ledger.registrations.register(news, account=ACCOUNT, family="tasks/video")
    gate.sim.succeed(news)
    links = {task_id: [link(gate.engine, task_id, "0")] for task_id in (archived, deleted)}
    gate.sim.purge(deleted)
    gate.engine.ledger.records.record = never  # type: ignore[method-assign]  # a write lock that lasts
    answer = gate.ask(f"/tasks?task_ids={news},{archived},{deleted}")

    urls = {row["id"]: urls_of(row) for row in said(answer)["data"]}
    assert urls.pop(news)[0].startswith(gate.sim.origin)
    assert urls == links
    assert gate.unlinked() == 1.0


def test_reads_do_not_wait_behind_writes_that_wait_for_a_lock(
    sim: KlingSimulator, engine: Engine, tmp_path: pathlib.Path
) -> None:
    with Gate(sim, engine) as gate:
        task_id = gate.archived()
    expected = [link(engine, task_id, "0")]
    sim.purge(task_id)
    news = [sim.create_task() for _ in range(QUERY_THREADS)]
    goes_on, waiting = threading.Event(), threading.Semaphore(0)

    def locked(*_: object, **__: object) -> Any:
        waiting.release()
        goes_on.wait(SECONDS_MAX)
        raise LedgerUnavailable("locked")

    engine.ledger.records.record = locked  # type: ignore[method-assign]  # SQLite waits 5 s for a lock
    account = AccountTasks(
        Recorder(ACCOUNT, engine.ledger, engine.metrics, lambda: 0.5), (FAMILY,), SIGNER, PUBLIC
    )
    parts = QueryParts({ACCOUNT: account}, engine.ledger.views, engine.ledger.registrations, engine.store)
    with (
        gateway_to(sim.base_url, tmp_path / "gateway", queries=parts) as edge,
        concurrent.futures.ThreadPoolExecutor(QUERY_THREADS) as clients,
    ):

        def ask(task_id: str) -> httpx2.Response:
            return edge.client.get(f"/v1/{FAMILY}/{task_id}", headers=BEARER)

        try:
            polls = [clients.submit(ask, task_id) for task_id in news]
            assert all(waiting.acquire(timeout=SECONDS_MAX) for _ in news)
            until(lambda: urls_of(ask(task_id).json()) == expected)
        finally:
            goes_on.set()
        assert {poll.result().status_code for poll in polls} == {200}
