"""An answer about another task than the one that was asked for."""

import contextlib

import pytest

from receiver.gateway.exchange import (
    NoAnswer,
    Source,
)
from tests.harness.engine import ACCOUNT, FAMILY
from tests.receiver.gateway.queries.gate import Gate, said
from tests.simulator import faults


def about(task_id: str, *, external_id: str | None = None) -> faults.Json:
    """An answer that shows this task."""
    info = {} if external_id is None else {"external_task_id": external_id}
    row = {"task_id": task_id, "task_status": "submitted", "task_info": info}
    return faults.Json({"code": 0, "message": "", "data": row})


@pytest.mark.parametrize("external_id", [None, "theirs"])
def test_an_answer_about_another_task_is_no_answer(external_id: str | None, gate: Gate) -> None:
    mine, archived, theirs = gate.sim.create_task(), gate.archived(), gate.sim.create_task()
    gate.engine.ledger.registrations.register(mine, account=ACCOUNT, family=FAMILY)
    gate.sim.fault("query", about(theirs, external_id=external_id))
    with pytest.raises(NoAnswer, match="about other tasks"):
        gate.ask(f"/v1/{FAMILY}/{mine}")
    answer = gate.ask(f"/v1/{FAMILY}/{archived}")

    assert (said(answer)["data"]["task_id"], answer.source) == (archived, Source.MANIFEST)
    assert gate.state(theirs) is None


@pytest.mark.parametrize("external_id", [None, "MINE-1", "mine"])
def test_an_answer_about_a_task_that_may_have_the_external_id_is_one(
    external_id: str | None, gate: Gate
) -> None:
    task_id = gate.sim.create_task()
    gate.sim.fault("query", about(task_id, external_id=external_id))

    assert said(gate.ask(f"/v1/{FAMILY}/mine-1"))["data"]["task_id"] == task_id


@pytest.mark.parametrize(
    ("asked", "is_answer"),
    [
        ("task_ids=1,2", False),
        ("external_task_ids=mine-1", False),
        ("task_ids=1&status=submitted", False),
        ("task_ids=1,%20id-{0}", True),
        ("task_ids=%5B%22id-{0}%22%5D", True),
        ("task_ids=%22ID-{0}%22", True),
        ("task_ids=x;id-{0}", True),
        ("task_ids=x%7Cid-{0}", True),
        ("task_ids=x+id-{0}", True),
        ("task_ids=x%EF%BC%8Cid-{0}", True),
        ("task_ids=thei+r%27s+%26+%C3%A9", True),
        ("external_task_ids=thei%2Br%27s%20%26%20%C3%A9,mine-1", True),
        ("external_task_ids=THEI+R%27S+%26+%C3%89", True),
        ("external_task_ids=thei+r%27s+%26+e%CC%81", True),
        ("external_task_ids=thei+r%27s+%26+%E9", True),
    ],
)
@pytest.mark.parametrize("external_id", ["thei+r's & \u00e9", "thei r's &amp; \u00e9"])
def test_an_answer_of_tasks_shows_one_of_those_asked_for_or_is_none(
    asked: str, is_answer: bool, external_id: str, gate: Gate
) -> None:
    theirs = gate.sim.create_task()
    row = {"id": f"id-{theirs}", "status": "submitted", "external_id": external_id}
    gate.sim.fault("tasks", faults.Json({"code": 0, "message": "", "data": [row]}))
    with contextlib.nullcontext() if is_answer else pytest.raises(NoAnswer, match="about other tasks"):
        assert said(gate.ask(f"/tasks?{asked.format(theirs)}"))["data"] == [row]


@pytest.mark.parametrize(
    ("path", "is_array"), [("/v1/videos/avatar/newthing", False), (f"/v1/{FAMILY}/mine", True)]
)
def test_a_list_at_a_path_that_looks_like_a_query_is_an_answer(path: str, is_array: bool, gate: Gate) -> None:
    row = {"task_id": "t-1", "task_status": "submitted", "task_info": {"external_task_id": "theirs"}}
    body = {"code": 0, "message": "", "data": [row] if is_array else row}
    gate.sim.fault(None, faults.Json(body))

    assert said(gate.ask(path)) == body
