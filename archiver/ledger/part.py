"""The base of every part of the ledger."""

import functools
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from archiver.failures import LedgerUnavailable
from archiver.ledger.databases.protocol import Database, WriteConflict

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

TRIES_MAX = 5
"""How often a transaction is tried if other processes are faster."""
TRIES_SECONDS_MAX = 5.0
"""After this time the transaction is not begun again: each try may wait for others' rows."""


class Part:
    """One part of the ledger. Each public method is one transaction; `now` (Unix ms) is read once in it."""

    def __init__(self, database: Database, *, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now


def retried(transaction: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Begin a transaction again after a `WriteConflict`: for every method that writes. On SQLite, whose one writer
    reads under its lock, there is none; PostgreSQL also ends one of two transactions that wait for each other."""

    @functools.wraps(transaction)
    def tried_again(*args: _Given.args, **options: _Given.kwargs) -> _Result:
        begun_at = time.monotonic()
        for number in range(1, TRIES_MAX + 1):
            try:
                return transaction(*args, **options)
            except WriteConflict as error:
                if number == TRIES_MAX or time.monotonic() - begun_at > TRIES_SECONDS_MAX:
                    said = f"{error} (the last of {number} tries)"
                    raise LedgerUnavailable(said, what_to_do=error.what_to_do) from error
        raise AssertionError("unreachable")

    return tried_again


def require_written(written: int, rows: int = 1) -> None:
    """Raises WriteConflict unless a statement has found all the rows that were read."""
    if written != rows:
        raise WriteConflict("another process has written the same rows")
