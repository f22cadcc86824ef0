"""Single values that must outlive a restart, by name (the table `facts`)."""

import sqlalchemy as sa

from archiver.ledger.part import Part
from archiver.ledger.tables import schema

FIRST_STARTED_AT = "first_started_at"
"""When a daemon first worked on this ledger (Unix ms): no callback could arrive before."""
LAST_CALLBACK_AT = "last_callback_at"
"""When the last callback came (Unix ms). To read it from the tasks would take a look at every row, at every scrape."""
CLOCK_SKEW_MS = "clock_skew_ms"
"""The API's clock minus ours, as the daemon last measured it; absent before."""

_UNAVAILABLE = "unoffered:"
"""Prefix of `<account>:<name>`. Stored, hence the old word."""


class Availability(Part):
    """What the API of an account was found not to offer."""

    def unavailable(self, *, account: str) -> dict[str, int]:
        """Name → when it was last found unavailable (Unix ms)."""
        prefix = f"{_UNAVAILABLE}{account}:"
        table = schema.named_values
        query = sa.select(table.c.name, table.c.value).where(table.c.name.startswith(prefix, autoescape=True))
        with self._database.read() as connection:
            return {row.name.removeprefix(prefix): int(row.value) for row in connection.execute(query)}

    def note(self, *, account: str, name: str, unavailable_at: int | None) -> None:
        """Record when (Unix ms) the API was found not to offer `name`; None: it offers it."""
        key = f"{_UNAVAILABLE}{account}:{name}"
        with self._database.write() as connection:
            if unavailable_at is None:
                forget_named_value(connection, key)
            else:
                set_named_value(connection, key, unavailable_at)


def named_value(connection: sa.Connection, name: str) -> int | None:
    """The value, or None."""
    query = sa.select(schema.named_values.c.value).where(schema.named_values.c.name == name)
    value = connection.execute(query).scalar()
    return None if value is None else int(value)


def set_named_value(connection: sa.Connection, name: str, value: int) -> None:
    """Insert or replace the value."""
    table = schema.named_values
    statement = sa.update(table).where(table.c.name == name).values(value=str(value))
    if connection.execute(statement).rowcount == 0:
        connection.execute(sa.insert(table).values(name=name, value=str(value)))


def forget_named_value(connection: sa.Connection, name: str) -> None:
    """Delete the value, if there is one."""
    connection.execute(sa.delete(schema.named_values).where(schema.named_values.c.name == name))
