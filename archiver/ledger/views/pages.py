"""Pages of tasks, the newest first. A page costs the same on a thousand tasks and on a million.

Tasks whose id is the text that is searched for are a page of their own, before all others and whatever their age: the
rest is searched when the caller asks for the next page. A search by text looks at the newest `LOOKED_AT_MAX` rows that
match the other filters, in steps that are transactions of their own: none is held for long, neither is the GIL.
"""

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.databases.dialect import in_index_order
from archiver.ledger.databases.protocol import Database
from archiver.ledger.tables import schema
from archiver.ledger.tables.rows import assets_of
from archiver.ledger.views.assets import AssetView
from archiver.ledger.views.filters import Position, TaskFilter
from archiver.ledger.views.walks import Walk, is_meant, merged, values_of, walks_of
from archiver.ledger.views.words import Words
from archiver.model import RETENTION_MS, TASK_ID, DiscoveredBy, State, rfc3339

ROWS_MAX = 500
"""A page."""
LOOKED_AT_MAX = 50_000
"""By a search by text, on all of its pages."""
UNINDEXED_ROWS_MAX = 5_000
"""Looked at for one page where owners are too many for a walk each: 30 ms of CPU."""
STEP_ROWS = 2_000
CANDIDATES_MAX = 1_000
"""Rows of a step that may have the text."""
PROMPT_CHARACTERS_MAX = 500
SEARCH_SECONDS_MAX = 2.0
"""For one page of a search by text, after its first step: what it has not looked at is for the next page."""
SEARCHING = threading.Lock()
"""One step of one search at a time in a process: four side by side made callbacks 56 ms late at the 99th percentile."""
REQUEST_CHARACTERS_MAX = 16 * 1024
"""Longer ones are not read here, where there may be a thousand of them; a search leaves them to SQL."""

_TASKS = schema.tasks.c
_NEWEST = Position(10**15 - 1, 0, 0)
"""Before every row."""


@dataclasses.dataclass(frozen=True, slots=True)
class ListedTask:
    """One task of a page. Times are Unix ms."""

    task_id: str
    account: str
    family: str | None
    external_task_id: str | None
    state: State
    reason: str | None
    message: str | None
    created_at: int | None
    updated_at: int | None
    archived_at: int | None
    expires_at: int
    discovered_by: DiscoveredBy
    manifest_key: str | None
    prompt: str | None
    """At most PROMPT_CHARACTERS_MAX of it."""
    assets: tuple[AssetView, ...]
    """Those in the bucket; empty unless they were asked for."""

    def as_json(self) -> dict[str, object]:
        """As `list --format jsonl` prints it."""
        return {
            "task_id": self.task_id,
            "account": self.account,
            "family": self.family,
            "external_task_id": self.external_task_id,
            "state": self.state,
            "reason": self.reason,
            "message": self.message,
            "created_at": _time(self.created_at),
            "updated_at": _time(self.updated_at),
            "archived_at": _time(self.archived_at),
            "expires_at": _time(self.expires_at),
            "discovered_by": self.discovered_by,
            "manifest_key": self.manifest_key,
            "prompt": self.prompt,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class TaskPage:
    """Some tasks, the newest first."""

    rows: tuple[ListedTask, ...]
    next_page: str | None
    """Where the next page begins; None on the last one."""
    searched_back_to: int | None
    """The creation time of the oldest row that was looked at (Unix ms), where older ones were not."""
    further_page: str | None = None
    """Where a search by text that ended at its bound goes on, with a new bound: not by time, which tasks may share."""
    is_of_id: bool = False
    """Whether these are the tasks whose id is the text: texts are searched on the next page."""


def read_page(
    database: Database, chosen: TaskFilter, *, page: str | None, limit: int, with_assets: bool
) -> TaskPage:
    """Up to `limit` tasks, at most ROWS_MAX, from `page` on. Tasks of several accounts whose id is the text come on one
    page, even if they are more than `limit`. Raises FilterProblem for a page that is none."""
    search = _Search(database, chosen, after=None if page is None else Position.parse(page))
    named = _named(database, chosen) if page is None else []
    rows = named or search.first(min(limit, ROWS_MAX))
    assets = _stored(database, [row["id"] for row in rows]) if with_assets else {}
    return TaskPage(
        tuple(_listed(row, assets.get(row["id"], ())) for row in rows),
        None if search.is_over else str(search.at or _NEWEST),
        None if search.is_at_end or search.at is None else search.at.deadline_at - RETENTION_MS,
        search.further,
        is_of_id=bool(named),
    )


def _named(database: Database, chosen: TaskFilter) -> Sequence[sa.RowMapping]:
    """The tasks whose very id is the text, of each account. The search by text looks elsewhere, and not at all rows."""
    if chosen.text is None or not TASK_ID.fullmatch(chosen.text):
        return []
    # By an index, whose first column is the account.
    accounts = sa.select(schema.task_counts.c.account) if chosen.account is None else [chosen.account]
    conditions = [_TASKS.account.in_(accounts), _TASKS.task_id == chosen.text]
    if chosen.state is not None:
        conditions.append(_TASKS.state == chosen.state)
    if chosen.family is not None:
        conditions.append(sa.func.coalesce(_TASKS.family, _TASKS.family_hint) == chosen.family)
    if chosen.since is not None:
        conditions.append(_TASKS.deadline_at >= chosen.since + RETENTION_MS)
    if chosen.until is not None:
        conditions.append(_TASKS.deadline_at < chosen.until + RETENTION_MS)
    with database.read() as connection:
        return connection.execute(sa.select(*_COLUMNS).where(*conditions)).mappings().all()


_Found = tuple[list[sa.RowMapping], Sequence[sa.RowMapping]]
"""Rows that are meant; the last row that was looked at, and the one behind it."""


class _Search:
    """Goes through the rows of a filter. `at` is the last one that it has looked at."""

    def __init__(self, database: Database, chosen: TaskFilter, *, after: Position | None) -> None:
        self._database = database
        self._chosen = chosen
        self._words = Words(chosen.text) if chosen.text else None
        self._looked_at = after.looked_at if after and self._words else 0
        self._looked_at_max = LOOKED_AT_MAX if self._words else UNINDEXED_ROWS_MAX
        self.at = after
        self.is_at_end = False

    @property
    def is_over(self) -> bool:
        """Whether there is no further page."""
        return self.is_at_end or (self._words is not None and self._looked_at >= LOOKED_AT_MAX)

    @property
    def further(self) -> str | None:
        """The page behind a bound that ended the search."""
        if self.is_at_end or not self.is_over or self.at is None:
            return None
        return str(dataclasses.replace(self.at, looked_at=0))

    def first(self, limit: int) -> list[sa.RowMapping]:
        """The next rows that are meant, up to `limit`."""
        rows: list[sa.RowMapping] = []
        step_rows, until = limit, time.monotonic() + SEARCH_SECONDS_MAX
        while len(rows) < limit and not self.is_at_end and self._looked_at < self._looked_at_max:
            with SEARCHING if self._words else contextlib.nullcontext():
                left = self._looked_at_max - self._looked_at
                rows += self._step(limit - len(rows), step_rows=min(step_rows, left))
            if self._words and time.monotonic() >= until:
                break
            step_rows = min(4 * step_rows, STEP_ROWS)
        return rows

    def _step(self, limit: int, *, step_rows: int) -> list[sa.RowMapping]:
        """Look at up to `step_rows` rows, in one transaction, until `limit` are found."""
        with self._database.read() as connection:
            # Anew for each step: a task that changes its state meanwhile may be in another walk, maybe the first there.
            walks = walks_of(connection, self._chosen)
            if not walks:
                self.is_at_end = True
                return []
            if self._words is None and is_meant(walks, self._chosen) is None:
                found, ends = self._take(connection, walks, limit)
            else:
                found, ends = self._pick(connection, walks, limit, step_rows=step_rows)
        self._move_to(*ends)
        return found

    def _take(self, connection: sa.Connection, walks: tuple[Walk, ...], limit: int) -> _Found:
        """All rows are meant: those that are wanted, and one more, which shows that there is a further page."""
        values = values_of(walks, self._chosen, self.at, rows=limit + 2)
        query = self._query(merged(walks, self._chosen, self.at))
        with in_index_order(connection):
            rows = connection.execute(query, values).mappings().all()
        found = list(rows[:limit])
        return found, rows[max(0, len(found) - 1) :]

    def _pick(
        self, connection: sa.Connection, walks: tuple[Walk, ...], limit: int, *, step_rows: int
    ) -> _Found:
        """Some rows are meant."""
        count_max = CANDIDATES_MAX if self._words else limit
        walked = merged(walks, self._chosen, self.at)
        # One row more, of which is known only that it is there.
        values = values_of(walks, self._chosen, self.at, rows=step_rows + 1)
        query = self._query(walked, is_meant(walks, self._chosen)).limit(count_max)
        with in_index_order(connection):
            candidates = connection.execute(query, values).mappings().all()
        found = [row for row in candidates if self._words is None or self._words.are_in(row)][:limit]
        if len(found) == limit:
            last = found[-1]["position"]
        else:
            last = candidates[-1]["position"] if len(candidates) == count_max else step_rows
        with in_index_order(connection):
            ends = connection.execute(_from(walked), {**values, "first": last}).mappings().all()
        return found, ends

    def _query(self, walked: sa.Subquery, meant: sa.ColumnElement[bool] | None = None) -> sa.Select[Any]:
        query = sa.select(*_COLUMNS, walked.c.position).join(schema.tasks, _TASKS.id == walked.c.id)
        query = query.where(walked.c.position < sa.bindparam("rows"))
        if meant is not None:
            query = query.where(meant)
        if self._words is not None:
            query = query.where(self._words.may_be_in_row(), _TASKS.task_id != self._chosen.text)
        return query.order_by(walked.c.position)

    def _move_to(
        self, last: Mapping[Any, Any] | None = None, following: Mapping[Any, Any] | None = None
    ) -> None:
        self.is_at_end = following is None
        if last is not None:
            self._looked_at += int(last["position"])
            self.at = Position(last["deadline_at"], last["id"], self._looked_at if self._words else 0)


_COLUMNS = (
    *(
        _TASKS[name]
        for name in (
            "id", "task_id", "account", "family", "family_hint", "external_task_id", "state", "reason", "message",
            "created_at", "updated_at", "archived_at", "deadline_at", "discovered_by", "manifest_key",
        )
    ),
    sa.case((sa.func.length(_TASKS.request) <= REQUEST_CHARACTERS_MAX, _TASKS.request)).label("request"),
    (sa.func.length(_TASKS.request) > REQUEST_CHARACTERS_MAX).label("is_request_long"),
)  # fmt: skip


def _from(walked: sa.Subquery) -> sa.Select[Any]:
    """The row at the position `first`, and the one behind it."""
    first = sa.bindparam("first", type_=sa.Integer)
    return sa.select(walked).where(walked.c.position.between(first, first + 1)).order_by(walked.c.position)


def _listed(row: Mapping[Any, Any], assets: Sequence[AssetView]) -> ListedTask:
    return ListedTask(
        task_id=row["task_id"],
        account=row["account"],
        family=row["family"] or row["family_hint"],
        external_task_id=row["external_task_id"],
        state=State(row["state"]),
        reason=row["reason"],
        message=row["message"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        archived_at=row["archived_at"],
        expires_at=row["deadline_at"],
        discovered_by=DiscoveredBy(row["discovered_by"]),
        manifest_key=row["manifest_key"],
        prompt=_prompt(row["request"]),
        assets=tuple(assets),
    )


def _prompt(request: str | None) -> str | None:
    """What was asked for, in words."""
    asked_for = json.loads(request) if request else None
    prompt = asked_for.get("prompt") if isinstance(asked_for, dict) else None
    if not isinstance(prompt, str) or not prompt:
        return None
    return prompt if len(prompt) <= PROMPT_CHARACTERS_MAX else prompt[: PROMPT_CHARACTERS_MAX - 1] + "…"


def _stored(database: Database, row_ids: Sequence[int]) -> dict[int, list[AssetView]]:
    """Those in the bucket, by row."""
    with database.read() as connection:
        assets = assets_of(connection, row_ids)
    return {
        row_id: [AssetView.of(asset) for asset in of_task if asset.stored is not None]
        for row_id, of_task in assets.items()
    }


def _time(value: int | None) -> str | None:
    return None if value is None else rfc3339(value)
