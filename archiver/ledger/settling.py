"""How a lease ends. Every statement here is fenced: it names the row *and* the token, and when no row answers
it raises `LeaseLost` and the whole transaction is undone. A worker that was paused for an hour, or came back
from the dead, can therefore change nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.failures import (
    Bury,
    Failure,
    Hold,
    LeaseLost,
    Retry,
    backoff_ms,
    lost_due,
    reason_of,
)
from archiver.ledger import schema
from archiver.ledger.histories import note, trim
from archiver.ledger.recording import buried_again, still_running
from archiver.model import DAY_MS, Lease, State, StoredAsset

GRACE_MS = 10 * 60 * 1000
"""How long an id may be unknown to the API, from the first definite not-found, before it is `unknown`."""

_RELEASED: Mapping[str, Any] = {"lease_token": None, "lease_until": None}


def _write(connection: sa.Connection, lease: Lease, values: Mapping[str, Any]) -> None:
    table = schema.tasks
    statement = (
        sa.update(table)
        .where(table.c.id == lease.row_id, table.c.lease_token == lease.token)
        .values(dict(values))
    )
    if connection.execute(statement).rowcount != 1:
        raise LeaseLost(f"task {lease.task_id} is no longer ours")


def give_back(connection: sa.Connection, lease: Lease, *, now: int) -> None:
    """Nothing was done: the task is due at once and the attempt is not counted (a shutdown, a full pool)."""
    attempts = schema.tasks.c.attempts - 1
    _write(connection, lease, {**_RELEASED, "due_at": now, "attempts": attempts})


def retry(connection: sa.Connection, lease: Lease, error: Exception, decision: Retry, *, now: int) -> None:
    """The task comes again at `decision.due_at`. A lost one keeps its own slow rhythm instead."""
    due_at: int | None = decision.due_at
    if lease.state is State.LOST:
        due_at = lost_due(now=now, deadline=lease.deadline_at)
    reason = reason_of(error)
    values = {**_RELEASED, "due_at": due_at, "reason": reason, "message": str(error), "ask_singly": False}
    _write(connection, lease, values)
    note(connection, lease.row_id, at=now, event="task.retried", detail=f"{reason}: {error}")
    trim(connection, lease.row_id)


def hold(connection: sa.Connection, lease: Lease, decision: Hold, *, now: int) -> None:
    """The task goes behind the others and keeps its attempt; the hold itself is `holding.set_hold`."""
    attempts = schema.tasks.c.attempts - 1
    _write(connection, lease, {**_RELEASED, "due_at": max(decision.due_at, now), "attempts": attempts})


def bury(connection: sa.Connection, lease: Lease, error: Failure, decision: Bury, *, now: int) -> None:
    """Set the task aside with its reason. A lost one stays lost, and one that is gone upstream is left alone."""
    values: dict[str, Any] = {**_RELEASED, "reason": error.reason, "message": str(error), "asked_at": now}
    if lease.state is State.LOST:
        gone = error.reason == "asset_gone"
        values |= {"due_at": None if gone else lost_due(now=now, deadline=lease.deadline_at)}
    else:
        queue = schema.QUEUE_VERIFY if lease.confirmed else schema.QUEUE_INQUIRE
        values |= {"state": State.BURIED, "queue": queue, "due_at": decision.due_at, "ask_singly": True}
    _write(connection, lease, values)
    note(connection, lease.row_id, at=now, event="task.buried", detail=f"{error.reason}: {error}")
    trim(connection, lease.row_id)


def not_found(connection: sa.Connection, lease: Lease, *, now: int, rand: float) -> State:
    """The API definitely does not know the id. Returns the state the task is in now.

    A task it once confirmed does not become unknown: rows may vanish upstream (kling-api.md 5.2), its results
    may not. An unconfirmed one is asked again at 2, 4, 8 … 120 s and is `unknown` after the grace period.
    """
    row = (
        connection.execute(sa.select(schema.tasks).where(schema.tasks.c.id == lease.row_id)).mappings().one()
    )
    if lease.state is State.BURIED:
        _write(connection, lease, buried_again(now=now, deadline=lease.deadline_at))
        return State.BURIED
    if lease.confirmed:
        _write(connection, lease, still_running(row, now=now, rand=rand))
        return State.RUNNING
    since = row["not_found_since"] or now
    values = {
        **_RELEASED,
        "not_found_since": since,
        "asked_at": now,
        "asked": row["asked"] + 1,
        "ask_singly": False,
    }
    if now - since < GRACE_MS:
        due_at = now + backoff_ms(row["asked"] + 1, rand=rand, first_seconds=2, most_seconds=120)
        _write(connection, lease, {**values, "due_at": due_at, "attempts": 0})
        return State(row["state"])
    _write(connection, lease, {**values, "state": State.UNKNOWN, "due_at": now + DAY_MS, "attempts": 0})
    if row["state"] != State.UNKNOWN:
        note(connection, lease.row_id, at=now, event="task.not_found", detail="the API does not know this id")
    return State.UNKNOWN


def save_stored(connection: sa.Connection, lease: Lease, stored: Sequence[StoredAsset]) -> None:
    """Write down which assets lie in the bucket, also where others of the task could not be had."""
    table = schema.assets
    for asset in stored:
        statement = (
            sa.update(table)
            .where(table.c.task == lease.row_id, table.c.stem == asset.stem)
            .values(
                name=asset.name,
                key=asset.key,
                bytes=asset.bytes,
                sha256=asset.sha256,
                content_type=asset.content_type,
                width=asset.width,
                height=asset.height,
                source_url=asset.source_url,
                suspect=asset.suspect,
                reason=None,
            )
        )
        connection.execute(statement)


def save_failed(
    connection: sa.Connection, lease: Lease, failed: Mapping[str, Exception], *, now: int
) -> None:
    """Write down why which asset (by stem) could not be had; a body that only the wholeness check refused
    leaves its digest, so that the same bytes an hour later are known to be what upstream has."""
    table = schema.assets
    for stem, error in failed.items():
        where = (table.c.task == lease.row_id, table.c.stem == stem)
        connection.execute(sa.update(table).where(*where).values(reason=reason_of(error)))
        sha256 = getattr(error, "sha256", None)
        if sha256 is not None:
            first = sa.or_(table.c.incomplete_sha256.is_(None), table.c.incomplete_sha256 != sha256)
            statement = sa.update(table).where(*where, first)
            connection.execute(statement.values(incomplete_sha256=sha256, incomplete_at=now))


def archived(
    connection: sa.Connection, lease: Lease, *, manifest_key: str, archived_at: int, now: int
) -> None:
    """The manifest is in the bucket: the task is done. A crash before this commit is healed by the next
    attempt, which finds the manifest and adopts it."""
    values = {
        **_RELEASED,
        "state": State.ARCHIVED,
        "queue": None,
        "due_at": None,
        "reason": None,
        "message": None,
        "manifest_key": manifest_key,
        "archived_at": archived_at,
    }
    _write(connection, lease, values)
    note(connection, lease.row_id, at=now, event="task.archived", detail=manifest_key)
