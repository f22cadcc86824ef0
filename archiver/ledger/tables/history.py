"""The history of a task, for `show`: one line for each decision; the last `LINES_MAX` are kept."""

from collections.abc import Sequence

import sqlalchemy as sa

from archiver.ledger.tables import schema

LINES_MAX = 100
"""Lines per task: enough for a month of retries at the slowest pace; a bound for a task that never ends."""

_INSERT = sa.insert(schema.history)
_TOO_LONG = (
    sa.select(schema.history.c.task)
    .where(schema.history.c.task.in_(sa.bindparam("task_rows", expanding=True)))
    .group_by(schema.history.c.task)
    .having(sa.func.count() > LINES_MAX)
)


def add_line(connection: sa.Connection, row_id: int, *, at: int, event: str, detail: str) -> None:
    """Add a line, within the caller's transaction."""
    connection.execute(_INSERT, {"task": row_id, "at": at, "event": event, "detail": detail})


def add_lines(connection: sa.Connection, lines: Sequence[tuple[int, str, str]], *, at: int) -> None:
    """Add lines of (row id, event, detail)."""
    if lines:
        rows = [
            {"task": row_id, "at": at, "event": event, "detail": detail} for row_id, event, detail in lines
        ]
        connection.execute(_INSERT, rows)


def trim_all(connection: sa.Connection, row_ids: Sequence[int]) -> None:
    """Trim the lines of these rows: one look at all of them, since hardly any has too many."""
    if not row_ids:
        return
    for row_id in connection.execute(_TOO_LONG, {"task_rows": list(row_ids)}).scalars().all():
        trim(connection, row_id)


def trim(connection: sa.Connection, row_id: int) -> None:
    """Drop all but the newest lines: for events that recur."""
    table = schema.history
    newest = (
        sa.select(table.c.id)
        .where(table.c.task == row_id)
        .order_by(table.c.id.desc())
        .offset(LINES_MAX)
        .limit(1)
    )
    connection.execute(sa.delete(table).where(table.c.task == row_id, table.c.id <= newest.scalar_subquery()))
