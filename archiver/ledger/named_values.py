"""Single values that must outlive a restart, by name."""

import sqlalchemy as sa

from archiver.ledger import schema

FIRST_STARTED_AT = "first_started_at"
"""When a daemon first worked on this ledger (Unix ms): nobody could be called back before."""
LAST_CALLBACK_AT = "last_callback_at"
"""When the last callback came (Unix ms). Out of the tasks it would be looked for in every row, at every scrape."""

CLOCK_SKEW_MS = "clock_skew_ms"
"""The API's clock minus ours, as the daemon last heard it; none before it has."""


def fact(connection: sa.Connection, name: str) -> int | None:
    """The value, or None."""
    query = sa.select(schema.facts.c.value).where(schema.facts.c.name == name)
    found = connection.execute(query).scalar()
    return None if found is None else int(found)


def forget_fact(connection: sa.Connection, name: str) -> None:
    """It is not known any more."""
    connection.execute(sa.delete(schema.facts).where(schema.facts.c.name == name))


def set_fact(connection: sa.Connection, name: str, value: int) -> None:
    """Write the value down, in place of an earlier one."""
    table = schema.facts
    statement = sa.update(table).where(table.c.name == name).values(value=str(value))
    if connection.execute(statement).rowcount == 0:
        connection.execute(sa.insert(table).values(name=name, value=str(value)))


_UNOFFERED = "unoffered:"


def unoffered(connection: sa.Connection, *, account: str) -> dict[str, int]:
    """Name of what this account's API does not offer → when that was last found (Unix ms)."""
    prefix = f"{_UNOFFERED}{account}:"
    table = schema.facts
    query = sa.select(table.c.name, table.c.value).where(table.c.name.startswith(prefix, autoescape=True))
    return {row.name.removeprefix(prefix): int(row.value) for row in connection.execute(query)}


def note_offer(connection: sa.Connection, *, account: str, name: str, lacking_at: int | None) -> None:
    """Write down since when `name` is not offered; None: it is."""
    key = f"{_UNOFFERED}{account}:{name}"
    if lacking_at is None:
        connection.execute(sa.delete(schema.facts).where(schema.facts.c.name == key))
    else:
        set_fact(connection, key, lacking_at)
