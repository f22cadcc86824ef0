"""Rebuilds a ledger from manifests: adds the rows of missing tasks, as if the ledger had archived them itself.

Only missing tasks are added. A task that the ledger has stays as it is, unless nothing would ever archive it (`stuck`),
and a forgotten one is left alone. Of an archived one only empty columns are filled (`completing`). So a rebuild may be
repeated, interrupted, and run beside a daemon whose sweep finds the same tasks: of two inserts the second finds the
row. No forward is queued, and nothing is due.
"""

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.databases.dialect import insert_missing, locking, unindexed
from archiver.ledger.part import Part, retried
from archiver.ledger.rebuilding.completing import complete, may_lack
from archiver.ledger.rebuilding.stuck import may_be_stuck, take_over
from archiver.ledger.tables import schema
from archiver.ledger.tables.archived import TASK_LEFT
from archiver.ledger.tables.counts import Tally, kind_of
from archiver.ledger.tables.history import add_lines, trim_all
from archiver.ledger.tables.second_looks import queue_look
from archiver.ledger.tables.tombstones import forgotten_among, forgotten_ids
from archiver.model import RETENTION_MS, DiscoveredBy, FolderWorkKind, State, StoredAsset

TASKS_MAX = 100
ROWS_MAX = 500
"""Rows of one transaction, unless a single task has more. Callbacks wait for it."""
MISSING_ROLE = "other"
"""The role of a missing file: no document names it."""

_TASKS, _ASSETS, _AMENDMENTS = schema.tasks, schema.assets, schema.amendments


@dataclasses.dataclass(frozen=True, slots=True)
class RebuiltTask:
    """One folder's documents. Times are Unix ms."""

    task_id: str
    external_task_id: str | None
    family: str
    created_at: int
    updated_at: int | None
    archived_at: int
    discovered_by: DiscoveredBy
    request: Mapping[str, object] | None
    document: Mapping[str, object]
    """The API's own object; kept for lost tasks only."""
    manifest_key: str | None
    """None for a lost task, of which there is `incomplete.json`."""
    amendment_keys: Mapping[int, str]
    """The keys of its amendments, by number."""
    stored: Sequence[StoredAsset]
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Stem → reason, for a lost task."""
    is_whole: bool = True
    """Whether every file was seen in the bucket. If not, the daemon looks again, and fetches what Kling still has."""

    @property
    def rows(self) -> int:
        """The largest number of rows that the task becomes: the task, its history, its look, its files and
        amendments."""
        return 3 + len(self.stored) + len(self.missing) + len(self.amendment_keys)

    @property
    def state(self) -> State:
        return State.LOST if self.manifest_key is None else State.ARCHIVED


@dataclasses.dataclass(frozen=True, slots=True)
class FolderContents:
    """What a listing shows of a task's folder."""

    task_id: str
    amendments: int
    has_manifest: bool


@dataclasses.dataclass(frozen=True, slots=True)
class KnownTasks:
    """The tasks that need not be read again, by task id."""

    complete: frozenset[str]
    """Archived, with all amendments that the listing shows, and with no column that a manifest may fill."""
    other: Mapping[str, State]
    """Tasks in another state: the daemon adopts their manifests if it tries to archive them."""
    forgotten: frozenset[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Added:
    """What a transaction has added."""

    tasks: int = 0
    lost: int = 0
    """Added tasks that are lost."""
    amended: int = 0
    """Archived tasks that have got amendments."""
    completed: int = 0
    """Other archived tasks that have got what only their manifest knew."""
    forgotten: int = 0
    """Tasks forgotten under their external ids, or since their ids were read."""
    other: tuple[State, ...] = ()
    """Tasks that stay in another state."""


class Rebuilding(Part):
    """Finds missing tasks, and adds them."""

    def known(self, folders: Sequence[FolderContents], *, account: str) -> KnownTasks:
        """What the ledger knows of the tasks of at most 500 folders."""
        ids = sorted({folder.task_id for folder in folders})
        amended = sa.select(sa.func.count()).where(_AMENDMENTS.c.task == _TASKS.c.id).scalar_subquery()
        stuck = sa.case((may_be_stuck, 1), else_=0).label("may_be_stuck")
        lacking = sa.case((may_lack, 1), else_=0).label("may_lack")
        query = sa.select(_TASKS.c.task_id, _TASKS.c.state, amended.label("amendments"), stuck, lacking)
        query = query.where(_TASKS.c.account == account, _TASKS.c.task_id.in_(ids))
        with self._database.read() as connection:
            rows = {row.task_id: row for row in connection.execute(query)}
            forgotten = forgotten_ids(connection, account=account, task_ids=ids)
        archived = {task_id for task_id, row in rows.items() if row.state == State.ARCHIVED}
        behind = {
            folder.task_id
            for folder in folders
            if folder.task_id in archived and rows[folder.task_id].amendments < folder.amendments
        }
        documented = {folder.task_id for folder in folders if folder.has_manifest}
        behind |= {task_id for task_id in archived & documented if rows[task_id].may_lack}
        other = {
            task_id: State(row.state)
            for task_id, row in rows.items()
            if task_id not in archived and not (row.may_be_stuck and task_id in documented)
        }
        return KnownTasks(frozenset(archived - behind), other, forgotten)

    @retried
    def add(self, tasks: Sequence[RebuiltTask], *, account: str) -> Added:
        """Add at most `TASKS_MAX` tasks, and to archived ones the amendments and columns that they lack. Of two folders
        of one id the first one with a manifest counts."""
        with self._database.write() as connection:
            now = self._now()
            forgotten = forgotten_among(connection, tasks, account=account)
            chosen = _of_each_id(tasks)
            wanted = [chosen[task_id] for task_id in sorted(chosen.keys() - forgotten)]
            new = _insert_tasks(connection, wanted, account=account, now=now)
            known = [task for task in wanted if task.task_id not in new]
            archived = {
                task.task_id: _task_row(task, account=account, now=now)
                for task in known
                if _has_manifest(task)
            }
            new |= take_over(connection, archived, account=account, now=now)
            behind = _behind(connection, [task for task in known if task.task_id not in new], account)
            completed = complete(connection, archived.values(), account=account, now=now)
            rows = {**new, **behind}
            documented = [(rows[task.task_id], task) for task in wanted if task.task_id in rows]
            _insert_assets(connection, documented)
            _insert_amendments(connection, documented)
            _queue_looks(connection, documented, account=account, now=now)
            _add_history(connection, documented, new=set(new.values()), now=now)
            lost = sum(task.state is State.LOST for task in wanted if task.task_id in new)
            others = _other_states(connection, [task.task_id for task in known], account)
            only_completed = completed - behind.keys()
            return Added(
                len(new), lost, len(behind), len(only_completed), len(chosen.keys() & forgotten), others
            )


def _has_manifest(task: RebuiltTask) -> bool:
    return task.manifest_key is not None


def _of_each_id(tasks: Sequence[RebuiltTask]) -> dict[str, RebuiltTask]:
    """Of each id the first task that has a manifest, else the first one."""
    chosen: dict[str, RebuiltTask] = {}
    for task in sorted(tasks, key=lambda task: not _has_manifest(task)):
        chosen.setdefault(task.task_id, task)
    return chosen


def _other_states(connection: sa.Connection, task_ids: Sequence[str], account: str) -> tuple[State, ...]:
    """The states of tasks that are not archived."""
    if not task_ids:
        return ()
    query = sa.select(_TASKS.c.state).where(_TASKS.c.account == account, _TASKS.c.task_id.in_(task_ids))
    states = connection.execute(query.where(_TASKS.c.state != State.ARCHIVED)).scalars()
    return tuple(State(state) for state in states)


def _insert_tasks(
    connection: sa.Connection, tasks: Sequence[RebuiltTask], *, account: str, now: int
) -> dict[str, int]:
    """Insert tasks; id → row of the new ones."""
    if not tasks:
        return {}
    rows = [_task_row(task, account=account, now=now) for task in tasks]
    inserted = insert_missing(connection, _TASKS).returning(_TASKS.c.task_id, _TASKS.c.id)
    new = {row.task_id: row.id for row in connection.execute(inserted, rows)}
    tally = Tally()
    tally.add(kind_of(row) for row in rows if row["task_id"] in new)
    tally.write(connection)
    return new


def _behind(connection: sa.Connection, tasks: Sequence[RebuiltTask], account: str) -> dict[str, int]:
    """Id → row of archived tasks that lack an amendment. A task whose amendment waits is left out: the daemon will find
    its amendments, and queue forwards about them."""
    named = {task.task_id: set(task.amendment_keys.values()) for task in tasks if task.amendment_keys}
    if not named:
        return {}
    query = sa.select(_TASKS.c.task_id, _TASKS.c.id).where(
        _TASKS.c.account == account,
        _TASKS.c.task_id.in_(sorted(named)),
        unindexed(_TASKS.c.state) == State.ARCHIVED,
    )
    work = schema.folder_work
    query = query.where(~sa.exists().where(work.c.task == _TASKS.c.id, work.c.kind == FolderWorkKind.AMEND))
    rows = {row.task_id: row.id for row in connection.execute(locking(connection, query, _TASKS))}
    query_keys = sa.select(_AMENDMENTS.c.task, _AMENDMENTS.c.key).where(
        _AMENDMENTS.c.task.in_(sorted(rows.values()))
    )
    known = {(row.task, row.key) for row in connection.execute(query_keys)}
    return {
        task_id: row_id
        for task_id, row_id in rows.items()
        if any((row_id, key) not in known for key in named[task_id])
    }


def _task_row(task: RebuiltTask, *, account: str, now: int) -> dict[str, Any]:
    """As `outcomes.archived` leaves it, or a lost task that nothing tries any more."""
    is_lost = task.state is State.LOST
    document = json.dumps(task.document, separators=(",", ":"))
    return {
        **TASK_LEFT,
        "account": account,
        "task_id": task.task_id,
        "external_task_id": task.external_task_id,
        "family": task.family,
        "state": task.state,
        "queue": schema.QUEUE_ARCHIVE if is_lost else None,
        "reason": next(iter(task.missing.values()), "deadline_passed") if is_lost else None,
        "attempts": 0,
        "held": 0,
        "due_at": None,
        "created_at": task.created_at,
        "created_at_from": "api",
        "updated_at": task.updated_at,
        "deadline_at": task.created_at + RETENTION_MS,
        "first_seen_at": task.archived_at,
        "confirmed_at": task.archived_at,
        "asked": 0,
        "query_individually": False,
        "discovered_by": task.discovered_by,
        "callbacks": 0,
        "document": document if is_lost else TASK_LEFT["document"],
        "request": None if task.request is None else json.dumps(task.request),
        "manifest_key": task.manifest_key,
        "archived_at": None if is_lost else task.archived_at,
        "seen_again_at": now if task.is_whole and not is_lost else None,
    }


def _insert_assets(connection: sa.Connection, tasks: Iterable[tuple[int, RebuiltTask]]) -> None:
    rows = [row for row_id, task in tasks for row in _asset_rows(row_id, task)]
    rows.sort(key=lambda row: row["task"])  # in the order of its documents, for `show`
    stored = [row for row in rows if row["name"] is not None]
    for some in (stored, [row for row in rows if row["name"] is None]):
        if some:
            connection.execute(insert_missing(connection, _ASSETS), some)


def _asset_rows(row_id: int, task: RebuiltTask) -> Iterable[dict[str, Any]]:
    for asset in task.stored:
        yield {
            "task": row_id,
            "stem": asset.stem,
            "role": asset.role,
            "api_index": asset.index,
            "watermarked": asset.watermarked,
            "url": "",
            "reason": None,
            "name": asset.name,
            "key": asset.key,
            "bytes": asset.bytes,
            "sha256": asset.sha256,
            "content_type": asset.content_type,
            "width": asset.width,
            "height": asset.height,
            "source_url": "",
            "suspect": asset.suspect,
        }
    for stem in sorted(task.missing.keys() - {asset.stem for asset in task.stored}):
        nothing = dict.fromkeys(
            (
                "name", "key", "bytes", "sha256", "content_type", "width", "height", "source_url", "suspect",
                "api_index",
            )
        )  # fmt: skip
        yield {
            **nothing,
            "task": row_id,
            "stem": stem,
            "role": MISSING_ROLE,
            "watermarked": "watermark" in stem,
            "url": "",
            "reason": task.missing[stem],
        }


def _insert_amendments(connection: sa.Connection, tasks: Iterable[tuple[int, RebuiltTask]]) -> None:
    rows = [
        {"task": row_id, "number": number, "key": key, "amended_at": task.archived_at}
        for row_id, task in tasks
        for number, key in task.amendment_keys.items()
    ]
    if rows:
        rows.sort(key=lambda row: (row["task"], row["number"]))
        connection.execute(insert_missing(connection, _AMENDMENTS), rows)


def _queue_looks(
    connection: sa.Connection, tasks: Iterable[tuple[int, RebuiltTask]], *, account: str, now: int
) -> None:
    for row_id, task in sorted(tasks, key=lambda pair: pair[0]):
        if not task.is_whole and task.state is State.ARCHIVED:
            queue_look(connection, row_id, account=account, due_at=now)


def _add_history(
    connection: sa.Connection, tasks: Iterable[tuple[int, RebuiltTask]], *, new: Collection[int], now: int
) -> None:
    lines = []
    for row_id, task in tasks:
        if row_id in new:
            lines.append((row_id, "task.rebuilt", task.manifest_key or f"{task.state}, by incomplete.json"))
        else:
            lines.append((row_id, "task.amended", ", ".join(task.amendment_keys.values())))
    add_lines(connection, lines, at=now)
    trim_all(connection, [row_id for row_id, _ in tasks])
