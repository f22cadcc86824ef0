"""Single values that must outlive a restart, by name."""

import sqlalchemy as sa

from archiver.ledger import schema

FIRST_STARTED_AT = "first_started_at"
"""When a daemon first worked on this ledger (Unix ms): nobody could be called back before."""
LAST_CALLBACK_AT = "last_callback_at"
"""When the last callback came (Unix ms). Out of the tasks it would be looked for in every row, at every scrape."""

CLOCK_AT = "clock_at"
"""What the clock last said (Unix ms): it never goes back by itself, so an earlier now has been set by somebody."""


def fact(connection: sa.Connection, name: str) -> int | None:
    """The value, or None."""
    query = sa.select(schema.facts.c.value).where(schema.facts.c.name == name)
    found = connection.execute(query).scalar()
    return None if found is None else int(found)


def set_fact(connection: sa.Connection, name: str, value: int) -> None:
    """Write the value down, in place of an earlier one."""
    table = schema.facts
    statement = sa.update(table).where(table.c.name == name).values(value=str(value))
    if connection.execute(statement).rowcount == 0:
        connection.execute(sa.insert(table).values(name=name, value=str(value)))
