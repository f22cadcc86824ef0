"""Ids of held families at the front of a queue: claims pass over them once, and remember how far.

Such ids come due and stay, so they gather at the front, where every claim would walk over them again. Each claim looks
at `SCAN_ROWS_MAX` rows, and the next one goes on behind those that it could not take. A row is never written a due time
in the past, so none comes in before that place. When a hold of the account is lifted, the place is forgotten
(`holds`): its ids are taken from the front again.
"""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from archiver.ledger.claims.leasing import ACCOUNT, DUE_BEFORE, NOW, QUEUE, Request, free
from archiver.ledger.databases.dialect import upsert
from archiver.ledger.tables import schema

SCAN_ROWS_MAX = 2000
"""Rows that a claim looks at to tell ids that it may take from others. It stops there even if it finds none: callbacks
must not wait for a walk through a million forged ids."""

LONGEST_DUE: sa.Select[Any] = (
    sa.select(
        schema.tasks.c.id,
        schema.tasks.c.due_at,
        schema.tasks.c.family,
        schema.tasks.c.family_hint,
        schema.tasks.c.asked,
    )
    .where(schema.tasks.c.queue == QUEUE, schema.tasks.c.account == ACCOUNT)
    .where(schema.tasks.c.due_at <= DUE_BEFORE, free(NOW))
    .order_by(schema.tasks.c.due_at, schema.tasks.c.id)
)


def longest_due(connection: sa.Connection, request: Request, held: Collection[str]) -> sa.Select[Any]:
    """Rows of the queue in the order of their due times, none of them of a held family. At most `SCAN_ROWS_MAX` are
    looked at."""
    if not held:
        return sa.select(LONGEST_DUE.limit(SCAN_ROWS_MAX).subquery())
    scanned = LONGEST_DUE.where(_behind(*_pass(connection, request, held))).limit(SCAN_ROWS_MAX).subquery()
    return sa.select(scanned).where(_family(scanned).not_in(held))


def _pass(connection: sa.Connection, request: Request, held: Collection[str]) -> tuple[int, int]:
    """Pass over the ids of held families at the front; due time and row id of the last one."""
    table = schema.passed_over
    same = (table.c.account == request.account, table.c.queue == request.queue)
    known = connection.execute(sa.select(table.c.due_at, table.c.task).where(*same)).first()
    place = (0, 0) if known is None or known.due_at > request.now else (known.due_at, known.task)
    scanned = LONGEST_DUE.where(_behind(*place)).limit(SCAN_ROWS_MAX).subquery()
    parameters = {
        "of_queue": request.queue,
        "of_account": request.account,
        "due_before": request.due_before,
        "now": request.now,
    }
    first = connection.execute(
        sa.select(sa.func.min(scanned.c.due_at)).where(_family(scanned).not_in(held)), parameters
    ).scalar_one()
    before_first = sa.true() if first is None else scanned.c.due_at < first
    due_at = connection.execute(sa.select(sa.func.max(scanned.c.due_at)).where(before_first), parameters)
    if (last_due_at := due_at.scalar_one()) is None:
        return place
    row_id = connection.execute(
        sa.select(sa.func.max(scanned.c.id)).where(scanned.c.due_at == last_due_at), parameters
    ).scalar_one()
    row = {"account": request.account, "queue": request.queue, "due_at": last_due_at, "task": row_id}
    upsert(connection, table, row, update=["due_at", "task"])
    return last_due_at, row_id


def _behind(due_at: int, row_id: int) -> sa.ColumnElement[bool]:
    table = schema.tasks
    # The first condition is for the index.
    return sa.and_(table.c.due_at >= due_at, sa.or_(table.c.due_at > due_at, table.c.id > row_id))


def _family(columns: sa.Subquery) -> sa.ColumnElement[str]:
    return sa.func.coalesce(columns.c.family, columns.c.family_hint, "")
