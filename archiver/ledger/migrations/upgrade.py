"""Brings a ledger to this version's schema (Alembic), or says in a sentence why it cannot be done.

1. Only a daemon migrates, at its start, and `move-ledger`. A command may be newer than the daemon beside it, which
   would then write to a schema that it does not know.
2. Of several daemons that start at once, one migrates. The others wait for it without holding any lock that it needs.
3. A step is one transaction: a crash in the middle leaves the schema from before. On SQLite there is one step. On
   PostgreSQL, a revision that builds indexes beside writers is a step of its own; a crash there leaves an index that
   is not valid, which the next start drops first.
4. The ledger says which programs may use it (`schema_uses`): those that know the revision `oldest`. So a program goes
   on beside a newer one, and starts again, where the newer revisions allow that. At every moment there is a row for the
   revision that the ledger has; rows of other revisions count for nothing.
"""

import math
import time
from collections.abc import Callable

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext

from archiver.ledger.databases.dialect import try_to_take_turn, upsert
from archiver.ledger.databases.errors import LedgerMissing, LedgerOld, LedgerUnfit, LedgerUnusable
from archiver.ledger.databases.file import APPLICATION_ID, missing
from archiver.ledger.databases.postgres import PostgresDatabase, drop_snapshot, drop_unfinished_indexes
from archiver.ledger.databases.protocol import Database
from archiver.ledger.migrations import revisions
from archiver.ledger.moving.marks import MOVED, read_mark, sentence_of
from archiver.ledger.tables import schema

_WAIT_SECONDS = 0.2
"""The pause between two looks whether another process has migrated the ledger."""


def migrate(database: Database, *, wait: Callable[[float], object] = time.sleep) -> None:
    """Bring the ledger to this version's schema, or wait until another process has.

    Raises LedgerUnusable for a ledger that only newer versions may use; whose file it is, `open_file` has looked at.
    """
    with database.read() as connection:
        if not _is_behind(connection, name=database.name) and not _lacks_its_note(connection):
            return
    while True:
        with database.write(seconds_max=math.inf) as connection:
            if not _is_behind(connection, name=database.name):
                if _lacks_its_note(connection):
                    _note_users(connection, revisions.newest())
                return
            has_turn = try_to_take_turn(connection)
            # Another process may have ended its turn between the two.
            if has_turn and _is_behind(connection, name=database.name):
                _take_step(database, connection)
        if not has_turn:
            wait(_WAIT_SECONDS)


def create(connection: sa.Connection) -> None:
    """Create the newest schema in a database that has no table of the ledger."""
    if connection.dialect.name == "postgresql":
        schema.metadata.create_all(connection)
        revisions.stamp(connection, revisions.newest())
    else:
        revisions.run(connection, revisions.newest())
    _say_whose(connection)


def require_current(connection: sa.Connection, *, name: str) -> None:
    """Change nothing. Raises LedgerUnusable unless this version may use the ledger as it is, LedgerMissing if it has no
    tables: a daemon has made the file and not got further.
    """
    if not _is_behind(connection, name=name):
        return
    current = _current(connection)
    if current is None:
        raise LedgerMissing(missing(name))
    raise LedgerOld(
        f"the ledger {name} was written by an older version (schema {current}) and was left as it is: start this "
        "version's kling-receiver, which migrates it, or use the kling-archiver of the version that runs"
    )


def has_ledger(connection: sa.Connection) -> bool:
    """Whether there is a ledger, of any revision."""
    return _current(connection) is not None


def require_not_newer(connection: sa.Connection, *, name: str) -> None:
    """Raises LedgerUnusable for a ledger with tables that this version may not know, even if it may use it."""
    current = _current(connection)
    _refuse_marked(connection, name=name)
    if current is not None and not revisions.is_known(current):
        raise _newer(current, name=name)


def _is_behind(connection: sa.Connection, *, name: str) -> bool:
    """Whether the ledger lacks revisions of this version, or all. Raises LedgerUnusable where this version may not use
    it."""
    current = _current(connection)
    if current is None or revisions.is_known(current):
        return current != revisions.newest()
    _refuse_marked(connection, name=name)
    oldest = _oldest_user(connection, current)
    if oldest is None or not revisions.is_known(oldest):
        raise _newer(current, name=name)
    return False


def _refuse_marked(connection: sa.Connection, *, name: str) -> None:
    if mark := read_mark(connection):
        kind = LedgerUnusable if mark[0] == MOVED else LedgerUnfit  # a move that is repeated ends
        raise kind(f"the ledger {name} {sentence_of(mark)}")


def _newer(current: str, *, name: str) -> LedgerUnusable:
    return LedgerUnusable(
        f"the ledger {name} was written by a newer version (schema {current}): run that version, or a newer one"
    )


def _take_step(database: Database, connection: sa.Connection) -> None:
    current = _current(connection)
    if not isinstance(database, PostgresDatabase):
        revisions.run(connection, revisions.newest())
    elif current is None:
        create(connection)
        return
    elif revisions.is_concurrent(following := revisions.following(current)):
        # The transaction of `connection` keeps the turn.
        drop_snapshot(connection)
        with database.direct() as direct:
            drop_unfinished_indexes(direct)
            # Each statement commits by itself: a crash behind `run` must not leave a revision without its note.
            _note_users(direct, following)
            revisions.run(direct, following)
            _say_whose(direct)
        return
    else:
        revisions.run(connection, revisions.last_before_concurrent(following))
    _say_whose(connection)


def _current(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _say_whose(connection: sa.Connection) -> None:
    """Mark the file as ours, and note which programs may use the ledger."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID:d}")
    current = _current(connection)
    if current is None or not sa.inspect(connection).has_table(schema.schema_uses.name):
        return  # an intermediate revision without the table
    _note_users(connection, current)
    connection.execute(sa.delete(schema.schema_uses).where(schema.schema_uses.c.revision != current))


def _note_users(connection: sa.Connection, revision: str) -> None:
    """Note which programs may use a ledger of this revision. Notes for other revisions stay."""
    row = {"revision": revision, "oldest": revisions.oldest_user(revision)}
    upsert(connection, schema.schema_uses, row, update=["oldest"])


def _lacks_its_note(connection: sa.Connection) -> bool:
    """Whether a ledger of this version's schema lacks it: an earlier version could be killed before it wrote it. Only a
    program that knows the revision can write it."""
    return _current(connection) == revisions.newest() and _oldest_user(connection, revisions.newest()) is None


def _oldest_user(connection: sa.Connection, revision: str) -> str | None:
    """The oldest revision that may use this schema, as noted by the newer program that wrote it."""
    table = schema.schema_uses
    if not sa.inspect(connection).has_table(table.name):
        return None
    return connection.execute(sa.select(table.c.oldest).where(table.c.revision == revision)).scalar()
