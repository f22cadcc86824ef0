"""Holds in claims: which rows they stop, and the one row that probes each."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.failures import HOLD_PROBE_SECONDS
from archiver.ledger.claims.leasing import ACCOUNT, STAGE_QUEUES, free, leasing, run_claim
from archiver.ledger.tables import schema
from archiver.model import Lease, Stage

_CLAIM_ROW = leasing(sa.select(schema.tasks.c.id).where(schema.tasks.c.id == sa.bindparam("row_id")))

_HOLDS = (
    sa.select(schema.holds)
    .where(schema.holds.c.stage == sa.bindparam("stage"), schema.holds.c.account == ACCOUNT)
    .order_by(schema.holds.c.probe_at)
)

WHOLE_HOLD = _HOLDS.where(schema.holds.c.family == "", schema.holds.c.host == "")
"""The hold that stops a whole stage of an account."""


def asked_family() -> sa.ColumnElement[str | None]:
    return sa.func.coalesce(schema.tasks.c.family, schema.tasks.c.family_hint)


def claim_probes(
    connection: sa.Connection, holds: Sequence[sa.RowMapping], *, count: int, now: int
) -> list[Lease]:
    """One task for each hold whose probe is due, at most `count`. A hold without a task to probe with keeps its
    turn."""
    leases: list[Lease] = []
    for hold in holds:
        if hold["probe_at"] > now:
            break
        row_id = _probe_of(connection, hold, now=now) if len(leases) < count else None
        if row_id is None:
            continue
        probe_at = now + HOLD_PROBE_SECONDS * 1000
        connection.execute(
            sa.update(schema.holds).where(schema.holds.c.id == hold["id"]).values(probe_at=probe_at)
        )
        leases += run_claim(connection, _CLAIM_ROW, {"row_id": row_id}, now=now, is_probe=True)
    return leases


def _probe_of(connection: sa.Connection, hold: Mapping[Any, Any], *, now: int) -> int | None:
    """The row to probe a hold with: the longest due that never set a hold; else, due or not, the one that did so least
    often. A poisonous task is thus the last choice."""
    table = schema.tasks
    queues = table.c.queue.in_(STAGE_QUEUES[Stage(hold["stage"])])
    of_hold = sa.select(table.c.id).where(queues, free(now), covers(hold)).limit(1)
    innocent = of_hold.where(table.c.held == 0, table.c.due_at <= now).order_by(table.c.due_at)
    blamed = of_hold.where(table.c.held > 0).order_by(table.c.held, table.c.due_at)
    row_id = connection.execute(innocent).scalar()
    return row_id if row_id is not None else connection.execute(blamed).scalar()


def holds_of(connection: sa.Connection, stage: Stage, *, account: str) -> Sequence[sa.RowMapping]:
    """The holds of a stage, the next probe first. Read before the claim: conditions with literals are several times
    cheaper than a subquery for each row of a held backlog."""
    return connection.execute(_HOLDS, {"stage": stage, "of_account": account}).mappings().all()


def covers(hold: Mapping[Any, Any]) -> sa.ColumnElement[bool]:
    """The hold stops the row."""
    table = schema.tasks
    conditions = [table.c.account == hold["account"]]
    if hold["host"]:
        conditions.append(sa.func.coalesce(table.c.asset_host, "") == hold["host"])
    if hold["family"]:
        conditions.append(sa.func.coalesce(asked_family(), "") == hold["family"])
    return sa.and_(*conditions)
