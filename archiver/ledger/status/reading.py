"""Reads `StatusView`. It costs the same on ten tasks and on ten million: each query takes a few steps along an index,
and of what may be many, `TASKS_MAX` at most are looked at."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.failures import ApiAnswerUnreadable
from archiver.ledger.availability import unavailable_lists
from archiver.ledger.daemons import all_daemons
from archiver.ledger.databases.protocol import Database
from archiver.ledger.duties.duties import all_duties
from archiver.ledger.duties.leasing import DutyKind
from archiver.ledger.forwards.orders import dead_forwards
from archiver.ledger.gateway_creates.doubts import unseen_doubts
from archiver.ledger.holds import all_holds
from archiver.ledger.status.view import AskedAccount, StatusView, SweepView, TaskInTime, TasksInTime
from archiver.ledger.tables import schema
from archiver.ledger.tables.counts import task_counts
from archiver.ledger.tables.forwards import ForwardState, forward_counts
from archiver.ledger.tables.named_values import (
    CLOCK_SKEW_MS,
    FIRST_STARTED_AT,
    LAST_CALLBACK_AT,
    named_value,
)
from archiver.model import DAY_MS, FolderWorkKind, State

LOST_MS = 7 * DAY_MS
"""For how long a lost task is a problem."""
TASKS_MAX = 500
IDS_MAX = 5
_BURIED = (State.BURIED, State.SUCCEEDED)
"""A buried task that is being tried again has succeeded upstream."""

_TASKS = schema.tasks.c


def read_status(database: Database, connection: sa.Connection, *, now: int) -> StatusView:
    """The ledger as this transaction sees it."""
    counts: dict[tuple[str, State], int] = {}
    for kind, count in task_counts(connection).items():
        key = (kind.account, State(kind.state))
        counts[key] = counts.get(key, 0) + count
    counts = {key: count for key, count in sorted(counts.items()) if count}
    forwards = forward_counts(connection)
    return StatusView(
        now=now,
        counts=counts,
        earliest_deadline=_earliest_deadline(connection),
        nearest_deadline=_nearest_deadline(connection, _accounts(counts, State.BURIED)),
        oldest_succeeded=tuple(_oldest_succeeded(connection, _accounts(counts, State.SUCCEEDED))),
        unread=tuple(_unread(connection, _accounts(counts, State.RUNNING))),
        lost=tuple(_unseen(connection, _accounts(counts, State.LOST), (State.LOST,), since=now - LOST_MS)),
        buried=tuple(_unseen(connection, _accounts(counts, *_BURIED), _BURIED)),
        amendments=tuple(_amendments(connection)),
        missing_objects=tuple(_missing_objects(connection, _accounts(counts, *State), now=now)),
        dead_forwards=tuple(
            _dead_forwards(connection, _accounts(counts, *State) if forwards.get(ForwardState.DEAD) else ())
        ),
        doubts=tuple(unseen_doubts(connection)),
        forward_counts=forwards,
        last_callback_at=named_value(connection, LAST_CALLBACK_AT),
        sweeps=_sweeps(connection),
        unavailable=unavailable_lists(connection),
        holds=all_holds(connection),
        clock_skew_ms=named_value(connection, CLOCK_SKEW_MS),
        daemons=all_daemons(connection),
        asked=tuple(
            AskedAccount(view.duty.account, view.held_until)
            for view in all_duties(connection, now=now)
            if view.duty.kind is DutyKind.ASK
        ),
        first_started_at=named_value(connection, FIRST_STARTED_AT),
        disk=database.disk(),
        obstacle=database.obstacle(),
    )


def _accounts(counts: Mapping[tuple[str, State], int], *states: State) -> list[str]:
    """The accounts that have tasks in one of these states. Queries about the others are left out: for 20 accounts they
    were 200 statements."""
    return sorted({account for account, state in counts if state in states})


def in_state(state: State) -> sa.ColumnElement[bool]:
    """The state as a literal: else SQLite cannot tell that a partial index has all the rows."""
    return _TASKS.state == sa.literal_column(f"'{state}'")


def _earliest_deadline(connection: sa.Connection) -> int | None:
    nearest = [
        sa.select(sa.func.min(_TASKS.deadline_at))
        .where(in_state(state), _TASKS.confirmed_at.is_not(None))
        .scalar_subquery()
        for state in (State.RUNNING, State.SUCCEEDED, State.BURIED)
    ]
    deadlines = connection.execute(sa.select(*nearest)).one()
    return min((deadline for deadline in deadlines if deadline is not None), default=None)


def _nearest_deadline(connection: sa.Connection, accounts: Iterable[str]) -> TaskInTime | None:
    query = sa.select(_TASKS.account, _TASKS.task_id, _TASKS.deadline_at.label("at")).where(
        _TASKS.confirmed_at.is_not(None)
    )
    chosen = [query.where(_TASKS.state == state) for state in (State.RUNNING, State.SUCCEEDED)]
    chosen += [
        query.where(_TASKS.account == account, _TASKS.state == State.BURIED, _TASKS.unseen_since.is_not(None))
        for account in accounts
    ]
    return min(_firsts(connection, chosen, _TASKS.deadline_at), key=lambda task: task.at, default=None)


def _oldest_succeeded(connection: sa.Connection, accounts: Iterable[str]) -> Iterator[TaskInTime]:
    query = sa.select(_TASKS.account, _TASKS.task_id, _TASKS.succeeded_at.label("at")).where(
        in_state(State.SUCCEEDED),
        _TASKS.succeeded_at.is_not(None),
    )
    chosen = [query.where(_TASKS.account == account) for account in accounts]
    return _firsts(connection, chosen, _TASKS.succeeded_at)


def _unread(connection: sa.Connection, accounts: Iterable[str]) -> Iterator[TasksInTime]:
    """Since each was last seen well."""
    since = sa.func.coalesce(_TASKS.running_at, _TASKS.confirmed_at).label("since")
    query = sa.select(_TASKS.task_id, since).where(
        in_state(State.RUNNING),
        # A literal too.
        _TASKS.reason == sa.literal_column(f"'{ApiAnswerUnreadable.reason}'"),
    )
    for account in accounts:
        rows = query.where(_TASKS.account == account).order_by(_TASKS.confirmed_at).limit(TASKS_MAX)
        yield from _grouped({account: list(connection.execute(rows).mappings())})


def _firsts(
    connection: sa.Connection, queries: Iterable[sa.Select[Any]], order: sa.ColumnElement[Any]
) -> Iterator[TaskInTime]:
    for query in queries:
        row = connection.execute(query.order_by(order).limit(1)).mappings().first()
        if row is not None:
            yield TaskInTime(**row)


def _unseen(
    connection: sa.Connection, accounts: Iterable[str], states: Iterable[State], *, since: int = 0
) -> Iterator[TasksInTime]:
    """Tasks that no operator has acknowledged, nearest deadline first; of lost tasks the latest, since older ones are
    no problem any more."""
    order = _TASKS.deadline_at.desc() if since else _TASKS.deadline_at
    query = sa.select(_TASKS.task_id, _TASKS.unseen_since.label("since")).where(
        _TASKS.unseen_since.is_not(None)
    )
    for account in accounts:
        rows: list[Mapping[Any, Any]] = []
        for state in states:
            of = query.where(_TASKS.account == account, _TASKS.state == state)
            found = connection.execute(of.order_by(order).limit(TASKS_MAX)).mappings().all()
            rows += reversed(found) if since else found
        yield from _grouped({account: [row for row in rows if row["since"] >= since]})


def _amendments(connection: sa.Connection) -> Iterator[TasksInTime]:
    work = schema.folder_work.c
    query = (
        sa.select(_TASKS.account, _TASKS.task_id, work.since)
        .join(schema.tasks, _TASKS.id == work.task)
        .where(work.kind == FolderWorkKind.AMEND)
        .order_by(work.since)
        .limit(TASKS_MAX)
    )
    accounts: dict[str, list[Mapping[Any, Any]]] = {}
    for row in connection.execute(query).mappings():
        accounts.setdefault(row["account"], []).append(row)
    return _grouped(accounts)


def _missing_objects(
    connection: sa.Connection, accounts: Iterable[str], *, now: int
) -> Iterator[TasksInTime]:
    missing = schema.missing_objects.c
    if (
        connection.execute(sa.select(missing.id).where(missing.problem_since.is_not(None)).limit(1)).first()
        is None
    ):
        return
    query = (
        sa.select(_TASKS.task_id, sa.func.min(missing.problem_since).label("since"))
        .join(schema.tasks, _TASKS.id == missing.task)
        .group_by(_TASKS.task_id)
        .order_by(sa.func.min(missing.problem_since), _TASKS.task_id)
    )
    for account in accounts:
        # By the first objects, whose index has an order: all of them may be a whole bucket.
        first = (
            sa.select(missing.id)
            .where(missing.account == account, missing.problem_since <= now)
            .order_by(missing.problem_since)
            .limit(TASKS_MAX)
        )
        of_account = query.where(missing.id.in_(first))
        yield from _grouped({account: list(connection.execute(of_account).mappings())})


def _dead_forwards(connection: sa.Connection, accounts: Iterable[str]) -> Iterator[TasksInTime]:
    for account in accounts:
        yield from _grouped({account: list(dead_forwards(connection, account, limit=TASKS_MAX))})


def _grouped(accounts: Mapping[str, Sequence[Mapping[Any, Any]]]) -> Iterator[TasksInTime]:
    for account, rows in accounts.items():
        if rows:
            since = min(row["since"] for row in rows)
            ids = tuple(row["task_id"] for row in rows[:IDS_MAX])
            yield TasksInTime(account, len(rows), len(rows) >= TASKS_MAX, since, ids)


def _sweeps(connection: sa.Connection) -> tuple[SweepView, ...]:
    table = schema.sweeps
    columns = (table.c.account, table.c.family, table.c.last_success_at, table.c.missed_callbacks)
    query = sa.select(*columns).order_by(table.c.family, table.c.account)
    return tuple(SweepView(**row) for row in connection.execute(query).mappings())
