"""Shows forwards to an operator, and queues them again: dead ones, or events of tasks that ended earlier."""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.databases.dialect import unindexed
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.forwards import (
    EVENT_OF_STATE,
    PASSED_ON,
    ForwardEvent,
    ForwardState,
    ForwardTally,
    ForwardTarget,
    forward_counts,
    insert,
)
from archiver.ledger.tables.rows import find
from archiver.model import DAY_MS, RETENTION_MS, State, rfc3339

ROWS_MAX = 500
"""Rows of one transaction, for which callbacks wait."""
_LATE_MS = 8 * DAY_MS
"""How long after its deadline a lost task may still be archived, at most."""

_FORWARDS, _TASKS = schema.forwards, schema.tasks
_IS_SHOWN = _FORWARDS.c.event.not_in(PASSED_ON)


@dataclasses.dataclass(frozen=True, slots=True)
class ForwardView:
    """One forward, as people and scripts see it. Times are Unix ms."""

    webhook_id: str
    account: str
    task_id: str
    target: ForwardTarget
    client_callback_url: str | None
    event: ForwardEvent
    number: int
    state: ForwardState
    attempts: int
    queued_at: int
    due_at: int | None
    ended_at: int | None
    last_status: int | None
    reason: str | None

    def as_json(self, *, operator_url: str | None) -> dict[str, object]:
        """As `show --json` prints it; `operator_url` is the present one."""
        return {
            "target": self.shown_target(operator_url=operator_url),
            "event": self.event,
            "state": self.state,
            "attempts": self.attempts,
            "due_at": None if self.due_at is None else rfc3339(self.due_at),
            "last_status": self.last_status,
        }

    def as_listed(self, *, operator_url: str | None) -> dict[str, object]:
        """As `forwards list --json` prints it."""
        return {
            "webhook_id": self.webhook_id,
            "account": self.account,
            "task_id": self.task_id,
            **self.as_json(operator_url=operator_url),
            "reason": self.reason,
            "queued_at": rfc3339(self.queued_at),
            "ended_at": None if self.ended_at is None else rfc3339(self.ended_at),
        }

    def shown_target(self, *, operator_url: str | None) -> str:
        """The URL without its query, which may hold a secret."""
        url = operator_url if self.target is ForwardTarget.OPERATOR else self.client_callback_url
        return self.target if url is None else url.partition("?")[0].partition("#")[0]


@dataclasses.dataclass(frozen=True, slots=True)
class ForwardPage:
    """Some forwards of all accounts, and where the next ones begin: None at the end."""

    rows: Sequence[ForwardView]
    next_page: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class SendProgress:
    """The progress of `send`."""

    looked_at: int
    queued: int
    after: tuple[int, int]
    """Where the next batch begins: deadline and row."""
    is_done: bool


class ForwardOrders(Part):
    """Lists forwards, and queues them again."""

    def list(
        self, *, account: str, state: ForwardState | None = None, count_max: int | None = None
    ) -> list[ForwardView]:
        """The forwards of an account, the newest first."""
        query = _VIEW.where(_FORWARDS.c.account == account, _IS_SHOWN).order_by(_FORWARDS.c.id.desc())
        if state is not None:
            # As a literal: else SQLite cannot tell that a partial index has all the rows.
            query = query.where(_FORWARDS.c.state == sa.literal_column(f"'{state}'"))
        with self._database.read() as connection:
            return [_view(row) for row in connection.execute(query.limit(count_max)).mappings()]

    def counts(self) -> dict[ForwardState, int]:
        """How many there are in each state."""
        with self._database.read() as connection:
            return forward_counts(connection)

    def page(self, state: ForwardState, *, page: str | None, limit: int) -> ForwardPage:
        """The forwards in `state` of all accounts, those that came there last first. Reads along an index, however many
        there are. `page` is the `next_page` of another one; anything else is the first page."""
        at = _FORWARDS.c.queued_at if state is ForwardState.WAITING else _FORWARDS.c.ended_at
        # As a literal: else SQLite cannot tell that a partial index has all the rows.
        query = _VIEW.where(_FORWARDS.c.state == sa.literal_column(f"'{state}'"), _IS_SHOWN)
        if place := re.fullmatch(r"(\d{1,15})-(\d{1,15})", page or ""):
            last_at, last_id = map(int, place.groups())
            is_behind = sa.or_(at < last_at, sa.and_(at == last_at, _FORWARDS.c.id < last_id))
            query = query.where(at <= last_at, is_behind)
        with self._database.read() as connection:
            query = query.order_by(at.desc(), _FORWARDS.c.id.desc()).limit(limit + 1)
            rows = connection.execute(query).mappings().all()
        last = rows[limit - 1] if len(rows) > limit else None
        next_page = None if last is None else f"{last[at.name]}-{last['id']}"
        return ForwardPage([_view(row) for row in rows[:limit]], next_page)

    @retried
    def retry(self, names: Sequence[str], *, account: str, task_id: str | None = None) -> dict[str, int]:
        """Send the ended forwards of these ids, external ids or webhook ids again, with another 7 days; how many of
        each. Unknown ids are left out. `task_id` is the task of the webhook ids, for which there is no index."""
        # Found without the lock, for which callbacks wait; `_requeue` looks again at what it changes.
        with self._database.read() as connection:
            found = {name: _named(connection, name, account=account, task_id=task_id) for name in names}
        retried_of = {name: 0 for name, ids in found.items() if ids is not None}
        if any(found.values()):
            ended = (ForwardState.DEAD, ForwardState.DELIVERED)
            with self._database.write() as connection:
                for name in retried_of:
                    chosen = _FORWARDS.c.id.in_(found[name] or ())
                    retried_of[name] = self._requeue(connection, chosen, states=ended)
        return retried_of

    @retried
    def retry_dead(self, *, account: str) -> int:
        """Send up to ROWS_MAX dead forwards again, those first that died first; how many. None are left at 0."""
        dead = (
            sa.select(_FORWARDS.c.id)
            .where(
                _FORWARDS.c.account == account, _FORWARDS.c.state == sa.literal_column("'dead'"), _IS_SHOWN
            )
            # In the order of the index of dead forwards: a walk by id would pass all delivered ones.
            .order_by(_FORWARDS.c.ended_at, _FORWARDS.c.id)
            .limit(ROWS_MAX)
        )
        requeued = 0
        while not requeued:
            with self._database.read() as connection:
                ids = list(connection.execute(dead).scalars())
            if not ids:
                break
            with self._database.write() as connection:
                # None are left if another process was faster.
                requeued = self._requeue(connection, _FORWARDS.c.id.in_(ids), states=(ForwardState.DEAD,))
        return requeued

    @retried
    def send(
        self, state: State, *, account: str, since: int, until: int, after: tuple[int, int]
    ) -> SendProgress:
        """Queue forwards to the operator's application for tasks that came to `state` from `since` to `until`, also for
        those that it has had: one batch of up to ROWS_MAX, from behind `after`."""
        event = EVENT_OF_STATE[state]
        query = _ended(state, account=account, since=since, until=until, after=after).limit(ROWS_MAX)
        # Found without the lock, for which callbacks wait: the batch may be behind many tasks of another time.
        with self._database.read() as connection:
            found = connection.execute(query).all()
        if not found:
            return SendProgress(0, 0, after, is_done=True)
        with self._database.write() as connection:
            ids = [row.id for row in found]
            # Leaves out tasks that were forgotten or tried again meanwhile.
            still = _TOLD.where(_TASKS.c.id.in_(ids), unindexed(_TASKS.c.state) == state).order_by(
                _TASKS.c.id
            )
            rows = connection.execute(still).mappings().all()
            known = sa.and_(
                _FORWARDS.c.task.in_(ids),
                _FORWARDS.c.event == event,
                _FORWARDS.c.target == ForwardTarget.OPERATOR,
            )
            ended = (ForwardState.DEAD, ForwardState.DELIVERED)
            queued = self._requeue(connection, known, states=ended)
            wanted = [(row, ForwardTarget.OPERATOR) for row in rows]
            if wanted:
                queued += insert(connection, wanted, event, number=0, now=self._now())
        last = found[-1]
        return SendProgress(len(found), queued, (last.deadline_at, last.id), is_done=len(found) < ROWS_MAX)

    def _requeue(
        self, connection: sa.Connection, chosen: sa.ColumnElement[bool], *, states: Collection[ForwardState]
    ) -> int:
        query = sa.select(_FORWARDS.c.id, _FORWARDS.c.event, _FORWARDS.c.state)
        rows = connection.execute(
            query.where(chosen, _FORWARDS.c.state.in_(states)).order_by(_FORWARDS.c.id)
        ).all()
        now, tally, count = self._now(), ForwardTally(), 0
        again: dict[str, Any] = {
            "state": ForwardState.WAITING,
            "due_at": now,
            "queued_at": now,
            "attempts": 0,
        }
        again |= {"ended_at": None, "unseen_since": None, "last_status": None, "reason": None}
        for row in rows:
            same = (_FORWARDS.c.id == row.id, _FORWARDS.c.state == row.state)
            if connection.execute(sa.update(_FORWARDS).where(*same).values(again)).rowcount:
                tally.move(row.event, row.state, ForwardState.WAITING)
                count += 1
        tally.write(connection)
        return count


_VIEW = sa.select(_FORWARDS, _TASKS.c.task_id, _TASKS.c.client_callback_url).join(
    _TASKS, _TASKS.c.id == _FORWARDS.c.task
)
_TOLD = sa.select(
    _TASKS.c.id,
    _TASKS.c.account,
    _TASKS.c.task_id,
    _TASKS.c.client_callback_url,
    _TASKS.c.document,
    _TASKS.c.reason,
    _TASKS.c.message,
)
"""The columns of a task that a forward contains."""


def _named(
    connection: sa.Connection, name: str, *, account: str, task_id: str | None
) -> Sequence[int] | None:
    """The forward with this webhook id, or all forwards of a task; None if there is no such forward or task."""
    is_webhook = name.startswith("fwd_")
    chosen = [_FORWARDS.c.account == account, _FORWARDS.c.webhook_id == name] if is_webhook else [_IS_SHOWN]
    of_task = task_id if is_webhook else name
    if of_task is not None:
        row = find(connection, account=account, task_id=of_task)
        if row is None:
            return None
        chosen.append(_FORWARDS.c.task == row["id"])
    ids = connection.execute(sa.select(_FORWARDS.c.id).where(*chosen)).scalars().all()
    return None if is_webhook and not ids else ids


def _ended(state: State, *, account: str, since: int, until: int, after: tuple[int, int]) -> sa.Select[Any]:
    """Along the index by state and deadline: a task has ended between its creation and a week after its deadline."""
    columns = _TASKS.c
    ended_at = {
        State.ARCHIVED: columns.archived_at,
        State.FAILED: sa.func.coalesce(columns.updated_at, columns.asked_at, columns.created_at),
        State.LOST: columns.deadline_at,
    }[state]
    behind = sa.or_(
        columns.deadline_at > after[0],
        sa.and_(columns.deadline_at == after[0], columns.id > after[1]),
    )
    return (
        sa.select(columns.id, columns.deadline_at)
        .where(columns.state == state, columns.account == account, columns.confirmed_at.is_not(None))
        .where(columns.deadline_at >= since - _LATE_MS, columns.deadline_at <= until + RETENTION_MS + DAY_MS)
        .where(ended_at >= since, ended_at <= until, behind)
        .order_by(columns.deadline_at, columns.id)
    )


def forwards_of(connection: sa.Connection, row_id: int) -> tuple[ForwardView, ...]:
    """The forwards of a task, in their order."""
    query = _VIEW.where(_FORWARDS.c.task == row_id, _IS_SHOWN)
    rows = connection.execute(query).mappings()  # few: the index by task is in another order
    return tuple(map(_view, sorted(rows, key=lambda row: int(row["id"]))))


def _view(row: Mapping[Any, Any]) -> ForwardView:
    return ForwardView(
        webhook_id=row["webhook_id"],
        account=row["account"],
        task_id=row["task_id"],
        target=ForwardTarget(row["target"]),
        client_callback_url=row["client_callback_url"],
        event=ForwardEvent(row["event"]),
        number=row["number"],
        state=ForwardState(row["state"]),
        attempts=row["attempts"],
        queued_at=row["queued_at"],
        due_at=row["due_at"],
        ended_at=row["ended_at"],
        last_status=row["last_status"],
        reason=row["reason"],
    )
