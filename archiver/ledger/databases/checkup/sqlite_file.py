"""SQLite's quick check of a ledger's file, with a time limit: a file of some GB takes minutes on a slow disk.

It reads in a snapshot of its own beside the daemon, which goes on writing.
"""

import contextlib
import dataclasses
import pathlib
import sqlite3
import time
from urllib.parse import quote

from archiver.ledger.databases.errors import translated
from archiver.ledger.databases.file import open_file

INSTRUCTIONS = 10_000
"""Instructions of SQLite's virtual machine between two looks at the clock: less than a millisecond, unless the disk is
slow."""
DAMAGES_MAX = 3
_BUSY_SECONDS = 4.0


@dataclasses.dataclass(frozen=True, slots=True)
class Integrity:
    """The result of the check."""

    path: pathlib.Path
    damages: tuple[str, ...]
    """SQLite's messages, the first few."""
    is_whole: bool
    """False if the time limit ended the check before everything was read."""
    bytes: int
    """The size of the file."""


def integrity_of_file(url: str, *, seconds_max: float) -> Integrity:
    """Read the ledger at `url` through. Raises LedgerUnusable, LedgerUnavailable (LedgerMalformed)."""
    path = open_file(url, create=False).absolute()
    ends_at = time.monotonic() + seconds_max
    with translated(path), contextlib.closing(_open(path)) as connection:
        connection.set_progress_handler(lambda: int(time.monotonic() >= ends_at), INSTRUCTIONS)
        try:
            rows = connection.execute(f"PRAGMA quick_check({DAMAGES_MAX:d})").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            return Integrity(path, (), is_whole=False, bytes=path.stat().st_size)
    said = tuple(str(row[0]) for row in rows)
    return Integrity(path, () if said == ("ok",) else said, is_whole=True, bytes=path.stat().st_size)


def _open(path: pathlib.Path) -> sqlite3.Connection:
    """Open read-only: no mode is switched, nothing is written."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
