"""Tombstones of forgotten tasks. The row of the task is deleted; a row of `forgotten` keeps its identity. A callback,
sweep or query that names the task again finds the tombstone and writes nothing.

So statements that read `tasks` need no extra condition; only those that insert there must check here. On PostgreSQL one
may check, find nothing, and insert the row after another process has inserted and forgotten it. Then the API's first
answer about that row finds the tombstone (`forgotten_tasks`).
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa

from archiver.failures import TaskForgotten
from archiver.ledger.databases.dialect import is_named, naming
from archiver.ledger.tables import schema
from archiver.model import Task, rfc3339

_TABLE = schema.forgotten
_FORGOTTEN = {
    several: sa.select(_TABLE.c.task_id, _TABLE.c.forgotten_at, _TABLE.c.created_at).where(
        _TABLE.c.account == sa.bindparam("account_is"), is_named(_TABLE.c.task_id, several=several)
    )
    for several in (False, True)
}


class Identity(Protocol):
    """The values that identify a task. Its time is Unix ms."""

    @property
    def task_id(self) -> str: ...
    @property
    def external_task_id(self) -> str | None: ...
    @property
    def created_at(self) -> int | None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Tombstone:
    """The tombstone of a forgotten task. Times are Unix ms."""

    account: str
    task_id: str
    external_task_id: str | None
    family: str | None
    """None where the API had not confirmed it."""
    created_at: int | None
    forgotten_at: int

    def as_json(self) -> dict[str, object]:
        """As `show --json` prints it: the keys of every task, with nothing but the identity behind them."""
        nothing = dict.fromkeys(
            (
                "reason", "message", "what_to_do", "due_at", "updated_at", "expires_at", "discovered_by",
                "manifest_key",
            )
        )  # fmt: skip
        forgotten_at = rfc3339(self.forgotten_at)
        return {
            "task_id": self.task_id,
            "account": self.account,
            "family": self.family,
            "external_task_id": self.external_task_id,
            "state": "forgotten",
            **nothing,
            "attempts": 0,
            "callbacks": 0,
            "created_at": None if self.created_at is None else rfc3339(self.created_at),
            "forgotten_at": forgotten_at,
            "amendment_keys": [],
            "assets": [],
            "forwards": [],
            "history": [{"at": forgotten_at, "event": "task.forgotten", "detail": ""}],
        }


class _Times(NamedTuple):
    created_at: int | None
    """None where the API had not confirmed the task."""
    forgotten_at: int


def is_forgotten(account: sa.ColumnElement[str], task_id: sa.ColumnElement[str]) -> sa.Exists:
    """The condition for the statement that inserts callbacks' ids, so that it needs no second statement."""
    return sa.exists().where(_TABLE.c.account == account, _TABLE.c.task_id == task_id)


def find_tombstone(connection: sa.Connection, *, account: str, task_id: str) -> Tombstone | None:
    """By id, else the newest with this external id."""
    for column in (_TABLE.c.task_id, _TABLE.c.external_task_id):
        query = sa.select(_TABLE).where(_TABLE.c.account == account, column == task_id)
        row = connection.execute(query.order_by(_TABLE.c.forgotten_at.desc()).limit(1)).first()
        if row is not None:
            return Tombstone(**row._mapping)  # noqa: SLF001 -- the public name of what a row holds
    return None


def forgotten_ids(connection: sa.Connection, *, account: str, task_ids: Collection[str]) -> frozenset[str]:
    """The forgotten ids among at most 1,000."""
    return frozenset(_tombstones(connection, account=account, task_ids=task_ids))


def require_not_forgotten(connection: sa.Connection, *, account: str, task_id: str) -> None:
    """Raises TaskForgotten."""
    if forgotten_ids(connection, account=account, task_ids=[task_id]):
        raise TaskForgotten(f"{task_id} of the account {account} was forgotten, and stays so.")


def forgotten_tasks(
    connection: sa.Connection, tasks: Sequence[Task], rows: Mapping[str, Mapping[Any, Any]], *, account: str
) -> frozenset[str]:
    """The forgotten ids among `tasks`, without those that the API has confirmed before in `rows` (by id)."""
    new = [task for task in tasks if _is_new(rows.get(task.task_id))]
    return forgotten_among(connection, new, account=account)


def forgotten_among(connection: sa.Connection, tasks: Sequence[Identity], *, account: str) -> frozenset[str]:
    """The forgotten ids among at most 500 tasks.

    A task that was forgotten under its external id, before its own was known, is found by that; another task that was
    created with the same external id since is not meant.
    """
    if not tasks:
        return frozenset()
    names = {name for task in tasks for name in (task.task_id, task.external_task_id) if name is not None}
    tombstones = _tombstones(connection, account=account, task_ids=names)
    return frozenset(task.task_id for task in tasks if tombstones and _is_meant(task, tombstones))


def _is_new(row: Mapping[Any, Any] | None) -> bool:
    return row is None or row["confirmed_at"] is None


def _is_meant(task: Identity, tombstones: Mapping[str, _Times]) -> bool:
    if task.task_id in tombstones:
        return True
    tombstone = tombstones.get(task.external_task_id or "")
    # A confirmed task was forgotten under its own id, which another task may have as its external one.
    if tombstone is None or tombstone.created_at is not None or task.created_at is None:
        return False
    return bool(task.created_at <= tombstone.forgotten_at)


def _tombstones(connection: sa.Connection, *, account: str, task_ids: Collection[str]) -> dict[str, _Times]:
    statement = _FORGOTTEN[len(task_ids) != 1]
    found = connection.execute(statement, {"account_is": account, **naming(task_ids)})
    return {row.task_id: _Times(row.created_at, row.forgotten_at) for row in found}
