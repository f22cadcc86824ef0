"""A consistent copy of an SQLite ledger, beside a daemon that goes on writing.

SQLite's own backup begins again whenever another connection has written: beside a daemon that takes callbacks it never
ends (measured: 3 % of 400 MB in 20 s). So our connection holds one read transaction from the first page to the last,
and the copy is of that moment. Meanwhile the daemon's log cannot begin anew, and grows by what it writes.

After each piece the copy rests as long as the piece took, because callbacks wait for the same disk. Beside 130 commits
a second on a ledger of 400 MB (4 to 6 s), the longest commit took 42 to 73 ms, without a backup 29 to 50 ms; VACUUM
INTO made it 105 to 133 ms.

The order is the guarantee: copy under another name, complete and sync, check, sync, then rename. A crash before the
last step leaves `FILE.partial`, which the next backup of the same name overwrites.
"""

import contextlib
import dataclasses
import errno
import fcntl
import os
import pathlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import IO
from urllib.parse import quote

from archiver.failures import LedgerMalformed, LedgerUnavailable
from archiver.ledger.databases.errors import translated
from archiver.ledger.databases.file import open_file

PIECE_PAGES = 256
"""1 MiB."""
REST_SECONDS_MAX = 0.05
SYNC_PAGES = 16 * PIECE_PAGES
"""Pages between two syncs. Otherwise hundreds of megabytes would go to the disk at once in the end, and commits would
wait."""
STUCK_SECONDS_MAX = 60.0
"""How long a copy may make no progress."""
ROOM_LEFT_BYTES = 64 * 1024 * 1024
"""What the copy must leave on its disk: the ledger may be on the same one."""
_PRIVATE = 0o600
_PARTIAL = ".partial"
_NOT_WRITTEN = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC)
"""Errors of writing the copy; the ledger is only read."""


@dataclasses.dataclass(frozen=True, slots=True)
class BackupProgress:
    """The progress of the copy."""

    bytes: int
    bytes_total: int


@dataclasses.dataclass(frozen=True, slots=True)
class Backup:
    """A whole copy."""

    file: pathlib.Path
    bytes: int
    seconds: float


class BackupRefused(Exception):
    """The copy cannot be made there; the message says why, and what to do. Nothing was left behind."""


class BackupMisplaced(BackupRefused):
    """No file can be made at this path."""


def back_up(
    url: str,
    file: pathlib.Path,
    *,
    watch: Callable[[BackupProgress], object] = lambda _: None,
    rest: Callable[[float], object] = time.sleep,
) -> Backup:
    """Copy the SQLite ledger at `url`, of whatever version, into a file that does not exist yet.

    Raises LedgerUnusable, LedgerUnavailable, BackupRefused, and what `watch` and `rest` raise: nothing is left behind.
    """
    source = open_file(url, create=False)
    file = file.absolute()
    _require_place(file, source)
    began = time.monotonic()
    with _refusals(file), _partial(file) as partial:
        _copy(source, partial, watch=watch, rest=rest)
        _require_sound(source, partial)
        _sync(partial)
        size = partial.stat().st_size
        _give_name(partial, file)
    return Backup(file, size, time.monotonic() - began)


def _require_place(file: pathlib.Path, source: pathlib.Path) -> None:
    if file.is_dir():
        raise BackupMisplaced(f"{file} is a folder: name a file in it")
    if not file.parent.is_dir():
        raise BackupMisplaced(f"the folder {file.parent} does not exist: make it first")
    if os.path.lexists(file):
        raise BackupMisplaced(f"{file} is there already, and no file is overwritten: choose another name")
    log = source.with_name(source.name + "-wal")
    needed = source.stat().st_size + (log.stat().st_size if log.exists() else 0) + ROOM_LEFT_BYTES
    free = shutil.disk_usage(file.parent).free
    if free < needed:
        raise BackupRefused(
            f"the disk of {file.parent} has {free // 1_000_000:,} MB free, and the copy wants "
            f"{needed // 1_000_000:,} MB: make room, or choose another disk"
        )


@contextlib.contextmanager
def _partial(file: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty private file beside `file`, which no other backup has; gone when the block ends."""
    partial = file.with_name(file.name + _PARTIAL)
    try:
        handle = os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _PRIVATE), "r+b")
    except OSError as error:
        raise BackupRefused(f"cannot write {partial}: {error.strerror}") from error
    with handle:
        _take(handle, partial)
        try:
            yield partial
        finally:
            for suffix in ("", "-journal", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    partial.with_name(partial.name + suffix).unlink()


def _take(handle: IO[bytes], partial: pathlib.Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise BackupRefused(f"another backup writes {partial} right now") from error
    os.fchmod(handle.fileno(), _PRIVATE)
    handle.truncate(0)


@contextlib.contextmanager
def _refusals(file: pathlib.Path) -> Iterator[None]:
    """Turns errors of the copy into BackupRefused."""
    try:
        yield
    except OSError as error:
        raise BackupRefused(f"cannot write {file}: {error.strerror}") from error


def _copy(
    source: pathlib.Path,
    partial: pathlib.Path,
    *,
    watch: Callable[[BackupProgress], object],
    rest: Callable[[float], object],
) -> None:
    with (
        translated(source),
        contextlib.closing(_reading(source)) as reading,
        contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as writing,
    ):
        page_bytes = reading.execute("PRAGMA page_size").fetchone()[0]
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on, one moment
        # The copy needs neither a rollback journal nor a second sync.
        writing.execute("PRAGMA journal_mode=OFF")
        writing.execute("PRAGMA synchronous=OFF")
        pace = _Pace(partial, page_bytes, watch=watch, rest=rest)
        try:
            reading.backup(writing, pages=PIECE_PAGES, progress=pace.step)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode in _NOT_WRITTEN:
                raise OSError(errno.ENOSPC, "no more room") from error
            raise


def _reading(source: pathlib.Path) -> sqlite3.Connection:
    """A connection that can neither write nor checkpoint."""
    return sqlite3.connect(f"file:{quote(str(source.absolute()))}?mode=ro", uri=True, isolation_level=None)


class _Pace:
    """After each piece: report progress, sync now and then, rest, and give up a copy that makes no progress."""

    def __init__(
        self,
        partial: pathlib.Path,
        page_bytes: int,
        *,
        watch: Callable[[BackupProgress], object],
        rest: Callable[[float], object],
    ) -> None:
        self._partial = partial
        self._page_bytes = page_bytes
        self._watch = watch
        self._rest = rest
        self._remaining = -1
        self._unsynced = 0
        self._moved_at = self._began_at = time.monotonic()

    def step(self, _status: int, remaining: int, total: int) -> None:
        now = time.monotonic()
        if remaining != self._remaining:
            self._unsynced += self._remaining - remaining if self._remaining > 0 else 0
            self._remaining, self._moved_at = remaining, now
        elif now - self._moved_at > STUCK_SECONDS_MAX:
            raise LedgerUnavailable("the ledger is locked by another process, and cannot be copied")
        if self._unsynced >= SYNC_PAGES:
            _sync(self._partial)
            self._unsynced = 0
        self._watch(BackupProgress((total - remaining) * self._page_bytes, total * self._page_bytes))
        self._rest(min(time.monotonic() - self._began_at, REST_SECONDS_MAX))
        self._began_at = time.monotonic()


def _require_sound(source: pathlib.Path, partial: pathlib.Path) -> None:
    """One file from here on, without a log beside it. Raises LedgerMalformed where the ledger itself is damaged."""
    with translated(source):
        found = _interruptibly(lambda: _check(partial))
    if found != "ok":
        raise LedgerMalformed(f"the ledger is damaged, and a copy of it would be too: {found}")


def _check(partial: pathlib.Path) -> str:
    with contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        found: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        return found


def _interruptibly(work: Callable[[], str]) -> str:
    """Do it in another thread: Python handles no signal while SQLite reads a large file through, and Ctrl-C would wait
    for that. The process does not wait for the thread."""
    done: Future[str] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except Exception as error:  # noqa: BLE001 -- raised in the thread that waits
            done.set_exception(error)

    threading.Thread(target=run, name="backup-check", daemon=True).start()
    return done.result()


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give_name(partial: pathlib.Path, file: pathlib.Path) -> None:
    """Give the copy its name, unless another file has taken it meanwhile."""
    try:
        os.link(partial, file)
    except FileExistsError as error:
        raise BackupMisplaced(f"{file} has come meanwhile, and no file is overwritten") from error
    except OSError:  # the file system has no hard links
        if os.path.lexists(file):
            raise BackupMisplaced(f"{file} has come meanwhile, and no file is overwritten") from None
        partial.rename(file)
    _sync(file.parent)
