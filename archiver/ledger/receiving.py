"""What arrives without proof: callbacks, and registrations by a user. Both only name an id to ask about."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger import schema
from archiver.ledger.histories import note
from archiver.model import RETENTION_MS, TERMINAL, Callback, Discovery, Reception, State, Status

UNKNOWN_ASK_LEAST_MS = 10 * 60 * 1000
"""An id that the API did not know is asked for at most once in this time, however many callbacks name it."""

Row = Mapping[Any, Any]


def record_callbacks(
    connection: sa.Connection, callbacks: Sequence[Callback], *, now: int
) -> list[Reception]:
    """Write every callback down; one transaction around all of them, so a batch costs one fsync."""
    rows = _rows_of(connection, callbacks)
    receptions = []
    fresh: dict[tuple[str, str], dict[str, Any]] = {}
    for callback in callbacks:
        identity = (callback.account, callback.task_id)
        row: Row | None = rows.get(identity) or fresh.get(identity)
        receptions.append(_reception(row, callback))
        if identity in fresh:
            _count_again(fresh[identity], callback)
        elif row is not None:
            _update(connection, row, callback, now=now)
        else:
            fresh[identity] = new_row(callback, now=now)
    if fresh:
        connection.execute(sa.insert(schema.tasks), list(fresh.values()))
    return receptions


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
    ).where(
        table.c.account.in_({callback.account for callback in callbacks}),
        table.c.task_id.in_({callback.task_id for callback in callbacks}),
    )
    return {(row["account"], row["task_id"]): row for row in connection.execute(query).mappings()}


def _word(callback: Callback) -> str:
    return callback.status or ""


def _reception(row: Row | None, callback: Callback) -> Reception:
    """A callback is a duplicate when it tells nothing: a finished task, or the status told last."""
    if row is None:
        return Reception.ACCEPTED
    known = row["state"] in TERMINAL or row["callback_status"] == _word(callback)
    return Reception.DUPLICATE if known else Reception.ACCEPTED


def _count_again(fresh: dict[str, Any], callback: Callback) -> None:
    fresh["callbacks"] += 1
    if fresh["callback_status"] not in (Status.SUCCEEDED, Status.FAILED):
        fresh["callback_status"] = _word(callback)


def new_row(callback: Callback, *, now: int) -> dict[str, Any]:
    """The row of an id that nobody has confirmed: due at once, its deadline counted from now."""
    return {
        "account": callback.account,
        "task_id": callback.task_id,
        "external_task_id": None,
        "family_hint": callback.family_hint,
        "result_arrays": ",".join(callback.result_arrays),
        "state": State.REPORTED,
        "queue": schema.QUEUE_INQUIRE,
        "attempts": 0,
        "due_at": now,
        "deadline_at": now + RETENTION_MS,
        "first_seen_at": now,
        "asked": 0,
        "ask_singly": False,
        "discovered_by": Discovery.CALLBACK,
        "callbacks": 1,
        "callback_status": _word(callback),
        "last_callback_at": now,
        "request": None,
    }


def _update(connection: sa.Connection, row: Row, callback: Callback, *, now: int) -> None:
    changes: dict[str, Any] = {"callbacks": schema.tasks.c.callbacks + 1, "last_callback_at": now}
    if row["callback_status"] not in (Status.SUCCEEDED, Status.FAILED):
        changes["callback_status"] = _word(callback)
    due_at = _sooner(row, callback, now=now)
    if due_at is not None:
        changes["due_at"] = due_at
    connection.execute(sa.update(schema.tasks).where(schema.tasks.c.id == row["id"]).values(changes))


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
        return min(due_at, max(now, (row["asked_at"] or 0) + UNKNOWN_ASK_LEAST_MS))
    return None


def register(
    connection: sa.Connection,
    *,
    account: str,
    task_id: str,
    family: str,
    external_task_id: str | None,
    request: Mapping[str, object] | None,
    now: int,
) -> bool:
    """Follow an id that a user names; True when it was new. `task_id` may be an external id.

    A known row keeps its state and takes only what it lacks.
    """
    table = schema.tasks
    same = sa.or_(table.c.task_id == task_id, table.c.external_task_id == task_id)
    query = sa.select(table).where(table.c.account == account, same)
    row = connection.execute(query).mappings().first()
    request_json = None if request is None else json.dumps(request)
    if row is None:
        callback = Callback(account=account, task_id=task_id, status=None, family_hint=family)
        values = new_row(callback, now=now) | {
            "discovered_by": Discovery.REGISTRATION,
            "callbacks": 0,
            "callback_status": None,
            "last_callback_at": None,
            "external_task_id": external_task_id,
            "request": request_json,
        }
        row_id: int = connection.execute(sa.insert(table).values(values).returning(table.c.id)).scalar_one()
        note(connection, row_id, at=now, event="task.registered", detail=family)
        return True
    changes: dict[str, Any] = {
        "family_hint": row["family_hint"] or family,
        "request": row["request"] or request_json,
        "external_task_id": row["external_task_id"] or external_task_id,
    }
    if row["state"] in (State.REPORTED, State.UNKNOWN):
        changes |= {"state": State.REPORTED, "due_at": now, "not_found_since": None, "family_hint": family}
    connection.execute(sa.update(table).where(table.c.id == row["id"]).values(changes))
    return False
