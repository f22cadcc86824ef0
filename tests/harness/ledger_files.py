"""Ledger files: as we open them, and in the hands of another program."""

import contextlib
import pathlib
import sqlite3
from collections.abc import Iterator

from archiver.ledger import Ledger
from tests.harness.ledgers import Clock


def open_at(path: pathlib.Path, *, daemon: bool = True) -> Ledger:
    return Ledger.open(f"sqlite:///{path}", daemon=daemon, busy_seconds=0.05, now=Clock())


@contextlib.contextmanager
def sqlite(path: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """The file in the hands of another program."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection
