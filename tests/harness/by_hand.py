"""A ledger's database as tests look at it and forge it, past the code that is tested. Statements are written with `?`
for each value, on PostgreSQL too."""

import contextlib
import pathlib
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from archiver.ledger import Ledger
from archiver.ledger.daemons import begin_daemon
from tests.harness.blank_ledger import lay_blank_ledger
from tests.postgres import BlankDatabase

_Ledger = TypeVar("_Ledger", bound=Ledger)


class SqliteByHand:
    """A ledger's file."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def open(
        self,
        *,
        now: Callable[[], int],
        kind: type[_Ledger],
        **options: Any,
    ) -> _Ledger:
        """As a daemon does, once there is at least a blank ledger."""
        lay_blank_ledger(self.path)
        return kind.open(self.url, daemon=True, now=now, **options)

    def lose(self) -> None:
        """Delete it, while nothing has it open."""
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink()

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        connection = sqlite3.connect(self.path)
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]
        finally:
            connection.close()

    def write(self, statement: str, *values: object) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement, values)

    def write_script(self, script: str) -> None:
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.executescript(script)

    def close(self) -> None:
        """No connection is kept."""


class PostgresByHand:
    """A PostgreSQL database, with one connection."""

    def __init__(self, database: BlankDatabase) -> None:
        self.url = database.url
        self._database = database
        self._connection = database.engine.connect()

    def open(
        self,
        *,
        now: Callable[[], int],
        kind: type[_Ledger],
        **options: Any,
    ) -> _Ledger:
        """As a daemon does, on a database that is kept open."""
        with self._database.kept.write() as connection:
            begin_daemon(self._database.kept, connection, now=now())
        return kind(self._database.kept, now=now, **options)

    def lose(self) -> None:
        """Empty it."""
        self._database.empty()

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        found = self._connection.exec_driver_sql(_marked(query), values)
        return [dict(row) for row in found.mappings()]

    def write(self, statement: str, *values: object) -> None:
        self._connection.exec_driver_sql(_marked(statement), values)

    def write_script(self, script: str) -> None:
        self._connection.exec_driver_sql(script)

    def close(self) -> None:
        self._connection.close()


def _marked(statement: str) -> str:
    return statement.replace("?", "%s")
