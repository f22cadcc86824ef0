"""The changes that an answer of the API makes in a task's row. Pure.

`advance` maps (row, task) to changes. So "state only moves forward" can be read in one place, and holds for every
source of answers.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from archiver.failures import UNLISTED_HOSTS, ApiAnswerUnreadable, ResultsMissing, buried_due, running_due
from archiver.families import is_provisional
from archiver.ledger.tables import groups, schema, set_aside
from archiver.model import (
    DAY_MS,
    RETENTION_MS,
    TRANSITIONS,
    Asset,
    DiscoveredBy,
    State,
    Status,
    Task,
    text,
)

_FREE: Mapping[str, Any] = {"lease_token": None, "lease_until": None, "claim_group": None}

Row = Mapping[Any, Any]
Changes = dict[str, Any]

_RUNNING_NOTED_MS = 3_600_000


def advance(
    row: Row, task: Task, *, discovered_by: DiscoveredBy, now: int, rand: float, names_all: bool = True
) -> Changes:
    """What the answer `task` changes in `row`; empty when it is no news.

    `names_all`: the answer names every asset that earlier ones have named.
    """
    current = State(row["state"])
    if current is State.ARCHIVED:
        return {}
    changes: Changes = {}
    if row["confirmed_at"] is None:
        created_at, source = created_at_of(task, first_seen_at=row["first_seen_at"], now=now)
        changes |= confirmation(task, created_at=created_at, created_at_from=source, now=now)
        changes["external_task_id"] = task.external_task_id or row["external_task_id"]
    deadline_at: int = changes.get("deadline_at") or row["deadline_at"]
    target = state_of(task)
    if current is State.BURIED and not _may_unbury(row, task, now=now):
        return changes
    if current is State.BURIED and (target is State.BURIED or _is_stale(row, target)):
        changes |= _still_buried(row, now=now, deadline_at=deadline_at)
    elif target in _reachable_states(current):
        changes |= entering(target, task, deadline_at=deadline_at, now=now)
        changes |= {"document": document_json(task), "updated_at": task.updated_at or row["updated_at"]}
        changes |= _set_aside({**row, **changes}, now=now)
        if row["family"] is not None and is_provisional(row["family"], current):
            changes["family"] = task.family
    elif current is State.RUNNING and target is State.RUNNING:
        changes |= _runs_on(row, now=now, rand=rand)
    elif current is State.FAILED:
        changes |= still_failed(now=now)
    elif current in (State.SUCCEEDED, State.LOST) and target is State.SUCCEEDED and names_all:
        changes |= _refreshed(row, task)
    return changes | _swept(row, task, discovered_by=discovered_by, now=now)


def _set_aside(moved: Row, *, now: int) -> Changes:
    """Whether the task still waits for an operator's acknowledgement. While a buried task is tried again, that does not
    change."""
    if moved["state"] is State.BURIED:
        return set_aside.buried(moved, reason=moved["reason"], now=now)
    return {} if moved["state"] is State.SUCCEEDED else dict(set_aside.SEEN)


def _reachable_states(current: State) -> frozenset[State]:
    """Where an answer can move a task. A succeeded one is the archive stage's: an answer without results (from a list,
    or after a purge) proves nothing against the URLs we know."""
    return frozenset() if current is State.SUCCEEDED else TRANSITIONS[current] - {current}


def _may_unbury(row: Row, task: Task, *, now: int) -> bool:
    """Whether this answer ends a burial: it answers the task's own retry, or removes the reason. Otherwise the next
    sweep would end every burial."""
    missing_found = row["reason"] == ResultsMissing.reason and bool(task.assets)
    return _is_due(row, now) or row["confirmed_at"] is None or missing_found or task.status is Status.FAILED


def _is_stale(row: Row, target: State) -> bool:
    """An answer from before the buried task succeeded: a late `processing` never undoes a `succeed`."""
    succeeded = row["asset_host"] is not None or row["reason"] == ResultsMissing.reason
    return target is State.RUNNING and succeeded


def _is_due(row: Row, now: int) -> bool:
    return row["lease_token"] is not None or (row["due_at"] is not None and row["due_at"] <= now)


def _runs_on(row: Row, *, now: int, rand: float) -> Changes:
    """The API says again that the task runs. A sweep that sees it before it is due writes that once an hour only."""
    if _is_due(row, now):
        return still_running(row, now=now, rand=rand) | {"running_at": now}
    return {"running_at": now} if now - (row["running_at"] or 0) >= _RUNNING_NOTED_MS else {}


def _still_buried(row: Row, *, now: int, deadline_at: int) -> Changes:
    """The retry brought nothing better. An unconfirmed id is a confirmed task now, and waits with those."""
    changes = buried_again(now=now, deadline=deadline_at)
    if row["confirmed_at"] is None:
        changes |= {"queue": schema.QUEUE_VERIFY, "reason": ResultsMissing.reason}
    return changes


def buried_again(*, now: int, deadline: int) -> Changes:
    """A buried task whose retry failed comes back after a quarter of the time left."""
    return {
        "due_at": buried_due(now=now, deadline=deadline),
        "asked_at": now,
        "query_individually": False,
        **_FREE,
    }


def still_running(row: Row, *, now: int, rand: float) -> Changes:
    """Query again after 10 s, doubling to 5 min. The back-off starts anew when a callback said meanwhile that the task
    ended: the answer may be older."""
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
        **_FREE,
    }


def still_failed(*, now: int) -> Changes:
    """A failed task that an operator retried has not succeeded: it rests as before."""
    return {"queue": None, "due_at": None, "asked_at": now, **_FREE}


def state_of(task: Task) -> State:
    """The state by the answer alone. `succeed` without any URL is buried: it needs another query and an alarm
    (archiver/kling/API.md 11)."""
    if task.status is Status.SUCCEEDED and not task.assets:
        return State.BURIED
    return State(task.status.value)


def created_at_of(task: Task, *, first_seen_at: int, now: int) -> tuple[int, str]:
    """`created_at`, fixed for ever, and its source. One in the future is absurd, unless `updated_at` agrees: then our
    own clock is wrong."""
    created_at, updated_at, latest = task.created_at, task.updated_at, now + DAY_MS
    if created_at is not None and (created_at <= latest or (updated_at or 0) >= created_at):
        return created_at, "api"
    if updated_at is not None and updated_at <= latest:
        return updated_at, "updated_at"
    return first_seen_at, "first_seen"


def confirmation(task: Task, *, created_at: int, created_at_from: str, now: int) -> Changes:
    """The columns that the first answer about a task sets."""
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


def entering(state: State, task: Task, *, deadline_at: int, now: int) -> Changes:
    """The columns of a task that an answer moves to `state`."""
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
        "host_tried": False,
        "fresh_wanted_at": None,
        "fresh_due_at": None,
        **_FREE,
    }
    if state is State.RUNNING:
        changes |= {"queue": schema.QUEUE_VERIFY, "asked": 1, "due_at": running_due(1, now=now, rand=0.5)}
        changes |= {"running_at": now}
    elif state is State.SUCCEEDED:
        host = _host_of(task.assets)
        changes |= {"queue": schema.QUEUE_ARCHIVE, "due_at": now, "asset_host": host}
        changes |= {"claim_group": groups.untried(host), "succeeded_at": now}
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


def unread_columns(task: Task) -> Changes:
    """The columns that differ from `entering` for a task whose answer cannot be read: it may have ended."""
    return {"running_at": None, "reason": ApiAnswerUnreadable.reason, "message": text(task.message)}


def shown_unread(row: Row, task: Task, *, now: int) -> Changes:
    """The API shows an unconfirmed id in an answer that cannot be read: the id is a task, and its deadline counts."""
    created_at, source = created_at_of(task, first_seen_at=row["first_seen_at"], now=now)
    changes = confirmation(task, created_at=created_at, created_at_from=source, now=now)
    changes["external_task_id"] = task.external_task_id or row["external_task_id"]
    changes |= entering(State.RUNNING, task, deadline_at=changes["deadline_at"], now=now)
    return {**changes, **unread_columns(task), **set_aside.SEEN}


def _refreshed(row: Row, task: Task) -> Changes:
    """A later answer about a succeeded task that names all its assets: take the newer document."""
    document = document_json(task)
    if document == row["document"]:
        return {}
    changes: Changes = {"document": document}
    host = _host_of(task.assets)
    hosts = {_hostname(asset.url) for asset in task.assets} - {None}
    if row["asset_host"] == UNLISTED_HOSTS:
        has_moved = any(f"//{name}" not in row["document"] for name in hosts)
    else:
        has_moved = row["asset_host"] not in hosts
    if has_moved and host is not None:
        # The task waits for a host that has none of its files any more.
        changes |= {"asset_host": host, "host_tried": False, "claim_group": None}
    if task.updated_at is not None:
        changes["updated_at"] = task.updated_at
    return changes


def _swept(row: Row, task: Task, *, discovered_by: DiscoveredBy, now: int) -> Changes:
    """The sweep was first to find the task finished: `deadlines.count_missed` looks for its callback later."""
    first = (
        discovered_by is DiscoveredBy.SWEEP
        and task.status is not Status.RUNNING
        and row["swept_finished_at"] is None
        and row["state"] in (State.REPORTED, State.RUNNING, State.UNKNOWN)
        and row["callback_status"] not in (Status.SUCCEEDED, Status.FAILED)
    )
    return {"swept_finished_at": now} if first else {}


def document_json(task: Task) -> str:
    """The API's object as stored: in ASCII, so that no database can refuse a character of it."""
    return json.dumps(task.document, separators=(",", ":"))


def status_word(task: Task) -> str:
    """The status as the API wrote it; empty if it cannot be read."""
    word = task.document.get("task_status") or task.document.get("status")
    return word.strip().lower() if isinstance(word, str) and not task.is_unread else ""


def _host_of(assets: Sequence[Asset]) -> str | None:
    """The CDN host of a task, for holds and transfer slots of one host."""
    return next(filter(None, (_hostname(asset.url) for asset in assets)), None)


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
