"""Finds the task of a create by its external id, where answer and callback were both lost. Writes nothing.

The external id proves it: Kling accepts each only once for an account. Without one there is only time (`by_time`).

The task must also have been created while the create was in flight: a create that repeats the id of an older task has
made nothing. And the match is made only once no answer can come any more, because a refusal would also settle it.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.gateway_creates.by_time import AFTER_MS, BEFORE_MS
from archiver.ledger.gateway_creates.joining import OPEN
from archiver.ledger.tables import schema

CREATES_MAX = 200
"""Looked at in one round."""

Row = Mapping[Any, Any]
Found = tuple[Row, int]
"""A create, and the row id of its task."""

_CREATES, _TASKS = schema.gateway_creates, schema.tasks


def by_external_id(connection: sa.Connection, *, now: int) -> list[Found]:
    """Each task at most once. Where creates that differ may have made it, none of them gets it: only Kling knows which
    it took."""
    possible: dict[int, list[Row]] = collections.defaultdict(list)
    for create in connection.execute(_open(now=now)).mappings().all():
        if (row_id := connection.execute(_task_of(create)).scalar()) is not None:
            possible[row_id].append(create)
    return [(creates[0], row_id) for row_id, creates in possible.items() if _are_alike(creates)]


def _are_alike(creates: Sequence[Row]) -> bool:
    return len({(create["client_callback_url"], create["request"]) for create in creates}) == 1


def _open(*, now: int) -> sa.Select[Any]:
    """The newest first: an old one has been looked for often."""
    query = sa.select(_CREATES).where(
        _CREATES.c.state == OPEN,
        _CREATES.c.external_task_id.is_not(None),
        _CREATES.c.created_at <= now - AFTER_MS,
    )
    return query.order_by(_CREATES.c.created_at.desc()).limit(CREATES_MAX)


def _task_of(create: Row) -> sa.Select[Any]:
    """A task is another's where the answer to a create, or a callback with a reference, has said whose it is."""
    at = create["created_at"]
    return (
        sa.select(_TASKS.c.id)
        .where(_TASKS.c.account == create["account"])
        .where(_TASKS.c.external_task_id == create["external_task_id"])
        .where(_TASKS.c.confirmed_at.is_not(None))
        .where(_TASKS.c.created_at.between(at - BEFORE_MS, at + AFTER_MS))
        .where(_TASKS.c.named_by_create.is_(False))
        .where(_TASKS.c.client_callback_url.is_(None), _TASKS.c.request.is_(None))
        .limit(1)
    )
