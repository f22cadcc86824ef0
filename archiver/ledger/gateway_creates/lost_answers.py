"""Reads what `by_time` judges: creates whose answers were lost, and tasks that nothing leads to their makers. Writes
nothing."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.families import COLLECTION_SWEEPS, collection_of
from archiver.ledger.gateway_creates.by_time import (
    AFTER_MS,
    BEFORE_MS,
    PATIENCE_MS,
    UNSWEPT_MS,
    Judgement,
    MatchDoubt,
    SentCreate,
    UnclaimedTask,
    judge,
)
from archiver.ledger.gateway_creates.joining import ABANDONED, OPEN
from archiver.ledger.tables import schema
from archiver.model import DAY_MS, RETENTION_MS, State

CREATES_MAX = 200
"""Lost creates that are looked at in one round, the newest first: an old one has been looked at often."""
NEIGHBOURS_MAX = 10_000
"""Tasks of each state that are looked at for another application's, on either side of a task."""
STRANGERS_MAX = 50
"""Unexplained tasks that are looked at more closely."""

Row = Mapping[Any, Any]

_CREATES, _TASKS, _SWEEPS = schema.gateway_creates, schema.tasks, schema.sweeps
_ENDED = (State.SUCCEEDED, State.ARCHIVED, State.FAILED, State.LOST, State.BURIED)
_CONFIRMED = (State.RUNNING, *_ENDED)
_FROM_API = "api"
_COLUMNS = (
    _TASKS.c.id,
    _TASKS.c.task_id,
    _TASKS.c.created_at,
    _TASKS.c.created_at_from,
    _TASKS.c.updated_at,
    _TASKS.c.family_hint,
    _TASKS.c.external_task_id,
    _TASKS.c.callbacks,
    _TASKS.c.named_by_create,
    _TASKS.c.client_callback_url,
    _TASKS.c.request,
)
_UNCLAIMED = sa.and_(
    _TASKS.c.named_by_create.is_(False),
    _TASKS.c.client_callback_url.is_(None),
    _TASKS.c.external_task_id.is_(None),
)


@dataclasses.dataclass(frozen=True, slots=True)
class JudgedFamily:
    """What time says of the lost creates of one family of one account."""

    account: str
    family: str
    references: frozenset[str]
    """Of all that were looked at."""
    judgements: Sequence[Judgement]


def judged_families(connection: sa.Connection, *, now: int) -> list[JudgedFamily]:
    """Every family that has creates whose answers were lost."""
    of: dict[tuple[str, str], list[Row]] = {}
    for create in connection.execute(_lost(now=now)).mappings():
        of.setdefault((create["account"], create["family"]), []).append(create)
    return [
        JudgedFamily(
            account,
            family,
            frozenset(create["reference"] for create in creates),
            list(_Place(connection, account, family, now).judgements(creates)),
        )
        for (account, family), creates in of.items()
    ]


def _lost(*, now: int) -> sa.Select[Any]:
    query = sa.select(_CREATES).where(
        _CREATES.c.state == OPEN,
        _CREATES.c.answered_at.is_(None),
        _CREATES.c.external_task_id.is_(None),
        _CREATES.c.client_callback_url.is_not(None),
        _CREATES.c.created_at <= now - AFTER_MS,
    )
    return query.order_by(_CREATES.c.created_at.desc()).limit(CREATES_MAX)


def may_be_lost_creates(row: Row) -> bool:
    """Whether nothing leads from this task to its maker. A callback without a reference is another maker's, and whoever
    registers a task has heard of it."""
    return (
        row["client_callback_url"] is None
        and not row["named_by_create"]
        and row["external_task_id"] is None
        and row["callbacks"] == 0
        and row["family_hint"] is None
        and row["request"] is None
        and row["created_at_from"] == _FROM_API
    )


@dataclasses.dataclass(frozen=True)
class _Place:
    """The tasks of one family of one account."""

    connection: sa.Connection
    account: str
    family: str
    now: int

    def judgements(self, lost: Sequence[Row]) -> Iterator[Judgement]:
        swept_at = self._swept_at()
        yield from self._unswept(lost, swept_at)
        tasks: dict[int, UnclaimedTask] = {}
        for create in lost:
            at = create["created_at"]
            tasks |= {task.row_id: task for task in self._tasks(at - BEFORE_MS, at + AFTER_MS)}
        makers: dict[str, SentCreate] = {}
        for task in tasks.values():
            makers |= {
                row["reference"]: _sent(row, swept_at=swept_at) for row in self._makers(task.created_at)
            }
        yield from judge(
            list(makers.values()),
            list(tasks.values()),
            has_strangers=lambda task: self._has_strangers(task, tasks),
        )

    def _unswept(self, lost: Sequence[Row], swept_at: int) -> Iterator[Judgement]:
        late = [
            create
            for create in (_sent(row, swept_at=swept_at) for row in lost)
            if not create.is_swept and create.sent_at + AFTER_MS + UNSWEPT_MS <= self.now
        ]
        if late:
            yield Judgement(doubt=MatchDoubt.UNSWEPT, creates=late)

    def _swept_at(self) -> int:
        """When the last sweep began that has read all of the list."""
        collection = collection_of(self.family)
        name = self.family if collection is None else COLLECTION_SWEEPS[collection]
        query = sa.select(_SWEEPS.c.last_success_at).where(
            _SWEEPS.c.account == self.account, _SWEEPS.c.family == name
        )
        return self.connection.execute(query).scalar() or 0

    def _tasks(self, since: int, until: int) -> Iterator[UnclaimedTask]:
        """Those that may be of lost creates, created in this time."""
        for state in _CONFIRMED:
            query = self._created(state, since, until).where(_UNCLAIMED)
            for row in self.connection.execute(query).mappings():
                if may_be_lost_creates(row):
                    ended_at = max(row["created_at"], row["updated_at"] or 0)
                    is_quiet = state in _ENDED and ended_at + PATIENCE_MS <= self.now
                    yield UnclaimedTask(row["id"], row["task_id"], row["created_at"], is_quiet)

    def _created(self, state: State, since: int, until: int) -> sa.Select[Any]:
        """Of a confirmed task the deadline says when it was created, and has an index."""
        return sa.select(*_COLUMNS).where(
            _TASKS.c.account == self.account,
            _TASKS.c.family == self.family,
            _TASKS.c.state == state,
            _TASKS.c.deadline_at.between(since + RETENTION_MS, until + RETENTION_MS),
        )

    def _makers(self, created_at: int) -> Sequence[Row]:
        """Creates that may have made a task of that moment. Those that time has matched have made theirs."""
        query = sa.select(_CREATES).where(
            _CREATES.c.created_at.between(created_at - AFTER_MS, created_at + BEFORE_MS),
            _CREATES.c.account == self.account,
            _CREATES.c.family == self.family,
            _CREATES.c.state.in_((OPEN, ABANDONED)),
        )
        return self.connection.execute(query).mappings().all()

    def _has_strangers(self, task: UnclaimedTask, known: Mapping[int, UnclaimedTask]) -> bool:
        """Whether another application is known to create such tasks."""
        at, deadline = task.created_at, _TASKS.c.deadline_at
        for state in _CONFIRMED:
            for query in (
                self._created(state, at - DAY_MS, at).order_by(deadline.desc()),
                self._created(state, at, at + DAY_MS).order_by(deadline),
            ):
                near = query.limit(NEIGHBOURS_MAX).subquery()
                strange = (
                    near.c.named_by_create.is_(False),
                    near.c.client_callback_url.is_(None),
                    near.c.external_task_id.is_(None),
                )
                found = sa.select(near).where(*strange).limit(STRANGERS_MAX)
                rows = self.connection.execute(found).mappings().all()
                if len(rows) == STRANGERS_MAX:
                    return True
                if any(row["id"] not in known and not self._is_explained(row) for row in rows):
                    return True
        return False

    def _is_explained(self, row: Row) -> bool:
        """Whether a create of the gateway may have made this task: one without a client's callback URL also if a
        callback has come."""
        makers = self._makers(row["created_at"])
        if may_be_lost_creates(row):
            return bool(makers)
        return any(maker["client_callback_url"] is None for maker in makers)


def _sent(row: Row, *, swept_at: int) -> SentCreate:
    is_open = row["state"] == OPEN
    return SentCreate(
        reference=row["reference"],
        sent_at=row["created_at"],
        # Of one that was abandoned, Kling itself calls the client.
        client_callback_url=row["client_callback_url"] if is_open else None,
        is_lost=is_open and row["answered_at"] is None and row["external_task_id"] is None,
        is_swept=row["created_at"] + AFTER_MS <= swept_at,
    )
