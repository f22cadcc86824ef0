"""How a lease ends. Every statement here is fenced: it names the row *and* the token, and when no row answers
it raises `LeaseLost` and the whole transaction is undone. A worker that was paused for an hour, or came back
from the dead, can therefore change nothing.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.failures import (
    HOLD_PROBE_SECONDS,
    RETRY_SECONDS_MAX,
    AssetGone,
    Bury,
    Failure,
    Hold,
    LeaseLost,
    Retry,
    TaskNotFound,
    backoff_ms,
    lost_due,
    reason_of,
)
from archiver.ledger import schema
from archiver.ledger.history import note, trim
from archiver.ledger.records import asked_in_vain, buried_again, still_running
from archiver.model import DAY_MS, Lease, State, StoredAsset, text

GRACE_MS = 10 * 60 * 1000
"""How long an id may be unknown to the API, from the first definite not-found, before it is `unknown`."""

_RELEASED: Mapping[str, Any] = {"lease_token": None, "lease_until": None}


def _write(connection: sa.Connection, lease: Lease, values: Mapping[str, Any]) -> None:
    given = {name: value for name, value in values.items() if not isinstance(value, sa.ColumnElement)}
    computed = {name: value for name, value in values.items() if name not in given}
    statement = _fenced(frozenset(given))
    if computed:
        statement = statement.values(computed)
    parameters = {f"new_{name}": value for name, value in given.items()}
    parameters |= {"task_row": lease.row_id, "token": lease.token}
    if connection.execute(statement, parameters).rowcount != 1:
        raise LeaseLost(f"task {lease.task_id} is no longer ours")


@functools.cache
def _fenced(columns: frozenset[str]) -> sa.Update:
    """The statement that writes `columns` of a leased row from parameters `new_<column>`. Made once for each set of
    columns, of which there are a dozen, and not for each task."""
    table = schema.tasks
    return (
        sa.update(table)
        .where(table.c.id == sa.bindparam("task_row"), table.c.lease_token == sa.bindparam("token"))
        .values({name: sa.bindparam(f"new_{name}") for name in columns})
    )


def give_back(connection: sa.Connection, lease: Lease, *, now: int) -> None:
    """Nothing was done: the task is due at once and the attempt is not counted (a shutdown, a full pool)."""
    attempts = schema.tasks.c.attempts - 1
    _write(connection, lease, {**_RELEASED, "due_at": now, "attempts": attempts})


def retry(connection: sa.Connection, lease: Lease, error: Exception, decision: Retry, *, now: int) -> None:
    """The task comes again at `decision.due_at`. A lost one keeps its own slow rhythm instead, and one that was set
    aside (buried, failed) keeps the reason for that, whatever was in the way of asking again."""
    due_at: int | None = decision.due_at
    if lease.state is State.LOST:
        due_at = lost_due(now=now, deadline=lease.deadline_at)
    reason, message = reason_of(error), text(str(error))
    values: dict[str, Any] = {**_RELEASED, "due_at": due_at, "held": 0, "query_individually": False}
    if lease.state not in (State.BURIED, State.FAILED):
        values |= {"reason": reason, "message": message}
    _write(connection, lease, values)
    note(connection, lease.row_id, at=now, event="task.retried", detail=f"{reason}: {message}")
    trim(connection, lease.row_id)


def hold(connection: sa.Connection, lease: Lease, decision: Hold, *, is_new: bool, now: int) -> None:
    """The task goes behind the others and keeps its attempt; the hold itself is `holds.set_hold`.

    One that set off a new hold (`is_new`) goes twice as far back each time in a row, to 15 min: should it be the only
    one that cannot be done, the others have that long before it stops them again. In an outage it is the first one
    only, so that nobody else is kept waiting when the outage ends.
    """
    table = schema.tasks
    values = {**_RELEASED, "due_at": max(decision.due_at, now), "attempts": table.c.attempts - 1}
    if is_new:
        held: int = (
            connection.execute(sa.select(table.c.held).where(table.c.id == lease.row_id)).scalar_one_or_none()
            or 0
        )
        wait = backoff_ms(held + 1, rand=1, first_seconds=HOLD_PROBE_SECONDS, most_seconds=RETRY_SECONDS_MAX)
        values |= {"held": held + 1, "due_at": max(decision.due_at, now + wait)}
    _write(connection, lease, values)


def bury(connection: sa.Connection, lease: Lease, error: Failure, decision: Bury, *, now: int) -> None:
    """Set the task aside with its reason. A lost one stays lost, and one that is gone upstream is left alone; a failed
    one that an operator wanted asked for again stays failed."""
    message = text(str(error))
    values: dict[str, Any] = {
        **_RELEASED,
        "held": 0,
        "reason": error.reason,
        "message": message,
        "asked_at": now,
    }
    if lease.state is State.FAILED:
        values = asked_in_vain(now=now)
    elif lease.state is State.LOST:
        gone = error.reason == AssetGone.reason
        values |= {"due_at": None if gone else lost_due(now=now, deadline=lease.deadline_at)}
    else:
        queue = schema.QUEUE_VERIFY if lease.confirmed else schema.QUEUE_UNCONFIRMED
        values |= {
            "state": State.BURIED,
            "queue": queue,
            "due_at": decision.due_at,
            "query_individually": True,
        }
    _write(connection, lease, values)
    note(connection, lease.row_id, at=now, event="task.buried", detail=f"{error.reason}: {message}")
    trim(connection, lease.row_id)


def not_found(connection: sa.Connection, lease: Lease, *, now: int, rand: float) -> State:
    """The API definitely does not know the id. Returns the state the task is in now.

    A task it once confirmed does not become unknown: rows may vanish upstream (archiver/kling/API.md 5.2), its results
    may not. An unconfirmed one is asked again at 2, 4, 8 … 120 s and is `unknown` after the grace period.
    """
    query = sa.select(schema.tasks).where(schema.tasks.c.id == lease.row_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise LeaseLost(f"task {lease.task_id} is gone from the ledger")
    state = State(row["state"])
    if state is State.FAILED:
        _write(connection, lease, asked_in_vain(now=now))
    elif state is State.BURIED:
        _write(connection, lease, buried_again(now=now, deadline=lease.deadline_at))
    elif lease.confirmed:
        _write(connection, lease, still_running(row, now=now, rand=rand))
    else:
        return _still_unknown(connection, lease, row, now=now, rand=rand)
    return state


def _still_unknown(
    connection: sa.Connection, lease: Lease, row: Mapping[Any, Any], *, now: int, rand: float
) -> State:
    since, asked = row["not_found_since"] or now, row["asked"] + 1
    values = {
        **_RELEASED,
        "not_found_since": since,
        "asked_at": now,
        "asked": asked,
        "attempts": 0,
        "held": 0,
    }
    values |= {"reason": TaskNotFound.reason, "message": "the API does not know this id"}
    if now - since < GRACE_MS:
        due_at = now + backoff_ms(asked, rand=rand, first_seconds=2, most_seconds=120)
        _write(connection, lease, {**values, "due_at": due_at, "query_individually": False})
        return State(row["state"])
    if lease.is_console_test:
        # It named no real task. Should it have been a genuine first callback all the same, the next one, or the sweep,
        # brings the id back.
        table = schema.tasks
        same = sa.delete(table).where(table.c.id == lease.row_id, table.c.lease_token == lease.token)
        if connection.execute(same).rowcount != 1:
            raise LeaseLost(f"task {lease.task_id} is no longer ours")
        return State.UNKNOWN
    # No list page has shown it for as long as that: from now on it is asked for singly, once a day.
    _write(
        connection,
        lease,
        {**values, "state": State.UNKNOWN, "due_at": now + DAY_MS, "query_individually": True},
    )
    if row["state"] != State.UNKNOWN:
        note(connection, lease.row_id, at=now, event="task.not_found", detail="the API does not know this id")
        trim(connection, lease.row_id)
    return State.UNKNOWN


def save_stored(connection: sa.Connection, lease: Lease, stored: Sequence[StoredAsset]) -> None:
    """Write down which assets lie in the bucket, also where others of the task could not be had."""
    if stored:
        rows = [{"task_row": lease.row_id, "asset_stem": one.stem} | _facts(one) for one in stored]
        connection.execute(_SAVE, rows)


_FACTS = ("name", "key", "bytes", "sha256", "content_type", "width", "height", "source_url", "suspect")

_SAVE = (
    sa.update(schema.assets)
    .where(
        schema.assets.c.task == sa.bindparam("task_row"), schema.assets.c.stem == sa.bindparam("asset_stem")
    )
    .values({"reason": sa.null()} | {name: sa.bindparam(f"new_{name}") for name in _FACTS})
)


def _facts(stored: StoredAsset) -> dict[str, Any]:
    return {f"new_{name}": getattr(stored, name) for name in _FACTS}


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
