"""Claims second looks, and records their results.

A claim postpones its rows by `RETRY_MS` before the look begins: so a crash is already a retry. A claim has no lease.
Two processes that look at once only send a request twice, and `due_at` tells whether a row is still the claimed one.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from archiver.ledger.databases.dialect import insert_missing, is_one_of, locking, skipping_locked, unindexed
from archiver.ledger.holds import stops_stage
from archiver.ledger.part import Part, retried
from archiver.ledger.second_looks.missing import SECOND_HEAD_MS
from archiver.ledger.second_looks.trust import count_seen
from archiver.ledger.tables import schema
from archiver.ledger.tables.second_looks import LOOK_AFTER_MS, MissingState
from archiver.model import Stage, State

TOGETHER_MS = 15 * 60_000
"""Folders that are due within this time are looked at together with those due now: one listing shows them all."""
RETRY_MS = 5 * 60_000
FOLDERS_MAX = 300
"""Folders of one claim: callbacks wait for its transactions."""

_LOOKS = schema.second_looks
_MISSING = schema.missing_objects


@dataclasses.dataclass(frozen=True, slots=True)
class ExpectedFolder:
    """The folder of one archived task, claimed for a look."""

    row_id: int
    """The task's row id."""
    due_at: int
    """The due time that the claim has set."""
    task_id: str
    day: str
    """The folder of its day, with a slash at the end."""
    sizes: Mapping[str, int | None]
    """Key → bytes of what must be there; None where the ledger does not know."""


@dataclasses.dataclass(frozen=True, slots=True)
class DoubtedObject:
    """An object that neither LIST nor HEAD has shown as expected. `row_id` is the task's."""

    row_id: int
    key: str


class SecondLooks(Part):
    """The folders that must be seen again."""

    @retried
    def claim(self, *, account: str) -> list[ExpectedFolder]:
        """Up to FOLDERS_MAX folders, the longest due first, once one is due. Idle, or while a hold stops the archive
        stage, it only reads."""
        with self._database.read() as connection:
            if not _is_due(connection, account, now=self._now()):
                return []
        with self._database.write() as connection:
            now = self._now()
            chosen = sa.select(_LOOKS.c.id).where(
                _LOOKS.c.account == account,
                sa.or_(_LOOKS.c.due_at <= now + TOGETHER_MS, _LOOKS.c.due_at > now + LOOK_AFTER_MS),
            )
            chosen = chosen.order_by(_LOOKS.c.due_at).limit(FOLDERS_MAX)
            claim = sa.update(_LOOKS).where(
                is_one_of(_LOOKS.c.id, skipping_locked(chosen, _LOOKS).scalar_subquery())
            )
            claimed = claim.values(due_at=now + RETRY_MS).returning(_LOOKS.c.task)
            row_ids = sorted(connection.execute(claimed).scalars())
            return _expected(connection, row_ids, due_at=now + RETRY_MS)

    @retried
    def finish(
        self,
        seen: Sequence[ExpectedFolder],
        *,
        place: str,
        unseen: Sequence[ExpectedFolder] = (),
        doubted: Sequence[DoubtedObject] = (),
    ) -> None:
        """Every folder of `seen` was looked at, in this endpoint and bucket; `doubted` are its missing objects. Folders
        of `unseen` are due at once."""
        with self._database.write() as connection:
            now = self._now()
            doubtful = {each.row_id for each in doubted}
            whole = [folder.row_id for folder in seen if folder.row_id not in doubtful]
            _mark_seen(connection, whole, now=now)
            for folder in sorted(seen, key=lambda folder: folder.row_id):
                same = (_LOOKS.c.task == folder.row_id, _LOOKS.c.due_at == folder.due_at)
                connection.execute(sa.delete(_LOOKS).where(*same))
            _put_forward(connection, unseen, now=now)
            objects = sum(len(folder.sizes) for folder in seen)
            if objects:
                count_seen(connection, place, objects=objects, is_missing=bool(doubted))
            for each in sorted(doubted, key=lambda each: each.key):
                _doubt(connection, each, now=now)


def _is_due(connection: sa.Connection, account: str, *, now: int) -> bool:
    """Whether a look is due, by both ends of the index: a clock that was set back leaves rows with due times too far
    ahead."""
    ends = sa.select(sa.func.min(_LOOKS.c.due_at)), sa.select(sa.func.max(_LOOKS.c.due_at))
    first, last = (connection.execute(end.where(_LOOKS.c.account == account)).scalar() for end in ends)
    if first is None or last is None or (first > now and last <= now + LOOK_AFTER_MS):
        return False
    return connection.execute(stops_stage(account, Stage.ARCHIVE)).first() is None


def _expected(connection: sa.Connection, row_ids: Sequence[int], *, due_at: int) -> list[ExpectedFolder]:
    tasks, assets, amendments = schema.tasks, schema.assets, schema.amendments
    archived = sa.select(tasks.c.id, tasks.c.task_id, tasks.c.manifest_key)
    archived = archived.where(tasks.c.id.in_(row_ids), unindexed(tasks.c.state) == State.ARCHIVED)
    rows = connection.execute(archived.order_by(tasks.c.id)).all()
    sizes: dict[int, dict[str, int | None]] = {row.id: {row.manifest_key: None} for row in rows}
    stored = sa.select(assets.c.task, assets.c.key, assets.c.bytes).where(assets.c.name.is_not(None))
    amended = sa.select(amendments.c.task, amendments.c.key, sa.null().label("bytes"))
    for query, task in ((stored, assets.c.task), (amended, amendments.c.task)):
        for row_id, key, size in connection.execute(query.where(task.in_(sizes))):
            sizes[row_id][key] = size
    known = sa.select(_MISSING.c.task, _MISSING.c.key).where(_MISSING.c.state != MissingState.RESTORED)
    for task, key in connection.execute(known.where(_MISSING.c.task.in_(sizes))):
        sizes[task].pop(key, None)
    return [
        ExpectedFolder(row.id, due_at, row.task_id, row.manifest_key.rsplit("/", 2)[0] + "/", sizes[row.id])
        for row in rows
    ]


def _put_forward(connection: sa.Connection, folders: Sequence[ExpectedFolder], *, now: int) -> None:
    for folder in sorted(folders, key=lambda folder: folder.row_id):
        same = (_LOOKS.c.task == folder.row_id, _LOOKS.c.due_at == folder.due_at)
        connection.execute(sa.update(_LOOKS).where(*same).values(due_at=now))


def _mark_seen(connection: sa.Connection, row_ids: Sequence[int], *, now: int) -> None:
    tasks = schema.tasks
    chosen = (tasks.c.id.in_(row_ids), unindexed(tasks.c.state) == State.ARCHIVED)
    connection.execute(locking(connection, sa.select(tasks.c.id).where(*chosen), tasks))
    connection.execute(sa.update(tasks).where(*chosen).values(seen_again_at=now))


def _doubt(connection: sa.Connection, each: DoubtedObject, *, now: int) -> None:
    """Send HEAD again in 10 min. The row still says whether the object was restored once."""
    due_at = now + SECOND_HEAD_MS
    again = sa.update(_MISSING).where(_MISSING.c.task == each.row_id, _MISSING.c.key == each.key)
    again = again.where(_MISSING.c.state == MissingState.RESTORED)
    if connection.execute(again.values(state=MissingState.DOUBTED, due_at=due_at)).rowcount:
        return
    query = sa.select(schema.tasks.c.account).where(schema.tasks.c.id == each.row_id)
    account = connection.execute(query).scalar()
    if account is not None:  # None: the task was forgotten meanwhile
        row = {"task": each.row_id, "account": account, "key": each.key, "state": MissingState.DOUBTED}
        row |= {"since": now, "due_at": due_at}
        connection.execute(insert_missing(connection, _MISSING).values(row))
