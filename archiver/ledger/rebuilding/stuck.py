"""Rows of an old copy of the ledger that nothing would ever archive, although their manifest is in the bucket.

These are lost tasks that are no longer tried, tasks that were declared failed because their time was over, and ids that
the API has never confirmed and no longer shows. The manifest is better evidence than these rows.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from archiver.ledger.databases.dialect import locking, unindexed
from archiver.ledger.folder_work.queueing import drop_incomplete
from archiver.ledger.part import require_written
from archiver.ledger.tables import schema, set_aside
from archiver.ledger.tables.counts import Tally
from archiver.model import State

_TASKS, _ASSETS = schema.tasks, schema.assets
_KEPT = frozenset(
    {"account", "task_id", "discovered_by", "callbacks", "first_seen_at", "client_callback_url"}
)
_TOLD = ("external_task_id", "request")
"""Columns that a manifest may lack, because a registration named them later."""
_CLEARED: Mapping[str, Any] = {
    **set_aside.SEEN,
    **dict.fromkeys(("message", "claim_group", "fresh_wanted_at", "fresh_due_at", "not_found_since")),
}

may_be_stuck = sa.or_(
    sa.and_(_TASKS.c.state == State.LOST, _TASKS.c.due_at.is_(None)),
    sa.and_(_TASKS.c.state == State.FAILED, _TASKS.c.reason == "never_finished"),
    _TASKS.c.confirmed_at.is_(None),
)
"""An unconfirmed one is if it, or what its manifest says, is past the deadline: until then the daemon asks for it."""


def take_over(
    connection: sa.Connection, archived: Mapping[str, Mapping[str, Any]], *, account: str, now: int
) -> dict[str, int]:
    """Give those of these tasks (id → columns) that are stuck the columns of an archived one, without their assets;
    id → row of them."""
    if not archived:
        return {}
    chosen = (
        _TASKS.c.account == account,
        _TASKS.c.task_id.in_(sorted(archived)),
        _TASKS.c.lease_token.is_(None),
    )
    query = sa.select(_TASKS).where(*chosen, may_be_stuck)
    taken, tally = dict[str, int](), Tally()
    for row in connection.execute(locking(connection, query, _TASKS)).mappings().all():
        columns = archived[row["task_id"]]
        if row["confirmed_at"] is None and min(row["deadline_at"], columns["deadline_at"]) > now:
            continue
        changes = {**{name: columns[name] for name in columns.keys() - _KEPT}, **_CLEARED}
        changes |= {name: row[name] for name in _TOLD if changes[name] is None}
        as_read = (
            _TASKS.c.id == row["id"],
            unindexed(_TASKS.c.state) == row["state"],
            _TASKS.c.lease_token.is_(None),
        )
        require_written(connection.execute(sa.update(_TASKS).where(*as_read).values(changes)).rowcount)
        connection.execute(sa.delete(_ASSETS).where(_ASSETS.c.task == row["id"]))
        drop_incomplete(connection, row["id"])
        tally.change(row, changes)
        taken[row["task_id"]] = row["id"]
    tally.write(connection)
    return taken
