"""Gathers the writes of many rows in one transaction, so that each kind is one statement.

A page of 500 new tasks took 2,000 statements, under the lock that callbacks wait for.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.databases.dialect import insert_missing, unindexed
from archiver.ledger.part import require_written
from archiver.ledger.tables import schema
from archiver.ledger.tables.counts import Tally, kind_of
from archiver.ledger.tables.history import add_lines, trim_all
from archiver.model import Asset

Row = Mapping[Any, Any]

_URL = (
    sa.update(schema.assets)
    .where(schema.assets.c.task == sa.bindparam("task_row"), schema.assets.c.stem == sa.bindparam("of_stem"))
    .values(url=sa.bindparam("new_url"))
)
_OF_THESE = schema.assets.c.task.in_(sa.bindparam("task_rows", expanding=True))
_URLS = sa.select(schema.assets.c.task, schema.assets.c.stem, schema.assets.c.url).where(_OF_THESE)
_STORED = sa.select(
    schema.assets.c.task, schema.assets.c.stem, schema.assets.c.name.is_not(None).label("is_stored")
).where(_OF_THESE)


@functools.cache
def _update_of(columns: frozenset[str]) -> sa.Update:
    """Write `columns` of a row that is still in the state it was read in. There are a dozen sets of columns."""
    table = schema.tasks
    return (
        sa.update(table)
        .where(table.c.id == sa.bindparam("row_id"), unindexed(table.c.state) == sa.bindparam("state_read"))
        .values({name: sa.bindparam(f"new_{name}") for name in columns})
    )


@functools.cache
def _with_ids(insert: sa.Insert) -> sa.Executable:
    return insert.returning(schema.tasks.c.task_id, schema.tasks.c.id)


class Batch:
    """Rows of one account that one transaction writes. `now` is Unix ms."""

    def __init__(self, *, account: str, now: int) -> None:
        self.account = account
        self.now = now
        self._updates: dict[frozenset[str], list[dict[str, Any]]] = {}
        self._lines: list[tuple[int, str, str]] = []
        self._trimmed: list[int] = []
        self._urls: list[dict[str, Any]] = []
        self._assets: list[tuple[int, Asset]] = []
        self._inserts: list[tuple[Mapping[str, Any], Sequence[Asset], str]] = []
        self.tally = Tally()

    def insert(self, values: Mapping[str, Any], assets: Sequence[Asset], *, detail: str) -> None:
        """A new row of `tasks`, its assets, and its first line of history."""
        self._inserts.append((values, assets, detail))
        self.tally.add([kind_of(values)])

    def update(self, row: Row, changes: Mapping[str, Any]) -> None:
        """Change a row that this transaction has read."""
        if changes:
            parameters = {f"new_{name}": value for name, value in changes.items()}
            parameters |= {"row_id": row["id"], "state_read": row["state"]}
            self._updates.setdefault(frozenset(changes), []).append(parameters)
            self.tally.change(row, changes)

    def add_recurring_line(self, row_id: int, *, event: str, detail: str) -> None:
        """Add a line of history that recurs; the oldest lines are dropped."""
        self._lines.append((row_id, event, detail))
        self._trimmed.append(row_id)

    def unite_assets(self, row_id: int, known: Mapping[str, str], answered: Sequence[Asset]) -> bool:
        """Refresh URLs (`known`, by stem) and add assets; none is removed or renamed. Whether `answered` names all
        known assets."""
        for asset in answered:
            if asset.stem not in known:
                self._assets.append((row_id, asset))
            elif known[asset.stem] != asset.url:
                self._urls.append({"task_row": row_id, "of_stem": asset.stem, "new_url": asset.url})
        return known.keys() <= {asset.stem for asset in answered}

    def add_assets(self, row_id: int, assets: Sequence[Asset]) -> None:
        """Add assets to a known row."""
        self._assets += [(row_id, asset) for asset in assets]

    def renew_urls(self, row_id: int, assets: Sequence[Asset]) -> None:
        """Write the URLs of known assets."""
        self._urls += [{"task_row": row_id, "of_stem": asset.stem, "new_url": asset.url} for asset in assets]

    def write(self, connection: sa.Connection) -> None:
        """Write everything, rows in the order of their ids: two processes that write the same ones wait for each
        other, and neither for ever."""
        self._insert(connection)
        for columns, rows in self._updates.items():
            written = connection.execute(_update_of(columns), sorted(rows, key=lambda row: row["row_id"]))
            require_written(written.rowcount, len(rows))
        if self._urls:
            connection.execute(_URL, sorted(self._urls, key=lambda row: (row["task_row"], row["of_stem"])))
        if self._assets:
            inserts = [_asset_row(*asset) for asset in self._assets]
            written = connection.execute(insert_missing(connection, schema.assets), inserts)
            require_written(written.rowcount, len(inserts))
        add_lines(connection, self._lines, at=self.now)
        trim_all(connection, self._trimmed)
        self.tally.write(connection)

    def _insert(self, connection: sa.Connection) -> None:
        if not self._inserts:
            return
        table = schema.tasks
        columns = {name for values, _, _ in self._inserts for name in values}
        rows = [dict.fromkeys(columns) | dict(values) for values, _, _ in self._inserts]
        rows.sort(key=lambda row: str(row["task_id"]))
        inserted = connection.execute(_with_ids(insert_missing(connection, table)), rows)
        row_ids = {row.task_id: row.id for row in inserted}
        require_written(len(row_ids), len(rows))
        for values, assets, detail in self._inserts:
            row_id = row_ids[values["task_id"]]
            self._assets += [(row_id, asset) for asset in assets]
            self._lines.append((row_id, "task.recorded", detail))


def known_assets(connection: sa.Connection, row_ids: Iterable[int]) -> dict[int, dict[str, str]]:
    """The assets of these rows: row id → stem → URL."""
    known: dict[int, dict[str, str]] = {row_id: {} for row_id in row_ids}
    if known:
        for row in connection.execute(_URLS, {"task_rows": list(known)}):
            known[row.task][row.stem] = row.url
    return known


def stored_assets(connection: sa.Connection, row_ids: Iterable[int]) -> dict[int, dict[str, bool]]:
    """The assets of these rows: row id → stem → whether it is stored."""
    found: dict[int, dict[str, bool]] = {row_id: {} for row_id in row_ids}
    if found:
        for row in connection.execute(_STORED, {"task_rows": list(found)}):
            found[row.task][row.stem] = row.is_stored
    return found


def _asset_row(row_id: int, asset: Asset) -> dict[str, Any]:
    return {
        "task": row_id,
        "stem": asset.stem,
        "role": asset.role,
        "api_index": asset.index,
        "watermarked": asset.watermarked,
        "url": asset.url,
    }
