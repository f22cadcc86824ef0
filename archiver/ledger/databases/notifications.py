"""Wake-ups between processes: NOTIFY and LISTEN of PostgreSQL, on connections of their own.

They are hints. A lost one costs nothing: what is due is in the ledger, and every loop looks there twice a second.
NOTIFY is a transaction of its own, because PostgreSQL commits those that notify one after the other (1,100 a second
instead of 7,000).
"""

import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, pool

from archiver.failures import LedgerUnavailable
from archiver.ledger.databases.reaching import location_of

_CHANNEL = "kling_"
_PAYLOAD_CHARACTERS_MAX = 7000
"""PostgreSQL takes 8000 bytes."""


class Notifications:
    """What one process sends and receives. Each method is called by one thread of its own, and connects anew by itself.

    A payload is the sender, then the accounts; none means all.
    """

    def __init__(self, url: str) -> None:
        """Raises LedgerUnusable. Connects to nothing yet."""
        location = location_of(url)
        self.name = location.name
        self._sender = secrets.token_hex(8)
        self._engine = sa.create_engine(
            location.url,
            isolation_level="AUTOCOMMIT",
            poolclass=pool.NullPool,
            connect_args=dict(location.options),
        )
        self._connections: dict[str, sa.Connection] = {}

    def send(self, wakes: Mapping[str, Sequence[str]]) -> None:
        """Wake these accounts of each stage in every other process. Raises LedgerUnavailable."""
        with self._connected("send") as connection:
            for stage, accounts in wakes.items():
                named = " ".join(accounts)
                named = named if len(named) <= _PAYLOAD_CHARACTERS_MAX else ""
                notify = sa.func.pg_notify(_CHANNEL + stage, f"{self._sender} {named}")
                connection.execute(sa.select(notify))

    def receive(self, stages: Sequence[str], *, seconds: float) -> list[tuple[str, list[str]]]:
        """Wait for wake-ups from other processes, at most so long: each a stage and accounts. Raises
        LedgerUnavailable."""
        listens = [f"LISTEN {_CHANNEL}{stage}" for stage in stages]
        with self._connected("receive", begin=listens) as connection:
            driver: Any = connection.connection.driver_connection
            heard = list(driver.notifies(timeout=seconds, stop_after=1))
        found = (self._read(notify.channel, notify.payload) for notify in heard)
        return [wake for wake in found if wake is not None]

    def _read(self, channel: str, payload: str) -> tuple[str, list[str]] | None:
        """None for our own. Any other program may send on the channel."""
        sender, *accounts = payload.split() or [""]
        return None if sender == self._sender else (channel.removeprefix(_CHANNEL), accounts)

    def close(self) -> None:
        """Close both connections; after their threads have ended."""
        for use in list(self._connections):
            self._drop(use)

    @contextlib.contextmanager
    def _connected(self, use: str, *, begin: Sequence[str] = ()) -> Iterator[sa.Connection]:
        """The connection for sending or for listening, opened if there is none; a failing one is dropped."""
        dialect: Any = self._engine.dialect
        try:
            if use not in self._connections:
                self._connections[use] = self._engine.connect()
                for statement in begin:
                    self._connections[use].exec_driver_sql(statement)
            yield self._connections[use]
        except (exc.DBAPIError, dialect.dbapi.Error) as error:
            self._drop(use)
            why = error.orig if isinstance(error, exc.DBAPIError) else error
            raise LedgerUnavailable(f"{self.name} passes no wake-ups on: {why}") from error

    def _drop(self, use: str) -> None:
        connection = self._connections.pop(use, None)
        if connection is not None:
            with contextlib.suppress(exc.DBAPIError):
                connection.close()
