"""From a ledger's URL to its database: the only module that knows which URL means which database."""

import dataclasses
import os
import pathlib

from archiver.ledger.databases.errors import LedgerUnusable
from archiver.ledger.databases.file import file_of, open_file
from archiver.ledger.databases.mounts import network_kind_of, outlives_container
from archiver.ledger.databases.postgres import PostgresDatabase
from archiver.ledger.databases.protocol import Database
from archiver.ledger.databases.reaching import location_of
from archiver.ledger.databases.sqlite import SqliteDatabase


def open_database(
    url: str,
    *,
    daemon: bool,
    create: bool,
    busy_seconds: float,
    log_bytes_max: int,
    direct_url: str | None = None,
) -> Database:
    """Open the ledger at `url` (`sqlite:///…`, `postgresql://…`), whatever its schema.

    Raises LedgerUnusable, LedgerUnavailable.
    """
    if is_postgres(url):
        database = PostgresDatabase(url, busy_seconds=busy_seconds, direct_url=direct_url)
        try:
            database.require_fit(create=create)
        except BaseException:
            database.close()
            raise
        return database
    path = open_file(url, create=create)
    return SqliteDatabase(path, daemon=daemon, busy_seconds=busy_seconds, log_bytes_max=log_bytes_max)


@dataclasses.dataclass(frozen=True, slots=True)
class UsableLedger:
    """A ledger that a daemon could work on."""

    name: str
    exists: bool
    """False if the daemon has yet to create it."""


def is_postgres(url: str) -> bool:
    """Whether many processes may work on the ledger at `url`."""
    return url.startswith("postgresql://")


def perishable_file(url: str) -> pathlib.Path | None:
    """The ledger's file, if it would vanish with the container that this process runs in."""
    if is_postgres(url):
        return None
    path = file_of(url)
    return None if outlives_container(path) else path


def network_file_system(url: str) -> str | None:
    """The kind of file system that the ledger's file is on, if another machine, or a program, provides it."""
    return None if is_postgres(url) else network_kind_of(file_of(url))


def require_usable(url: str) -> UsableLedger:
    """The ledger, if a daemon could use it or make it; creates nothing. Raises LedgerUnusable, LedgerUnavailable."""
    if is_postgres(url):
        database = PostgresDatabase(url)
        try:
            return UsableLedger(database.name, exists=database.require_fit(create=True))
        finally:
            database.close()
    path = file_of(url).absolute()
    if path.exists():
        return UsableLedger(str(open_file(url, create=False).absolute()), exists=True)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise LedgerUnusable(
            f"the folder {path.parent} of the ledger does not exist or cannot be written (KLING_LEDGER_URL)"
        )
    return UsableLedger(str(path), exists=False)


def name_of(url: str) -> str:
    """For logs: the absolute path of a file, or where a database is, without password. Raises LedgerUnusable."""
    return location_of(url).name if is_postgres(url) else str(file_of(url).absolute())


def shown_url(url: str) -> str:
    """As an operator may write it, without password. Raises LedgerUnusable."""
    return name_of(url) if is_postgres(url) else f"sqlite:///{name_of(url)}"
