"""The one statement that leases rows: it writes token, lease end, attempt and next due time before any work begins."""

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.dml import ReturningUpdate

from archiver.ledger.databases.dialect import in_index_order, is_one_of
from archiver.ledger.tables import schema
from archiver.ledger.tables.rows import assets_of, read_lease
from archiver.model import Lane, Lease, Stage

LEASE_SECONDS = 30
TAKEOVER_SECONDS = 5
"""For so long after its end a lease is left alone: clocks of two machines differ a little, and the last piece of a body
may still be on its way."""
TAKEOVER_MS = TAKEOVER_SECONDS * 1000

# --- statements ---------------------------------------------------------------------------------------------------
# Made once: to build them for each task took 2.2 of the 3.7 ms of processor time that the ledger needed per task. Only
# conditions for holds and hosts are added at run time.

NOW = sa.bindparam("now", type_=sa.BigInteger)
DUE_BEFORE = sa.bindparam("due_before", type_=sa.BigInteger)
ACCOUNT = sa.bindparam("of_account", type_=sa.Text)
QUEUE = sa.bindparam("of_queue", type_=sa.Text)
SLOTS = sa.bindparam("slots", type_=sa.Integer)


def free(now: int | sa.BindParameter[int], table: sa.FromClause = schema.tasks) -> sa.ColumnElement[bool]:
    """A row of `table` is free: no worker holds a lease on it, or the lease may be taken over."""
    until = table.c.lease_until
    return sa.or_(until.is_(None), until <= now - TAKEOVER_MS)


def leasing(chosen: sa.Select[int]) -> ReturningUpdate[Any]:
    """The statement that leases the rows of `chosen`, which must skip locked ones, and returns them."""
    table = schema.tasks
    until = sa.bindparam("until", type_=sa.BigInteger)
    return (
        sa.update(table)
        .where(is_one_of(table.c.id, chosen.scalar_subquery()))
        .values(
            lease_token=sa.bindparam("token", type_=sa.Text),
            lease_until=until,
            due_at=until + TAKEOVER_MS,
            attempts=table.c.attempts + 1,
            asked_at=NOW,
            claim_group=None,
        )
        .returning(table)
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """Which rows a claim may take."""

    queue: str
    account: str
    _: dataclasses.KW_ONLY
    now: int
    due_before: int


def lease_rows(
    connection: sa.Connection, claim: ReturningUpdate[Any], request: Request, *, slots: int
) -> list[Lease]:
    parameters: dict[str, object] = {
        "of_queue": request.queue,
        "of_account": request.account,
        "due_before": request.due_before,
        "slots": slots,
    }
    return run_claim(connection, claim, parameters, now=request.now)


def run_claim(
    connection: sa.Connection,
    claim: ReturningUpdate[Any],
    parameters: Mapping[str, object],
    *,
    now: int,
    is_probe: bool = False,
    lane: Lane | None = None,
    stage: Stage | None = None,
) -> list[Lease]:
    """Run a claim; the leases, of the stage of their rows' queue unless `stage` is another."""
    lease: dict[str, object] = {"token": uuid.uuid4().hex, "until": now + LEASE_SECONDS * 1000, "now": now}
    with in_index_order(connection):
        rows = connection.execute(claim, {**parameters, **lease}).mappings().all()
    assets = assets_of(connection, [row["id"] for row in rows if row["queue"] == schema.QUEUE_ARCHIVE])
    return [
        read_lease(row, assets.get(row["id"], ()), is_probe=is_probe, lane=lane, stage=stage) for row in rows
    ]
