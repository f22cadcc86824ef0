"""Objects that were missing in the bucket: whether they are there after all, and what happens to them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.databases.dialect import is_one_of, skipping_locked
from archiver.ledger.folder_work.queueing import queue_restore
from archiver.ledger.holds import stops_stage
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.history import add_line, trim
from archiver.ledger.tables.second_looks import MissingState, queue_look
from archiver.model import Stage

SECOND_HEAD_MS = 10 * 60_000
RETRY_MS = 5 * 60_000
RESTORE_MS_MAX = 60 * 60_000
"""A missing object that is not back after this time is a problem."""
DOUBTS_MAX = 50
CHANGED = "object_changed"
"""The reason of an object that lies there in another size: nothing is ever overwritten."""

_MISSING = schema.missing_objects
_IS_DOUBTED = _MISSING.c.state == sa.literal_column("'doubted'")
"""With a literal: else SQLite cannot tell that the partial index has all the rows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Doubt:
    """An object that waits for its second HEAD."""

    id: int
    task_id: str
    key: str
    bytes: int | None
    """None where the ledger does not know."""


@dataclasses.dataclass(frozen=True, slots=True)
class MissingObject:
    """An object that is certainly missing."""

    task_id: str
    key: str
    state: MissingState


class MissingObjects(Part):
    """The objects that were missing."""

    @retried
    def claim(self, *, account: str) -> list[Doubt]:
        """Up to DOUBTS_MAX doubted objects whose second HEAD is due. Idle, or while a hold stops the archive stage, it
        only reads."""
        due = sa.select(_MISSING.c.id).where(_MISSING.c.account == account, _IS_DOUBTED)
        until = sa.bindparam("until", type_=sa.BigInteger)
        too_late = sa.bindparam("too_late", type_=sa.BigInteger)
        due = due.where(sa.or_(_MISSING.c.due_at <= until, _MISSING.c.due_at > too_late))
        with self._database.read() as connection:
            now = self._now()
            times = {"until": now, "too_late": now + SECOND_HEAD_MS}
            if connection.execute(due.limit(1), times).first() is None:
                return []
            if connection.execute(stops_stage(account, Stage.ARCHIVE)).first() is not None:
                return []
        with self._database.write() as connection:
            now = self._now()
            chosen = skipping_locked(due.order_by(_MISSING.c.due_at).limit(DOUBTS_MAX), _MISSING)
            claim = sa.update(_MISSING).where(is_one_of(_MISSING.c.id, chosen.scalar_subquery()))
            claimed = claim.values(due_at=now + RETRY_MS).returning(_MISSING.c.id)
            times = {"until": now, "too_late": now + SECOND_HEAD_MS}
            row_ids = list(connection.execute(claimed, times).scalars())
            return _doubts(connection, row_ids)

    @retried
    def settle(
        self, *, found: Sequence[Doubt], missing: Sequence[Doubt], changed: Sequence[Doubt] = ()
    ) -> list[MissingObject]:
        """HEAD has shown the objects in `found` (their tasks are looked at again), not those in `missing`, and those in
        `changed` with another size. Returns what the missing and changed ones are now. An object that was put back once
        and is missing again is left alone."""
        with self._database.write() as connection:
            now = self._now()
            for doubt in sorted(found, key=lambda doubt: doubt.id):
                _disprove(connection, doubt, now=now)
            bad = sorted([*missing, *changed], key=lambda doubt: doubt.id)
            settled = [_confirm(connection, doubt, is_changed=doubt in changed, now=now) for doubt in bad]
            return [each for each in settled if each is not None]


def _doubts(connection: sa.Connection, row_ids: Sequence[int]) -> list[Doubt]:
    tasks, assets = schema.tasks, schema.assets
    query = (
        sa.select(_MISSING.c.id, tasks.c.task_id, _MISSING.c.key, assets.c.bytes)
        .join(tasks, tasks.c.id == _MISSING.c.task)
        .outerjoin(assets, sa.and_(assets.c.task == tasks.c.id, assets.c.key == _MISSING.c.key))
        .where(_MISSING.c.id.in_(row_ids))
        .order_by(_MISSING.c.key)
    )
    return [Doubt(*row) for row in connection.execute(query)]


def _doubted(doubt: Doubt) -> tuple[sa.ColumnElement[bool], ...]:
    return _MISSING.c.id == doubt.id, _MISSING.c.state == MissingState.DOUBTED


def _disprove(connection: sa.Connection, doubt: Doubt, *, now: int) -> None:
    columns = _MISSING.c.task, _MISSING.c.account, _MISSING.c.restored_at
    row = connection.execute(sa.select(*columns).where(*_doubted(doubt))).first()
    if row is None:
        return
    if row.restored_at is None:
        connection.execute(sa.delete(_MISSING).where(*_doubted(doubt)))
    else:
        restored = sa.update(_MISSING).where(*_doubted(doubt))
        connection.execute(restored.values(state=MissingState.RESTORED, due_at=None))
    queue_look(connection, row.task, account=row.account, due_at=now)


def _confirm(connection: sa.Connection, doubt: Doubt, *, is_changed: bool, now: int) -> MissingObject | None:
    columns = _MISSING.c.task, _MISSING.c.account, _MISSING.c.restored_at
    row = connection.execute(sa.select(*columns).where(*_doubted(doubt))).first()
    if row is None:  # another process has settled it
        return None
    values: dict[str, Any] = {"state": MissingState.WANTED, "problem_since": now + RESTORE_MS_MAX}
    if is_changed:
        values = {"state": MissingState.UNRECOVERABLE, "problem_since": now, "reason": CHANGED}
    elif row.restored_at is not None:
        values = {"state": MissingState.LEFT_ALONE}
    change = sa.update(_MISSING).where(*_doubted(doubt))
    connection.execute(change.values(values | {"due_at": None}))
    if values["state"] is MissingState.WANTED:
        queue_restore(connection, row.task, now=now)
    add_line(connection, row.task, at=now, event="object.missing", detail=doubt.key)
    trim(connection, row.task)
    return MissingObject(doubt.task_id, doubt.key, values["state"])
