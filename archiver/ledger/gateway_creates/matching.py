"""Which task a create has made whose answer nobody heard, and whose callback nobody heard either. No writing.

1. Where the create named an external id, that says it: Kling takes each only once for an account.
2. Else the time says it: a task of the create's account and family that only the sweep has found, without an external
   id, and created while the create was on its way. Where several creates may have made a task, it is given to the
   oldest of them if all name the same callback URL, as the creates of one application do; else to none, because no
   client may be told of another's picture under the name of its own.
"""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.gateway_creates.joining import OPEN, JoinedBy
from archiver.ledger.tables import schema
from archiver.model import RETENTION_MS, DiscoveredBy, State

BEFORE_MS, AFTER_MS = 30_000, 300_000
"""A task was created that long before its create's reference, by a clock that is behind, to that long after: the body's
way to Kling, and 120 s until the answer is given up."""
CREATES_MAX, TASKS_MAX = 200, 1000
"""Looked at in one round."""

Row = Mapping[Any, Any]
Found = tuple[Row, int, JoinedBy]
"""A create, the row id of its task, and how that was found."""

_CREATES, _TASKS = schema.gateway_creates, schema.tasks
_CONFIRMED = (State.RUNNING, State.SUCCEEDED, State.ARCHIVED, State.FAILED, State.LOST, State.BURIED)


def by_external_id(connection: sa.Connection) -> list[Found]:
    """Where the create named one."""
    query = _open().where(_CREATES.c.external_task_id.is_not(None))
    found: list[Found] = []
    for create in connection.execute(query).mappings().all():
        of_task = sa.select(_TASKS.c.id).where(
            _TASKS.c.account == create["account"],
            _TASKS.c.external_task_id == create["external_task_id"],
            _TASKS.c.confirmed_at.is_not(None),
        )
        if (row_id := connection.execute(of_task.limit(1)).scalar()) is not None:
            found.append((create, row_id, JoinedBy.EXTERNAL_ID))
    return found


def by_time(connection: sa.Connection, *, now: int) -> list[Found]:
    """Of creates without an external id, once their time is over."""
    query = (
        _open()
        .where(_CREATES.c.external_task_id.is_(None), _CREATES.c.client_callback_url.is_not(None))
        .where(_CREATES.c.created_at <= now - AFTER_MS)
    )
    groups: dict[tuple[str, str], list[Row]] = collections.defaultdict(list)
    for create in reversed(connection.execute(query).mappings().all()):
        groups[create["account"], create["family"]].append(create)
    found: list[Found] = []
    for creates in groups.values():
        found += _assigned(creates, _nameless(connection, creates))
    return found


def _open() -> sa.Select[Any]:
    """The newest first."""
    query = sa.select(_CREATES).where(_CREATES.c.state == OPEN)
    return query.order_by(_CREATES.c.created_at.desc()).limit(CREATES_MAX)


def _nameless(connection: sa.Connection, creates: Sequence[Row]) -> Sequence[sa.Row[Any, Any]]:
    """Tasks that any of these creates may have made, the oldest first."""
    account, family = creates[0]["account"], creates[0]["family"]
    first, last = creates[0]["created_at"] - BEFORE_MS, creates[-1]["created_at"] + AFTER_MS
    query = (
        sa.select(_TASKS.c.id, _TASKS.c.created_at)
        # Of a confirmed task the deadline says when it was created, and has an index.
        .where(_TASKS.c.state.in_(_CONFIRMED))
        .where(_TASKS.c.deadline_at.between(first + RETENTION_MS, last + RETENTION_MS))
        .where(_TASKS.c.account == account, _TASKS.c.family == family, _TASKS.c.confirmed_at.is_not(None))
        .where(_TASKS.c.discovered_by == DiscoveredBy.SWEEP, _TASKS.c.callbacks == 0)
        .where(_TASKS.c.external_task_id.is_(None), _TASKS.c.client_callback_url.is_(None))
        .where(_TASKS.c.request.is_(None))
        .order_by(_TASKS.c.created_at, _TASKS.c.id)
        .limit(TASKS_MAX)
    )
    return connection.execute(query).all()


def _assigned(creates: Sequence[Row], tasks: Sequence[sa.Row[Any, Any]]) -> Iterator[Found]:
    left = list(creates)
    for task in tasks:
        possible = [
            create
            for create in left
            if create["created_at"] - BEFORE_MS <= task.created_at <= create["created_at"] + AFTER_MS
        ]
        if len({create["client_callback_url"] for create in possible}) == 1:
            left.remove(possible[0])
            yield possible[0], task.id, JoinedBy.TIME
