"""Reads what `by_time` judges: creates whose answers were lost, and tasks of unknown makers. Writes nothing.

Creates and tasks of a family are read once for each day of lost creates, and joined in memory: the number of statements
does not grow with either. If there are too many to be read, the creates are doubted and not judged.
"""

import bisect
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.families import COLLECTION_SWEEPS, collection_of
from archiver.ledger.databases.dialect import hidden
from archiver.ledger.gateway_creates.by_time import (
    AFTER_MS,
    MADE_AFTER_MS,
    MADE_BEFORE_MS,
    MATCHED_MS,
    PASSING,
    PATIENCE_MS,
    UNSWEPT_MS,
    Judgement,
    MatchDoubt,
    SentCreate,
    UnclaimedTask,
    judge,
)
from archiver.ledger.gateway_creates.joining import ABANDONED, OPEN
from archiver.ledger.gateway_creates.turns import Cursor, in_turn, next_cursor
from archiver.ledger.tables import schema
from archiver.model import DAY_MS, RETENTION_MS, State

CREATES_MAX = 200
"""Lost creates that are judged in one round."""
MAKERS_MAX = 2_000
"""Creates that are read for one day of lost creates."""
TASKS_MAX = 2_000
"""Tasks of unknown makers that are read for the same."""
SCANNED_MAX = 100_000
"""Tasks of each state that are read to find these."""
NAMED_MAX = 20
"""Tasks that are named where there are too many to be read."""

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
    _TASKS.c.state,
    _TASKS.c.family_hint,
    _TASKS.c.external_task_id,
    _TASKS.c.callbacks,
    _TASKS.c.named_by_create,
    _TASKS.c.client_callback_url,
    _TASKS.c.request,
)


@dataclasses.dataclass(frozen=True, slots=True)
class JudgedFamily:
    """What time says of lost creates of one family of one account, which were sent within a day."""

    account: str
    family: str
    references: frozenset[str]
    """Of all that were looked at."""
    judgements: Sequence[Judgement]


@dataclasses.dataclass(frozen=True, slots=True)
class JudgedRound:
    """What one round has judged, and where the next one goes on."""

    families: Sequence[JudgedFamily]
    cursor: Cursor


def judged_round(connection: sa.Connection, *, after: Cursor, now: int) -> JudgedRound:
    """CREATES_MAX lost creates after the cursor, the oldest first, then again from the beginning: each has its turn."""
    lost = in_turn(_lost(now=now), after=after, limit=CREATES_MAX)
    rows = connection.execute(lost).mappings().all()
    of: dict[tuple[str, str], list[Row]] = {}
    for create in rows:
        of.setdefault((create["account"], create["family"]), []).append(create)
    families = [
        JudgedFamily(
            account,
            family,
            frozenset(create["reference"] for create in day),
            list(_Place(connection, account, family, now).judgements(day)),
        )
        for (account, family), creates in of.items()
        for day in _days(creates)
    ]
    return JudgedRound(families, next_cursor(rows, limit=CREATES_MAX))


def _lost(*, now: int) -> sa.Select[Any]:
    """Those that are doubted for good are not judged again."""
    return sa.select(_CREATES).where(
        _CREATES.c.state == OPEN,
        _CREATES.c.answered_at.is_(None),
        _CREATES.c.external_task_id.is_(None),
        _CREATES.c.client_callback_url.is_not(None),
        _CREATES.c.created_at <= now - AFTER_MS,
        sa.or_(_CREATES.c.doubt.is_(None), _CREATES.c.doubt.in_(PASSING)),
    )


def _days(in_order: Sequence[Row]) -> Iterator[list[Row]]:
    """Stretches of at most a day: tasks and creates of three days are then read, and not of a week."""
    day: list[Row] = []
    for create in in_order:
        if day and create["created_at"] > day[0]["created_at"] + DAY_MS:
            yield day
            day = []
        day.append(create)
    if day:
        yield day


def may_be_lost_creates(row: Row) -> bool:
    """Whether nothing shows who created this task. A callback without a reference shows that the gateway did not; a
    registration shows that its client knows the task."""
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
        """`lost` are in the order of their sending. A day more is read on either side: no group is longer, and within
        a day a task of another application speaks against a match."""
        swept_at = self._swept_at()
        since, until = lost[0]["created_at"] - DAY_MS, lost[-1]["created_at"] + DAY_MS
        judged: list[Judgement] = []
        makers = self._makers(since - MADE_AFTER_MS, until + MADE_AFTER_MS)
        rows = None if makers is None else self._tasks(since - MADE_BEFORE_MS, until + MADE_AFTER_MS)
        if makers is None or rows is None:
            judged.extend(self._too_much(lost, swept_at))
        else:
            judged.extend(self._judged([_sent(row, swept_at=swept_at) for row in makers], rows))
        yield from judged
        yield from self._unswept(lost, swept_at, judged)

    def _judged(self, makers: Sequence[SentCreate], rows: Sequence[Row]) -> list[Judgement]:
        of_clients = [maker for maker in makers if maker.is_lost and maker.client_callback_url is not None]
        lost_times = _times(of_clients)
        tasks = {
            row["id"]: self._unclaimed(row)
            for row in rows
            if may_be_lost_creates(row) and _has_maker(row, lost_times)
        }
        all_times = _times(makers)
        untold_times = _times([maker for maker in makers if maker.client_callback_url is None])
        strange = sorted(
            row["created_at"]
            for row in rows
            if row["id"] not in tasks
            # A create without a client's URL explains even a task that a callback has named.
            and not _has_maker(row, all_times if may_be_lost_creates(row) else untold_times)
        )

        def has_strangers(task: UnclaimedTask) -> bool:
            first = bisect.bisect_left(strange, task.created_at - DAY_MS)
            return first < len(strange) and strange[first] <= task.created_at + DAY_MS

        return judge(makers, tasks.values(), now=self.now, has_strangers=has_strangers)

    def _too_much(self, lost: Sequence[Row], swept_at: int) -> Iterator[Judgement]:
        """Doubts all of them. Not all tasks are read, so this includes creates that have made none."""
        doubted = [create for row in lost if (create := _sent(row, swept_at=swept_at)).is_swept]
        if not doubted:
            return
        since, until = doubted[0].sent_at - MADE_BEFORE_MS, doubted[-1].sent_at + MADE_AFTER_MS
        named: list[UnclaimedTask] = []
        for state in _CONFIRMED:
            near = self._created(state, since, until).limit(SCANNED_MAX).subquery()
            rows = self.connection.execute(_unclaimed(near).limit(NAMED_MAX)).mappings()
            named += [self._unclaimed(row) for row in rows if may_be_lost_creates(row)]
        yield Judgement(doubt=MatchDoubt.MANY, creates=doubted, tasks=named[:NAMED_MAX])

    def _unswept(
        self, lost: Sequence[Row], swept_at: int, judged: Sequence[Judgement]
    ) -> Iterator[Judgement]:
        """Doubts those that no sweep has followed, unless a judgement says more about them."""
        known = {create.reference for judgement in judged for create in judgement.creates}
        known |= {create.reference for judgement in judged for create, _ in judgement.matches}
        late = [
            _sent(row, swept_at=swept_at)
            for row in lost
            if row["reference"] not in known
            and swept_at < row["created_at"] + AFTER_MS
            and row["created_at"] + AFTER_MS + UNSWEPT_MS <= self.now
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

    def _tasks(self, since: int, until: int) -> list[Row] | None:
        """Those of unknown makers, created in this time; None if there are too many."""
        found: list[Row] = []
        for state in _CONFIRMED:
            near = self._created(state, since, until).limit(SCANNED_MAX).subquery()
            query = _unclaimed(near).limit(TASKS_MAX + 1 - len(found))
            found += self.connection.execute(query).mappings().all()
            if len(found) > TASKS_MAX or self._is_over(state, since, until):
                return None
        return found

    def _is_over(self, state: State, since: int, until: int) -> bool:
        """Whether there are more than are looked through; the index alone says so."""
        near = self._created(state, since, until).with_only_columns(_TASKS.c.deadline_at)
        return self.connection.execute(near.limit(1).offset(SCANNED_MAX)).first() is not None

    def _created(self, state: State, since: int, until: int) -> sa.Select[Any]:
        """Of a confirmed task the deadline says when it was created.

        A range of rows (family, state, deadline) that only the index `tasks_by_family` serves. With a condition for
        each column, PostgreSQL may take the index of the states, and pass the tasks of all other families.
        """
        columns = sa.tuple_(_TASKS.c.family, _TASKS.c.state, _TASKS.c.deadline_at)
        family, state_ = _hidden_text(self.family), _hidden_text(state)
        return sa.select(*_COLUMNS).where(
            _TASKS.c.account == _hidden_text(self.account),
            _TASKS.c.family.is_not(None),
            columns >= sa.tuple_(family, state_, since + RETENTION_MS),
            columns <= sa.tuple_(family, state_, until + RETENTION_MS),
        )

    def _makers(self, since: int, until: int) -> Sequence[Row] | None:
        """Creates of that time that may have made tasks; None if there are too many. Those that time has matched have
        made theirs."""
        query = sa.select(_CREATES).where(
            _CREATES.c.created_at.between(since, until),
            _CREATES.c.account == self.account,
            _CREATES.c.family == self.family,
            _CREATES.c.state.in_((OPEN, ABANDONED)),
        )
        rows = self.connection.execute(query.limit(MAKERS_MAX + 1)).mappings().all()
        return rows if len(rows) <= MAKERS_MAX else None

    def _unclaimed(self, row: Row) -> UnclaimedTask:
        ended_at = max(row["created_at"], row["updated_at"] or 0)
        is_quiet = row["state"] in _ENDED and ended_at + PATIENCE_MS <= self.now
        return UnclaimedTask(row["id"], row["task_id"], row["created_at"], is_quiet)


def _hidden_text(value: str) -> sa.ScalarSelect[str]:
    return hidden(sa.literal(value, sa.Text))


def _unclaimed(near: sa.Subquery) -> sa.Select[Any]:
    return sa.select(near).where(
        near.c.named_by_create.is_(False),
        near.c.client_callback_url.is_(None),
        near.c.external_task_id.is_(None),
    )


def _times(creates: Sequence[SentCreate]) -> list[int]:
    return sorted(create.sent_at for create in creates)


def _has_maker(row: Row, sent_at: Sequence[int]) -> bool:
    """Whether the task was created while one of these creates, in order, was under way."""
    first = bisect.bisect_left(sent_at, row["created_at"] - MADE_AFTER_MS)
    return first < len(sent_at) and sent_at[first] <= row["created_at"] + MADE_BEFORE_MS


def _sent(row: Row, *, swept_at: int) -> SentCreate:
    is_open = row["state"] == OPEN
    doubt = None if row["doubt"] is None else MatchDoubt(row["doubt"])
    return SentCreate(
        reference=row["reference"],
        sent_at=row["created_at"],
        # Kling itself calls the client of an abandoned create.
        client_callback_url=row["client_callback_url"] if is_open else None,
        is_lost=is_open and row["answered_at"] is None and row["external_task_id"] is None,
        is_swept=row["created_at"] + MATCHED_MS <= swept_at,
        doubt=doubt if is_open and doubt is not None and doubt.is_final else None,
    )
