"""References of creates: committed before a create is sent, deleted once its task is known.

The row exists from before the first byte of a create until its task is registered. So whatever crashes in between, the
ledger knows which client gets forwards. It finds the task by its callback, which names the reference, by its external
id, or by its time if nothing else can have made it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.databases.dialect import insert_missing, upsert
from archiver.ledger.databases.protocol import DOOR_SECONDS_MAX
from archiver.ledger.gateway_creates import doubts, lost_answers, matching
from archiver.ledger.gateway_creates.by_time import Judgement
from archiver.ledger.gateway_creates.doubts import DoubtedCreates
from archiver.ledger.gateway_creates.joining import (
    ABANDONED,
    OPEN,
    Joined,
    JoinedBy,
    join,
    lock_tasks,
)
from archiver.ledger.gateway_creates.registering import (
    CreatedTask,
    GatewayCreate,
    register_all,
    request_json,
)
from archiver.ledger.gateway_creates.turns import BEGINNING, Cursor
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.named_values import set_named_value
from archiver.model import DAY_MS

REFERENCE_DAYS_MAX = 7
"""A callback that has not come by then will not come, and a sweep has been there many times."""
CALLBACKS_REFUSED_MS = DAY_MS
"""For so long creates at a path go without a callback URL after Kling has refused one there."""
_PRUNED_MAX = 500
_REFUSES_CALLBACKS = "gateway_without_callback_url:"

_TABLE = schema.gateway_creates
_LET_GO = sa.delete(_TABLE).where(_TABLE.c.reference.in_(sa.bindparam("references", expanding=True)))
_NOTE_ANSWERED = (
    sa.update(_TABLE)
    .where(_TABLE.c.reference.in_(sa.bindparam("references", expanding=True)))
    .values(answered_at=sa.bindparam("now"))
)


@dataclasses.dataclass(frozen=True, slots=True)
class GivenUp:
    """A create whose task was never found: its client gets no forward."""

    account: str
    family: str
    count: int


class GatewayCreates(Part):
    """The creates of clients."""

    _matched_after: Cursor = BEGINNING
    _judged_after: Cursor = BEGINNING

    @retried
    def commit(
        self,
        *,
        begun: Sequence[GatewayCreate] = (),
        created: Sequence[CreatedTask] = (),
        refused: Sequence[str] = (),
        answered: Sequence[str] = (),
    ) -> list[bool]:
        """One transaction for all waiting creates. Returns of each created task whether its id is new.

        `begun` will be sent next. `created` were answered: their tasks are registered, and their references deleted. A
        task that the ledger knows already only takes what it lacks. `refused` have created nothing. `answered` got an
        error of Kling's, which does not say whether a task was created.
        """
        with self._database.write(seconds_max=DOOR_SECONDS_MAX) as connection:
            now = self._now()
            if begun:
                rows = [_columns(create) | {"created_at": now, "state": OPEN} for create in begun]
                rows.sort(key=lambda row: row["reference"])
                connection.execute(insert_missing(connection, _TABLE), rows)
            are_new = register_all(connection, created, now=now)
            done = [*(task.create.reference for task in created), *refused]
            if done:
                connection.execute(_LET_GO, {"references": sorted(done)})
            if answered:
                connection.execute(_NOTE_ANSWERED, {"references": sorted(answered), "now": now})
            return are_new

    @retried
    def abandon(self, create: GatewayCreate) -> None:
        """Let no client get forwards by this reference, even if the commit that the gateway has given up on still
        succeeds."""
        with self._database.write() as connection:
            values = _columns(create) | {"created_at": self._now(), "state": ABANDONED}
            upsert(connection, _TABLE, values, update=["state"])

    @retried
    def match(self) -> list[Joined]:
        """Join tasks with the creates that made them, where the answer was lost."""
        with self._database.read() as connection:
            now = self._now()
            found, cursor = matching.by_external_id(connection, after=self._matched_after, now=now)
        if not found:
            self._matched_after = cursor
            return []
        with self._database.write() as connection:
            rows = lock_tasks(connection, [row_id for _, row_id in found])
            joined = [
                join(connection, create, rows[row_id], by=JoinedBy.EXTERNAL_ID, now=now)
                for create, row_id in found
                if row_id in rows
            ]
        self._matched_after = cursor
        return joined

    @retried
    def match_by_time(self) -> tuple[list[Joined], list[DoubtedCreates]]:
        """Join tasks with creates whose answers were lost, where nothing else can have made them; and what is newly in
        doubt. What is too much for one transaction is left to the next round."""
        with self._database.read() as connection:
            now = self._now()
            judged = lost_answers.judged_round(connection, after=self._judged_after, now=now)
            news = doubts.news(connection, judged.families)
        if not news.is_all:
            # The next round judges all of them again. What is written now is no news then.
            judged = dataclasses.replace(judged, cursor=self._judged_after)
        joined: list[Joined] = []
        doubted: list[DoubtedCreates] = []
        if news.families:
            with self._database.write() as connection:
                joined = [
                    match
                    for family in news.families
                    for judgement in family.judgements
                    for match in _join_by_time(connection, judgement, now=now)
                ]
                doubted = doubts.note(connection, news.families, now=now)
        self._judged_after = judged.cursor
        return joined, doubted

    @retried
    def prune(self) -> list[GivenUp]:
        """Drop at most `_PRUNED_MAX` references that are too old; returns those whose clients get no forwards."""
        with self._database.read() as connection:
            before = self._now() - REFERENCE_DAYS_MAX * DAY_MS
            old = sa.select(_TABLE.c.reference).where(_TABLE.c.created_at < before).limit(_PRUNED_MAX)
            references = sorted(connection.execute(old).scalars())
        if not references:
            return []
        with self._database.write() as connection:
            gone = sa.delete(_TABLE).where(_TABLE.c.reference.in_(references)).returning(_TABLE)
            counts: dict[tuple[str, str], int] = {}
            for row in connection.execute(gone).mappings():
                if row["state"] == OPEN and row["client_callback_url"] is not None:
                    key = (row["account"], row["family"])
                    counts[key] = counts.get(key, 0) + 1
            return [GivenUp(account, family, count) for (account, family), count in counts.items()]

    @retried
    def note_callback_refused(self, account: str, path: str) -> None:
        """Kling has refused a callback URL in a create at `path`."""
        with self._database.write() as connection:
            set_named_value(connection, f"{_REFUSES_CALLBACKS}{account}:{path}", self._now())

    def refused_callbacks(self) -> dict[tuple[str, str], int]:
        """(account, path) → for how many milliseconds more creates there go without a callback URL."""
        table = schema.named_values
        query = sa.select(table).where(table.c.name.startswith(_REFUSES_CALLBACKS, autoescape=True))
        with self._database.read() as connection:
            now = self._now()
            noted = connection.execute(query).all()
        left: dict[tuple[str, str], int] = {}
        for name, noted_at in noted:
            account, _, path = name.removeprefix(_REFUSES_CALLBACKS).partition(":")
            left[account, path] = int(noted_at) + CALLBACKS_REFUSED_MS - now
        return {known: milliseconds for known, milliseconds in left.items() if milliseconds > 0}


def _columns(create: GatewayCreate) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(create)]
    return {name: getattr(create, name) for name in names} | {"request": request_json(create)}


def _join_by_time(connection: sa.Connection, judgement: Judgement, *, now: int) -> list[Joined]:
    """Joins none if by now something else shows the maker of one of the tasks: the next round judges them again."""
    tasks = lock_tasks(connection, [task.row_id for _, task in judgement.matches])
    if not all(map(lost_answers.may_be_lost_creates, tasks.values())):
        return []
    named = {create.reference: tasks.get(task.row_id) for create, task in judgement.matches}
    creates = sa.select(_TABLE).where(_TABLE.c.reference.in_(sorted(named)), _TABLE.c.state == OPEN)
    return [
        join(connection, create, task, by=JoinedBy.TIME, now=now)
        for create in connection.execute(creates).mappings().all()
        if (task := named[create["reference"]]) is not None
    ]
