"""The tasks that `status` names: those that come first by some time, and those with something in common."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.failures import ApiAnswerUnreadable
from archiver.ledger.databases.for_each import ForEach
from archiver.ledger.status.view import TaskInTime, TasksInTime
from archiver.ledger.tables import schema
from archiver.model import State

TASKS_MAX = 500
IDS_MAX = 5

_TASKS = schema.tasks.c


def in_state(state: State) -> sa.ColumnElement[bool]:
    """The state as a literal: else SQLite cannot tell that a partial index has all the rows."""
    return _TASKS.state == sa.literal_column(f"'{state}'")


def nearest_deadlines(connection: sa.Connection) -> tuple[int | None, TaskInTime | None]:
    """The earliest deadline of confirmed tasks that are not in the bucket, and the task with the nearest one: the same,
    except buried tasks that an operator has acknowledged."""
    rows = connection.execute(_NEAREST).mappings().all()
    unacknowledged = [
        TaskInTime(row["account"], row["task_id"], row["at"]) for row in rows if not row["is_acknowledged"]
    ]
    return (
        min((row["at"] for row in rows), default=None),
        min(unacknowledged, key=lambda task: task.at, default=None),
    )


def oldest_succeeded(connection: sa.Connection, accounts: Iterable[str]) -> Iterator[TaskInTime]:
    """The task of each account that has been succeeded for longest without being in the bucket."""
    found = _OLDEST_SUCCEEDED.rows(connection, _each(accounts))
    yield from sorted((TaskInTime(**row) for row in found), key=lambda task: task.account)


def unread_tasks(connection: sa.Connection, accounts: Iterable[str]) -> Iterator[TasksInTime]:
    """Those whose answers this version cannot read, since each was last seen well."""
    return grouped(_UNREAD.rows(connection, _each(accounts)))


def lost_tasks(connection: sa.Connection, accounts: Iterable[str], *, since: int) -> Iterator[TasksInTime]:
    """Lost tasks that are not acknowledged: the latest ones, since older ones are no problem any more."""
    rows = _LOST.rows(connection, [{"account": account, "state": State.LOST} for account in accounts])
    return grouped(row for row in rows if row["since"] >= since)


def buried_tasks(connection: sa.Connection, counts: Iterable[tuple[str, State]]) -> Iterator[TasksInTime]:
    """Buried tasks that are not acknowledged, nearest deadline first. One that is tried again is `succeeded`."""
    kinds = [
        {"account": account, "state": state}
        for account, state in counts
        if state in (State.BURIED, State.SUCCEEDED)
    ]
    return grouped(_BURIED.rows(connection, kinds))


def grouped(rows: Iterable[Mapping[Any, Any]]) -> Iterator[TasksInTime]:
    """The tasks of each account, in the order of `place`."""
    accounts: dict[str, list[Mapping[Any, Any]]] = {}
    for row in rows:
        accounts.setdefault(row["account"], []).append(row)
    for account, of_account in sorted(accounts.items()):
        of_account.sort(key=lambda row: (row["place"], row["task_id"]))
        yield in_time(account, of_account, [row["task_id"] for row in of_account[:IDS_MAX]])


def in_time(account: str, rows: Sequence[Mapping[Any, Any]], task_ids: Sequence[str]) -> TasksInTime:
    """What an account's rows have in common."""
    since = min(row["since"] for row in rows)
    return TasksInTime(account, len(rows), len(rows) >= TASKS_MAX, since, tuple(task_ids))


def _each(accounts: Iterable[str]) -> list[dict[str, str]]:
    return [{"account": account} for account in accounts]


def _nearest(*conditions: sa.ColumnElement[bool], is_acknowledged: bool = False) -> sa.Select[Any]:
    acknowledged: sa.Label[int] = sa.literal_column(str(int(is_acknowledged))).label("is_acknowledged")
    query = sa.select(_TASKS.account, _TASKS.task_id, _TASKS.deadline_at.label("at"), acknowledged)
    query = query.where(*conditions, _TASKS.confirmed_at.is_not(None))
    return sa.select(query.order_by(_TASKS.deadline_at).limit(1).subquery())


_NEAREST = sa.union_all(
    _nearest(in_state(State.RUNNING)),
    _nearest(in_state(State.SUCCEEDED)),
    _nearest(in_state(State.BURIED), _TASKS.unseen_since.is_not(None)),
    _nearest(in_state(State.BURIED), is_acknowledged=True),  # or not
)

_OLDEST_SUCCEEDED = ForEach(
    lambda value: (
        sa.select(_TASKS.account, _TASKS.task_id, _TASKS.succeeded_at.label("at"))
        .where(
            in_state(State.SUCCEEDED), _TASKS.succeeded_at.is_not(None), _TASKS.account == value("account")
        )
        .order_by(_TASKS.succeeded_at)
        .limit(1)
    )
)

_UNREAD = ForEach(
    lambda value: (
        sa.select(
            _TASKS.account,
            _TASKS.task_id,
            sa.func.coalesce(_TASKS.running_at, _TASKS.confirmed_at).label("since"),
            _TASKS.confirmed_at.label("place"),
        )
        .where(
            in_state(State.RUNNING),
            # A literal too.
            _TASKS.reason == sa.literal_column(f"'{ApiAnswerUnreadable.reason}'"),
            _TASKS.account == value("account"),
        )
        .order_by(_TASKS.confirmed_at)
        .limit(TASKS_MAX)
    )
)


def _unseen(order: sa.ColumnElement[int]) -> ForEach:
    return ForEach(
        lambda value: (
            sa.select(
                _TASKS.account,
                _TASKS.task_id,
                _TASKS.unseen_since.label("since"),
                _TASKS.deadline_at.label("place"),
            )
            .where(
                _TASKS.unseen_since.is_not(None),
                _TASKS.account == value("account"),
                _TASKS.state == value("state"),
            )
            .order_by(order)
            .limit(TASKS_MAX)
        )
    )


_BURIED = _unseen(_TASKS.deadline_at.asc())
_LOST = _unseen(_TASKS.deadline_at.desc())
