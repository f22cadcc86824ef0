"""Tasks that `/tasks`, `/solutions` and lists show, and the search for their families' own paths."""

import json
from collections.abc import Sequence
from urllib.parse import urlsplit

import pytest

from archiver.families import FAMILIES, collection_of
from archiver.model import State
from receiver.gateway.exchange import (
    Source,
)
from receiver.gateway.queries.family_search import REQUESTS_MAX
from receiver.gateway.queries.handler import REPLACED_BYTES_MAX
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.receiver.gateway.queries.gate import PUBLIC, SERIES, TRY_ON, Gate, link, said, urls_of
from tests.simulator import KlingSimulator, faults
from tests.simulator.request_log import Kind


def test_tasks_of_the_new_standard_get_links_at_the_first_succeed(gate: Gate) -> None:
    task_id = gate.sim.create_task(family="tasks/video")
    gate.engine.ledger.registrations.register(task_id, account=ACCOUNT, family="tasks/video")
    gate.sim.succeed(task_id)
    answer = gate.ask(f"/tasks?task_ids={task_id}")

    assert urls_of(said(answer)) == [
        link(gate.engine, task_id, "video-0", family="tasks/video", extension="mp4")
    ]


def test_a_task_of_a_v1_family_gets_the_names_of_its_own_path_at_tasks(gate: Gate) -> None:
    task_id = gate.sim.create_task(family=SERIES, series=True, images=2)
    gate.engine.ledger.registrations.register(task_id, account=ACCOUNT, family=SERIES)
    gate.sim.succeed(task_id)
    answer = gate.ask(f"/tasks?task_ids={task_id}")

    assert urls_of(said(answer)) == [
        link(gate.engine, task_id, f"series-{number}", family=SERIES) for number in range(2)
    ]
    assert gate.unlinked() == 0.0


def test_a_task_that_only_tasks_has_shown_is_looked_for_at_the_paths_of_the_families(gate: Gate) -> None:
    task_id = gate.sim.create_task()
    gate.sim.succeed(task_id)
    answer = gate.ask(f"/tasks?task_ids={task_id}")

    assert urls_of(said(answer)) == [link(gate.engine, task_id, "0")]
    assert (gate.unlinked(), gate.state(task_id)) == (0.0, State.SUCCEEDED)


def test_a_task_that_no_family_of_the_account_knows_is_verified_before_it_gets_links(gate: Gate) -> None:
    task_id = gate.sim.create_task(family="images/multi-image2image")
    gate.sim.succeed(task_id)
    answer = gate.ask(f"/tasks?task_ids={task_id}")

    assert PUBLIC not in answer.body.decode()
    assert (gate.unlinked(), gate.state(task_id)) == (1.0, State.REPORTED)


def test_a_solution_gets_links_at_the_first_succeed_and_its_answer_from_the_archive_once_it_is_gone(
    gate: Gate,
) -> None:
    task_id = gate.sim.create_task(family=TRY_ON, external_task_id="fitting-1")
    path = f"/solutions?task_ids={task_id}"
    before = gate.ask(path)
    gate.sim.succeed(task_id)
    gate.seconds += 1.0
    shown = gate.ask(path)
    assert gate.engine.attempt() is None
    gate.sim.purge(task_id)
    gate.seconds += 1.0
    gone, by_name, at_tasks = gate.ask(
        path, "/solutions?external_task_ids=fitting-1", f"/tasks?task_ids={task_id}"
    )

    assert [row["status"] for row in said(before)["data"]] == ["submitted"]
    linked = urls_of(said(shown))
    assert [urlsplit(url).netloc for url in linked] == [urlsplit(PUBLIC).netloc]
    assert (shown.source, gate.unlinked()) == (Source.KLING, 0.0)
    for answer in (gone, by_name):
        assert ([row["id"] for row in said(answer)["data"]], answer.source) == ([task_id], Source.MANIFEST)
        assert urls_of(said(answer)) == linked
    assert (said(at_tasks)["data"], at_tasks.source) == ([], Source.KLING)


def test_lists_are_recorded_and_linked_row_by_row(gate: Gate) -> None:
    family = "images/multi-image2image"
    task_ids = [gate.sim.create_task(family=family, images=2) for _ in range(3)]
    for task_id in task_ids[:2]:
        gate.sim.succeed(task_id)
    answer = gate.ask(f"/v1/{family}?pageNum=1&pageSize=30")

    rows = {row["task_id"]: row for row in said(answer)["data"] if row["task_id"] in task_ids}
    for task_id in task_ids[:2]:
        assert urls_of(rows[task_id]) == [
            link(gate.engine, task_id, f"{number}", family=family) for number in range(2)
        ]
    assert urls_of(rows[task_ids[2]]) == []
    assert [gate.state(task_id) for task_id in task_ids] == [State.SUCCEEDED, State.SUCCEEDED, State.RUNNING]
    assert gate.engine.show(task_ids[0])["discovered_by"] == "sweep"


def test_windows_of_tasks_are_linked_too(gate: Gate) -> None:
    task_id = gate.archived()
    answer = gate.ask("/tasks", method="POST", body=b'{"limit": 500}')

    (row,) = [row for row in said(answer)["data"]["result"] if row["id"] == task_id]
    assert urls_of(row) == [link(gate.engine, task_id, "0")]


@pytest.mark.parametrize(
    ("kind", "path"),
    [("query", f"/v1/{FAMILY}/{{task_id}}"), ("list", f"/v1/{FAMILY}?pageNum=1&pageSize=500")],
)
def test_an_answer_of_more_than_32_mib_goes_out_as_it_came_and_is_counted(
    gate: Gate, kind: Kind, path: str
) -> None:
    task_id = gate.archived()
    url = "https://p1.klingai.com/a.png?x=1"
    task = {"task_id": task_id, "task_status": "succeed", "task_result": {"images": [{"url": url}]}}
    body = json.dumps({"code": 0, "message": "x" * REPLACED_BYTES_MAX, "data": task}).encode()
    gate.sim.fault(kind, faults.Raw(200, body, {"content-type": "application/json"}))

    answer, received = gate.read(path.format(task_id=task_id))

    assert (answer.status, answer.source, gate.unlinked(kind)) == (200, Source.KLING, 1.0)
    assert received == body


OWN_FAMILIES = tuple(family for family in FAMILIES if collection_of(family) is None)


def test_one_question_costs_few_requests_at_the_paths_of_families(
    sim: KlingSimulator, engine: Engine
) -> None:
    with Gate(sim, engine, families=OWN_FAMILIES) as gate:
        made = [sim.create_task(family="videos/motion-control") for _ in range(20)]
        unknown = [sim.create_task(family="videos/video-extend") for _ in range(20)]
        for task_id in (*made, *unknown):
            sim.succeed(task_id)
        asked = []

        def ask(task_ids: Sequence[str]) -> float | None:
            gate.seconds += 1.0
            before = sim.requests["query"], gate.unlinked()
            gate.ask(f"/tasks?task_ids={','.join(task_ids)}")
            asked.append(sim.requests["query"] - before[0])
            return gate.unlinked() == before[1]

        sim.fault("query", faults.too_fast())
        assert not ask(made)
        sim.clear_faults()
        assert ask(made), "all have links"
        assert ask(made)
        sim.fault("query", faults.ErrorCode(400, 1201, "no such task"))
        assert not ask(unknown[:1])
        assert not ask(unknown[:1])
        assert not ask(unknown)

    refused, found, known, one, again, many = asked
    assert (refused, known, again) == (1, 0, 0)
    assert 20 <= found <= REQUESTS_MAX
    assert 1 < one <= len(OWN_FAMILIES)
    assert many <= REQUESTS_MAX
