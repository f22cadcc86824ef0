"""What arrives without proof: callbacks, and registrations by a user. Both only name an id to ask about."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.families import FAMILIES
from archiver.ledger import schema
from archiver.ledger.history import note
from archiver.ledger.named_values import LAST_CALLBACK_AT, set_fact
from archiver.ledger.rows import find
from archiver.model import (
    DAY_MS,
    RETENTION_MS,
    TERMINAL,
    Callback,
    CallbackOutcome,
    DiscoveredBy,
    State,
    Status,
)

UNKNOWN_ASK_MS_MIN = 10 * 60 * 1000
"""An id that the API did not know is asked for at most once in this time, however many callbacks name it."""

CONSOLE_TEST = "console_test"
"""`callback_status` of an id that only a test of the developer console has named."""

Row = dict[str, Any]


def record_callbacks(
    connection: sa.Connection, callbacks: Sequence[Callback], *, now: int
) -> list[CallbackOutcome]:
    """Write every callback down; one transaction around all of them, so a batch costs one fsync."""
    rows = _rows_of(connection, callbacks)
    receptions = []
    fresh: dict[tuple[str, str], Row] = {}
    changed: dict[int, Row] = {}
    for callback in callbacks:
        identity = (callback.account, callback.task_id)
        row = rows.get(identity)
        receptions.append(_reception(row, callback))
        if row is None:
            rows[identity] = fresh[identity] = new_row(callback, now=now)
            continue
        row |= _changes(row, callback, now=now)  # the next callback of this batch may be about the same task
        if identity not in fresh:
            changed[row["id"]] = row
    if fresh:
        rows_json = json.dumps([[row[name] for name in _TOLD] for row in fresh.values()])
        connection.execute(_INSERT, {"rows": rows_json})
    if changed:
        connection.execute(_UPDATE, [_told_again(row) for row in changed.values()])
    set_fact(connection, LAST_CALLBACK_AT, now)
    return receptions


_TOLD = (
    "account",
    "task_id",
    "family_hint",
    "result_arrays",
    "due_at",
    "deadline_at",
    "first_seen_at",
    "callbacks",
    "callback_status",
    "last_callback_at",
    "query_individually",
)
"""What differs between the rows of new ids; the rest of such a row is the same for all, and stands in the statement,
where it costs nothing for each row of a batch."""

_ROWS = sa.func.json_each(sa.bindparam("rows", type_=sa.Text)).table_valued("value", name="rows")

_INSERT = sa.insert(schema.tasks).from_select(
    [*_TOLD, "state", "queue", "attempts", "held", "asked", "discovered_by"],
    sa.select(
        *(sa.func.json_extract(_ROWS.c.value, f"$[{place}]") for place in range(len(_TOLD))),
        sa.literal_column(f"'{State.REPORTED}'"),
        sa.literal_column(f"'{schema.QUEUE_UNCONFIRMED}'"),
        sa.literal_column("0"),
        sa.literal_column("0"),
        sa.literal_column("0"),
        sa.literal_column(f"'{DiscoveredBy.CALLBACK}'"),
    ),
)
"""All new ids of a batch in one statement. The driver hands the interpreter to another thread for every row of an
`executemany`, and gets it back when the event loop, busy taking the next callbacks, lets go of it. `json_each` is
SQLite's; another database has its own function for rows out of JSON."""

_TOLD_AGAIN = ("callbacks", "last_callback_at", "callback_status", "family_hint", "result_arrays", "due_at")

_UPDATE = (
    sa.update(schema.tasks)
    .where(schema.tasks.c.id == sa.bindparam("row_id"))
    .values({name: sa.bindparam(f"new_{name}") for name in _TOLD_AGAIN})
)


def _told_again(row: Row) -> Row:
    return {"row_id": row["id"], **{f"new_{name}": row[name] for name in _TOLD_AGAIN}}


def _rows_of(connection: sa.Connection, callbacks: Sequence[Callback]) -> dict[tuple[str, str], Row]:
    table = schema.tasks
    query = sa.select(
        table.c.id,
        table.c.account,
        table.c.task_id,
        table.c.state,
        table.c.due_at,
        table.c.asked_at,
        table.c.callback_status,
        table.c.callbacks,
        table.c.family_hint,
        table.c.result_arrays,
    ).where(
        table.c.account.in_({callback.account for callback in callbacks}),
        table.c.task_id.in_({callback.task_id for callback in callbacks}),
    )
    return {(row["account"], row["task_id"]): dict(row) for row in connection.execute(query).mappings()}


def _word(callback: Callback) -> str:
    return CONSOLE_TEST if callback.is_console_test else callback.status or ""


def _reception(row: Row | None, callback: Callback) -> CallbackOutcome:
    """A callback is a duplicate when it tells nothing: a finished task, or the status told last."""
    if row is None:
        return CallbackOutcome.ACCEPTED
    known = row["state"] in TERMINAL or row["callback_status"] == _word(callback)
    return CallbackOutcome.DUPLICATE if known else CallbackOutcome.ACCEPTED


def new_row(callback: Callback, *, now: int) -> dict[str, Any]:
    """The row of an id that nobody has confirmed: due at once, its deadline counted from now.

    Under a family that this version does not know it is asked for singly: lists would be read for whatever families
    a stranger makes up, and such ids would stand in the way of the genuine ones that wait for a list.
    """
    return {
        "account": callback.account,
        "task_id": callback.task_id,
        "external_task_id": None,
        "family_hint": callback.family_hint,
        "result_arrays": ",".join(callback.result_arrays),
        "state": State.REPORTED,
        "queue": schema.QUEUE_UNCONFIRMED,
        "attempts": 0,
        "held": 0,
        "due_at": now,
        "deadline_at": now + RETENTION_MS,
        "first_seen_at": now,
        "asked": 0,
        "query_individually": callback.family_hint is not None and callback.family_hint not in FAMILIES,
        "discovered_by": DiscoveredBy.CALLBACK,
        "callbacks": 1,
        "callback_status": _word(callback),
        "last_callback_at": now,
        "request": None,
    }


def _changes(row: Row, callback: Callback, *, now: int) -> dict[str, Any]:
    """What one more callback changes: counts, hints that were missing, and maybe when the API is asked."""
    due_at = _sooner(row, callback, now=now)
    told = row["callback_status"] in (Status.SUCCEEDED, Status.FAILED)
    return {
        "callbacks": row["callbacks"] + 1,
        "last_callback_at": now,
        "callback_status": row["callback_status"] if told else _word(callback),
        "family_hint": _better_hint(row["family_hint"], callback.family_hint),
        "result_arrays": row["result_arrays"] or ",".join(callback.result_arrays),
        "due_at": row["due_at"] if due_at is None else due_at,
    }


def _better_hint(known: str | None, told: str | None) -> str | None:
    """A family that exists beats one that somebody has made up; else the first one told stays."""
    return (
        told
        if told is not None and (known is None or (known not in FAMILIES and told in FAMILIES))
        else known
    )


def _sooner(row: Row, callback: Callback, *, now: int) -> int | None:
    """When a callback makes us ask earlier than planned; None when it does not.

    A running task is asked for at once when it is said to have ended, once per status, so that repeats
    cannot spend the query budget.
    """
    due_at: int | None = row["due_at"]
    ended = callback.status in (Status.SUCCEEDED, Status.FAILED)
    if due_at is None:
        return None
    if row["state"] == State.RUNNING and ended and row["callback_status"] != _word(callback):
        return min(due_at, now)
    if row["state"] == State.UNKNOWN:
        return min(due_at, max(now, (row["asked_at"] or 0) + UNKNOWN_ASK_MS_MIN))
    return None


def enrol(connection: sa.Connection, found: Mapping[str, Sequence[str]], *, account: str, now: int) -> int:
    """Follow ids that the API itself has shown, under a family that is still to be found; how many were new.

    `found` gives the arrays that a task fills. What the API has confirmed meanwhile is left alone; an id that was given
    up or set aside is asked for afresh.
    """
    table = schema.tasks
    query = sa.select(table.c.id, table.c.task_id, table.c.state, table.c.confirmed_at).where(
        table.c.account == account, table.c.task_id.in_(found.keys())
    )
    known = {row.task_id: row for row in connection.execute(query)}
    for task_id, row in known.items():
        if row.confirmed_at is None and row.state in (State.UNKNOWN, State.BURIED):
            change = sa.update(table).where(table.c.id == row.id, table.c.lease_token.is_(None))
            again = {"state": State.REPORTED, "due_at": now, "asked": 0, "not_found_since": None}
            arrays = ",".join(found[task_id])
            connection.execute(change.values(**again, reason=None, message=None, result_arrays=arrays))
    new = [
        _enrolled(task_id, found[task_id], account=account, now=now)
        for task_id in found.keys() - known.keys()
    ]
    if new:
        connection.execute(sa.insert(table), new)
    return len(new)


def _enrolled(task_id: str, arrays: Sequence[str], *, account: str, now: int) -> dict[str, Any]:
    callback = Callback(account, task_id, None, None, result_arrays=tuple(arrays))
    return new_row(callback, now=now) | {
        "discovered_by": DiscoveredBy.SWEEP,
        "callbacks": 0,
        "callback_status": None,
        "last_callback_at": None,
    }


def register(
    connection: sa.Connection,
    *,
    account: str,
    task_id: str,
    family: str,
    external_task_id: str | None,
    request: Mapping[str, object] | None,
    now: int,
    created_at: int | None = None,
) -> bool:
    """Follow an id that a user names; True when it was new. `task_id` may be an external id.

    A task that the API has confirmed keeps its state and takes only what it lacks. An id that it has not is asked for
    afresh under this family: a user who registers knows better than the URL that a callback came by. The deadline
    of a new one is counted from `created_at` (Unix ms) where that was told, but never so that it is over at once:
    what somebody registers gets its try.
    """
    table = schema.tasks
    row = find(connection, account=account, task_id=task_id)
    request_json = None if request is None else json.dumps(request)
    if row is None:
        callback = Callback(account=account, task_id=task_id, status=None, family_hint=family)
        values = new_row(callback, now=now) | {
            "discovered_by": DiscoveredBy.REGISTRATION,
            "callbacks": 0,
            "callback_status": None,
            "last_callback_at": None,
            "external_task_id": external_task_id,
            "request": request_json,
        }
        if created_at is not None:
            values["deadline_at"] = max(min(created_at, now) + RETENTION_MS, now + DAY_MS)
        row_id: int = connection.execute(sa.insert(table).values(values).returning(table.c.id)).scalar_one()
        note(connection, row_id, at=now, event="task.registered", detail=family)
        return True
    unconfirmed = row["confirmed_at"] is None
    changes: dict[str, Any] = {
        "family_hint": family if unconfirmed else row["family_hint"] or family,
        "request": row["request"] or request_json,
        "external_task_id": row["external_task_id"] or external_task_id,
    }
    if unconfirmed:  # also one that was buried under the family that somebody else had named
        changes |= {"state": State.REPORTED, "due_at": now, "reason": None, "message": None}
        changes |= {"asked": 0, "not_found_since": None, "query_individually": False}
    connection.execute(sa.update(table).where(table.c.id == row["id"]).values(changes))
    return False


def withdraw(connection: sa.Connection, *, account: str, task_id: str) -> bool:
    """Delete the row of a registration that only its maker has ever spoken of. A worker that asks for it just now
    has lost its lease."""
    table = schema.tasks
    lonely = (
        table.c.account == account,
        table.c.task_id == task_id,
        table.c.confirmed_at.is_(None),
        table.c.discovered_by == DiscoveredBy.REGISTRATION,
        table.c.callbacks == 0,
    )
    return connection.execute(sa.delete(table).where(*lonely)).rowcount > 0
