"""Forgets a task: one transaction deletes its row and everything that belongs to it, and adds a tombstone.

With the row go the prompt and the request, the API's document, all URLs, the history, its forwards, and its second
looks, restores and amendments. A worker that holds a lease on any of that finds the lease lost at its next check, and
writes nothing more. After a crash before the commit, nothing is forgotten.

The bytes of deleted rows are overwritten too. Traces of earlier changes in free pages of the file, in the write-ahead
log and in backups are not.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from archiver.ledger.databases.dialect import insert_missing, overwriting_what_is_deleted, unindexed
from archiver.ledger.folder_work.work import amendment_keys
from archiver.ledger.part import Part, require_written, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.counts import Tally, kind_of
from archiver.ledger.tables.forwards import PASSED_ON, ForwardTally
from archiver.ledger.tables.rows import find
from archiver.ledger.tables.tombstones import Tombstone, find_tombstone, forgotten_ids
from archiver.model import State


@dataclasses.dataclass(frozen=True, slots=True)
class Forgotten:
    """The result of forgetting one task."""

    tombstone: Tombstone
    state: State | None
    """The state that it was in; None if it was forgotten before."""
    keys: tuple[str, ...]
    """The keys of its objects, as far as the ledger knew them."""


class Tombstones(Part):
    """What an operator has forgotten."""

    @retried
    def forget(self, task_id: str, *, account: str) -> Forgotten | None:
        """Forget the task with this id or external id; None when the ledger has never known one."""
        with self._database.write() as connection:
            row = find(connection, account=account, task_id=task_id, to_write=True)
            if row is None:
                known = find_tombstone(connection, account=account, task_id=task_id)
                return None if known is None else Forgotten(known, None, ())
            keys = _keys_of(connection, row)
            tombstone = Tombstone(
                account=account,
                task_id=row["task_id"],
                external_task_id=row["external_task_id"],
                family=row["family"],
                created_at=row["created_at"],
                forgotten_at=self._now(),
            )
            connection.execute(insert_missing(connection, schema.forgotten), dataclasses.asdict(tombstone))
            with overwriting_what_is_deleted(connection):
                _forget_creates(connection, row)
                _erase(connection, row)
            return Forgotten(tombstone, State(row["state"]), keys)

    def ids(self, *, account: str, task_ids: Collection[str]) -> frozenset[str]:
        """The forgotten ids among at most 500."""
        with self._database.read() as connection:
            return forgotten_ids(connection, account=account, task_ids=task_ids)


def _keys_of(connection: sa.Connection, row: sa.RowMapping) -> tuple[str, ...]:
    table = schema.assets
    query = sa.select(table.c.key).where(table.c.task == row["id"], table.c.key.is_not(None))
    files = connection.execute(query.order_by(table.c.id)).scalars().all()
    manifest = () if row["manifest_key"] is None else (row["manifest_key"],)
    return (*files, *manifest, *amendment_keys(connection, row["id"]))


def _forget_creates(connection: sa.Connection, row: sa.RowMapping) -> None:
    """Delete the gateway create that has made the task: its client gets no forward, and its prompt is gone. Of creates
    that may have made another task, only the prompt goes."""
    table = schema.gateway_creates
    names_it = table.c.possible_tasks.contains(json.dumps(row["task_id"]), autoescape=True)
    possible = sa.update(table).where(table.c.account == row["account"], names_it)
    connection.execute(possible.values(request=None))
    if row["external_task_id"] is None:
        return
    same = (table.c.account == row["account"], table.c.external_task_id == row["external_task_id"])
    connection.execute(sa.delete(table).where(*same))


def _erase(connection: sa.Connection, row: sa.RowMapping) -> None:
    """Delete the row. Its foreign keys delete what belongs to it, and the counts of tasks and forwards go down."""
    forwards, tasks = schema.forwards, schema.tasks
    gone: Any = sa.delete(forwards).where(forwards.c.task == row["id"])
    gone = gone.returning(forwards.c.event, forwards.c.state)
    states = Counter(told.state for told in connection.execute(gone) if told.event not in PASSED_ON)
    told_less = ForwardTally()
    for state, count in sorted(states.items()):
        told_less.add(state, -count)
    told_less.write(connection)
    as_read = (tasks.c.id == row["id"], unindexed(tasks.c.state) == row["state"])
    require_written(connection.execute(sa.delete(tasks).where(*as_read)).rowcount)
    tally = Tally()
    tally.remove([kind_of(row)])
    tally.write(connection)
