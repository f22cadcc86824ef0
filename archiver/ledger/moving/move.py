"""Moves a ledger: copy, compare, give the old one up, take the new one into use.

The order is the guarantee. A crash after each step leaves:

1. Both databases are locked, each in one transaction. No daemon has been alive lately, and the new ledger has no tasks.
   A crash leaves both as they were.
2. Every row is copied, in batches. Counts and digests of the rows read equal those in the new database. A crash leaves
   none of it: it is all one transaction.
3. The new ledger is committed, marked `moving`: no program uses it. A crash here leaves the old one in use; the next
   move begins anew.
4. The old ledger's tables are renamed, and it is marked `moved`. Processes that come back get errors; new ones get a
   message that names the new ledger. A crash here leaves no usable ledger; the next move only does step 5.
5. The new ledger loses its mark.

So there is never a moment in which both ledgers can be used, and none in which a committed row is in neither.
"""

import contextlib
import dataclasses
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping

import sqlalchemy as sa

from archiver.ledger.databases import whole
from archiver.ledger.databases.dialect import upsert
from archiver.ledger.databases.errors import LedgerMissing, LedgerUnusable
from archiver.ledger.databases.file import missing
from archiver.ledger.databases.opening import open_database, shown_url
from archiver.ledger.databases.protocol import Database
from archiver.ledger.databases.sqlite import BUSY_SECONDS
from archiver.ledger.databases.wal import BYTES_MAX
from archiver.ledger.migrations import revisions, upgrade
from archiver.ledger.moving import marks
from archiver.ledger.moving.copying import Copy, Phase, Progress, Watch
from archiver.ledger.moving.digests import TableDigest
from archiver.ledger.moving.guards import require_nobody, require_room
from archiver.ledger.moving.marks import MOVED, MOVING, Move
from archiver.ledger.tables import schema
from archiver.ledger.tables.named_values import LAST_MOVE


@dataclasses.dataclass(frozen=True, slots=True)
class Moved:
    """The tables that were moved. Without tables, an earlier run had moved them."""

    source: str
    target: str
    tables: Mapping[str, TableDigest]
    replaced_texts: int
    """The number of texts with characters that the new database cannot store."""
    seconds: float

    @property
    def rows(self) -> int:
        """The number of rows of all tables."""
        return sum(table.rows for table in self.tables.values())


def move_ledger(
    source_url: str,
    target_url: str,
    *,
    watch: Watch = lambda _: None,
    now: Callable[[], int] | None = None,
    busy_seconds: float = BUSY_SECONDS,
) -> Moved:
    """Move the ledger at `source_url` to `target_url`, which has none or an empty one.

    `now` is each database's clock unless a test gives another. Raises LedgerUnusable with a sentence for the operator,
    LedgerUnavailable when a database does not answer or another process is in the way.
    """
    began = time.monotonic()
    names = shown_url(source_url), shown_url(target_url)
    if names[0] == names[1]:
        raise LedgerUnusable(f"FROM and TO are both {names[0]}: name two ledgers")
    with _opened(source_url, busy_seconds, create=False) as source:
        if earlier := _moved_before(source):
            _end(earlier, target_url, busy_seconds, watch)
            return Moved(*names, {}, 0, time.monotonic() - began)
        at = (now or source.now)()
        _bring_up_to_date(source, name=names[0], now=at)
        with _opened(target_url, busy_seconds, create=True) as target:
            move = Move(secrets.token_hex(16), *names, at)
            copied = _copy(source, target, move, watch, now=(now or target.now)())
            _take_into_use(target, move, watch)
    return Moved(*names, copied.digests, copied.replaced_texts, time.monotonic() - began)


@contextlib.contextmanager
def _opened(url: str, busy_seconds: float, *, create: bool) -> Iterator[Database]:
    """Open the ledger, on SQLite with the daemon's lock."""
    database = open_database(
        url, daemon=True, create=create, busy_seconds=busy_seconds, log_bytes_max=BYTES_MAX
    )
    try:
        yield database
    finally:
        database.close()


def _moved_before(source: Database) -> Move | None:
    """The move of an earlier run, if that run has given the old ledger up."""
    with source.read() as connection:
        mark = marks.read_mark(connection)
    return mark[1] if mark and mark[0] == MOVED else None


def _end(move: Move, target_url: str, busy_seconds: float, watch: Watch) -> None:
    """Raises LedgerUnusable if this is not where the ledger was moved to."""
    try:
        with _opened(target_url, busy_seconds, create=False) as target:
            _take_into_use(target, move, watch)
    except LedgerMissing as error:
        raise LedgerUnusable(f"the ledger {move.source} {marks.sentence_of((MOVED, move))}") from error


def _bring_up_to_date(source: Database, *, name: str, now: int) -> None:
    """Migrate the old ledger once no process uses it. Raises LedgerUnusable."""
    with source.read() as connection:
        if not upgrade.has_ledger(connection):
            raise LedgerMissing(missing(name))
        upgrade.require_not_newer(connection, name=name)
        require_nobody(connection, name=name, now=now)
    upgrade.migrate(source)


def _copy(source: Database, target: Database, move: Move, watch: Watch, *, now: int) -> Copy:
    with source.write(seconds_max=math.inf) as old:
        whole.make_unhurried(old)
        whole.lock_tables(old)
        require_nobody(old, name=move.source, now=move.at)
        with target.write(seconds_max=math.inf) as new:
            whole.make_unhurried(new)
            require_room(new, move, now=now)
            whole.drop_tables(new)
            upgrade.create(new)
            marks.mark(new, MOVING, move)
            watch(Progress(Phase.PREPARE))
            copied = Copy(old, new, watch=watch, name=move.target)
            copied.run()
        watch(Progress(Phase.GIVE_UP))
        whole.set_tables_aside(old, suffix=f"_moved_{move.id[:8]}")
        marks.mark(old, MOVED, move)
        watch(Progress(Phase.GIVE_UP))
    return copied


def _take_into_use(target: Database, move: Move, watch: Watch) -> None:
    """Raises LedgerUnusable if this is not where the ledger was moved to."""
    watch(Progress(Phase.USE))
    with target.write(seconds_max=math.inf) as connection:
        mark = marks.read_mark(connection)
        if mark == (MOVING, move):
            marks.unmark(connection, revision=revisions.newest())
            row = {"name": LAST_MOVE, "value": move.id}
            upsert(connection, schema.named_values, row, update=["value"])
        elif mark is not None or not _came_by(connection, move):
            raise LedgerUnusable(f"the ledger {move.source} {marks.sentence_of((MOVED, move))}")


def _came_by(connection: sa.Connection, move: Move) -> bool:
    table = schema.named_values
    query = sa.select(table.c.value).where(table.c.name == LAST_MOVE)
    return sa.inspect(connection).has_table(table.name) and connection.execute(query).scalar() == move.id
