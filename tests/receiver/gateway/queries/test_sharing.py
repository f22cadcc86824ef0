"""Equal queries of one client share an answer."""

from tests.harness.engine import FAMILY
from tests.receiver.gateway.queries.gate import OTHER, Gate, said


def test_equal_queries_of_one_client_share_one_answer_and_others_do_not(gate: Gate) -> None:
    task_id = gate.engine.succeeded()
    before = gate.sim.requests["query"]
    path = f"/v1/{FAMILY}/{task_id}"
    answers = [*gate.ask(*[path] * 5), gate.ask(path)]
    shared = gate.sim.requests["query"] - before
    gate.ask(path, account=OTHER)
    gate.seconds += 1.0
    gate.ask(path)

    assert len({answer.body for answer in answers}) == 1
    assert (shared, gate.sim.requests["query"] - before) == (1, 3)


def test_what_was_not_found_is_asked_again_at_once(gate: Gate) -> None:
    first = gate.ask(f"/v1/{FAMILY}/mine-1000")
    task_id = gate.sim.create_task(external_task_id="mine-1000")
    second = gate.ask(f"/v1/{FAMILY}/mine-1000")

    assert said(first)["code"] == 1201
    assert said(second)["data"]["task_id"] == task_id
