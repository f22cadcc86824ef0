"""How the API's word becomes a row: the one path that callbacks, sweep, registration and list matching share.

`advance` is the heart: a pure function from (row, task) to the changes, so that "state only moves forward"
can be read in one place and is the same for every way in.
"""

import dataclasses
import enum
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from archiver.failures import ResultsMissing, buried_due, running_due
from archiver.ledger import schema
from archiver.ledger.histories import note
from archiver.model import RETENTION_MS, TRANSITIONS, Asset, Discovery, State, Status, Task

Row = Mapping[Any, Any]
Changes = dict[str, Any]


class Outcome(enum.StrEnum):
    """What an answer of the API was to the ledger."""

    NEW = "new"
    MOVED = "moved"
    UNCHANGED = "unchanged"
    PASSED_BY = "passed_by"
    """Found by the sweep after its deadline: nothing can be had any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Recorded:
    """One task as it stands after `record`."""

    task_id: str
    outcome: Outcome
    state: State | None
    """None when it was passed by."""
    was_waiting: bool
    """It stood in a verify queue and was due: this answer is what it waited for."""
    family_contradicted: str | None = None
    """The family the API now shows it under, where that is not the settled one."""


def record(
    connection: sa.Connection,
    tasks: Sequence[Task],
    *,
    account: str,
    by: Discovery,
    now: int,
    rand: float,
    asked_as: str | None = None,
) -> list[Recorded]:
    """Take the API's word for `tasks` (at most 500 rows a call; one transaction around it).

    `asked_as` is the id the question was put with; where it is an external id, its placeholder row takes the
    answer's id, or goes where that row is there already.
    """
    if asked_as is not None and len(tasks) == 1:
        _take_real_id(connection, account=account, asked_as=asked_as, task=tasks[0])
    rows = _rows_of(connection, account=account, task_ids=[task.task_id for task in tasks])
    outcomes = []
    seen: set[str] = set()
    for task in tasks:
        if task.task_id in seen:  # pages that shift show a row twice; the first word of a call stands
            continue
        seen.add(task.task_id)
        row = rows.get(task.task_id)
        if row is None:
            outcomes.append(_insert(connection, task, account=account, by=by, now=now))
        else:
            outcomes.append(_update(connection, row, task, by=by, now=now, rand=rand))
    return outcomes


def _rows_of(connection: sa.Connection, *, account: str, task_ids: Sequence[str]) -> dict[str, Row]:
    query = sa.select(schema.tasks).where(
        schema.tasks.c.account == account, schema.tasks.c.task_id.in_(task_ids)
    )
    return {row["task_id"]: row for row in connection.execute(query).mappings()}


def _take_real_id(connection: sa.Connection, *, account: str, asked_as: str, task: Task) -> None:
    """A row registered under an external id becomes the row of the id that the API gave.

    A crash before the commit leaves the placeholder, which is asked again; never two rows for one task.
    """
    if asked_as == task.task_id:
        return
    found = _rows_of(connection, account=account, task_ids=[asked_as, task.task_id])
    placeholder, real = found.get(asked_as), found.get(task.task_id)
    if placeholder is None or placeholder["confirmed_at"] is not None:
        return
    if real is not None:
        note(
            connection, real["id"], at=placeholder["first_seen_at"], event="task.merged", detail="external id"
        )
        connection.execute(sa.delete(schema.tasks).where(schema.tasks.c.id == placeholder["id"]))
        return
    change = sa.update(schema.tasks).where(schema.tasks.c.id == placeholder["id"])
    connection.execute(change.values(task_id=task.task_id, external_task_id=asked_as))


def _insert(connection: sa.Connection, task: Task, *, account: str, by: Discovery, now: int) -> Recorded:
    created_at, created_at_from = settled_created_at(task, first_seen_at=now)
    if by is Discovery.SWEEP and created_at + RETENTION_MS <= now:
        return Recorded(task.task_id, Outcome.PASSED_BY, None, was_waiting=False)
    blank: Changes = {
        "account": account,
        "task_id": task.task_id,
        "family_hint": None,
        "result_arrays": "",
        "attempts": 0,
        "first_seen_at": now,
        "asked": 0,
        "ask_singly": False,
        "discovered_by": by,
        "callbacks": 0,
    }
    confirmed = _confirmation(task, created_at=created_at, created_at_from=created_at_from, now=now)
    moved = _entering(_state_of(task), task, deadline_at=created_at + RETENTION_MS, now=now)
    swept = {"swept_finished_at": now} if by is Discovery.SWEEP and task.status is not Status.RUNNING else {}
    insert = sa.insert(schema.tasks).values(blank | confirmed | moved | swept)
    row_id: int = connection.execute(insert.returning(schema.tasks.c.id)).scalar_one()
    if task.status is Status.SUCCEEDED:
        unite_assets(connection, row_id, task.assets)
    note(connection, row_id, at=now, event="task.recorded", detail=f"{moved['state']}, found by {by}")
    return Recorded(task.task_id, Outcome.NEW, moved["state"], was_waiting=False)


def _update(
    connection: sa.Connection, row: Row, task: Task, *, by: Discovery, now: int, rand: float
) -> Recorded:
    changes = advance(row, task, by=by, now=now, rand=rand)
    was_waiting = row["queue"] in (schema.QUEUE_VERIFY, schema.QUEUE_INQUIRE) and (row["due_at"] or 0) <= now
    if task.status is Status.SUCCEEDED and row["state"] != State.ARCHIVED:
        unite_assets(connection, row["id"], task.assets)
    if changes:
        connection.execute(sa.update(schema.tasks).where(schema.tasks.c.id == row["id"]).values(changes))
    state = State(changes.get("state") or row["state"])
    moved = state != row["state"]
    if moved:
        detail = f"{row['state']} → {state}" + (f": {changes['message']}" if changes.get("message") else "")
        note(connection, row["id"], at=now, event="task.moved", detail=detail)
    contradicted = row["family"] not in (None, task.family)
    return Recorded(
        task.task_id,
        Outcome.MOVED if moved else Outcome.UNCHANGED,
        state,
        was_waiting=was_waiting,
        family_contradicted=task.family if contradicted else None,
    )


def advance(row: Row, task: Task, *, by: Discovery, now: int, rand: float) -> Changes:
    """What the API's word `task` changes in `row`; empty when it is no news. Pure."""
    current = State(row["state"])
    if current is State.ARCHIVED:
        return _swept(row, task, by=by, now=now)
    changes: Changes = {}
    if row["confirmed_at"] is None:
        created_at, source = settled_created_at(task, first_seen_at=row["first_seen_at"])
        changes |= _confirmation(task, created_at=created_at, created_at_from=source, now=now)
    deadline_at: int = changes.get("deadline_at") or row["deadline_at"]
    target = _state_of(task)
    if current is State.BURIED and not _digs_up(row, task, now=now):
        return changes
    if current is State.BURIED and target is State.BURIED:
        changes |= buried_again(now=now, deadline=deadline_at)
    elif target is not current and target in TRANSITIONS[current]:
        changes |= _entering(target, task, deadline_at=deadline_at, now=now)
        changes |= {"document": document_json(task), "updated_at": task.updated_at or row["updated_at"]}
    elif current is State.RUNNING and target is State.RUNNING and _is_due(row, now):
        changes |= still_running(row, now=now, rand=rand)
    elif current in (State.SUCCEEDED, State.LOST) and target is State.SUCCEEDED:
        changes |= _refreshed(row, task)
    return changes | _swept(row, task, by=by, now=now)


def still_running(row: Row, *, now: int, rand: float) -> Changes:
    """The task was asked for and has not finished: asked again after 10 s, doubling to 5 min."""
    asked = row["asked"] + 1
    return {
        "asked": asked,
        "asked_at": now,
        "attempts": 0,
        "ask_singly": False,
        "due_at": running_due(asked, now=now, rand=rand),
        "lease_token": None,
        "lease_until": None,
    }


def _digs_up(row: Row, task: Task, *, now: int) -> bool:
    """Whether a buried task hears this answer. A sweep sees it every few minutes; only its own retry, or what
    is news about the reason it was buried for, moves it. Else a burial would last one sweep interval."""
    missing_found = row["reason"] == ResultsMissing.reason and bool(task.assets)
    return _is_due(row, now) or row["confirmed_at"] is None or missing_found or task.status is Status.FAILED


def buried_again(*, now: int, deadline: int) -> Changes:
    """Dug up and found no better: back for a quarter of the time left."""
    due_at = buried_due(now=now, deadline=deadline)
    return {"due_at": due_at, "asked_at": now, "ask_singly": False, "lease_token": None, "lease_until": None}


def _is_due(row: Row, now: int) -> bool:
    return row["lease_token"] is not None or (row["due_at"] is not None and row["due_at"] <= now)


def _state_of(task: Task) -> State:
    """The state a task belongs in by the API's word alone. `succeed` without any URL is buried: never count
    it as archived without a re-query and an alarm (kling-api.md section 11)."""
    if task.status is Status.SUCCEEDED and not task.assets:
        return State.BURIED
    return State(task.status.value)


def settled_created_at(task: Task, *, first_seen_at: int) -> tuple[int, str]:
    """`created_at` of a task as fixed for ever, and where it comes from."""
    if task.created_at is not None:
        return task.created_at, "api"
    if task.updated_at is not None:
        return task.updated_at, "updated_at"
    return first_seen_at, "first_seen"


def _confirmation(task: Task, *, created_at: int, created_at_from: str, now: int) -> Changes:
    return {
        "family": task.family,
        "external_task_id": task.external_task_id,
        "created_at": created_at,
        "created_at_from": created_at_from,
        "updated_at": task.updated_at,
        "deadline_at": created_at + RETENTION_MS,
        "confirmed_at": now,
        "document": document_json(task),
        "not_found_since": None,
    }


def _entering(state: State, task: Task, *, deadline_at: int, now: int) -> Changes:
    """The columns of a task that enters `state` by the API's word."""
    changes: Changes = {
        "state": state,
        "queue": None,
        "reason": None,
        "message": task.message or None,
        "attempts": 0,
        "asked": 0,
        "asked_at": now,
        "ask_singly": False,
        "due_at": None,
        "lease_token": None,
        "lease_until": None,
    }
    if state is State.RUNNING:
        changes |= {"queue": schema.QUEUE_VERIFY, "asked": 1, "due_at": running_due(1, now=now, rand=0.5)}
    elif state is State.SUCCEEDED:
        changes |= {"queue": schema.QUEUE_ARCHIVE, "due_at": now, "asset_host": host_of(task.assets)}
    elif state is State.BURIED:
        changes |= {
            "queue": schema.QUEUE_VERIFY,
            "reason": ResultsMissing.reason,
            "message": ResultsMissing.what_to_do,
            "due_at": buried_due(now=now, deadline=deadline_at),
        }
    elif state is State.FAILED:
        changes |= {"reason": "failed_upstream"}
    return changes


def _refreshed(row: Row, task: Task) -> Changes:
    """A later answer about a succeeded task: fresher URLs, and the document that has the most results."""
    document = document_json(task)
    if document == row["document"]:
        return {}
    changes: Changes = {"document": document, "asset_host": host_of(task.assets)}
    if task.updated_at is not None:
        changes["updated_at"] = task.updated_at
    return changes


def _swept(row: Row, task: Task, *, by: Discovery, now: int) -> Changes:
    """The sweep was first to find it finished: whether its callback is missing is counted later."""
    first = (
        by is Discovery.SWEEP
        and task.status is not Status.RUNNING
        and row["swept_finished_at"] is None
        and row["state"] in (State.REPORTED, State.RUNNING, State.UNKNOWN)
        and row["callback_status"] not in (Status.SUCCEEDED, Status.FAILED)
    )
    return {"swept_finished_at": now} if first else {}


def document_json(task: Task) -> str:
    """The API's object as stored: ASCII, so that no character of it can be refused by a database."""
    return json.dumps(task.document, separators=(",", ":"))


def host_of(assets: Sequence[Asset]) -> str | None:
    """The CDN host of a task, for the holds and shares that concern one host."""
    for asset in assets:
        with_host = _hostname(asset.url)
        if with_host:
            return with_host
    return None


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def unite_assets(connection: sa.Connection, row_id: int, found: Sequence[Asset]) -> None:
    """The URL fields of all answers, united: names settle at the first sight of an asset, later answers
    refresh URLs and may add, and none is ever taken away."""
    table = schema.assets
    query = sa.select(table.c.stem, table.c.url).where(table.c.task == row_id)
    known = {row.stem: row.url for row in connection.execute(query)}
    new = [asset for asset in found if asset.stem not in known]
    if new:
        connection.execute(
            sa.insert(table),
            [
                {
                    "task": row_id,
                    "stem": asset.stem,
                    "role": asset.role,
                    "api_index": asset.index,
                    "watermarked": asset.watermarked,
                    "url": asset.url,
                }
                for asset in new
            ],
        )
    for asset in found:
        if known.get(asset.stem, asset.url) != asset.url:
            change = sa.update(table).where(table.c.task == row_id, table.c.stem == asset.stem)
            connection.execute(change.values(url=asset.url))
