"""How an answer of the API becomes rows. `transitions.advance` decides what changes; this module reads and writes."""

import dataclasses
import enum
from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from archiver.families import is_provisional
from archiver.ledger.databases.dialect import unindexed
from archiver.ledger.folder_work.queueing import queue_amendment
from archiver.ledger.part import Part, require_written, retried
from archiver.ledger.tables import schema, set_aside
from archiver.ledger.tables.batch import Batch, known_assets, stored_assets
from archiver.ledger.tables.counts import Tally, kind_of
from archiver.ledger.tables.forwards import PASSED_ON, ForwardEvent, queue_forwards, queue_passed_on
from archiver.ledger.tables.history import add_line
from archiver.ledger.tables.rows import find_all
from archiver.ledger.tables.tombstones import forgotten_tasks
from archiver.ledger.transitions import (
    Changes,
    Row,
    advance,
    confirmation,
    created_at_of,
    document_json,
    entering,
    state_of,
    status_word,
    unread_columns,
)
from archiver.model import LOOKS_LIKE_TASK_ID, RETENTION_MS, DiscoveredBy, Lease, State, Status, Task


class RecordOutcome(enum.StrEnum):
    """The effect of an answer of the API on the ledger."""

    NEW = "new"
    MOVED = "moved"
    UNCHANGED = "unchanged"
    PASSED_BY = "passed_by"
    """The sweep found it after its deadline: its files are gone."""
    FORGOTTEN = "forgotten"
    """An operator has forgotten it."""


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedTask:
    """One task as it stands after `record`."""

    task_id: str
    outcome: RecordOutcome
    state: State | None
    """None if the task was passed by, or is forgotten."""
    waited_since: int | None = None
    """Since when (Unix ms) the task had been due for a query, if it was."""
    family_contradicted: str | None = None
    """The family of this answer, where the recorded one is another."""


@dataclasses.dataclass(frozen=True, slots=True)
class KnownState:
    """How much the ledger knows of an id."""

    state: State
    family: str | None
    """From the API; None while it has not confirmed the id."""


_IS_NEWS = frozenset({RecordOutcome.NEW, RecordOutcome.MOVED})
_MAY_RUN = frozenset({State.REPORTED, State.RUNNING, State.UNKNOWN})


class Records(Part):
    """Records answers of the API: the only way into a confirmed state."""

    @retried
    def record(
        self,
        tasks: Sequence[Task],
        *,
        account: str,
        discovered_by: DiscoveredBy,
        rand: float,
        asked_as: str | None = None,
        behind_ms: int = 0,
    ) -> list[RecordedTask]:
        """Record the API's answers about at most 500 tasks.

        `asked_as`: the id that the query named. `behind_ms`: how far the API's clock is behind ours.
        """
        with self._database.write() as connection:
            now = self._now()
            rows = _merged_rows(connection, tasks, account=account, asked_as=asked_as, now=now)
            forgotten = forgotten_tasks(connection, tasks, rows, account=account)
            rows = _without_forgotten(connection, rows, forgotten)
            assets = known_assets(connection, _with_assets(tasks, rows))
            archived = stored_assets(connection, _archived(tasks, rows))
            batch = Batch(account=account, now=now)
            outcomes = []
            seen: set[str] = set()
            for task in tasks:
                if task.task_id in seen:  # a page that shifted shows a row twice; the first one counts
                    continue
                seen.add(task.task_id)
                row = rows.get(task.task_id)
                if task.task_id in forgotten:
                    outcomes.append(RecordedTask(task.task_id, RecordOutcome.FORGOTTEN, None))
                elif row is None:
                    gone_before = now - behind_ms - RETENTION_MS
                    outcomes.append(
                        _insert(batch, task, discovered_by=discovered_by, gone_before=gone_before)
                    )
                else:
                    if row["id"] in archived:
                        _amend(connection, batch, row, archived[row["id"]], task)
                    known = assets.get(row["id"], {})
                    outcomes.append(_update(batch, row, known, task, discovered_by=discovered_by, rand=rand))
            batch.write(connection)
            _queue_forwards(connection, tasks, rows, outcomes, account=account, now=now)
            return outcomes

    @retried
    def refresh_assets(self, lease: Lease, task: Task) -> None:
        """A leased task was queried again: take fresher URLs and new assets, keep the others."""
        with self._database.write() as connection:
            batch = Batch(account=lease.account, now=self._now())
            known = known_assets(connection, [lease.row_id])
            batch.unite_assets(lease.row_id, known[lease.row_id], task.assets)
            batch.write(connection)

    def states(self, *, account: str, task_ids: Sequence[str]) -> dict[str, State]:
        """The states of these ids (at most 500); unknown ids are left out."""
        return {
            task_id: known.state
            for task_id, known in self.known_states(account=account, task_ids=task_ids).items()
        }

    def known_states(self, *, account: str, task_ids: Sequence[str]) -> dict[str, KnownState]:
        """How far the ledger knows these ids (at most 500); unknown ids are left out."""
        table = schema.tasks
        query = sa.select(table.c.task_id, table.c.state, table.c.family).where(
            table.c.account == account, table.c.task_id.in_(task_ids)
        )
        with self._database.read() as connection:
            return {
                row.task_id: KnownState(State(row.state), row.family) for row in connection.execute(query)
            }


def _queue_forwards(
    connection: sa.Connection,
    tasks: Sequence[Task],
    rows: Mapping[str, Row],
    outcomes: Sequence[RecordedTask],
    *,
    account: str,
    now: int,
) -> None:
    """Queue forwards: to all applications about failed tasks, to clients also about running ones."""
    failed = [told.task_id for told in outcomes if told.state is State.FAILED and told.outcome in _IS_NEWS]
    if failed:
        chosen = sa.and_(schema.tasks.c.account == account, schema.tasks.c.task_id.in_(failed))
        queue_forwards(connection, chosen, ForwardEvent.FAILED, now=now)
    shown = {
        row["id"]: (ForwardEvent(word), document_json(task))
        for task in tasks
        if (row := rows.get(task.task_id)) is not None
        and row["client_callback_url"] is not None
        and row["state"] in _MAY_RUN
        and (word := status_word(task)) in PASSED_ON
    }
    if shown:
        queue_passed_on(connection, shown, now=now)


def _names(tasks: Sequence[Task], *, asked_as: str | None) -> dict[str, str]:
    """External id → id of all tasks that may be registered under the former."""
    names = {task.external_task_id: task.task_id for task in tasks if task.external_task_id is not None}
    if asked_as is not None and len(tasks) == 1:
        names[asked_as] = tasks[0].task_id
    return {name: task_id for name, task_id in names.items() if name != task_id}


def _merged_rows(
    connection: sa.Connection, tasks: Sequence[Task], *, account: str, asked_as: str | None, now: int
) -> dict[str, Row]:
    """The rows of these tasks, by id, after the rows of their external ids have been merged into them.

    One look finds both: hardly ever is there anything to merge.
    """
    task_ids = [task.task_id for task in tasks]
    names = _names(tasks, asked_as=asked_as)
    rows = find_all(connection, account=account, task_ids=[*task_ids, *names])
    if any(_is_placeholder(rows.get(name), asked=name == asked_as) for name in names):
        tally = Tally()
        for name, real_id in names.items():
            asked = name == asked_as
            _merge(connection, tally, account=account, name=name, real_id=real_id, asked=asked, now=now)
        tally.write(connection)
        rows = find_all(connection, account=account, task_ids=task_ids)
    return rows


def _without_forgotten(
    connection: sa.Connection, rows: Mapping[str, Row], forgotten: Collection[str]
) -> dict[str, Row]:
    """The tasks that are not forgotten. Rows of a forgotten task under another name, or inserted meanwhile, are
    deleted."""
    table, tally = schema.tasks, Tally()
    for row in sorted((rows[task_id] for task_id in forgotten if task_id in rows), key=lambda row: row["id"]):
        require_written(connection.execute(sa.delete(table).where(*_as_read(row))).rowcount)
        tally.remove([kind_of(row)])
    tally.write(connection)
    return {task_id: row for task_id, row in rows.items() if task_id not in forgotten}


def _with_assets(tasks: Sequence[Task], rows: Mapping[str, Row]) -> list[int]:
    """The rows whose assets an answer may change."""
    named = [rows[task.task_id] for task in tasks if _names_assets(task) and task.task_id in rows]
    return [row["id"] for row in named if row["state"] != State.ARCHIVED]


def _archived(tasks: Sequence[Task], rows: Mapping[str, Row]) -> list[int]:
    """The rows of archived tasks of which an answer may name more than their manifest does."""
    named = [rows[task.task_id] for task in tasks if _names_assets(task) and task.task_id in rows]
    return [row["id"] for row in named if row["state"] == State.ARCHIVED]


def _names_assets(task: Task) -> bool:
    return task.status is Status.SUCCEEDED


def _is_placeholder(row: Row | None, *, asked: bool) -> bool:
    """Whether this is the row of an external id.

    An id may be that of one task and the external id of another. So a row is only taken for the latter's if the API
    said so when it was asked for this name (`asked`), or if a user registered it and it looks like no task id.
    Otherwise a task that is still unconfirmed would be lost, and its client would get forwards of the other one.
    """
    if row is None or row["confirmed_at"] is not None or row["named_by_create"]:
        return False
    name = row["task_id"]
    is_external = row["external_task_id"] == name or LOOKS_LIKE_TASK_ID.fullmatch(name) is None
    return asked or (row["discovered_by"] == DiscoveredBy.REGISTRATION and is_external)


def _merge(
    connection: sa.Connection,
    tally: Tally,
    *,
    account: str,
    name: str,
    real_id: str,
    asked: bool,
    now: int,
) -> None:
    """The row of an external id becomes the row of the real id, or is merged into it. A crash before the commit leaves
    it, and it is queried again."""
    rows = find_all(connection, account=account, task_ids=[name, real_id])
    placeholder, real = rows.get(name), rows.get(real_id)
    if placeholder is None or not _is_placeholder(placeholder, asked=asked):
        return
    table = schema.tasks
    if real is None:
        change = sa.update(table).where(*_as_read(placeholder))
        renamed = connection.execute(change.values(task_id=real_id, external_task_id=name))
        require_written(renamed.rowcount)
        return
    require_written(connection.execute(sa.delete(table).where(*_as_read(placeholder))).rowcount)
    tally.remove([kind_of(placeholder)])
    merging = sa.update(table).where(*_as_read(real)).values(_merged(placeholder, real))
    require_written(connection.execute(merging).rowcount)
    add_line(connection, real["id"], at=now, event="task.merged", detail="registered by its external id")


def _as_read(row: Row) -> tuple[sa.ColumnElement[bool], ...]:
    table = schema.tasks
    return (
        table.c.id == row["id"],
        unindexed(table.c.state) == row["state"],
        table.c.callbacks == row["callbacks"],
    )


def _merged(placeholder: Row, real: Row) -> Changes:
    """What the row of the real id takes over from the row of the external id."""
    first = placeholder if placeholder["first_seen_at"] < real["first_seen_at"] else real
    return {
        "external_task_id": real["external_task_id"] or placeholder["task_id"],
        "request": real["request"] or placeholder["request"],
        "client_callback_url": real["client_callback_url"] or placeholder["client_callback_url"],
        "callbacks": real["callbacks"] + placeholder["callbacks"],
        "discovered_by": first["discovered_by"],
        "first_seen_at": first["first_seen_at"],
    }


def _insert(batch: Batch, task: Task, *, discovered_by: DiscoveredBy, gone_before: int) -> RecordedTask:
    """A new task. The sweep passes one by only when its time is up by our clock and by the API's: either may be wrong,
    and nothing might query the task again."""
    now = batch.now
    created_at, created_at_from = created_at_of(task, first_seen_at=now, now=now)
    if discovered_by is DiscoveredBy.SWEEP and created_at <= gone_before:
        return RecordedTask(task.task_id, RecordOutcome.PASSED_BY, None)
    blank: Changes = {
        "account": batch.account,
        "task_id": task.task_id,
        "family_hint": None,
        "result_arrays": "",
        "attempts": 0,
        "held": 0,
        "first_seen_at": now,
        "asked": 0,
        "query_individually": False,
        "discovered_by": discovered_by,
        "callbacks": 0,
    }
    confirmed = confirmation(task, created_at=created_at, created_at_from=created_at_from, now=now)
    moved = entering(state_of(task), task, deadline_at=created_at + RETENTION_MS, now=now)
    if task.is_unread:
        moved |= unread_columns(task)
    if moved["state"] is State.BURIED:
        moved |= set_aside.buried(blank | confirmed, reason=moved["reason"], now=now)
    finished_in_sweep = discovered_by is DiscoveredBy.SWEEP and task.status is not Status.RUNNING
    swept = {"swept_finished_at": now} if finished_in_sweep else {}
    assets = task.assets if _names_assets(task) else ()
    detail = f"{moved['state']}, found by {discovered_by}"
    batch.insert(blank | confirmed | moved | swept, assets, detail=detail)
    return RecordedTask(task.task_id, RecordOutcome.NEW, moved["state"])


def _amend(connection: sa.Connection, batch: Batch, row: Row, known: Mapping[str, bool], task: Task) -> None:
    """An answer about an archived task: what it names for the first time is amended. `known` says of each stem whether
    it is stored; only of one that is not, a fresh URL is news."""
    new = [asset for asset in task.assets if asset.stem not in known]
    unstored = [asset for asset in task.assets if known.get(asset.stem) is False]
    batch.add_assets(row["id"], new)
    batch.renew_urls(row["id"], unstored)
    if new:
        document = document_json(task)
        queue_amendment(
            connection, row["id"], document=document, deadline_at=row["deadline_at"], now=batch.now
        )


def _update(
    batch: Batch,
    row: Row,
    known_urls: Mapping[str, str],
    task: Task,
    *,
    discovered_by: DiscoveredBy,
    rand: float,
) -> RecordedTask:
    """A known task; `known_urls` are those of its assets, by stem."""
    now = batch.now
    if task.is_unread:  # the worker that leases the task queries it, and gets the same answer
        return RecordedTask(task.task_id, RecordOutcome.UNCHANGED, State(row["state"]))
    was_waiting = row["queue"] in (schema.QUEUE_VERIFY, schema.QUEUE_UNCONFIRMED) and row["due_at"] <= now
    names_all = True
    if _names_assets(task) and row["state"] != State.ARCHIVED:
        names_all = batch.unite_assets(row["id"], known_urls, task.assets)
    changes = advance(row, task, discovered_by=discovered_by, now=now, rand=rand, names_all=names_all)
    batch.update(row, changes)
    state = State(changes.get("state") or row["state"])
    has_moved = state != row["state"]
    if has_moved:
        detail = f"{row['state']} → {state}" + (f": {changes['message']}" if changes.get("message") else "")
        batch.add_recurring_line(row["id"], event="task.moved", detail=detail)
    is_fixed = row["family"] is not None and not is_provisional(row["family"], State(row["state"]))
    contradicted = is_fixed and row["family"] != task.family
    return RecordedTask(
        task.task_id,
        RecordOutcome.MOVED if has_moved else RecordOutcome.UNCHANGED,
        state,
        waited_since=row["due_at"] if was_waiting else None,
        family_contradicted=task.family if contradicted else None,
    )
