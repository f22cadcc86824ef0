"""What an operator must know of creates whose answers were lost, and which time cannot match: an application may not
know of its task."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.gateway_creates.by_time import Judgement, MatchDoubt
from archiver.ledger.gateway_creates.joining import OPEN, lock_tasks
from archiver.ledger.gateway_creates.lost_answers import JudgedFamily
from archiver.ledger.tables import schema
from archiver.ledger.tables.history import add_line, trim

TASKS_MAX = 20
"""Ids that are kept of a doubt."""
VIEWED_MAX = 500

Row = Mapping[Any, Any]

_TABLE = schema.gateway_creates


@dataclasses.dataclass(frozen=True, slots=True)
class DoubtedCreates:
    """Creates whose answers were lost, for one reason, and the tasks that they may have made."""

    account: str
    family: str
    reason: MatchDoubt
    count: int
    task_ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class DoubtView:
    """The same, of those that no operator has acknowledged."""

    account: str
    family: str
    reason: MatchDoubt
    count: int
    since: int
    task_ids: tuple[str, ...]


_Noted = tuple[str | None, str | None]
"""The doubt, and the tasks, as a row has them."""
_NOTHING: _Noted = (None, None)


def are_news(connection: sa.Connection, families: Sequence[JudgedFamily]) -> bool:
    """Whether there is anything to write: matches, a new doubt, or one that is over."""
    if any(judgement.matches for family in families for judgement in family.judgements):
        return True
    known = _known(connection)
    return any(_changed(family, known) for family in families)


def note(connection: sa.Connection, families: Sequence[JudgedFamily], *, now: int) -> list[DoubtedCreates]:
    """Write what is in doubt now; returns what is so for the first time. An acknowledged doubt stays acknowledged
    while it is the same."""
    known = _known(connection)
    new = []
    for family in families:
        changed = _changed(family, known)
        over = [reference for reference, noted in changed.items() if noted == _NOTHING]
        _write(connection, over, doubt=None, possible_tasks=None, unseen_since=None)
        for judgement in family.judgements:
            references = [create.reference for create in judgement.creates if create.reference in changed]
            if judgement.doubt is None or not references:
                continue
            rows = lock_tasks(connection, [task.row_id for task in judgement.tasks])
            doubt, tasks = _noted(judgement)
            if count := _write(connection, references, doubt=doubt, possible_tasks=tasks, unseen_since=now):
                _add_lines(connection, sorted(rows), judgement.doubt, now=now)
                new.append(
                    DoubtedCreates(family.account, family.family, judgement.doubt, count, _ids(judgement))
                )
    return new


def unseen_doubts(connection: sa.Connection) -> list[DoubtView]:
    """What an operator has still to see, of at most VIEWED_MAX creates."""
    query = sa.select(_TABLE).where(_TABLE.c.doubt.is_not(None), _TABLE.c.unseen_since.is_not(None))
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in connection.execute(query.limit(VIEWED_MAX)).mappings():
        found.setdefault((row["account"], row["family"], row["doubt"]), []).append(row)
    return [
        DoubtView(
            account,
            family,
            MatchDoubt(doubt),
            len(rows),
            min(row["unseen_since"] for row in rows),
            tuple(sorted({task_id for row in rows for task_id in json.loads(row["possible_tasks"])})),
        )
        for (account, family, doubt), rows in sorted(found.items())
    ]


def doubts_about(connection: sa.Connection, *, account: str, task_id: str) -> list[Row]:
    """Creates that may have made this task, whether or not an operator has seen it."""
    query = sa.select(_TABLE).where(_TABLE.c.doubt.is_not(None), _TABLE.c.account == account)
    rows = connection.execute(query).mappings().all()
    return [row for row in rows if task_id in json.loads(row["possible_tasks"])]


def _known(connection: sa.Connection) -> dict[str, _Noted]:
    query = sa.select(_TABLE.c.reference, _TABLE.c.doubt, _TABLE.c.possible_tasks)
    rows = connection.execute(query.where(_TABLE.c.doubt.is_not(None)))
    return {row.reference: (row.doubt, row.possible_tasks) for row in rows}


def _changed(family: JudgedFamily, known: Mapping[str, _Noted]) -> dict[str, _Noted]:
    now = dict.fromkeys(family.references, _NOTHING)
    for judgement in family.judgements:
        now |= dict.fromkeys((create.reference for create in judgement.creates), _noted(judgement))
    return {reference: noted for reference, noted in now.items() if noted != known.get(reference, _NOTHING)}


def _noted(judgement: Judgement) -> _Noted:
    return _NOTHING if judgement.doubt is None else (judgement.doubt.value, json.dumps(_ids(judgement)))


def _ids(judgement: Judgement) -> tuple[str, ...]:
    return tuple(task.task_id for task in judgement.tasks[:TASKS_MAX])


def _write(connection: sa.Connection, references: Sequence[str], **values: object) -> int:
    """How many creates there are still."""
    if not references:
        return 0
    of_open = (_TABLE.c.reference.in_(sorted(references)), _TABLE.c.state == OPEN)
    return connection.execute(sa.update(_TABLE).where(*of_open).values(values)).rowcount


def _add_lines(connection: sa.Connection, row_ids: Sequence[int], doubt: MatchDoubt, *, now: int) -> None:
    detail = f"a create of the gateway whose answer was lost may have made it: {doubt}"
    for row_id in row_ids:
        add_line(connection, row_id, at=now, event="task.doubted", detail=detail)
        trim(connection, row_id)
