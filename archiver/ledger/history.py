"""What happened to a task, for `show`: one line a decision, the last `LINES_MAX` kept."""

import sqlalchemy as sa

from archiver.ledger import schema

LINES_MAX = 100
"""Kept per task: enough for a month of retries at their slowest, bounded for a task that never ends."""


def note(connection: sa.Connection, row_id: int, *, at: int, event: str, detail: str) -> None:
    """Add one line to a task's history, within the caller's transaction."""
    connection.execute(_NOTE, {"task": row_id, "at": at, "event": event, "detail": detail})


_NOTE = sa.insert(schema.history)


def trim(connection: sa.Connection, row_id: int) -> None:
    """Drop all but the newest lines of a task: called where a task comes again and again."""
    table = schema.history
    newest = (
        sa.select(table.c.id)
        .where(table.c.task == row_id)
        .order_by(table.c.id.desc())
        .offset(LINES_MAX)
        .limit(1)
    )
    connection.execute(sa.delete(table).where(table.c.task == row_id, table.c.id <= newest.scalar_subquery()))
