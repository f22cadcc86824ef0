"""Creates whose answers were lost, and which time cannot match. An operator must know of them: an application may not
know of its task."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.gateway_creates.by_time import Judgement, MatchDoubt, UnclaimedTask
from archiver.ledger.gateway_creates.joining import OPEN, lock_tasks
from archiver.ledger.gateway_creates.lost_answers import JudgedFamily
from archiver.ledger.tables import schema
from archiver.ledger.tables.history import add_lines, trim_all

TASKS_MAX = 20
"""Ids that are kept of a doubt, and tasks that get a line of it."""
WRITTEN_MAX = 50
"""Matches and doubts of one transaction."""
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
    reference: str
    """Of the create that was doubted last. To acknowledge it acknowledges all of these."""


_Noted = tuple[str | None, str | None]
"""The doubt, and the tasks, as a row has them."""
_NOTHING: _Noted = (None, None)


@dataclasses.dataclass(frozen=True, slots=True)
class News:
    """What is to be written: matches, new doubts, and those that are over."""

    families: Sequence[JudgedFamily]
    is_all: bool
    """Otherwise the rest is too much for one transaction."""


def news(connection: sa.Connection, families: Sequence[JudgedFamily]) -> News:
    """Only judgements that change something. A write transaction keeps the door waiting on SQLite, so it is short."""
    known = _known(connection, families)
    left = WRITTEN_MAX
    told = []
    for family in families:
        changed = _changed(family, known)
        judgements = []
        for judgement in family.judgements:
            is_new = any(create.reference in changed for create in judgement.creates)
            cost = len(judgement.matches) + is_new
            if 0 < cost <= left or (cost and left == WRITTEN_MAX):
                left -= cost
                judgements.append(judgement)
            elif cost:
                left = 0
        over = {reference for reference, noted in changed.items() if noted == _NOTHING}
        if judgements or over:
            references = over | {create.reference for of in judgements for create in of.creates}
            told.append(dataclasses.replace(family, references=frozenset(references), judgements=judgements))
        if left <= 0:
            return News(told, is_all=False)
    return News(told, is_all=True)


def note(connection: sa.Connection, families: Sequence[JudgedFamily], *, now: int) -> list[DoubtedCreates]:
    """Write the present doubts; returns the new ones. A doubt that an operator has acknowledged stays acknowledged
    while its reason is the same, even if tasks are added."""
    known = _known(connection, families)
    new: dict[tuple[str, str, MatchDoubt], DoubtedCreates] = {}
    rows = _lock(connection, families)
    lines: dict[int, MatchDoubt] = {}
    for family in families:
        changed = _changed(family, known)
        over = [reference for reference, noted in changed.items() if noted == _NOTHING]
        _write(connection, over, doubt=None, possible_tasks=None, unseen_since=None)
        for judgement in family.judgements:
            found = _note_one(connection, judgement, changed=changed, known=known, now=now)
            if judgement.doubt is None or found is None:
                continue
            count, tasks = found
            lines |= {task.row_id: judgement.doubt for task in tasks if task.row_id in rows}
            key = (family.account, family.family, judgement.doubt)
            before = new.get(key, DoubtedCreates(*key, 0, ()))
            ids = [*before.task_ids, *(task.task_id for task in tasks)]
            new[key] = dataclasses.replace(
                before, count=before.count + count, task_ids=tuple(ids[:TASKS_MAX])
            )
    _add_lines(connection, lines, now=now)
    return list(new.values())


def _note_one(
    connection: sa.Connection,
    judgement: Judgement,
    *,
    changed: Mapping[str, _Noted],
    known: Mapping[str, _Noted],
    now: int,
) -> tuple[int, list[UnclaimedTask]] | None:
    """How many creates are in doubt for the first time, and their tasks that no such doubt has named yet; None if there
    are neither."""
    references = [create.reference for create in judgement.creates if create.reference in changed]
    if judgement.doubt is None or not references:
        return None
    doubt, tasks = _noted(judgement)
    same = [reference for reference in references if known.get(reference, _NOTHING)[0] == doubt]
    named = {task_id for reference in same for task_id in json.loads(known[reference][1] or "[]")}
    _write(connection, same, possible_tasks=tasks)
    first = sorted({*references} - {*same})
    count = _write(connection, first, doubt=doubt, possible_tasks=tasks, unseen_since=now)
    unnamed = [task for task in judgement.tasks[:TASKS_MAX] if task.task_id not in named]
    return (count, unnamed) if count or unnamed else None


def unseen_doubts(connection: sa.Connection) -> list[DoubtView]:
    """The doubts that no operator has acknowledged, of at most VIEWED_MAX creates."""
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
            max(rows, key=lambda row: (row["unseen_since"], row["reference"]))["reference"],
        )
        for (account, family, doubt), rows in sorted(found.items())
    ]


def doubts_about(connection: sa.Connection, *, account: str, task_id: str) -> list[Row]:
    """Creates that may have made this task, whether or not an operator has seen it."""
    query = sa.select(_TABLE).where(_TABLE.c.doubt.is_not(None), _TABLE.c.account == account)
    rows = connection.execute(query).mappings().all()
    return [row for row in rows if task_id in json.loads(row["possible_tasks"])]


def acknowledge_reference(connection: sa.Connection, *, account: str, reference: str) -> bool | None:
    """An operator has seen this create and all that were doubted for the same reason by then. False if there is nothing
    left to see; None if no doubted create has the reference."""
    doubted = (_TABLE.c.account == account, _TABLE.c.doubt.is_not(None))
    query = sa.select(_TABLE).where(_TABLE.c.reference == reference, *doubted)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    if row["unseen_since"] is None:
        return False
    seen = sa.update(_TABLE).where(
        *doubted,
        _TABLE.c.family == row["family"],
        _TABLE.c.doubt == row["doubt"],
        _TABLE.c.unseen_since <= row["unseen_since"],
    )
    return connection.execute(seen.values(unseen_since=None)).rowcount > 0


def _known(connection: sa.Connection, families: Sequence[JudgedFamily]) -> dict[str, _Noted]:
    references = {reference for family in families for reference in family.references}
    references |= {
        create.reference for family in families for of in family.judgements for create in of.creates
    }
    query = sa.select(_TABLE.c.reference, _TABLE.c.doubt, _TABLE.c.possible_tasks)
    # Not with a condition on the doubt: PostgreSQL may then look through all doubted creates.
    rows = connection.execute(query.where(_TABLE.c.reference.in_(sorted(references))))
    return {row.reference: (row.doubt, row.possible_tasks) for row in rows if row.doubt is not None}


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
    """Returns how many of these creates are still open."""
    if not references:
        return 0
    of_open = (_TABLE.c.reference.in_(sorted(references)), _TABLE.c.state == OPEN)
    return connection.execute(sa.update(_TABLE).where(*of_open).values(values)).rowcount


def _lock(connection: sa.Connection, families: Sequence[JudgedFamily]) -> set[int]:
    """The named tasks that are still there: locked before any create is written."""
    doubted = (of for family in families for of in family.judgements if of.doubt is not None)
    row_ids = {task.row_id for judgement in doubted for task in judgement.tasks[:TASKS_MAX]}
    return set(lock_tasks(connection, sorted(row_ids))) if row_ids else set()


def _add_lines(connection: sa.Connection, doubts: Mapping[int, MatchDoubt], *, now: int) -> None:
    said = "a create of the gateway whose answer was lost may have made it"
    lines = [(row_id, "task.doubted", f"{said}: {doubt}") for row_id, doubt in sorted(doubts.items())]
    add_lines(connection, lines, at=now)
    trim_all(connection, sorted(doubts))
