"""Queues second looks in the transaction that records objects in the bucket, so that no crash forgets them."""

import enum

import sqlalchemy as sa

from archiver.ledger.databases.dialect import insert_missing
from archiver.ledger.part import require_written
from archiver.ledger.tables import schema

LOOK_AFTER_MS = 20 * 60_000
"""After the last put. Late enough that a listing has caught up and one look serves many tasks; early enough that a
second HEAD, 10 min after the first, falls within the hour."""


class MissingState(enum.StrEnum):
    """The states of an object that a listing did not show."""

    DOUBTED = "doubted"
    """HEAD does not know it; asked again after 10 min."""
    WANTED = "wanted"
    """It is missing, and to be fetched again."""
    RESTORED = "restored"
    """It was restored once."""
    LEFT_ALONE = "left_alone"
    """Missing again after that: the owner of the bucket has removed it."""
    UNRECOVERABLE = "unrecoverable"
    """It cannot be restored."""


def queue_look(connection: sa.Connection, row_id: int, *, account: str, due_at: int) -> None:
    """See the folder of this task again at `due_at`. A look that is under way, or due earlier, is put off until then:
    it could not have seen what has just been put."""
    table = schema.second_looks
    later = sa.update(table).where(table.c.task == row_id).values(due_at=due_at)
    if connection.execute(later).rowcount:
        return
    row = {"task": row_id, "account": account, "due_at": due_at}
    require_written(connection.execute(insert_missing(connection, table).values(row)).rowcount)
