"""What happened to a task, for `show`: one line a decision, the last `LINES_MAX` kept."""

import sqlalchemy as sa

from archiver.ledger.tables import schema

LINES_MAX = 100
"""Per task: a month of retries at their slowest; a bound for a task that never ends."""

_INSERT = sa.insert(schema.history)


def add_line(connection: sa.Connection, row_id: int, *, at: int, event: str, detail: str) -> None:
    """Add a line, within the caller's transaction."""
    connection.execute(_INSERT, {"task": row_id, "at": at, "event": event, "detail": detail})


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
