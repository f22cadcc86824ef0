"""How the databases go about judging lost answers: along an index, past no tasks of others."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from archiver.ledger.gateway_creates.by_time import (
    MATCHED_MS,
)
from archiver.ledger.tables import schema
from archiver.model import State
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, START, Desk
from tests.harness.lost_answers import begin, create, found, joined, pass_by
from tests.harness.plans import executed, plan_of
from tests.postgres import BlankDatabase


@pytest.mark.sqlite_only("how SQLite goes about it")
def test_a_look_at_lost_answers_reads_the_tasks_of_a_time_and_not_all(desk: Desk) -> None:
    begin(desk)
    found(desk)
    found(desk, "doubted", created_at=START + 1)
    pass_by(desk)

    def work() -> None:
        desk.ledger.gateway_creates.match_by_time()
        desk.ledger.gateway_creates.commit(refused=["r-1"], begun=[create("r-2"), create("r-3")])
        pass_by(desk)
        desk.write("UPDATE gateway_creates SET created_at = created_at - ?", MATCHED_MS)
        assert joined(desk) == ["doubted", "t"]

    plans = {
        row["detail"]
        for statement, parameters in executed(work)
        if statement.startswith("SELECT")
        for row in desk.rows(f"EXPLAIN QUERY PLAN {statement}", *parameters)
        if re.match(r"(SCAN|SEARCH) (tasks|gateway_creates)", row["detail"])
    }
    columns = "account=? AND (family,state,deadline_at)>(?,?,?) AND (family,state,deadline_at)<(?,?,?)"
    assert f"SEARCH tasks USING INDEX tasks_by_family ({columns})" in plans
    scans = [plan for plan in plans if plan.startswith("SCAN")]
    assert scans == []


STATISTICS = ("never", "before the flood", "fresh")
FLOODS: dict[str, dict[str, Any]] = {
    "another account": {"account": "us"},
    "another family": {"family": "videos/lip-sync"},
    "long ago": {"deadline_at": START + DAY},
}


@pytest.mark.parametrize("counted", STATISTICS)
@pytest.mark.parametrize("flood", FLOODS)
def test_postgresql_passes_no_other_tasks_whatever_it_has_counted(
    unanalyzed_database: BlankDatabase, counted: str, flood: str
) -> None:
    desk = Desk(unanalyzed_database)
    desk.is_forged = True
    begin(desk, create(), create("with-id", external_task_id="theirs"))
    found(desk)
    pass_by(desk)
    insert(desk, [confirmed(f"mine-{number}", State.ARCHIVED) for number in range(400)])
    if counted == "before the flood":
        desk.by_hand.write("ANALYZE")
    for state in (State.RUNNING, State.SUCCEEDED, State.FAILED, State.LOST, State.BURIED):
        others = [confirmed(f"{state}-{number}", state) | FLOODS[flood] for number in range(400)]
        insert(desk, others)
    if counted == "fresh":
        desk.by_hand.write("ANALYZE")

    def plans_of(work: Callable[[], object], column: str) -> list[str]:
        statements = [
            (said, given)
            for said, given in executed(work)
            if column in said.partition("WHERE")[2] and "FROM tasks" in said
        ]
        with desk.ledger.database.read() as connection:
            return [plan_of(connection, said, given) for said, given in statements]

    plans = plans_of(desk.ledger.gateway_creates.match_by_time, "deadline_at")
    (named,) = plans_of(desk.ledger.gateway_creates.match, "external_task_id")
    desk.close()

    assert "using tasks_by_external on tasks" in named

    assert len(plans) >= 12
    indexes = {index for plan in plans for index in re.findall(r"using (tasks_\w+)", plan)}
    assert indexes == {"tasks_by_family"}
    assert all("deadline_at" in line for plan in plans for line in plan.splitlines() if "Index Cond" in line)


def insert(desk: Desk, rows: list[dict[str, Any]]) -> None:
    with desk.ledger.database.write() as connection:
        connection.execute(sa.insert(schema.tasks), rows)


def confirmed(task_id: str, state: State) -> dict[str, Any]:
    """A row of a task that was created with the lost create."""
    queues = {
        State.RUNNING: "verify",
        State.BURIED: "verify",
        State.SUCCEEDED: "archive",
        State.LOST: "archive",
    }
    is_archived, has_reason = state is State.ARCHIVED, state in (State.FAILED, State.LOST, State.BURIED)
    return {
        "account": ACCOUNT,
        "task_id": task_id,
        "family": FAMILY,
        "state": state,
        "queue": queues.get(state),
        "reason": "x" if has_reason else None,
        "result_arrays": "",
        "attempts": 0,
        "held": 0,
        "due_at": START if state in queues else None,
        "created_at": START,
        "deadline_at": START + 30 * DAY,
        "first_seen_at": START,
        "confirmed_at": START,
        "document": "{}",
        "asked": 0,
        "query_individually": False,
        "discovered_by": "sweep",
        "callbacks": 1,
        "manifest_key": "m" if is_archived else None,
        "archived_at": START if is_archived else None,
    }
