"""Sessions of the console that a logout has ended: a copied cookie opens no page of any process."""

import sqlalchemy as sa

from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.named_values import named_value, set_named_value

_PREFIX = "ended_session:"
"""The prefix of `<digest>`; the value is when the session would have ended by itself (Unix ms)."""
ENDED_MAX = 1000
"""The number of rows that are kept; beyond it, the sessions that end first are dropped."""


class EndedSessions(Part):
    """Ended sessions, by the digest of their cookies."""

    def has(self, digest: str) -> bool:
        """Whether a logout has ended it."""
        with self._database.read() as connection:
            return named_value(connection, _PREFIX + digest) is not None

    @retried
    def end(self, digest: str, *, expires_at: int) -> None:
        """Remember the session until it would have ended by itself (Unix ms), and forget sessions that have."""
        table = schema.named_values
        of_sessions = table.c.name.startswith(_PREFIX, autoescape=True)
        # All values have thirteen digits, so that their texts have the order of the numbers.
        surplus = sa.select(table.c.name).where(of_sessions).order_by(table.c.value.desc()).offset(ENDED_MAX)
        with self._database.write() as connection:
            connection.execute(sa.delete(table).where(of_sessions, table.c.value < str(self._now())))
            set_named_value(connection, _PREFIX + digest, expires_at)
            names = connection.execute(surplus).scalars().all()
            connection.execute(sa.delete(table).where(table.c.name.in_(names)))
