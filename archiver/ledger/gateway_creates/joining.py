"""Joins a task whose create was never answered with the create's reference: the client's callback URL and, if more
than time speaks for it, the request."""

import dataclasses
import enum
import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from archiver.ledger.databases.dialect import locking, unindexed
from archiver.ledger.part import require_written
from archiver.ledger.tables import schema
from archiver.ledger.tables.forwards import queue_for_client
from archiver.ledger.tables.history import add_line
from archiver.ledger.tables.rows import find_all

OPEN = "open"
"""Sent, and not heard of."""
ABANDONED = "abandoned"
"""Not sent with our callback URL: no callback will name it."""
MATCHED = "matched"
"""Time has matched it with a task. A callback that names it and another task is still believed."""

Row = Mapping[Any, Any]

_JOINABLE = (OPEN, MATCHED)
_CREATES = schema.gateway_creates


class JoinedBy(enum.StrEnum):
    """How the task of a create was found."""

    CALLBACK = "callback"
    """Its callback named the reference."""
    EXTERNAL_ID = "external_id"
    TIME = "time"
    """Nothing else could have made it, as far as the ledger knows (`by_time`)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Joined:
    """A task, and the create that made it."""

    account: str
    task_id: str
    family: str
    by: JoinedBy


def join_callbacks(
    connection: sa.Connection, named: Mapping[str, tuple[str, str]], *, now: int
) -> list[Joined]:
    """`named`: reference → account and id of the task whose callback named it. The rows of these tasks are there."""
    query = sa.select(_CREATES).where(
        _CREATES.c.reference.in_(sorted(named)), _CREATES.c.state.in_(_JOINABLE)
    )
    joined = []
    for create in connection.execute(query).mappings().all():
        account, task_id = named[create["reference"]]
        if create["account"] != account:
            continue
        rows = find_all(connection, account=account, task_ids=[task_id])
        if task_id in rows:
            joined.append(join(connection, create, rows[task_id], by=JoinedBy.CALLBACK, now=now))
    return joined


def join(connection: sa.Connection, create: Row, task: Row, *, by: JoinedBy, now: int) -> Joined:
    """`task` is locked: a create's row is always written after its task's, so that two transactions never wait for each
    other.

    Raises WriteConflict where another process has let go of the reference.
    """
    by_time = by is JoinedBy.TIME
    request = None if by_time else create["request"]
    take_over(connection, task, client_callback_url=create["client_callback_url"], request=request, now=now)
    same = (_CREATES.c.reference == create["reference"], _CREATES.c.state == create["state"])
    matched = {"state": MATCHED, "doubt": None, "unseen_since": None}
    matched |= {"possible_tasks": json.dumps([task["task_id"]])}
    close = sa.update(_CREATES).where(*same).values(matched) if by_time else sa.delete(_CREATES).where(*same)
    require_written(connection.execute(close).rowcount)
    add_line(connection, task["id"], at=now, event="task.joined", detail=f"its create, by {by}")
    return Joined(task["account"], task["task_id"], create["family"], by)


def take_over(
    connection: sa.Connection,
    task: Row,
    *,
    client_callback_url: str | None,
    request: str | None,
    now: int,
) -> None:
    """Give a locked row of `tasks` what it lacks. If the task has ended, its forward to the client is queued."""
    table = schema.tasks
    given = {"client_callback_url": client_callback_url, "request": request}
    lacking = {name: value for name, value in given.items() if value is not None and task[name] is None}
    if not lacking:
        return
    change = sa.update(table).where(table.c.id == task["id"], unindexed(table.c.state) == task["state"])
    require_written(connection.execute(change.values(lacking)).rowcount)
    if "client_callback_url" in lacking:
        queue_for_client(connection, task["id"], now=now)


def lock_tasks(connection: sa.Connection, row_ids: list[int]) -> dict[int, Row]:
    """These rows of `tasks`, to be written."""
    table = schema.tasks
    query = locking(connection, sa.select(table).where(table.c.id.in_(sorted(row_ids))), table)
    return {row["id"]: row for row in connection.execute(query).mappings()}
