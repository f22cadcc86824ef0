"""The endpoints that an account's API does not offer: gateways lack some."""

import sqlalchemy as sa

from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.named_values import forget_named_value, set_named_value

_UNAVAILABLE = "unoffered:"
"""Prefix of `<account>:<name>`. Stored, hence the old word."""


class EndpointRefusals(Part):
    """Which endpoints an account's API lacks."""

    def unavailable(self, *, account: str) -> dict[str, int]:
        """Name → when it was last found unavailable (Unix ms)."""
        prefix = f"{_UNAVAILABLE}{account}:"
        table = schema.named_values
        query = sa.select(table.c.name, table.c.value).where(table.c.name.startswith(prefix, autoescape=True))
        with self._database.read() as connection:
            return {row.name.removeprefix(prefix): int(row.value) for row in connection.execute(query)}

    @retried
    def note(self, *, account: str, name: str, unavailable_at: int | None) -> None:
        """Record when (Unix ms) the API was found not to offer `name`; None: it offers it."""
        key = f"{_UNAVAILABLE}{account}:{name}"
        with self._database.write() as connection:
            if unavailable_at is None:
                forget_named_value(connection, key)
            else:
                set_named_value(connection, key, unavailable_at)


def unavailable_lists(connection: sa.Connection) -> frozenset[tuple[str, str]]:
    """Account and name of every endpoint that was found unavailable."""
    table = schema.named_values
    query = sa.select(table.c.name).where(table.c.name.startswith(_UNAVAILABLE, autoescape=True))
    pairs = (name.removeprefix(_UNAVAILABLE).split(":", 1) for name in connection.execute(query).scalars())
    return frozenset((account, name) for account, name in pairs)
