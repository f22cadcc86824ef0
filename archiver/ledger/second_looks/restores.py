"""Restores of objects: the API's present answer about their task, and the result.

A piece of folder work `restore` first waits for a document of the API, and then for a worker, which claims it like all
folder work.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.failures import Failure
from archiver.ledger.claims.leasing import LEASE_SECONDS, TAKEOVER_MS
from archiver.ledger.claims.probes import holds_of, is_whole
from archiver.ledger.databases.dialect import is_one_of, skipping_locked, unindexed
from archiver.ledger.folder_work.work import due_work, end_probe, held_by, release, task_of, wanted_objects
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.archived import slim_assets
from archiver.ledger.tables.batch import Batch
from archiver.ledger.tables.history import add_line, trim
from archiver.ledger.tables.rows import read_lease
from archiver.ledger.tables.second_looks import LOOK_AFTER_MS, MissingState, queue_look
from archiver.ledger.transitions import document_json
from archiver.model import Lease, Stage, State, Task, text

_WORK = schema.folder_work
_MISSING = schema.missing_objects


class Restores(Part):
    """Claims restores that need the API, and ends them. Methods that end a lease raise LeaseLost."""

    @retried
    def claim(self, *, account: str) -> Lease | None:
        """Lease the next task to query the API for, the one with the fewest attempts; None if none is due. Idle, or
        while a hold stops verification, it only reads."""
        due = due_work(account, asks_api=True)
        with self._database.read() as connection:
            if connection.execute(due, {"now": self._now()}).first() is None:
                return None
            holds = holds_of(connection, Stage.VERIFY, account=account)
        if any(is_whole(hold) for hold in holds):
            return None
        with self._database.write() as connection:
            now = self._now()
            held = [hold["family"] for hold in holds]
            chosen = skipping_locked(due.where(schema.tasks.c.family.not_in(held)), _WORK)
            until = now + LEASE_SECONDS * 1000
            claim = sa.update(_WORK).where(is_one_of(_WORK.c.id, chosen.scalar_subquery())).returning(_WORK)
            claim = claim.values(
                lease_token=uuid.uuid4().hex,
                lease_until=until,
                due_at=until + TAKEOVER_MS,
                attempts=_WORK.c.attempts + 1,
            )
            work = connection.execute(claim, {"now": now}).mappings().first()
            if work is None:
                return None
            query = sa.select(schema.tasks).where(schema.tasks.c.id == work["task"])
            task = connection.execute(query).mappings().one()
            of_work = {name: work[name] for name in ("id", "lease_token", "attempts")}
            return read_lease({**task, **of_work}, (), is_probe=False, stage=Stage.VERIFY)

    @retried
    def answered(self, lease: Lease, task: Task) -> None:
        """The API has named files: a worker may fetch what is missing."""
        with self._database.write() as connection:
            now = self._now()
            row_id = task_of(connection, lease)
            asked = sa.update(schema.tasks).where(
                schema.tasks.c.id == row_id, unindexed(schema.tasks.c.state) == State.ARCHIVED
            )
            connection.execute(asked.values(fresh_asked_at=now))
            batch = Batch(account=lease.account, now=now)
            batch.renew_urls(row_id, task.assets)
            batch.write(connection)
            release(connection, lease, due_at=now, error=None, document=document_json(task), attempts=0)

    @retried
    def settle(
        self,
        lease: Lease,
        *,
        restored: Sequence[str] = (),
        unrecoverable: Mapping[str, Failure] | None = None,
        error: Exception | None = None,
        due_at: int | None = None,
        ask_again: bool = False,
    ) -> None:
        """Record the outcome for the wanted objects, by key. The rest is tried at `due_at` because of `error`; with
        `ask_again`, after a query for other URLs."""
        with self._database.write() as connection:
            now = self._now()
            row_id = task_of(connection, lease)
            for key in sorted(restored):
                _restored(connection, row_id, key, now=now)
            for key, failure in sorted((unrecoverable or {}).items()):
                _give_up(connection, row_id, key, failure, now=now)
            if restored:
                queue_look(connection, row_id, account=lease.account, due_at=now + LOOK_AFTER_MS)
            if not wanted_objects(connection, row_id):
                _end(connection, lease, row_id)
                return
            columns: dict[str, Any] = {"document": None} if ask_again else {}
            due_at = now if due_at is None or ask_again else due_at
            release(connection, lease, due_at=due_at, error=error, **columns)
            end_probe(connection, lease, now=now)

    @retried
    def give_up(self, lease: Lease, failure: Failure) -> tuple[str, ...]:
        """No object of the task can be restored; the keys of the wanted ones."""
        with self._database.write() as connection:
            row_id = task_of(connection, lease)
            keys = tuple(wanted.key for wanted in wanted_objects(connection, row_id))
            for key in sorted(keys):
                _give_up(connection, row_id, key, failure, now=self._now())
            _end(connection, lease, row_id)
            return keys


def _restored(connection: sa.Connection, row_id: int, key: str, *, now: int) -> None:
    values = {"state": MissingState.RESTORED, "restored_at": now, "problem_since": None, "reason": None}
    if _change(connection, row_id, key, values):
        add_line(connection, row_id, at=now, event="object.restored", detail=key)
        trim(connection, row_id)


def _give_up(connection: sa.Connection, row_id: int, key: str, failure: Failure, *, now: int) -> None:
    values = {"state": MissingState.UNRECOVERABLE, "problem_since": now, "reason": failure.reason}
    if _change(connection, row_id, key, values):
        detail = text(f"{key}: {failure.reason}: {failure}")
        add_line(connection, row_id, at=now, event="object.given_up", detail=detail)
        trim(connection, row_id)


def _end(connection: sa.Connection, lease: Lease, row_id: int) -> None:
    connection.execute(sa.delete(_WORK).where(*held_by(lease)))
    slim_assets(connection, [row_id])


def _change(connection: sa.Connection, row_id: int, key: str, values: Mapping[str, object]) -> bool:
    wanted = (_MISSING.c.task == row_id, _MISSING.c.key == key, _MISSING.c.state == MissingState.WANTED)
    return bool(connection.execute(sa.update(_MISSING).where(*wanted).values(dict(values))).rowcount)
