"""What `status` names of the things that belong to archived tasks: files, objects and forwards."""

from collections.abc import Collection, Iterator

import sqlalchemy as sa

from archiver.ledger.databases.for_each import ForEach
from archiver.ledger.status.tasks import IDS_MAX, TASKS_MAX, grouped, in_time
from archiver.ledger.status.view import TasksInTime
from archiver.ledger.tables import schema
from archiver.model import FolderWorkKind

_TASKS, _FORWARDS, _MISSING = schema.tasks.c, schema.forwards.c, schema.missing_objects.c


def amendments(connection: sa.Connection) -> Iterator[TasksInTime]:
    """Archived tasks with files named later that are not in the bucket yet."""
    work = schema.folder_work.c
    query = (
        sa.select(_TASKS.account, _TASKS.task_id, work.since, work.since.label("place"))
        .join(schema.tasks, _TASKS.id == work.task)
        .where(work.kind == FolderWorkKind.AMEND)
        .order_by(work.since)
        .limit(TASKS_MAX)
    )
    return grouped(connection.execute(query).mappings())


def missing_objects(
    connection: sa.Connection, accounts: Collection[str], *, now: int
) -> Iterator[TasksInTime]:
    """Archived tasks with objects that are gone from the bucket, not acknowledged."""
    any_missing = sa.select(_MISSING.id).where(_MISSING.problem_since.is_not(None)).limit(1)
    if connection.execute(any_missing).first() is None:
        return
    for account in accounts:
        # By the first objects, whose index has an order: all of them may be a whole bucket.
        first = (
            sa.select(_MISSING.id)
            .where(_MISSING.account == account, _MISSING.problem_since <= now)
            .order_by(_MISSING.problem_since)
            .limit(TASKS_MAX)
        )
        since = sa.func.min(_MISSING.problem_since)
        query = (
            sa.select(_TASKS.account, _TASKS.task_id, since.label("since"), since.label("place"))
            .join(schema.tasks, _TASKS.id == _MISSING.task)
            .where(_MISSING.id.in_(first))
            .group_by(_TASKS.account, _TASKS.task_id)
        )
        yield from grouped(connection.execute(query).mappings())


def dead_forwards(connection: sa.Connection, accounts: Collection[str]) -> Iterator[TasksInTime]:
    """Forwards that no application has taken, not acknowledged, the oldest first."""
    found: dict[str, list[sa.RowMapping]] = {}
    for row in _DEAD.rows(connection, [{"account": account} for account in accounts]):
        found.setdefault(row["account"], []).append(row)
    for rows in found.values():
        rows.sort(key=lambda row: (row["since"], row["task"]))
    # Only of those that are named: to look 500 tasks up took 13 ms.
    named = [row["task"] for rows in found.values() for row in rows[:IDS_MAX]]
    query = sa.select(_TASKS.id, _TASKS.task_id).where(_TASKS.id.in_(named))
    task_ids = {row.id: row.task_id for row in connection.execute(query)} if named else {}
    for account, rows in sorted(found.items()):
        yield in_time(account, rows, [task_ids[row["task"]] for row in rows[:IDS_MAX]])


_DEAD = ForEach(
    lambda value: (
        sa.select(_FORWARDS.account, _FORWARDS.task, _FORWARDS.unseen_since.label("since"))
        .where(_FORWARDS.account == value("account"), _FORWARDS.unseen_since.is_not(None))
        .order_by(_FORWARDS.unseen_since)
        .limit(TASKS_MAX)
    )
)
