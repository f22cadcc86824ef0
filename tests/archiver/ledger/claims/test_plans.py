"""What a claim reads: the plans of every statement that a running daemon repeats."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from archiver.failures import (
    ApiServerError,
)
from archiver.ledger import ForwardState, Ledger
from archiver.ledger.tables import schema
from archiver.model import Lane, Stage
from tests.harness.ledgers import (
    ACCOUNT,
    DAY,
    FAMILY,
    MINUTE,
    SECOND,
    START,
    Desk,
    Place,
    claim_archive,
)
from tests.postgres import BlankDatabase


def fill(desk: Desk) -> None:
    """3,000 tasks that wait, some of them due."""
    desk.is_forged = True
    shapes = {
        "archive": ("succeeded", FAMILY),
        "verify": ("running", FAMILY),
        "inquire": ("reported", None),
    }
    rows = []
    for number in range(3_000):
        queue = list(shapes)[number % 3]
        state, family = shapes[queue]
        rows.append(
            {
                "account": ACCOUNT,
                "task_id": f"t{number}",
                "external_task_id": f"mine-{number}",
                "family": family,
                "family_hint": FAMILY,
                "result_arrays": "",
                "state": state,
                "queue": queue,
                "attempts": number % 7,
                "held": 0,
                "due_at": START + (number % 4) * MINUTE,
                "created_at": START - number if family else None,
                "deadline_at": START - number + 30 * DAY,
                "first_seen_at": START - number,
                "confirmed_at": START if family else None,
                "document": "{}" if family else None,
                "asked": 0,
                "query_individually": number % 5 == 0,
                "discovered_by": "callback",
                "callbacks": 1,
            }
        )
    with desk.ledger.database.write() as connection:
        connection.execute(sa.insert(schema.tasks), rows)


@pytest.fixture
def backlog(place: Place) -> Iterator[Desk]:
    made = Desk(place)
    fill(made)
    yield made
    made.close()


def plans(desk: Desk, work: Callable[[], object]) -> list[str]:
    """How SQLite goes about each statement on tasks that `work` executes."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)
    return [
        " ; ".join(str(row["detail"]) for row in desk.rows(f"EXPLAIN QUERY PLAN {statement}", *parameters))
        for statement, parameters in statements
        if re.match(r"SELECT|UPDATE|DELETE", statement) and "tasks" in statement
    ]


ON_EVERY_ROUND: dict[str, Callable[[Ledger], object]] = {
    "claims.archive": lambda ledger: claim_archive(ledger, count=4, account=ACCOUNT),
    "claims.archive beside a failing host": lambda ledger: ledger.claims.archive(
        slots={Lane.DEADLINE: 2, Lane.ATTEMPTS: 2},
        count_max=4,
        hosts_avoided={"s15-kling.klingai.com"},
        account=ACCOUNT,
    ),
    "claims.verify": lambda ledger: ledger.claims.verify(count=4, offset=0, account=ACCOUNT),
    "claims.verify, own paths only": lambda ledger: ledger.claims.verify(
        count=4, offset=0, own_paths_only=True, account=ACCOUNT
    ),
    "claims.batch": lambda ledger: ledger.claims.batch(count=20, offset=0, account=ACCOUNT),
    "known_states": lambda ledger: ledger.records.known_states(account=ACCOUNT, task_ids=["t1", "t2"]),
    "enrol": lambda ledger: ledger.registrations.enrol({"t1": ["videos"], "new": []}, account=ACCOUNT),
    "any_due": lambda ledger: ledger.claims.any_due(Stage.ARCHIVE, account=ACCOUNT),
    "pending": lambda ledger: ledger.claims.pending(account=ACCOUNT, rows_max=5000),
    "query_individually": lambda ledger: ledger.claims.query_individually(
        account=ACCOUNT, family=FAMILY, due_before=START
    ),
    "expire": lambda ledger: ledger.deadlines.expire(),
    "prune": lambda ledger: ledger.deadlines.prune(),
    "count_missed": lambda ledger: ledger.deadlines.count_missed(patience_ms=SECOND),
    "bring_forward": lambda ledger: ledger.deadlines.bring_forward(),
    "bring_forward of all accounts": lambda ledger: ledger.deadlines.bring_forward(of_all_accounts=True),
    "status": lambda ledger: ledger.views.status(),
    "charts": lambda ledger: ledger.trends.charts(),
    "forwards of the console": lambda ledger: [
        ledger.forward_orders.page(state, page="5-5", limit=50) for state in ForwardState
    ],
    "stranded": lambda ledger: ledger.accounts.stranded(known=()),
    "show": lambda ledger: ledger.views.show("mine-7", account=ACCOUNT),
    "register": lambda ledger: ledger.registrations.register("mine-8", account=ACCOUNT, family=FAMILY),
    "retry": lambda ledger: ledger.registrations.retry(["mine-9"], account=ACCOUNT),
    "acknowledge": lambda ledger: ledger.acknowledgements.acknowledge(["mine-9"], account=ACCOUNT),
    "acknowledge_lost": lambda ledger: ledger.acknowledgements.acknowledge_lost(account=ACCOUNT),
    "states": lambda ledger: ledger.records.states(account=ACCOUNT, task_ids=["t1", "t2"]),
}


@pytest.mark.parametrize("name", list(ON_EVERY_ROUND))
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.sqlite_only("how SQLite goes about it")
def test_no_repeated_statement_reads_or_sorts_the_whole_table(backlog: Desk, name: str, held: bool) -> None:
    if held:
        for stage in (Stage.VERIFY, Stage.ARCHIVE):
            backlog.ledger.holds.set(ApiServerError("x", family=FAMILY), account=ACCOUNT, stage=stage)

    found = plans(backlog, lambda: ON_EVERY_ROUND[name](backlog.ledger))

    assert found
    for plan in found:
        # a walk along the index of the unconfirmed ids has a LIMIT; its rows are all there is to see
        assert not re.search(r"SCAN tasks(?! USING INDEX tasks_unconfirmed)", plan)
        # the lanes sort the first row of each group, of which there are few
        assert "USE TEMP B-TREE FOR ORDER BY" not in plan or "RECURSIVE STEP" in plan


def walks(desk: Desk, statements: list[tuple[str, Any]]) -> list[str]:
    """The plans of PostgreSQL that read many rows for a few."""
    found = []
    with desk.ledger.database.write() as connection:
        for statement, parameters in statements:
            if "set_config" in statement:  # as the transaction did
                connection.exec_driver_sql(statement, parameters)
            elif re.match(r"SELECT|UPDATE|DELETE|WITH", statement) and "tasks" in statement:
                given = parameters[0] if isinstance(parameters, list) else parameters
                plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", given).scalars())
                found += [plan for walk in WALKS if re.search(walk, plan)]
    return found


WALKS = (
    r"using tasks_by_state on tasks[^\n]*\n *Index Cond[^\n]*\n *Filter: [^\n]*queue",
    r"using tasks_(identity|succeeded) on tasks[^\n]*\n( *Index Cond[^\n]*\n)? *Filter: [^\n]*queue",
    r"(Seq|Bitmap Heap) Scan on tasks",
    r"(Hash|Merge) Join",
    r"using tasks_pkey on tasks\S*  [^\n]*\n(?! *Index Cond)",
    r"Sort Key: tasks_\d\.(attempts|deadline_at)(?!.*\.id)",
)


def fill_archived(desk: Desk) -> None:
    """3,000 tasks that wait for nothing: all that PostgreSQL has ever counted."""
    row = {
        "account": ACCOUNT,
        "family": FAMILY,
        "result_arrays": "",
        "state": "archived",
        "attempts": 1,
        "held": 0,
        "created_at": START,
        "deadline_at": START + 30 * DAY,
        "first_seen_at": START,
        "confirmed_at": START,
        "document": "{}",
        "asked": 0,
        "query_individually": False,
        "discovered_by": "callback",
        "callbacks": 1,
        "manifest_key": "m",
        "archived_at": START,
    }
    with desk.ledger.database.write() as connection:
        rows = [row | {"task_id": f"archived-{number}"} for number in range(3_000)]
        connection.execute(sa.insert(schema.tasks), rows)
    desk.by_hand.write("ANALYZE tasks")


@pytest.mark.parametrize("is_counted_before", [False, True])
def test_no_repeated_statement_reads_a_whole_table_on_postgresql(
    unanalyzed_database: BlankDatabase, *, is_counted_before: bool
) -> None:
    """Nor does it sort a queue for its first row. What it knows of the queues is from before they were filled."""
    desk = Desk(unanalyzed_database)
    statements: list[tuple[str, Any]] = []
    if is_counted_before:
        fill_archived(desk)
    fill(desk)

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    for do in ON_EVERY_ROUND.values():
        do(desk.ledger)
    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        for do in ON_EVERY_ROUND.values():
            do(desk.ledger)
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)

    assert walks(desk, statements) == []
    desk.by_hand.write("ANALYZE tasks")
    assert walks(desk, statements) == []
    desk.close()


@pytest.mark.sqlite_only("how SQLite goes about it")
def test_forged_ids_that_are_buried_are_not_passed_on_the_way_to_the_nearest_deadline(backlog: Desk) -> None:
    found = plans(backlog, lambda: [ON_EVERY_ROUND[name](backlog.ledger) for name in ("status", "charts")])

    assert sum(plan.count("USING INDEX tasks_buried (state=?)") for plan in found) == 2
    assert sum(plan.count("USING INDEX tasks_buried_unseen (state=?)") for plan in found) == 1


@pytest.mark.sqlite_only("how SQLite goes about it")
def test_a_start_looks_for_leases_among_leased_tasks_only(backlog: Desk) -> None:
    leased = backlog.claim_all(Stage.ARCHIVE)

    found = plans(backlog, backlog.reopen)

    assert any("USING INDEX tasks_leased" in plan for plan in found)
    assert not any(re.search(r"SCAN tasks(?! USING INDEX tasks_leased)", plan) for plan in found)
    assert leased
    assert backlog.rows("SELECT id FROM tasks WHERE lease_token IS NOT NULL") == []


OF_AN_IDLE_ACCOUNT: dict[str, Callable[[Ledger], object]] = {
    "claims.verify": lambda ledger: ledger.claims.verify(count=4, offset=0, account="idle"),
    "claims.verify, own paths only": lambda ledger: ledger.claims.verify(
        count=4, offset=0, own_paths_only=True, account="idle"
    ),
    "claims.batch": lambda ledger: ledger.claims.batch(count=20, offset=0, account="idle"),
    "any_due": lambda ledger: ledger.claims.any_due(Stage.VERIFY, account="idle"),
    "pending": lambda ledger: ledger.claims.pending(account="idle", rows_max=5000),
    "query_individually": lambda ledger: ledger.claims.query_individually(
        account="idle", family=FAMILY, due_before=START
    ),
}


@pytest.mark.parametrize("name", list(OF_AN_IDLE_ACCOUNT))
@pytest.mark.sqlite_only("how SQLite goes about it")
def test_no_account_walks_past_what_is_due_for_another(backlog: Desk, name: str) -> None:
    searched = [
        search
        for plan in plans(backlog, lambda: OF_AN_IDLE_ACCOUNT[name](backlog.ledger))
        for search in re.findall(r"(?:SEARCH|SCAN) tasks[^;]*", plan)
        if "rowid=?" not in search
    ]

    assert searched
    for search in searched:
        assert "account=?" in search
