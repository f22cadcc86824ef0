"""Archived rows that lack what their manifest says: earlier versions adopted a manifest without its request.

Only empty columns are filled. A manifest has its request from a registration or a create. No list of the API has it, so
that after a lost ledger only the bucket knows.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from archiver.ledger.databases.dialect import locking, unindexed
from archiver.ledger.part import require_written
from archiver.ledger.tables import schema
from archiver.ledger.tables.history import add_lines, trim_all
from archiver.model import State

_TASKS = schema.tasks
_FILLED = ("external_task_id", "request")

may_lack = sa.and_(
    _TASKS.c.archived_at < _TASKS.c.first_seen_at,
    sa.or_(*(_TASKS.c[name].is_(None) for name in _FILLED)),
)
"""Archived rows whose manifest is older than the row: an earlier ledger put that manifest, and may have known more."""


def complete(
    connection: sa.Connection, rows: Iterable[Mapping[str, Any]], *, account: str, now: int
) -> frozenset[str]:
    """Fill the empty columns of archived tasks from these rows of their manifests; the ids of those that lacked any."""
    said = {row["task_id"]: row for row in rows if any(row[name] is not None for name in _FILLED)}
    if not said:
        return frozenset()
    query = sa.select(_TASKS.c.id, _TASKS.c.task_id, *(_TASKS.c[name] for name in _FILLED)).where(
        _TASKS.c.account == account,
        _TASKS.c.task_id.in_(sorted(said)),
        unindexed(_TASKS.c.state) == State.ARCHIVED,
    )
    lines, completed = [], set[str]()
    for row in connection.execute(locking(connection, query, _TASKS)).mappings().all():
        told = said[row["task_id"]]
        empty = [name for name in _FILLED if row[name] is None and told[name] is not None]
        if empty:
            as_read = (_TASKS.c.id == row["id"], unindexed(_TASKS.c.state) == State.ARCHIVED)
            filling = sa.update(_TASKS).where(*as_read).values({name: told[name] for name in empty})
            require_written(connection.execute(filling).rowcount)
            lines.append((row["id"], "task.rebuilt", f"from its manifest: {', '.join(empty)}"))
            completed.add(row["task_id"])
    add_lines(connection, lines, at=now)
    trim_all(connection, [row_id for row_id, *_ in lines])
    return frozenset(completed)
