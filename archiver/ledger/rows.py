"""One task by the id that somebody gave: its own, or the external id that a user chose for it.

Two questions instead of one OR: each is a single step along an index, while the OR reads every row of the account,
within the transaction that callbacks wait for.
"""

import sqlalchemy as sa

from archiver.ledger import schema


def find(connection: sa.Connection, *, account: str, task_id: str) -> sa.RowMapping | None:
    """The whole row; None when nobody knows the id. An external id may look like another task's id: the id itself
    goes first."""
    table = schema.tasks
    for column in (table.c.task_id, table.c.external_task_id):
        query = sa.select(table).where(table.c.account == account, column == task_id).order_by(table.c.id)
        row = connection.execute(query.limit(1)).mappings().first()
        if row is not None:
            return row
    return None
