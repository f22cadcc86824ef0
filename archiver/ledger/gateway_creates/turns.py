"""Lets every open create have its turn, a bounded number in each round: the oldest first, then from the beginning."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.tables import schema

Cursor = tuple[int, str]
"""Where the last round ended: the create's time and reference. A process that starts begins with the oldest."""
BEGINNING: Cursor = (-1, "")

_CREATES = schema.gateway_creates


def in_turn(creates: sa.Select[Any], *, after: Cursor, limit: int) -> sa.Select[Any]:
    """The next of these creates."""
    created_at, reference = after
    is_later = sa.or_(_CREATES.c.created_at > created_at, _CREATES.c.reference > reference)
    return (
        creates.where(_CREATES.c.created_at >= created_at, is_later)
        .order_by(_CREATES.c.created_at, _CREATES.c.reference)
        .limit(limit)
    )


def next_cursor(rows: Sequence[Mapping[Any, Any]], *, limit: int) -> Cursor:
    """After these rows, or at the beginning if they were the last."""
    return (rows[-1]["created_at"], rows[-1]["reference"]) if len(rows) == limit else BEGINNING
