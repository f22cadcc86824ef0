"""How far a store is trusted: how many objects were seen again without a miss, and how it handles a second create-only
put. One row for each endpoint and bucket."""

import dataclasses

import sqlalchemy as sa

from archiver.ledger.databases.dialect import insert_missing, upsert
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.named_values import FIRST_STARTED_AT, named_value

OBJECTS_MIN = 1000
"""Objects that must be seen again without a miss before the looks right after puts are left out."""
CLOCKS_APART_MS = 10 * 60_000
"""How far the API's clock, which gives creation times, may be ahead of ours."""

_TRUST = schema.trust


@dataclasses.dataclass(frozen=True, slots=True)
class StoreTrust:
    """What is known of one bucket."""

    objects: int
    """Objects seen again since the last miss."""
    second_put: str | None
    """What it does with a second create-only put; None where no one has tried."""
    first_started_at: int | None
    """When a daemon first worked on this ledger (Unix ms)."""

    @property
    def is_earned(self) -> bool:
        """Whether the store is trusted; it is until the next miss."""
        return self.objects >= OBJECTS_MIN

    def can_know(self, *, created_at: int) -> bool:
        """Whether only this ledger can know a task of that time, so that no other ledger's manifest can be in the
        bucket."""
        return self.first_started_at is not None and created_at > self.first_started_at + CLOCKS_APART_MS


class Trust(Part):
    """The trust in stores. Second looks earn it, and the first missing object ends it."""

    def of(self, place: str) -> StoreTrust:
        """What is known of this endpoint and bucket."""
        query = sa.select(_TRUST.c.objects, _TRUST.c.second_put).where(_TRUST.c.place == place)
        with self._database.read() as connection:
            row = connection.execute(query).first()
            first_started_at = named_value(connection, FIRST_STARTED_AT)
        if row is None:
            return StoreTrust(0, None, first_started_at)
        return StoreTrust(row.objects, row.second_put, first_started_at)

    @retried
    def note_second_put(self, place: str, outcome: str) -> None:
        """Record what the store did with a second create-only put of a worker or of `doctor`."""
        row = {"place": place, "objects": 0, "second_put": outcome}
        with self._database.write() as connection:
            upsert(connection, _TRUST, row, update=["second_put"])


def count_seen(connection: sa.Connection, place: str, *, objects: int, is_missing: bool) -> None:
    """Count objects that were seen again; a missing one sets the count to 0."""
    same = sa.update(_TRUST).where(_TRUST.c.place == place)
    total = sa.literal(0) if is_missing else _TRUST.c.objects + objects
    if not connection.execute(same.values(objects=total)).rowcount:
        row = {"place": place, "objects": 0 if is_missing else objects}
        connection.execute(insert_missing(connection, _TRUST).values(row))
