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
from archiver.families import is_provisional
from archiver.ledger import schema
from archiver.ledger.history import note, trim
from archiver.model import DAY_MS, RETENTION_MS, TRANSITIONS, Asset, DiscoveredBy, State, Status, Task

Row = Mapping[Any, Any]
Changes = dict[str, Any]


class RecordOutcome(enum.StrEnum):
    """What an answer of the API was to the ledger."""

    NEW = "new"
    MOVED = "moved"
    UNCHANGED = "unchanged"
    PASSED_BY = "passed_by"
    """Found by the sweep after its deadline: nothing can be had any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedTask:
    """One task as it stands after `record`."""

    task_id: str
    outcome: RecordOutcome
    state: State | None
    """None when it was passed by."""
    waited_since: int | None = None
    """Since when (Unix ms) it was due in a verify queue: this answer is what it waited for. None: it did not wait."""
    family_contradicted: str | None = None
    """The family the API now shows it under, where that is not the settled one."""


def record(
    connection: sa.Connection,
    tasks: Sequence[Task],
    *,
    account: str,
    by: DiscoveredBy,
    now: int,
    rand: float,
    asked_as: str | None = None,
    behind_ms: int = 0,
) -> list[RecordedTask]:
    """Take the API's word for `tasks` (at most 500 rows a call; one transaction around it).

    `asked_as` is the id the question was put with, where it was put for one task; `behind_ms` by how much the API's
    clock is behind ours.
    """
    for name, real_id in _names(tasks, asked_as=asked_as).items():
        _merge(connection, account=account, name=name, real_id=real_id, asked=name == asked_as, now=now)
    rows = _rows_of(connection, account=account, task_ids=[task.task_id for task in tasks])
    outcomes = []
    seen: set[str] = set()
    for task in tasks:
        if task.task_id in seen:  # pages that shift show a row twice; the first word of a call stands
            continue
        seen.add(task.task_id)
        row = rows.get(task.task_id)
        if row is None:
            gone_before = now - behind_ms - RETENTION_MS
            outcomes.append(
                _insert(connection, task, account=account, by=by, now=now, gone_before=gone_before)
            )
        else:
            outcomes.append(_update(connection, row, task, by=by, now=now, rand=rand))
    return outcomes


def _rows_of(connection: sa.Connection, *, account: str, task_ids: Sequence[str]) -> dict[str, Row]:
    query = sa.select(schema.tasks).where(
        schema.tasks.c.account == account, schema.tasks.c.task_id.in_(task_ids)
    )
    return {row["task_id"]: row for row in connection.execute(query).mappings()}


def _names(tasks: Sequence[Task], *, asked_as: str | None) -> dict[str, str]:
    """External id → id of all tasks that somebody may have registered by the former."""
    names = {task.external_task_id: task.task_id for task in tasks if task.external_task_id is not None}
    if asked_as is not None and len(tasks) == 1:
        names[asked_as] = tasks[0].task_id
    return {name: task_id for name, task_id in names.items() if name != task_id}


def _merge(
    connection: sa.Connection, *, account: str, name: str, real_id: str, asked: bool, now: int
) -> None:
    """A row registered under an external id becomes the row of the id that the API gave, or is merged into it.

    Where nobody asked by that name, only a registration is believed to be one: an id out of a callback may be another
    task's. A crash before the commit leaves the placeholder, which is asked again; never two rows for one task.
    """
    found = _rows_of(connection, account=account, task_ids=[name, real_id])
    placeholder, real = found.get(name), found.get(real_id)
    if placeholder is None or placeholder["confirmed_at"] is not None:
        return
    if not asked and placeholder["discovered_by"] != DiscoveredBy.REGISTRATION:
        return
    table = schema.tasks
    if real is None:
        change = sa.update(table).where(table.c.id == placeholder["id"])
        connection.execute(change.values(task_id=real_id, external_task_id=name))
        return
    connection.execute(sa.delete(table).where(table.c.id == placeholder["id"]))
    connection.execute(sa.update(table).where(table.c.id == real["id"]).values(_merged(placeholder, real)))
    note(connection, real["id"], at=now, event="task.merged", detail="registered by its external id")


def _merged(placeholder: Row, real: Row) -> Changes:
    """What the row of the id takes over from the row of the external id."""
    first = placeholder if placeholder["first_seen_at"] < real["first_seen_at"] else real
    return {
        "external_task_id": real["external_task_id"] or placeholder["task_id"],
        "request": real["request"] or placeholder["request"],
        "callbacks": real["callbacks"] + placeholder["callbacks"],
        "discovered_by": first["discovered_by"],
        "first_seen_at": first["first_seen_at"],
    }


def _insert(
    connection: sa.Connection, task: Task, *, account: str, by: DiscoveredBy, now: int, gone_before: int
) -> RecordedTask:
    """A task that the ledger does not have. What the sweep finds is passed by only when its time is up by our clock and
    by the API's: one of them may be wrong, and nobody might look at the task again."""
    created_at, created_at_from = settled_created_at(task, first_seen_at=now, now=now)
    if by is DiscoveredBy.SWEEP and created_at <= gone_before:
        return RecordedTask(task.task_id, RecordOutcome.PASSED_BY, None)
    blank: Changes = {
        "account": account,
        "task_id": task.task_id,
        "family_hint": None,
        "result_arrays": "",
        "attempts": 0,
        "held": 0,
        "first_seen_at": now,
        "asked": 0,
        "query_individually": False,
        "discovered_by": by,
        "callbacks": 0,
    }
    confirmed = _confirmation(task, created_at=created_at, created_at_from=created_at_from, now=now)
    moved = _entering(_state_of(task), task, deadline_at=created_at + RETENTION_MS, now=now)
    swept = (
        {"swept_finished_at": now} if by is DiscoveredBy.SWEEP and task.status is not Status.RUNNING else {}
    )
    insert = sa.insert(schema.tasks).values(blank | confirmed | moved | swept)
    row_id: int = connection.execute(insert.returning(schema.tasks.c.id)).scalar_one()
    if task.status is Status.SUCCEEDED:
        unite_assets(connection, row_id, task.assets)
    note(connection, row_id, at=now, event="task.recorded", detail=f"{moved['state']}, found by {by}")
    return RecordedTask(task.task_id, RecordOutcome.NEW, moved["state"])


def _update(
    connection: sa.Connection, row: Row, task: Task, *, by: DiscoveredBy, now: int, rand: float
) -> RecordedTask:
    was_waiting = row["queue"] in (schema.QUEUE_VERIFY, schema.QUEUE_UNCONFIRMED) and row["due_at"] <= now
    names_all = True
    if task.status is Status.SUCCEEDED and row["state"] != State.ARCHIVED:
        names_all = unite_assets(connection, row["id"], task.assets)
    changes = advance(row, task, by=by, now=now, rand=rand, names_all=names_all)
    if changes:
        connection.execute(sa.update(schema.tasks).where(schema.tasks.c.id == row["id"]).values(changes))
    state = State(changes.get("state") or row["state"])
    moved = state != row["state"]
    if moved:
        detail = f"{row['state']} → {state}" + (f": {changes['message']}" if changes.get("message") else "")
        note(connection, row["id"], at=now, event="task.moved", detail=detail)
        trim(connection, row["id"])
    settled = row["family"] is not None and not is_provisional(row["family"], State(row["state"]))
    contradicted = settled and row["family"] != task.family
    return RecordedTask(
        task.task_id,
        RecordOutcome.MOVED if moved else RecordOutcome.UNCHANGED,
        state,
        waited_since=row["due_at"] if was_waiting else None,
        family_contradicted=task.family if contradicted else None,
    )


def advance(
    row: Row, task: Task, *, by: DiscoveredBy, now: int, rand: float, names_all: bool = True
) -> Changes:
    """What the API's word `task` changes in `row`; empty when it is no news. Pure.

    `names_all` says that the answer names every asset that earlier ones have named.
    """
    current = State(row["state"])
    if current is State.ARCHIVED:
        return {}
    changes: Changes = {}
    if row["confirmed_at"] is None:
        created_at, source = settled_created_at(task, first_seen_at=row["first_seen_at"], now=now)
        changes |= _confirmation(task, created_at=created_at, created_at_from=source, now=now)
        changes["external_task_id"] = task.external_task_id or row["external_task_id"]
    deadline_at: int = changes.get("deadline_at") or row["deadline_at"]
    target = _state_of(task)
    if current is State.BURIED and not _digs_up(row, task, now=now):
        return changes
    if current is State.BURIED and (target is State.BURIED or _is_stale(row, target)):
        changes |= _buried_still(row, now=now, deadline_at=deadline_at)
    elif target in _heard(current):
        changes |= _entering(target, task, deadline_at=deadline_at, now=now)
        changes |= {"document": document_json(task), "updated_at": task.updated_at or row["updated_at"]}
        if row["family"] is not None and is_provisional(row["family"], current):
            changes["family"] = task.family
    elif current is State.RUNNING and target is State.RUNNING and _is_due(row, now):
        changes |= still_running(row, now=now, rand=rand)
    elif current is State.FAILED:
        changes |= asked_in_vain(now=now)
    elif current in (State.SUCCEEDED, State.LOST) and target is State.SUCCEEDED and names_all:
        changes |= _refreshed(row, task)
    return changes | _swept(row, task, by=by, now=now)


def _buried_still(row: Row, *, now: int, deadline_at: int) -> Changes:
    """Asked in vain once more. An id that was buried for what a question was answered with is a known task now, and
    waits where known tasks do."""
    changes = buried_again(now=now, deadline=deadline_at)
    if row["confirmed_at"] is None:
        changes |= {"queue": schema.QUEUE_VERIFY, "reason": ResultsMissing.reason}
    return changes


def _heard(current: State) -> frozenset[State]:
    """Where the API's word moves a task to. What has succeeded, and whose URLs we know, is moved on by the archive
    stage alone: an answer that shows it without results (a list may, a purge will) is none against it."""
    return frozenset() if current is State.SUCCEEDED else TRANSITIONS[current] - {current}


def _is_stale(row: Row, target: State) -> bool:
    """An answer from before the buried task succeeded: a late `processing` never undoes a `succeed`."""
    succeeded = row["asset_host"] is not None or row["reason"] == ResultsMissing.reason
    return target is State.RUNNING and succeeded


def still_running(row: Row, *, now: int, rand: float) -> Changes:
    """The task was asked for and has not finished: asked again after 10 s, doubling to 5 min; from the start where a
    callback has said meanwhile that it ended, since the answer may be the older of the two."""
    ended = row["callback_status"] in (Status.SUCCEEDED, Status.FAILED)
    overtaken = ended and (row["last_callback_at"] or 0) >= (row["asked_at"] or 0)
    asked = 1 if overtaken else row["asked"] + 1
    return {
        "asked": asked,
        "asked_at": now,
        "attempts": 0,
        "held": 0,
        "query_individually": False,
        "reason": None,
        "message": None,
        "due_at": running_due(asked, now=now, rand=rand),
        "lease_token": None,
        "lease_until": None,
    }


def asked_in_vain(*, now: int) -> Changes:
    """A failed task that an operator wanted asked for again has not succeeded: it rests as before."""
    return {"queue": None, "due_at": None, "asked_at": now, "lease_token": None, "lease_until": None}


def _digs_up(row: Row, task: Task, *, now: int) -> bool:
    """Whether a buried task hears this answer. A sweep sees it every few minutes; only its own retry, or what
    is news about the reason it was buried for, moves it. Else a burial would last one sweep interval."""
    missing_found = row["reason"] == ResultsMissing.reason and bool(task.assets)
    return _is_due(row, now) or row["confirmed_at"] is None or missing_found or task.status is Status.FAILED


def buried_again(*, now: int, deadline: int) -> Changes:
    """Dug up and found no better: back for a quarter of the time left."""
    due_at = buried_due(now=now, deadline=deadline)
    return {
        "due_at": due_at,
        "asked_at": now,
        "query_individually": False,
        "lease_token": None,
        "lease_until": None,
    }


def _is_due(row: Row, now: int) -> bool:
    return row["lease_token"] is not None or (row["due_at"] is not None and row["due_at"] <= now)


def _state_of(task: Task) -> State:
    """The state a task belongs in by the API's word alone. `succeed` without any URL is buried: never count
    it as archived without a re-query and an alarm (archiver/kling/API.md 11)."""
    if task.status is Status.SUCCEEDED and not task.assets:
        return State.BURIED
    return State(task.status.value)


def settled_created_at(task: Task, *, first_seen_at: int, now: int) -> tuple[int, str]:
    """`created_at` of a task as fixed for ever, and where it comes from. One that lies in the future is absurd, unless
    `updated_at` agrees with it: then it is our clock that is wrong."""
    created_at, updated_at, latest = task.created_at, task.updated_at, now + DAY_MS
    if created_at is not None and (created_at <= latest or (updated_at or 0) >= created_at):
        return created_at, "api"
    if updated_at is not None and updated_at <= latest:
        return updated_at, "updated_at"
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
        "held": 0,
        "asked": 0,
        "asked_at": now,
        "query_individually": False,
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
    """A later answer about a succeeded task, which names all that earlier ones did: its document is the newer one."""
    document = document_json(task)
    if document == row["document"]:
        return {}
    changes: Changes = {"document": document, "asset_host": host_of(task.assets)}
    if task.updated_at is not None:
        changes["updated_at"] = task.updated_at
    return changes


def _swept(row: Row, task: Task, *, by: DiscoveredBy, now: int) -> Changes:
    """The sweep was first to find it finished: whether its callback is missing is counted later."""
    first = (
        by is DiscoveredBy.SWEEP
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


def unite_assets(connection: sa.Connection, row_id: int, found: Sequence[Asset]) -> bool:
    """The URL fields of all answers, united: names settle at the first sight of an asset, later answers
    refresh URLs and may add, and none is ever taken away. Whether `found` names all that were known."""
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
    return known.keys() <= {asset.stem for asset in found}
