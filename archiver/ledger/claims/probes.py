"""Holds in claims: which rows they stop, and the one row that probes each."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.failures import HOLD_PROBE_SECONDS
from archiver.ledger.claims.leasing import ACCOUNT, STAGE_QUEUES, free, leasing, run_claim
from archiver.ledger.tables import groups, schema
from archiver.model import Lease, Stage

_CLAIM_ROW = leasing(sa.select(schema.tasks.c.id).where(schema.tasks.c.id == sa.bindparam("row_id")))

_HOLDS = (
    sa.select(schema.holds)
    .where(schema.holds.c.stage == sa.bindparam("stage"), schema.holds.c.account == ACCOUNT)
    .order_by(schema.holds.c.probe_at)
)

CANDIDATES_MAX = 20
"""Rows of a group among which a probe is chosen."""

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
    """The row to probe a hold with: of the first rows of each of its groups, or of its unconfirmed ids, the one that
    set holds least often, then the longest due. A poisonous task is thus the last choice."""
    rows = [
        row
        for queue in STAGE_QUEUES[Stage(hold["stage"])]
        for row in _candidates(connection, hold, queue=queue, now=now)
    ]
    best = min(rows, key=lambda row: (row.held, row.due_at, row.id), default=None)
    return None if best is None else best.id


def _candidates(connection: sa.Connection, hold: Mapping[Any, Any], *, queue: str, now: int) -> Sequence[Any]:
    table = schema.tasks
    of_queue = (
        sa.select(table.c.id, table.c.held, table.c.due_at)
        .where(table.c.queue == queue, table.c.account == hold["account"], free(now))
        .limit(CANDIDATES_MAX)
    )
    if queue == schema.QUEUE_UNCONFIRMED:
        due = of_queue.where(table.c.due_at <= now).order_by(table.c.due_at)
        if hold["family"]:
            due = due.where(sa.func.coalesce(table.c.family_hint, "") == hold["family"])
        return connection.execute(due).all()
    grouped = of_queue.order_by(table.c.attempts, table.c.due_at)
    if is_whole(hold):
        grouped = of_queue.where(table.c.claim_group.is_not(None))
        return connection.execute(grouped).all()
    names = (
        [groups.UNTRIED + hold["host"], *groups.covered_by(hold)] if hold["host"] else groups.covered_by(hold)
    )
    return [
        row for name in names for row in connection.execute(grouped.where(table.c.claim_group == name)).all()
    ]


def is_whole(hold: Mapping[Any, Any]) -> bool:
    """Whether it stops a whole stage of an account."""
    return not hold["family"] and not hold["host"]


def holds_of(connection: sa.Connection, stage: Stage, *, account: str) -> Sequence[sa.RowMapping]:
    """The holds of a stage, the next probe first."""
    return connection.execute(_HOLDS, {"stage": stage, "of_account": account}).mappings().all()


def allowed(held: Collection[str]) -> list[sa.ColumnElement[bool]]:
    """Conditions for unconfirmed ids, which are in no group: none of the held families."""
    return [sa.func.coalesce(asked_family(), "").not_in(held)] if held else []
