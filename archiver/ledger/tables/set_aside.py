"""Lost and buried tasks that an operator has not acknowledged.

`unseen_since` marks them. It is set when a task is buried or lost. It is cleared when an operator acknowledges the
task, when it is archived, and when it turns out to have failed. A buried task is tried again by itself, and may be
buried again: `set_aside_for` remembers its last reason, so that the same reason is no news. While it is tried it stays
unseen; otherwise the problem would end and begin with each try.

A task that was lost when it was first seen is no problem: nothing could have been done.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from archiver.ledger.tables import schema

SEEN: Mapping[str, Any] = {"unseen_since": None, "set_aside_for": None}
"""The columns of a task that is neither lost nor buried any more."""


def buried(row: Mapping[Any, Any], *, reason: str, now: int) -> dict[str, Any]:
    """The columns of a row that is buried now. It may be a row that is about to be inserted."""
    unseen_since = row.get("unseen_since")
    if _lost_at_first_sight(row):
        unseen_since = None
    elif row.get("set_aside_for") != reason:
        unseen_since = unseen_since or now
    return {"unseen_since": unseen_since, "set_aside_for": reason}


def buried_in_sql(*, reason: str, now: int) -> dict[str, Any]:
    """The same as SQL, without reading the row."""
    table = schema.tasks
    unseen_since = sa.case(
        (table.c.first_seen_at >= table.c.deadline_at, None),
        (table.c.set_aside_for == reason, table.c.unseen_since),
        else_=sa.func.coalesce(table.c.unseen_since, now),
    )
    return {"unseen_since": unseen_since, "set_aside_for": reason}


def lost(row: Mapping[Any, Any], *, now: int) -> dict[str, Any]:
    """The columns of a row that is lost now."""
    return {**SEEN, "unseen_since": None if _lost_at_first_sight(row) else now}


def _lost_at_first_sight(row: Mapping[Any, Any]) -> bool:
    deadline_at: int | None = row.get("deadline_at")
    return deadline_at is not None and row["first_seen_at"] >= deadline_at
