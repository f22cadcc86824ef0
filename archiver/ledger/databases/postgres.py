"""The ledger in PostgreSQL: any number of processes, each of which may be killed at any time.

Rules:

1. A transaction that returned survives a crash of the server, and a failover to the standby that
   `synchronous_standby_names` waits for.
2. Writes run at READ COMMITTED, reads in one REPEATABLE READ snapshot. A transaction locks the rows that it has read
   and is going to write, in the order of their ids (`dialect.locking`).
3. A change that certainly did not happen and may succeed at once raises `WriteConflict`, and begins again: after a
   deadlock, a serialization failure, or a connection that broke before COMMIT was sent. A connection that broke while
   it was idle in the pool is replaced silently. Every other error of the server or the connection is
   `LedgerUnavailable` (`refusals`). Errors in our statements (SQLSTATE classes 22, 23 and 42) are bugs of ours and pass
   through.
4. After a connection breaks at COMMIT, the transaction is either undone or durable. It is not repeated here: the caller
   finds out by reading the rows, as after a crash. The same holds for a COMMIT that no standby has confirmed.
5. Every answer has a time limit: `WRITE_SECONDS_MAX` for a transaction, less where a sender waits for it. So a machine
   that vanishes in the middle of a transaction does not keep its rows locked for hours.
6. A server that refuses to work (full, read-only, shutting down) gets no more queries on its present connections: after
   a failover, new ones lead to another server.
7. Leases end by themselves: a start frees none.
8. Times are the server's: processes whose own clocks are minutes apart agree on when a lease ends.
9. Nothing is set for a connection, everything for a transaction: a pooler may give each transaction another connection.
"""

import contextlib
import functools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import insert as postgres_insert

from archiver.failures import LedgerUnavailable
from archiver.ledger.databases.clock import ServerClock
from archiver.ledger.databases.limits import (
    forgo_prepared_if_pooled,
    hear_unreplicated,
    limit_connections,
    limits_of,
    set_limit,
)
from archiver.ledger.databases.protocol import WORK_CONNECTIONS_MAX, WRITE_SECONDS_MAX, Disk, Obstacle
from archiver.ledger.databases.reaching import location_of, require_fit
from archiver.ledger.databases.refusals import (
    drop_connections_when_refused,
    failure_of,
    is_lost,
    lost,
    unanswered_commit,
    unreplicated,
)
from archiver.ledger.tables import schema
from archiver.ledger.tables.tombstones import is_forgotten
from archiver.pulses.pulse import beat

READ_SECONDS_MAX = 60.0
"""A view of a large ledger on a slow server takes seconds."""

FIRST_ANSWER_SECONDS = 3.0
"""After that long without an answer, a connection that lay in the pool is taken for dead, and another is tried."""

_LOCK_SECONDS = 5
"""How long a transaction waits for others' rows. The receiver must answer 503 within 10 s."""

_SETTINGS = {
    # The planner knows how many rows a queue had when it was last analyzed. For each statement there is an index.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",  # an unavoidable plan that is switched off has a huge estimated cost, which would start JIT
}
"""The settings of each transaction."""

_NOW = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)
"""Unix ms."""

_SYNCHRONOUS = sa.func.current_setting("synchronous_commit")
_DURABLE = sa.func.set_config(
    "synchronous_commit", sa.case((_SYNCHRONOUS == "off", "on"), else_=_SYNCHRONOUS), True
)
"""An operator may have set `off` for speed; then a crash of the server would lose callbacks that were answered 200."""

_NEW_ID_COLUMNS: tuple[tuple[str, type[sa.types.TypeEngine[Any]]], ...] = (
    ("account", sa.Text),
    ("task_id", sa.Text),
    ("family_hint", sa.Text),
    ("result_arrays", sa.Text),
    ("state", sa.Text),
    ("queue", sa.Text),
    ("attempts", sa.Integer),
    ("held", sa.Integer),
    ("due_at", sa.BigInteger),
    ("deadline_at", sa.BigInteger),
    ("first_seen_at", sa.BigInteger),
    ("named_at", sa.BigInteger),
    ("asked", sa.Integer),
    ("query_individually", sa.Boolean),
    ("discovered_by", sa.Text),
    ("callbacks", sa.Integer),
    ("callback_status", sa.Text),
    ("last_callback_at", sa.BigInteger),
)

_ROWS = (
    sa.func.json_to_recordset(sa.cast(sa.bindparam("rows", type_=sa.Text), sa.JSON))
    .table_valued(*(sa.column(name, type_()) for name, type_ in _NEW_ID_COLUMNS), name="rows")
    .render_derived(with_types=True)
)

_INSERT_NEW_IDS = (
    postgres_insert(schema.tasks)
    .from_select(
        [name for name, _ in _NEW_ID_COLUMNS],
        sa.select(*(_ROWS.c[name] for name, _ in _NEW_ID_COLUMNS)).where(
            ~is_forgotten(_ROWS.c.account, _ROWS.c.task_id)
        ),
    )
    .on_conflict_do_nothing()
)

_UNFINISHED_INDEXES = sa.text(
    "SELECT built.relname FROM pg_index JOIN pg_class AS built ON built.oid = pg_index.indexrelid"
    " JOIN pg_class AS owner ON owner.oid = pg_index.indrelid WHERE NOT pg_index.indisvalid"
    " AND owner.relnamespace = current_schema()::regnamespace AND owner.relname = ANY (:tables)"
)


class PostgresDatabase:
    """A pool of connections to one PostgreSQL database."""

    has_one_writer = False

    def __init__(
        self,
        url: str,
        *,
        busy_seconds: float = _LOCK_SECONDS,
        direct_url: str | None = None,
        first_answer_seconds: float = FIRST_ANSWER_SECONDS,
        seconds_max: float = math.inf,
    ) -> None:
        """`busy_seconds`: how long a transaction waits for a connection, then for others' rows. `direct_url` leads
        to the same database past any pooler. `seconds_max`: of every transaction."""
        location = location_of(url)
        self._direct = location_of(direct_url) if direct_url else location
        self.name = location.name
        engine = sa.create_engine(
            location.url,
            pool_size=WORK_CONNECTIONS_MAX,
            max_overflow=0,
            pool_use_lifo=True,
            pool_timeout=busy_seconds,
            connect_args=dict(location.options),
            execution_options={"preserve_rowcount": True},  # the rowcount of an INSERT that skips some rows
        )
        limit_connections(engine)
        drop_connections_when_refused(engine)
        self._engine = engine
        self._writing = engine.execution_options(isolation_level="READ COMMITTED")
        self._reading = engine.execution_options(isolation_level="REPEATABLE READ")
        self._settings = _SETTINGS | {"lock_timeout": str(int(busy_seconds * 1000))}
        self._first_answer_seconds = first_answer_seconds
        self._seconds_max = seconds_max
        self._clock = ServerClock()
        self._may_be_pooled = "prepare_threshold" not in location.options

    @contextlib.contextmanager
    def write(self, *, seconds_max: float = WRITE_SECONDS_MAX) -> Iterator[sa.Connection]:
        """One write transaction: committed when the block ends, undone when it raises."""
        answer_by = time.monotonic() + min(seconds_max, self._seconds_max)
        with self._begun(self._writing, answer_by=answer_by) as connection:
            try:
                yield connection
            except exc.DBAPIError as error:
                if is_lost(error) and time.monotonic() < answer_by:
                    raise lost(error, name=self.name) from error
                raise

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent snapshot; never waits for a writer."""
        answer_by = time.monotonic() + min(READ_SECONDS_MAX, self._seconds_max)
        with self._begun(self._reading, answer_by=answer_by) as connection:
            yield connection

    @contextlib.contextmanager
    def _begun(self, engine: sa.Engine, *, answer_by: float) -> Iterator[sa.Connection]:
        """A transaction that is committed when the block ends, undone when it raises."""
        beat()
        with self._translated():
            connection = self._begin(engine, answer_by=answer_by)
            try:
                yield connection
                self._commit(connection, answer_by=answer_by)
            finally:
                with contextlib.suppress(exc.DBAPIError):  # of a broken connection
                    connection.rollback()
                connection.close()

    def _commit(self, connection: sa.Connection, *, answer_by: float) -> None:
        """Also a read: the driver forgets its prepared statements when it undoes."""
        try:
            with hear_unreplicated(connection) as is_unreplicated:
                connection.commit()
        except exc.DBAPIError as error:
            if is_lost(error) and time.monotonic() >= answer_by:
                raise unanswered_commit(name=self.name) from error
            raise
        if is_unreplicated():
            raise unreplicated(name=self.name)

    def _begin(self, engine: sa.Engine, *, answer_by: float) -> sa.Connection:
        first_answer_by = min(answer_by, time.monotonic() + self._first_answer_seconds)
        try:
            return self._begin_once(engine, first_answer_by=first_answer_by, answer_by=answer_by)
        except exc.DBAPIError as error:
            if not is_lost(error):
                raise
        # The connection broke while it was idle. The pool has discarded all that are as old: this one is new.
        return self._begin_once(engine, first_answer_by=answer_by, answer_by=answer_by)

    def _begin_once(self, engine: sa.Engine, *, first_answer_by: float, answer_by: float) -> sa.Connection:
        connection = engine.connect()
        limit_ms = 0 if answer_by == math.inf else max(1, int((answer_by - time.monotonic()) * 1000))
        try:
            set_limit(connection, answer_by=first_answer_by)
            # The answer also contains the server's time, at no extra cost.
            settings = self._settings | limits_of(connection, limit=str(limit_ms))
            now, session = connection.execute(_beginning(tuple(settings)), settings).one()[:2]
            self._clock.heard(now)
            if self._may_be_pooled:
                forgo_prepared_if_pooled(connection, session=session)
            set_limit(connection, answer_by=answer_by)
        except BaseException:
            connection.close()
            raise
        return connection

    def require_fit(self, *, create: bool) -> bool:
        """Whether there is a ledger. Raises LedgerUnusable if the server cannot hold one (with `create`: cannot be
        given one), LedgerUnavailable while it is not reached."""
        return require_fit(self._engine, name=self.name, create=create)

    def now(self) -> int:
        """Unix ms by the server's clock."""
        return self._clock.now()

    @contextlib.contextmanager
    def direct(self) -> Iterator[sa.Connection]:
        """A connection of its own, past any pooler, on which each statement commits by itself."""
        engine = sa.create_engine(
            self._direct.url,
            poolclass=sa.NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args=dict(self._direct.options),
        )
        with self._translated(), engine.connect() as connection:
            for limit in (*limits_of(connection, limit="0"), "lock_timeout"):
                connection.exec_driver_sql(f"SET {limit} = 0")
            yield connection

    def begin_daemon(self, connection: sa.Connection, *, now: int) -> None:
        """Other daemons may be at work: nothing is freed."""

    def insert_new_ids(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> int:
        """Insert them by one statement."""
        given = json.dumps([{name: row[name] for name, _ in _NEW_ID_COLUMNS} for row in rows])
        return connection.execute(_INSERT_NEW_IDS, {"rows": given}).rowcount

    def try_change(self, connection: sa.Connection, change: Callable[[], object]) -> None:
        """Do it and undo it. A server whose disk is full still writes rows that fit into existing pages of the tables:
        only the same change in the same tables shows the full disk. COMMIT waits for a standby all the same."""
        undone = connection.begin_nested()
        change()
        undone.rollback()

    def keep_bounded(self) -> None:
        """The server keeps its own files."""

    def obstacle(self) -> Obstacle | None:
        """None: this process cannot see the server's obstacles."""
        return None

    def disk(self) -> Disk | None:
        """None: the disk is the server's."""
        return None

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.TimeoutError as error:
            raise LedgerUnavailable(f"the ledger {self.name} is busy: all connections are in use") from error
        except exc.DBAPIError as error:
            failure = failure_of(error, name=self.name)
            if failure is None:
                raise
            raise failure from error


@functools.cache
def _beginning(settings: tuple[str, ...]) -> sa.Select[Any]:
    """The first query of each transaction: it reads the server's time and session, and sets `settings` until the
    transaction ends."""
    values = (sa.func.set_config(name, sa.bindparam(name), True) for name in settings)
    return sa.select(_NOW, sa.func.pg_backend_pid(), _DURABLE, *values)


def drop_snapshot(connection: sa.Connection) -> None:
    """A building of indexes waits for every older snapshot. The last SELECT keeps its own until the next statement, if
    the driver has prepared it; this one takes none."""
    connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def drop_unfinished_indexes(direct: sa.Connection) -> None:
    """Drop indexes that a process was building beside writers when it died: they are useless, and block a new
    attempt."""
    found = direct.execute(_UNFINISHED_INDEXES, {"tables": list(schema.metadata.tables)}).scalars()
    for name in list(found):
        direct.exec_driver_sql(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')
