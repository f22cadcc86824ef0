"""Puts due rows into their claim groups."""

import sqlalchemy as sa

from archiver.ledger.claims.leasing import ACCOUNT, NOW, QUEUE, free
from archiver.ledger.databases.dialect import in_index_order, is_one_of, skipping_locked
from archiver.ledger.tables import schema
from archiver.ledger.tables.groups import group_of

ROWS_MAX = 500
"""Rows that one claim promotes, in the order of their due times: more than the slots that come free, and callbacks wait
for only 5 ms."""

WAITING = (
    schema.tasks.c.queue == QUEUE,
    schema.tasks.c.account == ACCOUNT,
    schema.tasks.c.claim_group.is_(None),
    schema.tasks.c.confirmed_at.is_not(None),
)
"""Rows in no group; the words of the partial index."""

_PROMOTE = (
    sa.update(schema.tasks)
    .where(
        is_one_of(
            schema.tasks.c.id,
            skipping_locked(
                sa.select(schema.tasks.c.id)
                .where(*WAITING, schema.tasks.c.due_at <= NOW, free(NOW))
                .order_by(schema.tasks.c.due_at)
                .limit(ROWS_MAX),
                schema.tasks,
            ).scalar_subquery(),
        )
    )
    .values(claim_group=group_of())
)


def promote(connection: sa.Connection, queue: str, *, account: str, now: int) -> None:
    """Put the longest due rows of `queue` into their groups."""
    with in_index_order(connection):
        connection.execute(_PROMOTE, {"of_queue": queue, "of_account": account, "now": now})
