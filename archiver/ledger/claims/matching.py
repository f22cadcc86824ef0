"""Which ids wait for a query, and which of them one query can answer together."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.base import ColumnCollection

from archiver.ledger.claims.probes import asked_family
from archiver.ledger.databases.dialect import is_one_of, skipping_locked
from archiver.ledger.tables import schema
from archiver.model import Stage

QUERY_INDIVIDUALLY_MAX = 500
"""The limit of one call."""


@dataclasses.dataclass(frozen=True, slots=True)
class PendingCounts:
    """Due ids that wait for a query."""

    by_family: Mapping[str | None, int]
    """Ids that a list page may answer for, by family (None: no family is known)."""
    confirmed: frozenset[str]
    """The families among them that have tasks which the API has confirmed."""
    individually: int
    """Ids that no list page shows, counted up to the limit."""


def is_batchable(columns: ColumnCollection[str, Any]) -> sa.ColumnElement[bool]:
    """Ids that are queried at `/tasks` or `/solutions`, many at a time: also those whose family is unknown or was
    wrong."""
    family = sa.func.coalesce(columns.family, columns.family_hint, "")
    wrong_hint = sa.and_(columns.family.is_(None), columns.asked > 0)
    return sa.or_(family == "", family.like("tasks/%"), family.like("solutions/%"), wrong_hint)


def pending(connection: sa.Connection, *, account: str, rows_max: int, now: int) -> PendingCounts:
    """How many due ids wait for a query; looks at `rows_max` rows of each queue."""
    table = schema.tasks
    counts: dict[str | None, int] = {}
    families: dict[str, set[str | None]] = {}
    individually = 0
    for queue in schema.STAGE_QUEUES[Stage.VERIFY]:
        due = (
            sa.select(asked_family().label("family"))
            .where(table.c.queue == queue, table.c.due_at <= now)
            .where(table.c.account == account, table.c.lease_token.is_(None))
            .limit(rows_max)
        )
        listed = due.where(table.c.query_individually.is_(False)).subquery()
        grouped = sa.select(listed.c.family, sa.func.count()).group_by(listed.c.family)
        rows = connection.execute(grouped).all()
        families[queue] = {family for family, _ in rows}
        for family, count in rows:
            counts[family] = counts.get(family, 0) + count
        others = due.where(table.c.query_individually.is_(True)).subquery()
        counted = sa.select(sa.func.count()).select_from(others)
        individually += connection.execute(counted).scalar_one()
    confirmed = frozenset(family for family in families[schema.QUEUE_VERIFY] if family is not None)
    return PendingCounts(counts, confirmed, min(individually, rows_max))


def query_individually(
    connection: sa.Connection, *, account: str, family: str | None, due_before: int
) -> int:
    """Mark ids of `family` that were due before its list was read (`due_before`, Unix ms) and that no page has
    shown; how many."""
    table = schema.tasks
    unseen = (
        sa.select(table.c.id)
        .where(
            table.c.queue.in_(schema.STAGE_QUEUES[Stage.VERIFY]),
            table.c.account == account,
            asked_family().is_(None) if family is None else asked_family() == family,
            table.c.due_at <= due_before,
            table.c.lease_token.is_(None),
            table.c.query_individually.is_(False),
        )
        .limit(QUERY_INDIVIDUALLY_MAX)
    )
    chosen = skipping_locked(unseen, table).scalar_subquery()
    marked = sa.update(table).where(is_one_of(table.c.id, chosen))
    return connection.execute(marked.values(query_individually=True)).rowcount
