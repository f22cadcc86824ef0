"""PostgreSQL plans by what it counted before a flood: until autovacuum comes by, for a minute or, below a tenth of all
rows, for ever. Every row it has counted is archived, and then thousands are not."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from archiver.failures import ApiTimeout
from archiver.ledger.tables import schema
from archiver.ledger.views import TaskFilter
from archiver.model import Callback, Stage, State, Status
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, MINUTE, START, Desk, answer
from tests.harness.plans import executed, plan_of
from tests.postgres import BlankDatabase

ROWS = 3_000
SAMPLES = 3


@pytest.fixture
def flooded(unanalyzed_database: BlankDatabase) -> Iterator[Desk]:
    """Archived tasks that PostgreSQL has counted, then twice as many ids that it has not."""
    desk = Desk(unanalyzed_database)
    insert(desk, [archived(number) for number in range(ROWS)])
    desk.by_hand.write("ANALYZE tasks")
    states = (State.REPORTED, State.UNKNOWN, State.BURIED)
    insert(desk, [forged(number, states[number % 3]) for number in range(2 * ROWS)])
    for number in range(SAMPLES):
        desk.say(answer(f"succeeded-{number}", created_at=START - number))
        desk.say(answer(f"running-{number}", Status.RUNNING, created_at=START - number))
        desk.tell(f"reported-{number}")
    yield desk
    desk.close()


def insert(desk: Desk, rows: list[dict[str, Any]]) -> None:
    """Rows straight into the table, and counted."""
    with desk.ledger.database.write() as connection:
        connection.execute(sa.insert(schema.tasks), rows)
        for state in {row["state"] for row in rows}:
            count = sum(row["state"] == state for row in rows)
            is_confirmed = rows[0]["confirmed_at"] is not None
            kind = {"account": ACCOUNT, "state": state, "is_confirmed": is_confirmed}
            connection.execute(sa.insert(schema.task_counts), kind | {"tasks": count})


def row(task_id: str, number: int, **more: Any) -> dict[str, Any]:
    return {
        "account": ACCOUNT,
        "task_id": task_id,
        "family_hint": FAMILY,
        "result_arrays": "",
        "attempts": 1,
        "held": 0,
        "deadline_at": START - number + 30 * DAY,
        "first_seen_at": START - number,
        "asked": 0,
        "query_individually": False,
        "discovered_by": "callback",
        "callbacks": 1,
        **more,
    }


def archived(number: int) -> dict[str, Any]:
    return row(
        f"archived-{number}",
        number,
        family=FAMILY,
        state=State.ARCHIVED,
        created_at=START - number,
        confirmed_at=START,
        document="{}",
        manifest_key="m",
        archived_at=START,
    )


def forged(number: int, state: State) -> dict[str, Any]:
    is_buried = state is State.BURIED
    return row(
        f"forged-{number}",
        number,
        state=state,
        queue=schema.QUEUE_UNCONFIRMED,
        confirmed_at=None,
        due_at=START + DAY + number,
        named_at=START,
        reason="x" if is_buried else None,
        unseen_since=START if is_buried else None,
        not_found_since=START if state is State.UNKNOWN else None,
    )


def work(desk: Desk) -> None:
    """What daemons, callbacks and operators write of single rows."""
    for _ in range(SAMPLES):
        desk.clock.advance(MINUTE)
        desk.ledger.callbacks.record([Callback(ACCOUNT, "reported-0", Status.FAILED, FAMILY)])
        desk.ledger.callbacks.record([Callback(ACCOUNT, "forged-1", Status.SUCCEEDED, FAMILY)])
        for stage in (Stage.VERIFY, Stage.ARCHIVE):
            for lease in desk.claim_all(stage, count=2):
                desk.fail(lease, ApiTimeout("no answer"))
    desk.say(answer("reported-1"))
    desk.say(answer("running-1"))
    desk.say(answer("running-2", Status.FAILED, message="policy"))
    desk.archived(desk.claim_all(Stage.ARCHIVE, count=1)[0])
    desk.ledger.registrations.register("forged-2", account=ACCOUNT, family=FAMILY, external_task_id="mine")
    desk.ledger.registrations.retry(["forged-3", "forged-5"], account=ACCOUNT)
    desk.ledger.acknowledgements.acknowledge(["forged-8"], account=ACCOUNT)
    desk.clock.advance(30 * DAY)
    desk.ledger.deadlines.expire()


NAMES_A_ROW = re.compile(r"\btasks\.id (= |IN \()%\(")


def test_a_row_that_is_named_by_its_id_is_not_looked_for_among_those_of_its_state(flooded: Desk) -> None:
    statements = executed(lambda: work(flooded))

    named = [(said, given) for said, given in statements if NAMES_A_ROW.search(said)]
    updates = {said for said, _ in named if said.startswith("UPDATE tasks")}
    assert len(updates) > 8
    with flooded.ledger.database.write() as connection:
        plans = [plan_of(connection, said, given) for said, given in named]
    assert [plan for plan in plans if re.search(r"using tasks_by_(state|due)", plan)] == []


PAGES = [
    TaskFilter(account=ACCOUNT),
    TaskFilter(family=FAMILY),
    TaskFilter(account=ACCOUNT, family=FAMILY, state=State.BURIED),
    TaskFilter(account=ACCOUNT, state=State.REPORTED),
    TaskFilter(family="videos/lip-sync"),
]


def test_a_page_of_one_owner_passes_no_flood_of_another(flooded: Desk) -> None:
    statements = executed(lambda: [flooded.ledger.views.tasks(chosen, limit=50) for chosen in PAGES])

    plans = []
    with flooded.ledger.database.read() as connection:
        for said, given in statements:
            if "set_config" in said:  # as the transaction did
                connection.exec_driver_sql(said, given)
            elif "row_number()" in said:
                plans.append(plan_of(connection, said, given))
    assert len(plans) == len(PAGES)
    for plan in plans:
        assert re.findall(r"using (?!tasks_by_family|tasks_by_hint|tasks_pkey)\w+", plan) == [], plan


def test_the_overview_takes_few_steps_whatever_was_counted(flooded: Desk) -> None:
    statements = executed(lambda: (flooded.ledger.views.status(), flooded.ledger.trends.charts()))

    with flooded.ledger.database.read() as connection:
        for said, given in statements:
            if "set_config" in said:  # as the transaction did
                connection.exec_driver_sql(said, given)
            elif "FROM tasks" in said:
                assert "Sort Key" not in plan_of(connection, said, given), said
