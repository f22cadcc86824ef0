"""Finds the task of a create by its external id, where answer and callback were both lost. Writes nothing.

The external id proves it: Kling accepts each only once for an account. Without one there is only time (`by_time`).

The task must also have been created while the create was in flight: a create that repeats the id of an older task has
made nothing. And the match is made only once no answer can come any more, because a refusal would also settle it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.gateway_creates.by_time import AFTER_MS, MADE_AFTER_MS, MADE_BEFORE_MS
from archiver.ledger.gateway_creates.joining import OPEN
from archiver.ledger.gateway_creates.turns import Cursor, in_turn, next_cursor
from archiver.ledger.tables import schema

CREATES_MAX = 200
"""Looked at in one round."""

Row = Mapping[Any, Any]
Found = tuple[Row, int]
"""A create, and the row id of its task."""

_CREATES, _TASKS = schema.gateway_creates, schema.tasks


def by_external_id(connection: sa.Connection, *, after: Cursor, now: int) -> tuple[list[Found], Cursor]:
    """Each task at most once, and where the next round goes on. Where creates that differ may have made it, none of
    them gets it: only Kling knows which it took."""
    creates = connection.execute(in_turn(_open(now=now), after=after, limit=CREATES_MAX)).mappings().all()
    possible: dict[int, Row] = {}
    for create in creates:
        if (row_id := connection.execute(_task_of(create)).scalar()) is not None:
            possible.setdefault(row_id, create)
    found = [
        (create, row_id)
        for row_id, create in possible.items()
        if _are_alike(connection.execute(_rivals_of(create)).mappings().all())
    ]
    return found, next_cursor(creates, limit=CREATES_MAX)


def _are_alike(creates: Sequence[Row]) -> bool:
    return len({(create["client_callback_url"], create["request"]) for create in creates}) == 1


def _open(*, now: int) -> sa.Select[Any]:
    return sa.select(_CREATES).where(
        _CREATES.c.state == OPEN,
        _CREATES.c.external_task_id.is_not(None),
        _CREATES.c.created_at <= now - AFTER_MS,
    )


def _rivals_of(create: Row) -> sa.Select[Any]:
    """This create, and others that may have made the same task: in this round or in another's."""
    at, distance = create["created_at"], MADE_BEFORE_MS + MADE_AFTER_MS
    return sa.select(_CREATES).where(
        _CREATES.c.created_at.between(at - distance, at + distance),
        _CREATES.c.account == create["account"],
        _CREATES.c.external_task_id == create["external_task_id"],
        _CREATES.c.state == OPEN,
    )


def _task_of(create: Row) -> sa.Select[Any]:
    """A task is another's where the answer to a create, or a callback with a reference, has said whose it is."""
    at = create["created_at"]
    return (
        sa.select(_TASKS.c.id)
        .where(_TASKS.c.account == create["account"])
        .where(_TASKS.c.external_task_id == create["external_task_id"])
        .where(_TASKS.c.confirmed_at.is_not(None))
        .where(_TASKS.c.created_at.between(at - MADE_BEFORE_MS, at + MADE_AFTER_MS))
        .where(_TASKS.c.named_by_create.is_(False))
        .where(_TASKS.c.client_callback_url.is_(None), _TASKS.c.request.is_(None))
        .limit(1)
    )
