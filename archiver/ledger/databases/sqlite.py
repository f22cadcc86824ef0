"""The ledger in SQLite: WAL, `synchronous=FULL`, one writer connection that also owns checkpoints.

Rules:

1. A transaction that returned is on the disk: every COMMIT fsyncs the write-ahead log. A crash before
   COMMIT leaves nothing.
2. Within a process, a lock hands the writer connection around, so no thread meets SQLITE_BUSY from its own process.
   Between processes, `busy_timeout` waits.
3. Only the daemon checkpoints (automatically, on its writer; `wal` cuts the log), so no callback waits for a command's
   checkpoint.
4. Every driver error leaves here as `LedgerUnavailable`; nothing was written then.
5. Nothing is committed to a file that was deleted or replaced: SQLite would report success, and the data would end with
   the process.

What is on the disk when (seen with strace, and tested by `tests/daemon/test_power_loss.py`):

- COMMIT appends the changed pages to `<ledger>-wal` and syncs that file (`fdatasync`) before it returns. The first sync
  of a new file, ledger or log, also syncs the folder and so the file's name.
- A checkpoint (every `_CHECKPOINT_PAGES` pages of log, and when the daemon ends) syncs the log, copies its pages into
  the ledger and syncs the ledger, before the log may be overwritten.
- `<ledger>-shm`, an index of the log, is never synced: the first process that opens the ledger rebuilds it.

After a power failure the log's last transaction may be torn; its checksum shows that, and the next open reads up to
there. A backup takes ledger and log at one moment (a file system snapshot, or `moving/backup`).
"""

import contextlib
import json
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, pool
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine.interfaces import DBAPIConnection

from archiver.failures import LedgerUnavailable
from archiver.ledger.claims import LEASE_SECONDS
from archiver.ledger.databases.clock import unix_ms
from archiver.ledger.databases.errors import translated
from archiver.ledger.databases.file import identity_of, lock_for_daemon
from archiver.ledger.databases.protocol import WRITE_SECONDS_MAX, Disk, Obstacle
from archiver.ledger.databases.wal import BYTES_MAX, WriteAheadLog
from archiver.ledger.duties.duties import free_duties
from archiver.ledger.tables import schema
from archiver.ledger.tables.tombstones import is_forgotten
from archiver.model import DiscoveredBy, State
from archiver.pulses.pulse import beat

BUSY_SECONDS = 4.0
"""How long a transaction waits for other threads, then again for other processes: together less than the 10 s within
which the receiver must answer 503."""

READERS = 16
"""Read connections kept open; the pool may open ten more for a while."""

_CHECKPOINT_PAGES = 4000

_NEW_ID_COLUMNS = (
    "account",
    "task_id",
    "family_hint",
    "result_arrays",
    "due_at",
    "deadline_at",
    "first_seen_at",
    "named_at",
    "callbacks",
    "callback_status",
    "last_callback_at",
    "query_individually",
)
"""The columns that differ between new ids. The others are literals in the statement, which cost nothing per row."""

_ROWS = sa.func.json_each(sa.bindparam("rows", type_=sa.Text)).table_valued("value", name="rows")

_INSERT_NEW_IDS = (
    sqlite_insert(schema.tasks)
    .from_select(
        [*_NEW_ID_COLUMNS, "state", "queue", "attempts", "held", "asked", "discovered_by"],
        sa.select(
            *(sa.func.json_extract(_ROWS.c.value, f"$[{place}]") for place in range(len(_NEW_ID_COLUMNS))),
            sa.literal_column(f"'{State.REPORTED}'"),
            sa.literal_column(f"'{schema.QUEUE_UNCONFIRMED}'"),
            sa.literal_column("0"),
            sa.literal_column("0"),
            sa.literal_column("0"),
            sa.literal_column(f"'{DiscoveredBy.CALLBACK}'"),
        ).where(  # without a WHERE, SQLite would read ON CONFLICT as a join's ON
            ~is_forgotten(*(sa.func.json_extract(_ROWS.c.value, f"$[{place}]") for place in (0, 1)))
        ),
    )
    .on_conflict_do_nothing()
)


class SqliteDatabase:
    """The one writer and the readers of one SQLite ledger file."""

    has_one_writer = True

    def __init__(
        self,
        path: pathlib.Path,
        *,
        daemon: bool,
        busy_seconds: float = BUSY_SECONDS,
        log_bytes_max: int = BYTES_MAX,
    ) -> None:
        self.path = path
        self.name = str(path)
        self._log = WriteAheadLog(path, bytes_max=log_bytes_max)
        self._busy_seconds = busy_seconds
        self._lock = threading.Lock()
        self._daemon_lock = lock_for_daemon(path) if daemon else None
        url = sa.URL.create("sqlite", database=str(path))
        arguments = {"check_same_thread": False, "timeout": busy_seconds}
        self._writing = sa.create_engine(url, poolclass=pool.StaticPool, connect_args=arguments)
        # As many as threads usually read at once: a connection beyond the pool serves one query only.
        self._reading = sa.create_engine(
            url, pool_size=READERS, pool_use_lifo=True, pool_timeout=busy_seconds, connect_args=arguments
        )
        pages = _CHECKPOINT_PAGES if daemon else 0
        _prepare(self._writing, checkpoint_pages=pages)
        _prepare(self._reading, checkpoint_pages=0)
        self._identity = identity_of(path)

    @contextlib.contextmanager
    def write(self, *, seconds_max: float = WRITE_SECONDS_MAX) -> Iterator[sa.Connection]:  # noqa: ARG002 -- there is no server
        """One write transaction: committed and durable when the block ends, undone when it raises."""
        beat()
        if not self._lock.acquire(timeout=self._busy_seconds):
            raise LedgerUnavailable(f"the ledger {self.path} is busy: a transaction has not ended in time")
        try:
            with translated(self.path), self._writing.begin() as connection:
                _begin(connection, "BEGIN IMMEDIATE")
                self._require_file()
                yield connection
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent snapshot; never waits for the writer."""
        beat()
        with translated(self.path), self._reading.begin() as connection:
            _begin(connection, "BEGIN")
            yield connection

    def now(self) -> int:
        """Unix ms by this machine's clock: its processes have no other."""
        return unix_ms()

    def begin_daemon(self, connection: sa.Connection, *, now: int) -> None:
        """Free every lease: only one daemon works on an SQLite ledger, so their holders are dead.

        A task whose work kills the process waits a little longer after each attempt, at most `LEASE_SECONDS`; else it
        would come first after every start. A command that sweeps notices at its next renewal and stops.
        """
        table = schema.tasks
        wait = sa.case((table.c.attempts <= 2, 0), (table.c.attempts <= 4, 5_000), else_=LEASE_SECONDS * 1000)
        freed = sa.update(table).where(table.c.lease_token.is_not(None))
        connection.execute(freed.values(lease_token=None, lease_until=None, due_at=now + wait))
        connection.execute(sa.update(schema.sweeps).values(lease_token=None, lease_until=None))
        work = sa.update(schema.folder_work).where(schema.folder_work.c.lease_token.is_not(None))
        connection.execute(work.values(lease_token=None, lease_until=None, due_at=now + LEASE_SECONDS * 1000))
        forwards = sa.update(schema.forwards).where(schema.forwards.c.lease_token.is_not(None))
        connection.execute(forwards.values(lease_token=None, lease_until=None, due_at=now))
        free_duties(connection, now=now)
        ended = sa.update(schema.daemons).where(schema.daemons.c.left_at.is_(None))
        connection.execute(ended.values(left_at=now, leases=0))

    def insert_new_ids(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> int:
        """Insert them by one statement: for each row of an `executemany` the driver releases the GIL, and contends for
        it with the event loop, which takes the next callbacks.
        """
        rows_json = json.dumps([[row[name] for name in _NEW_ID_COLUMNS] for row in rows])
        return connection.execute(_INSERT_NEW_IDS, {"rows": rows_json}).rowcount

    def try_change(self, connection: sa.Connection, change: Callable[[], object]) -> None:
        """Any change needs room in the log, also one that changes nothing."""
        del change
        table = schema.named_values
        connection.execute(sa.update(table).values(name=table.c.name))

    def keep_bounded(self) -> None:
        """Shorten the write-ahead log."""
        with translated(self.path):
            self._log.shorten(self._lock)

    def obstacle(self) -> Obstacle | None:
        """A reader that keeps the write-ahead log long."""
        return self._log.obstacle()

    def disk(self) -> Disk | None:
        """The disk of the ledger's folder."""
        try:
            usage = shutil.disk_usage(self.path.parent)
        except OSError:
            return None
        return Disk(str(self.path.parent), usage.free, usage.total)

    def close(self) -> None:
        """Close every connection and let the next daemon in."""
        self._reading.dispose()
        self._writing.dispose()
        if self._daemon_lock is not None:
            self._daemon_lock.close()

    def _require_file(self) -> None:
        """Raises LedgerUnavailable unless the path still leads to the file that was opened."""
        if identity_of(self.path) != self._identity:
            raise LedgerUnavailable(
                f"the ledger {self.path} was deleted, moved or replaced under this process",
                what_to_do="Put the file back, or restart kling-receiver to begin with what is there now: with no file "
                "it makes a new ledger and finds the tasks of the last 30 days again.",
            )


def _prepare(engine: sa.Engine, *, checkpoint_pages: int) -> None:
    """Set up every new connection. The driver begins no transactions: `_begin` does."""

    def connect(connection: DBAPIConnection, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA wal_autocheckpoint={checkpoint_pages:d}")
        cursor.execute(f"PRAGMA journal_size_limit={BYTES_MAX:d}")
        cursor.close()

    event.listen(engine, "connect", connect)


def _begin(connection: sa.Connection, statement: str) -> None:
    """Begin the transaction explicitly: the driver's own BEGIN is deferred, and a deferred transaction that turns to
    writing can fail without waiting for any timeout.

    SQLAlchemy's event for it would make it look for listeners before and after each statement, a tenth of the time of
    a small transaction.
    """
    driver: Any = connection.connection.driver_connection
    driver.execute(statement)
