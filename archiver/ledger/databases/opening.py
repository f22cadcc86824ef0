"""From a ledger's URL to its database: the only place that knows which URLs mean which."""

import pathlib

from archiver.ledger.databases.file import file_of, open_file
from archiver.ledger.databases.mounts import outlives_container
from archiver.ledger.databases.protocol import Database
from archiver.ledger.databases.sqlite import SqliteDatabase


def open_database(
    url: str, *, daemon: bool, create: bool, busy_seconds: float, log_bytes_max: int
) -> Database:
    """Open the ledger at `url` (`sqlite:///…`), whatever its schema. Raises LedgerUnusable, LedgerUnavailable."""
    path = open_file(url, create=create)
    return SqliteDatabase(path, daemon=daemon, busy_seconds=busy_seconds, log_bytes_max=log_bytes_max)


def perishable_file(url: str) -> pathlib.Path | None:
    """The ledger's file, if it would vanish with the container that this process runs in."""
    path = file_of(url)
    return None if outlives_container(path) else path
