"""What a failed attempt writes into the rows of a task and its assets."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from archiver.failures import (
    FRESH_MS_MAX,
    HOLD_PROBE_SECONDS,
    RETRY_SECONDS_MAX,
    ApiAnswerUnreadable,
    AssetGone,
    Bury,
    Failure,
    backoff_ms,
    lost_due,
    reason_of,
)
from archiver.ledger.folder_work.queueing import queue_incomplete
from archiver.ledger.outcomes.fencing import RELEASED
from archiver.ledger.tables import schema, set_aside
from archiver.ledger.transitions import shown_unread, still_failed
from archiver.model import Lease, Stage, State, text


def host_columns(lease: Lease, error: Exception) -> dict[str, Any]:
    """The task waits for the host that failed, and was tried there."""
    host = error.host if isinstance(error, Failure) else None
    if lease.stage is not Stage.ARCHIVE or not host:
        return {}
    return {"asset_host": host, "host_tried": True}


def fresh_columns(lease: Lease, values: Mapping[str, Any]) -> dict[str, Any]:
    """Verification could not ask for fresh URLs: it asks again when `values` say, and the archive stage waits on."""
    if lease.stage is not Stage.VERIFY or lease.fresh_wanted_at is None:
        return {}
    return {"fresh_due_at": values["due_at"], "due_at": lease.fresh_wanted_at + FRESH_MS_MAX}


def unread_columns(connection: sa.Connection, lease: Lease, error: Exception, *, now: int) -> dict[str, Any]:
    """The API shows the task, but this version cannot read the answer: an unconfirmed id counts as a task from now
    on."""
    shown = error.shown if isinstance(error, ApiAnswerUnreadable) else None
    if shown is None or lease.confirmed or shown.task_id != lease.task_id:
        return {}
    query = sa.select(schema.tasks).where(schema.tasks.c.id == lease.row_id)
    row = connection.execute(query).mappings().first()
    return {} if row is None else shown_unread(row, shown, now=now)


def own_failure(lease: Lease, error: Failure, *, now: int) -> dict[str, Any]:
    """The columns after a failure of the task's own: it is retried after 30 s, doubling to 15 min. A lost task keeps
    its rhythm, a buried one its reason."""
    if lease.state is State.LOST:
        return {"due_at": lost_due(now=now, deadline=lease.deadline_at)}
    wait = backoff_ms(lease.attempt, rand=1, first_seconds=HOLD_PROBE_SECONDS, seconds_max=RETRY_SECONDS_MAX)
    if lease.state in (State.BURIED, State.FAILED):
        return {"due_at": now + wait}
    return {"due_at": now + wait, "reason": error.reason, "message": text(str(error))}


def buried(lease: Lease, error: Failure, decision: Bury, *, message: str, now: int) -> Mapping[str, Any]:
    """A task that is set aside. A lost one stays lost, a failed one that was retried stays failed."""
    if lease.state is State.FAILED:
        return still_failed(now=now)
    values = {**RELEASED, "held": 0, "reason": error.reason, "message": message, "asked_at": now}
    if lease.state is State.LOST:
        gone = error.reason == AssetGone.reason
        return values | {"due_at": None if gone else lost_due(now=now, deadline=lease.deadline_at)}
    return values | {
        "state": State.BURIED,
        "queue": schema.QUEUE_VERIFY if lease.confirmed else schema.QUEUE_UNCONFIRMED,
        "due_at": decision.due_at,
        "query_individually": True,
        **set_aside.buried_in_sql(reason=error.reason, now=now),
    }


def save_failed(
    connection: sa.Connection, lease: Lease, failed: Mapping[str, Exception], *, now: int
) -> None:
    """Record why an asset (by stem) failed. A body that only the completeness check refused leaves its digest: if the
    same bytes come an hour later, upstream has no others."""
    table = schema.assets
    for stem, error in failed.items():
        where = (table.c.task == lease.row_id, table.c.stem == stem)
        reason = reason_of(error)
        since = sa.case((table.c.reason == reason, table.c.failing_since), else_=now)
        connection.execute(sa.update(table).where(*where).values(reason=reason, failing_since=since))
        sha256 = getattr(error, "sha256", None)
        if sha256 is not None:
            first = sa.or_(table.c.incomplete_sha256.is_(None), table.c.incomplete_sha256 != sha256)
            statement = sa.update(table).where(*where, first)
            connection.execute(statement.values(incomplete_sha256=sha256, incomplete_at=now))


def queue_if_finally_lost(
    connection: sa.Connection, lease: Lease, values: Mapping[str, Any], *, now: int
) -> None:
    """Queue `incomplete.json` for a lost task that has no due time, since it is not tried any more."""
    if lease.state is State.LOST and values["due_at"] is None:
        queue_incomplete(connection, lease.row_id, now=now)
