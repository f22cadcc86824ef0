"""Lanes: in which order the due tasks of a queue are leased."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.dml import ReturningUpdate

from archiver.ledger.claims.leasing import (
    ACCOUNT,
    DUE_BEFORE,
    NOW,
    QUEUE,
    SLOTS,
    Request,
    free,
    lease_rows,
    leasing,
)
from archiver.ledger.databases.dialect import without_index
from archiver.ledger.tables import schema
from archiver.model import Lease

LANES = ("deadline", "attempts", "deadline", "newest")
"""Slot by slot: half to the nearest deadline, a quarter to the fewest attempts, a quarter to the newest."""

UNCONFIRMED_EVERY = 4
"""The last of each four slots of verification is first an unconfirmed id's: where many tasks run and no list can be
read, running ones alone would take every question, and a new callback would never be asked about."""


def _lane(*order: sa.ColumnElement[Any]) -> sa.Select[int]:
    table = schema.tasks
    return (
        sa.select(table.c.id)
        # The index must give the order: one on due_at would make SQLite sort the whole backlog.
        .where(table.c.queue == QUEUE, without_index(table.c.due_at) <= DUE_BEFORE, free(NOW))
        .where(table.c.confirmed_at.is_not(None))  # always true here; allows the partial indexes
        .where(table.c.account == ACCOUNT)
        .order_by(*order)
        .limit(SLOTS)
    )


_LANE_ROWS: Mapping[str, sa.Select[int]] = {
    "deadline": _lane(schema.tasks.c.deadline_at),
    "attempts": _lane(schema.tasks.c.attempts, schema.tasks.c.due_at),
    # Not by first sight: all of a backlog that a sweep finds would be newer than the callback before it.
    "newest": _lane(schema.tasks.c.deadline_at.desc()),
}

CLAIMS: Mapping[str, ReturningUpdate[Any]] = {lane: leasing(rows) for lane, rows in _LANE_ROWS.items()}
"""The claim of each lane while nothing is held."""


def shares(count: int, *, offset: int) -> dict[str, int]:
    """How many of `count` slots, the first being slot number `offset`, go to each lane."""
    lanes = [LANES[(offset + slot) % len(LANES)] for slot in range(count)]
    return {lane: lanes.count(lane) for lane in dict.fromkeys(lanes)}


def unconfirmed_share(count: int, *, offset: int) -> int:
    """How many of `count` slots, the first being slot number `offset`, are first unconfirmed ids'."""
    return (offset + count) // UNCONFIRMED_EVERY - offset // UNCONFIRMED_EVERY


def claim_lanes(
    connection: sa.Connection,
    request: Request,
    allowed: Sequence[sa.ColumnElement[bool]],
    *,
    count: int,
    offset: int,
) -> list[Lease]:
    leases: list[Lease] = []
    for lane, slots in shares(count, offset=offset).items():
        claim = leasing(_LANE_ROWS[lane].where(*allowed)) if allowed else CLAIMS[lane]
        leases += lease_rows(connection, claim, request, slots=slots)
    return leases
