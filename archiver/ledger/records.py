"""How an answer of the API becomes rows. `transitions.advance` decides what changes; this module reads and writes."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.families import is_provisional
from archiver.ledger.part import Part
from archiver.ledger.tables import schema
from archiver.ledger.tables.counts import Kind, Tally, kind_of
from archiver.ledger.tables.history import add_line, trim
from archiver.ledger.tables.rows import find_all
from archiver.ledger.transitions import (
    Changes,
    Row,
    advance,
    confirmation,
    created_at_of,
    entering,
    state_of,
)
from archiver.model import RETENTION_MS, Asset, DiscoveredBy, Lease, State, Status, Task


class RecordOutcome(enum.StrEnum):
    """What an answer of the API was to the ledger."""

    NEW = "new"
    MOVED = "moved"
    UNCHANGED = "unchanged"
    PASSED_BY = "passed_by"
    """The sweep found it after its deadline: its files are gone."""


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedTask:
    """One task as it stands after `record`."""

    task_id: str
    outcome: RecordOutcome
    state: State | None
    """None when it was passed by."""
    waited_since: int | None = None
    """Since when (Unix ms) it had been due for a query, if it was."""
    family_contradicted: str | None = None
    """The family of this answer, where the recorded one is another."""


@dataclasses.dataclass(frozen=True, slots=True)
class KnownState:
    """How far the ledger knows an id."""

    state: State
    family: str | None
    """From the API; None while it has not confirmed the id."""


class Records(Part):
    """The API's word: the only way into a confirmed state."""

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
            now, tally = self._now(), Tally()
            for name, real_id in _names(tasks, asked_as=asked_as).items():
                asked = name == asked_as
                _merge(connection, tally, account=account, name=name, real_id=real_id, asked=asked, now=now)
            rows = find_all(connection, account=account, task_ids=[task.task_id for task in tasks])
            outcomes = []
            seen: set[str] = set()
            for task in tasks:
                if task.task_id in seen:  # a page that shifted shows a row twice; the first one counts
                    continue
                seen.add(task.task_id)
                row = rows.get(task.task_id)
                if row is not None:
                    outcomes.append(
                        _update(connection, tally, row, task, discovered_by=discovered_by, now=now, rand=rand)
                    )
                    continue
                gone_before = now - behind_ms - RETENTION_MS
                outcomes.append(
                    _insert(
                        connection,
                        tally,
                        task,
                        account=account,
                        discovered_by=discovered_by,
                        now=now,
                        gone_before=gone_before,
                    )
                )
            tally.write(connection)
            return outcomes

    def refresh_assets(self, lease: Lease, task: Task) -> None:
        """A leased task was queried again: take fresher URLs and new assets, keep the others."""
        with self._database.write() as connection:
            _unite_assets(connection, lease.row_id, task.assets)

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


def _names(tasks: Sequence[Task], *, asked_as: str | None) -> dict[str, str]:
    """External id → id of all tasks that may be registered under the former."""
    names = {task.external_task_id: task.task_id for task in tasks if task.external_task_id is not None}
    if asked_as is not None and len(tasks) == 1:
        names[asked_as] = tasks[0].task_id
    return {name: task_id for name, task_id in names.items() if name != task_id}


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
    """The row of an external id becomes the row of the real id, or is merged into it.

    Unless the query named that external id (`asked`), only a registration's row counts: an id from a callback may be
    another task's. A crash before the commit leaves the placeholder, which is queried again.
    """
    rows = find_all(connection, account=account, task_ids=[name, real_id])
    placeholder, real = rows.get(name), rows.get(real_id)
    if placeholder is None or placeholder["confirmed_at"] is not None:
        return
    if not asked and placeholder["discovered_by"] != DiscoveredBy.REGISTRATION:
        return
    table = schema.tasks
    if real is None:
        change = sa.update(table).where(table.c.id == placeholder["id"])
        connection.execute(change.values(task_id=real_id, external_task_id=name))
        return
    connection.execute(sa.delete(table).where(table.c.id == placeholder["id"]))
    tally.remove([kind_of(placeholder)])
    connection.execute(sa.update(table).where(table.c.id == real["id"]).values(_merged(placeholder, real)))
    add_line(connection, real["id"], at=now, event="task.merged", detail="registered by its external id")


def _merged(placeholder: Row, real: Row) -> Changes:
    """What the row of the real id takes over from the row of the external id."""
    first = placeholder if placeholder["first_seen_at"] < real["first_seen_at"] else real
    return {
        "external_task_id": real["external_task_id"] or placeholder["task_id"],
        "request": real["request"] or placeholder["request"],
        "callbacks": real["callbacks"] + placeholder["callbacks"],
        "discovered_by": first["discovered_by"],
        "first_seen_at": first["first_seen_at"],
    }


def _insert(
    connection: sa.Connection,
    tally: Tally,
    task: Task,
    *,
    account: str,
    discovered_by: DiscoveredBy,
    now: int,
    gone_before: int,
) -> RecordedTask:
    """A new task. The sweep passes one by only when its time is up by our clock and by the API's: either may be wrong,
    and nothing might query the task again."""
    created_at, created_at_from = created_at_of(task, first_seen_at=now, now=now)
    if discovered_by is DiscoveredBy.SWEEP and created_at <= gone_before:
        return RecordedTask(task.task_id, RecordOutcome.PASSED_BY, None)
    blank: Changes = {
        "account": account,
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
    finished_in_sweep = discovered_by is DiscoveredBy.SWEEP and task.status is not Status.RUNNING
    swept = {"swept_finished_at": now} if finished_in_sweep else {}
    insert = sa.insert(schema.tasks).values(blank | confirmed | moved | swept)
    row_id: int = connection.execute(insert.returning(schema.tasks.c.id)).scalar_one()
    tally.add([Kind(account, moved["state"], is_confirmed=True)])
    if task.status is Status.SUCCEEDED:
        _unite_assets(connection, row_id, task.assets)
    detail = f"{moved['state']}, found by {discovered_by}"
    add_line(connection, row_id, at=now, event="task.recorded", detail=detail)
    return RecordedTask(task.task_id, RecordOutcome.NEW, moved["state"])


def _update(
    connection: sa.Connection,
    tally: Tally,
    row: Row,
    task: Task,
    *,
    discovered_by: DiscoveredBy,
    now: int,
    rand: float,
) -> RecordedTask:
    was_waiting = row["queue"] in (schema.QUEUE_VERIFY, schema.QUEUE_UNCONFIRMED) and row["due_at"] <= now
    names_all = True
    if task.status is Status.SUCCEEDED and row["state"] != State.ARCHIVED:
        names_all = _unite_assets(connection, row["id"], task.assets)
    changes = advance(row, task, discovered_by=discovered_by, now=now, rand=rand, names_all=names_all)
    if changes:
        connection.execute(sa.update(schema.tasks).where(schema.tasks.c.id == row["id"]).values(changes))
        tally.change(row, changes)
    state = State(changes.get("state") or row["state"])
    has_moved = state != row["state"]
    if has_moved:
        detail = f"{row['state']} → {state}" + (f": {changes['message']}" if changes.get("message") else "")
        add_line(connection, row["id"], at=now, event="task.moved", detail=detail)
        trim(connection, row["id"])
    is_fixed = row["family"] is not None and not is_provisional(row["family"], State(row["state"]))
    contradicted = is_fixed and row["family"] != task.family
    return RecordedTask(
        task.task_id,
        RecordOutcome.MOVED if has_moved else RecordOutcome.UNCHANGED,
        state,
        waited_since=row["due_at"] if was_waiting else None,
        family_contradicted=task.family if contradicted else None,
    )


def _unite_assets(connection: sa.Connection, row_id: int, answered: Sequence[Asset]) -> bool:
    """Refresh URLs and add assets; none is removed or renamed. Whether `answered` names all known assets."""
    table = schema.assets
    query = sa.select(table.c.stem, table.c.url).where(table.c.task == row_id)
    known = {row.stem: row.url for row in connection.execute(query)}
    new: list[Mapping[str, Any]] = [
        {
            "task": row_id,
            "stem": asset.stem,
            "role": asset.role,
            "api_index": asset.index,
            "watermarked": asset.watermarked,
            "url": asset.url,
        }
        for asset in answered
        if asset.stem not in known
    ]
    if new:
        connection.execute(sa.insert(table), new)
    for asset in answered:
        if known.get(asset.stem, asset.url) != asset.url:
            change = sa.update(table).where(table.c.task == row_id, table.c.stem == asset.stem)
            connection.execute(change.values(url=asset.url))
    return known.keys() <= {asset.stem for asset in answered}
