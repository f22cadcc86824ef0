"""Single values that must survive a restart, by name (the table `facts`)."""

from collections.abc import Collection

import sqlalchemy as sa

from archiver.ledger.databases.dialect import upsert, upsert_unless_locked
from archiver.ledger.tables import schema

FIRST_STARTED_AT = "first_started_at"
"""When a daemon first worked on this ledger (Unix ms): no callback could arrive before."""
LAST_CALLBACK_AT = "last_callback_at"
"""When the last callback came (Unix ms). To read it from the tasks would take a look at every row, at every scrape."""
CLOCK_SKEW_MS = "clock_skew_ms"
"""The API's clock minus ours, as the daemon last measured it; absent before."""

ROWS_TO_SLIM = "rows_to_slim"
"""Rows up to this id may be tasks that an earlier version archived, with all the data that it kept; absent when all are
done."""

FORWARDS_TO_OPERATOR = "forwards_to_operator"
"""Since when the operator's application gets forwards (Unix ms); absent if it gets none."""

LAST_MOVE = "last_move"
"""Which move has brought the ledger to its database; absent where it has always been. A text."""


def named_value(connection: sa.Connection, name: str) -> int | None:
    """The value, or None."""
    query = sa.select(schema.named_values.c.value).where(schema.named_values.c.name == name)
    value = connection.execute(query).scalar()
    return None if value is None else int(value)


def named_values(connection: sa.Connection, names: Collection[str]) -> dict[str, int]:
    """The values that there are, by name."""
    table = schema.named_values
    query = sa.select(table.c.name, table.c.value).where(table.c.name.in_(names))
    return {row.name: int(row.value) for row in connection.execute(query)}


def set_named_value(connection: sa.Connection, name: str, value: int, *, even_if_locked: bool = True) -> None:
    """Insert or replace the value. Unless `even_if_locked`, skip it while another transaction replaces the value:
    processes that all set it often do not wait for one another."""
    row = {"name": name, "value": str(value)}
    set_row = upsert if even_if_locked else upsert_unless_locked
    set_row(connection, schema.named_values, row, update=["value"])


def forget_named_value(connection: sa.Connection, name: str) -> None:
    """Delete the value, if there is one."""
    connection.execute(sa.delete(schema.named_values).where(schema.named_values.c.name == name))
