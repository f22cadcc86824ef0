"""The file of an SQLite ledger: whether it is ours, and who may read it.

The ledger holds prompts and signed URLs, so its files are made with mode 0600; SQLite makes `-wal` and `-shm` with the
mode of the ledger. At a daemon's start, files of an earlier version lose the rights of others. A group that may write
keeps its rights: an operator has let another user run commands.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import stat
from typing import IO
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import pool

from archiver.failures import LedgerMalformed, LedgerUnavailable
from archiver.ledger.databases.errors import (
    LedgerMissing,
    LedgerTaken,
    LedgerUnfit,
    LedgerUnusable,
    translated,
)

APPLICATION_ID = 0x4B4C4E47
"""Written into the file's header ("KLNG"): marks an SQLite file as our ledger."""

_HEADER_BYTES = 72
_PASSING = frozenset(
    {
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.ENFILE,
        errno.EMFILE,
        errno.ENOMEM,
        errno.ESTALE,
    }
)
"""Errors that may pass: the disk is full, or the system has made it read-only after an error, or a limit of the machine
was reached."""
_PRIVATE, _SHARED_WITH_GROUP = 0o600, 0o660


def identity_of(path: pathlib.Path) -> tuple[int, int] | None:
    """Device and inode of the file at this path; None for no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def lock_for_daemon(path: pathlib.Path) -> IO[bytes]:
    """Lock `<ledger>.lock` for a daemon's lifetime. The kernel drops the lock with the process, even at a kill -9."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        handle = _open(lock_path, create=True)
    except OSError as error:
        _raise_passing(error, lock_path)
        raise LedgerUnfit(
            f"cannot write {lock_path}: {error.strerror}. The ledger's folder must exist and be writable "
            "(KLING_LEDGER_URL)."
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise LedgerTaken(f"a kling-receiver already works on the ledger {path}") from error
    return handle


def _raise_passing(error: OSError, path: pathlib.Path) -> None:
    """Raise LedgerUnavailable for an error that may pass although the settings stay the same."""
    if error.errno in _PASSING:
        raise LedgerUnavailable(f"cannot open the ledger {path}: {error.strerror}") from error


def file_of(url: str) -> pathlib.Path:
    """The file that a `sqlite:///…` URL names."""
    return pathlib.Path(url.removeprefix("sqlite:///"))


def open_file(url: str, *, create: bool) -> pathlib.Path:
    """The file that a `sqlite:///…` URL names, once it is known to be ours or, with `create`, new.

    Raises LedgerUnusable, LedgerUnavailable.
    """
    path = file_of(url)
    try:
        header = _header_of(path, create=create)
    except FileNotFoundError as error:
        raise LedgerMissing(missing(path.absolute())) from error
    except OSError as error:
        _raise_passing(error, path)
        raise LedgerUnfit(
            f"cannot open the ledger {path}: {error.strerror}. Give this user the right to read and write it and "
            "its folder, or name another file in KLING_LEDGER_URL"
        ) from error
    if not header and not create:  # a daemon was killed at its first start
        raise LedgerMissing(missing(path.absolute()))
    if header and not header.startswith(b"SQLite format 3\0"):
        raise LedgerUnusable(
            f"{path} is not a ledger (not an SQLite file): name another file in KLING_LEDGER_URL. If it was a ledger, "
            f"it is damaged. {LedgerMalformed.what_to_do}"
        )
    if header and not _is_ours(path):
        raise LedgerUnusable(f"{path} belongs to another program; name another file in KLING_LEDGER_URL")
    return path


def _is_ours(path: pathlib.Path) -> bool:
    """Whether an SQLite file carries our mark, or no table yet (a crash before the first commit).

    Opened read-only, so that another program's file is not switched to WAL. Raises LedgerUnavailable while it is
    locked.
    """
    with (
        translated(path),
        sa.create_engine(_read_only(path), poolclass=pool.NullPool).connect() as connection,
    ):
        if connection.exec_driver_sql("PRAGMA application_id").scalar_one() == APPLICATION_ID:
            return True
        return not sa.inspect(connection).get_table_names()


def _read_only(path: pathlib.Path) -> sa.URL:
    return sa.URL.create(
        "sqlite", database=f"file:{quote(str(path.absolute()))}", query={"mode": "ro", "uri": "true"}
    )


def missing(name: pathlib.Path | str) -> str:
    """The error for an operator whose command found no ledger."""
    return (
        f"there is no ledger at {name}: start kling-receiver, which makes it, or set KLING_LEDGER_URL to the one that "
        "kling-receiver uses"
    )


def _header_of(path: pathlib.Path, *, create: bool) -> bytes:
    """The first bytes of a writable file; empty for a new one. Raises OSError as well."""
    if not path.parent.is_dir():
        raise LedgerUnfit(
            f"the folder {path.parent} of the ledger does not exist (KLING_LEDGER_URL): make it first"
        )
    if path.is_dir():
        raise LedgerUnusable(f"{path} is a folder, not a ledger file (KLING_LEDGER_URL)")
    with _open(path, create=create) as handle:
        if create:
            _keep_private(path)
        return handle.read(_HEADER_BYTES)


def _open(path: pathlib.Path, *, create: bool) -> IO[bytes]:
    """Open the file for reading and writing, at its beginning. Raises OSError."""
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    return os.fdopen(os.open(path, flags, _PRIVATE), "r+b")


def _keep_private(path: pathlib.Path) -> None:
    """Take away the rights of other users on the ledger's files, if we own them."""
    for suffix in ("", "-wal", "-shm", ".lock"):
        file = path.with_name(path.name + suffix)
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(file.stat().st_mode)
            kept = mode & (_SHARED_WITH_GROUP if mode & stat.S_IWGRP else _PRIVATE)
            if kept != mode:
                file.chmod(kept)
