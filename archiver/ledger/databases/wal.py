"""Keeps the write-ahead log of an SQLite ledger short, and says what to do if a reader keeps it long.

The writer copies the log into the ledger every `_CHECKPOINT_PAGES` and then overwrites it from its beginning; the file
never shrinks by itself. Pages that a reader may still need cannot be overwritten. Beside a reader that never ends, the
log grows with every transaction, and a start after a crash has to read all of it.
"""

import contextlib
import pathlib
import sqlite3
import threading

from archiver.ledger.databases.protocol import Obstacle

BYTES_MAX = 64 * 1024 * 1024
"""A larger log is shortened. Automatic checkpoints keep it at 16 MiB unless a transaction is larger."""

_OBSTACLE_FACTOR = 4
"""A log that is this many times too large was not shortened for many rounds of upkeep: a reader is in the way."""

_LOCK_SECONDS = 0.1
"""How long shortening waits for readers of our own, while callbacks wait for it."""

_PAGES_SINCE = 1000
"""Pages that other threads may have committed since the copying began."""


class WriteAheadLog:
    """The log of the ledger at `path`."""

    def __init__(self, path: pathlib.Path, *, bytes_max: int = BYTES_MAX) -> None:
        self.path = path.with_name(path.name + "-wal")
        self.bytes_max = bytes_max
        self._ledger = path

    def shorten(self, writing: threading.Lock) -> None:
        """Cut a log that is too large. The lock `writing` is held only once nothing is left to copy, so the copying
        stops no writer. Raises sqlite3.Error."""
        if self._bytes() <= self.bytes_max:
            return
        with contextlib.closing(
            sqlite3.connect(self._ledger, timeout=_LOCK_SECONDS, isolation_level=None)
        ) as connection:
            _busy, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if copied < pages - _PAGES_SINCE:
                return  # a reader is in the way
            with writing:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def obstacle(self) -> Obstacle | None:
        """What an operator can do about a log that cannot be shortened."""
        size = self._bytes()
        if size <= self.bytes_max * _OBSTACLE_FACTOR:
            return None
        return Obstacle(
            "ledger_log_large",
            f"{self.path} has {size // 1_000_000} MB and cannot be shortened: another process reads the ledger and "
            "does not end its transaction",
            f"Find it (fuser -v {self._ledger}) and end it: a backup, a shell or a viewer that was left open. The log "
            "then shortens by itself.",
        )

    def _bytes(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:  # no log yet, or none any more
            return 0
