"""The tasks whose files are in the bucket, as the ledger knows them; the progress of a command; the objects that it
wants restored."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.databases.dialect import insert_missing, locking, unindexed, upsert
from archiver.ledger.folder_work.queueing import queue_incomplete, queue_restore
from archiver.ledger.part import Part, require_written, retried
from archiver.ledger.second_looks.missing import RESTORE_MS_MAX
from archiver.ledger.tables import schema
from archiver.ledger.tables.history import add_line, trim
from archiver.ledger.tables.named_values import forget_named_value
from archiver.ledger.tables.second_looks import MissingState
from archiver.model import DAY_MS, State

ROWS_MAX = 500
"""The limit of one call: callbacks wait for a transaction that writes."""
PROGRESS_MS_MAX = DAY_MS
"""How long the ledger keeps the place where a command was interrupted."""

INCOMPLETE_SUFFIX = "/incomplete.json"
_PROGRESS = "progress of "
_MISSING = schema.missing_objects
_COLUMNS = [
    schema.tasks.c[name]
    for name in ("id", "task_id", "family", "state", "created_at", "archived_at", "manifest_key")
]


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedObject:
    """A file as it was stored."""

    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class AuditedTask:
    """One task, and the objects that the bucket must have of it."""

    row_id: int
    task_id: str
    family: str
    state: State
    created_at: int | None
    """Unix ms."""
    archived_at: int | None
    """Unix ms."""
    manifest_key: str | None
    """Set for an archived task."""
    amendment_keys: tuple[str, ...]
    files: Mapping[str, RecordedObject]
    """Key → the file, of all that are stored: tasks that are not archived may have some too."""
    incomplete_key: str | None = None
    """The key of a lost task's `incomplete.json`, if there is one."""
    known_archived_at: int | None = None
    """Since when the ledger has it as archived, Unix ms: later than `archived_at` if it was adopted or rebuilt."""

    @property
    def is_archived(self) -> bool:
        return self.state is State.ARCHIVED

    @property
    def is_in_work(self) -> bool:
        """Whether the task is not archived, and the archiver (or, if it is buried, an operator) will go on with it."""
        return self.state not in (State.ARCHIVED, State.LOST, State.FAILED)

    @property
    def document_keys(self) -> frozenset[str]:
        """The keys of its manifest and amendments, or of its `incomplete.json`."""
        alone = (self.manifest_key, self.incomplete_key)
        return frozenset({*self.amendment_keys, *(key for key in alone if key is not None)})

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all objects that are known to be in the bucket."""
        return self.document_keys | self.files.keys()

    @property
    def restorable_keys(self) -> frozenset[str]:
        """The keys that can be put back without a copy. Files of a lost task cannot; its `incomplete.json` can."""
        if self.is_archived:
            return self.keys
        return frozenset() if self.incomplete_key is None else frozenset({self.incomplete_key})


@dataclasses.dataclass(frozen=True, slots=True)
class AuditPage:
    """Some tasks with objects in the bucket, by row id."""

    tasks: tuple[AuditedTask, ...]
    last_row_id: int | None
    """The next page begins after it; None when there are no more rows."""


@dataclasses.dataclass(frozen=True, slots=True)
class WantedBack:
    """An object that is missing in the bucket. `row_id` is the task's."""

    row_id: int
    key: str


@dataclasses.dataclass(frozen=True, slots=True)
class AuditTotals:
    """How many tasks and objects there are to check."""

    tasks: int
    bytes: int


class Audits(Part):
    """Reads for commands that compare; writes only what a command asks for."""

    def known(self, task_ids: Collection[str], *, account: str) -> dict[str, AuditedTask]:
        """These tasks, at most ROWS_MAX, by id. Ids that the ledger does not have are missing."""
        table = schema.tasks
        named = sa.select(*_COLUMNS).where(table.c.account == account, table.c.task_id.in_(task_ids))
        with self._database.read() as connection:
            return {task.task_id: task for task in _read(connection, named)}

    def stored_after(self, row_id: int, *, account: str) -> AuditPage:
        """The tasks of which anything was put, among the next ROWS_MAX rows above `row_id`: of a lost one, the files
        that were saved may be the only copies."""
        table = schema.tasks
        # The account is looked at here: by a condition, databases may take its index and sort all its tasks by id for
        # each page.
        query = sa.select(*_COLUMNS, table.c.account).where(table.c.id > row_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.id).limit(ROWS_MAX)).mappings().all()
            tasks = _with_files(connection, [row for row in rows if row["account"] == account])
            return AuditPage(tuple(task for task in tasks if task.keys), rows[-1]["id"] if rows else None)

    def totals(
        self, *, account: str, family: str | None, since: int | None, until: int | None
    ) -> AuditTotals:
        """Archived tasks with `created_at` from `since` until before `until` (Unix ms). Reads every one of them."""
        tasks, assets = schema.tasks, schema.assets
        chosen = [tasks.c.account == account, tasks.c.state == State.ARCHIVED]
        chosen += [] if family is None else [tasks.c.family == family]
        chosen += [] if since is None else [tasks.c.created_at >= since]
        chosen += [] if until is None else [tasks.c.created_at < until]
        counted = sa.select(sa.func.count(tasks.c.id)).where(*chosen)
        size = sa.select(sa.func.coalesce(sa.func.sum(assets.c.bytes), 0)).join(tasks).where(*chosen)
        with self._database.read() as connection:
            return AuditTotals(
                connection.execute(counted).scalar_one(), int(connection.execute(size).scalar_one())
            )

    # --- what is wanted back ----------------------------------------------------------------------------------

    @retried
    def want_back(self, objects: Sequence[WantedBack]) -> int:
        """Order that these objects, at most ROWS_MAX, are put back, also those that were given up before. Returns how
        many. A file of an archived task is fetched again and must have the digest in the ledger; the
        `incomplete.json` of a lost task is written again. Other objects are skipped."""
        with self._database.write() as connection:
            now = self._now()
            table = schema.tasks
            chosen = sa.select(*_COLUMNS, table.c.account).where(
                table.c.id.in_({each.row_id for each in objects}),
                unindexed(table.c.state).in_((State.ARCHIVED, State.LOST)),
            )
            rows = connection.execute(locking(connection, chosen, table)).mappings().all()
            accounts = {row["id"]: row["account"] for row in rows}
            keys = {task.row_id: task.restorable_keys for task in _with_files(connection, rows)}
            wanted = [each for each in objects if each.key in keys.get(each.row_id, ())]
            for each in sorted(wanted, key=lambda each: (each.row_id, each.key)):
                if each.key.endswith(INCOMPLETE_SUFFIX):
                    _describe_again(connection, each, now=now)
                else:
                    _want(connection, each, account=accounts[each.row_id], now=now)
            return len(wanted)

    # --- how far a command is ---------------------------------------------------------------------------------

    def progress(self, name: str) -> dict[str, Any] | None:
        """The progress that was last saved under this name."""
        table = schema.named_values
        query = sa.select(table.c.value).where(table.c.name == _PROGRESS + name)
        with self._database.read() as connection:
            value = connection.execute(query).scalar()
        found = None if value is None else json.loads(value)
        if found is None or self._now() - found["saved_at"] > PROGRESS_MS_MAX:
            return None
        reached: dict[str, Any] = found["reached"]
        return reached

    @retried
    def save_progress(self, name: str, reached: Mapping[str, object]) -> None:
        """Keep how far a command is, as JSON."""
        with self._database.write() as connection:
            value = json.dumps({"saved_at": self._now(), "reached": dict(reached)})
            row = {"name": _PROGRESS + name, "value": value}
            upsert(connection, schema.named_values, row, update=["value"])

    @retried
    def forget_progress(self, name: str) -> None:
        """The command has ended: forget its progress, and what other commands left long ago."""
        table = schema.named_values
        with self._database.write() as connection:
            kept = sa.select(table.c.name, table.c.value).where(table.c.name.startswith(_PROGRESS))
            for each, value in connection.execute(kept).all():
                age = self._now() - json.loads(value)["saved_at"]
                if each == _PROGRESS + name or age > PROGRESS_MS_MAX:
                    forget_named_value(connection, each)


def _read(connection: sa.Connection, query: sa.Select[Any]) -> list[AuditedTask]:
    return _with_files(connection, connection.execute(query).mappings().all())


def _with_files(connection: sa.Connection, rows: Sequence[sa.RowMapping]) -> list[AuditedTask]:
    files: dict[int, dict[str, RecordedObject]] = {row["id"]: {} for row in rows}
    amendments: dict[int, list[str]] = {row["id"]: [] for row in rows}
    table = schema.assets
    stored = sa.select(table.c.task, table.c.key, table.c.bytes, table.c.sha256)
    stored = stored.where(table.c.task.in_(files), table.c.name.is_not(None))
    for task, key, size, sha256 in connection.execute(stored):
        files[task][key] = RecordedObject(size, sha256)
    added = sa.select(schema.amendments.c.task, schema.amendments.c.key)
    added = added.where(schema.amendments.c.task.in_(files)).order_by(schema.amendments.c.number)
    for task, key in connection.execute(added):
        amendments[task].append(key)
    incomplete = _incomplete_keys(
        connection, [row["id"] for row in rows if row["state"] == State.LOST], files
    )
    learned = _archived_since(connection, rows)
    return [
        AuditedTask(
            row_id=row["id"],
            task_id=row["task_id"],
            family=row["family"],
            state=State(row["state"]),
            created_at=row["created_at"],
            archived_at=row["archived_at"],
            manifest_key=row["manifest_key"],
            amendment_keys=tuple(amendments[row["id"]]),
            files=files[row["id"]],
            incomplete_key=incomplete.get(row["id"]),
            known_archived_at=learned.get(row["id"], row["archived_at"]),
        )
        for row in rows
    ]


def _incomplete_keys(
    connection: sa.Connection, lost: Sequence[int], files: Mapping[int, Mapping[str, RecordedObject]]
) -> dict[int, str]:
    """By row, of those lost tasks that have got one: their history says so. A rebuilt task was read from it."""
    table = schema.history
    said = sa.select(table.c.task, table.c.event, table.c.detail).where(table.c.task.in_(lost))
    said = said.where(table.c.event.in_(("task.incomplete", "task.rebuilt"))).order_by(table.c.id)
    keys: dict[int, str] = {}
    for row_id, event, detail in connection.execute(said) if lost else ():
        if event == "task.incomplete" and detail.endswith(INCOMPLETE_SUFFIX):
            keys[row_id] = detail
        elif event == "task.rebuilt" and files[row_id]:
            keys[row_id] = min(files[row_id]).rpartition("/")[0] + INCOMPLETE_SUFFIX
    return keys


def _archived_since(connection: sa.Connection, rows: Sequence[sa.RowMapping]) -> dict[int, int]:
    """By row, of archived tasks: their history says when the ledger came to know it. Very old lines may be gone."""
    manifests = {row["id"]: row["manifest_key"] for row in rows if row["state"] == State.ARCHIVED}
    table = schema.history
    said = sa.select(table.c.task, table.c.at, table.c.detail).where(table.c.task.in_(manifests))
    said = said.where(table.c.event.in_(("task.archived", "task.rebuilt"))).order_by(table.c.id)
    # Another `task.rebuilt` tells of columns that were filled.
    lines = connection.execute(said) if manifests else ()
    return {row_id: at for row_id, at, detail in lines if detail == manifests[row_id]}


def _want(connection: sa.Connection, each: WantedBack, *, account: str, now: int) -> None:
    same = (_MISSING.c.task == each.row_id, _MISSING.c.key == each.key)
    values = {
        "state": MissingState.WANTED,
        "due_at": None,
        "restored_at": None,
        "reason": None,
        "problem_since": now + RESTORE_MS_MAX,
    }
    if not connection.execute(sa.update(_MISSING).where(*same).values(values)).rowcount:
        row = {"task": each.row_id, "account": account, "key": each.key, "since": now} | values
        require_written(connection.execute(insert_missing(connection, _MISSING).values(row)).rowcount)
    queue_restore(connection, each.row_id, now=now)
    _note(connection, each, now=now)


def _describe_again(connection: sa.Connection, each: WantedBack, *, now: int) -> None:
    queue_incomplete(connection, each.row_id, now=now)
    _note(connection, each, now=now)


def _note(connection: sa.Connection, each: WantedBack, *, now: int) -> None:
    add_line(connection, each.row_id, at=now, event="object.missing", detail=each.key)
    trim(connection, each.row_id)
