"""Two doors and three workers: where they are, and what their ledger says past the bad network."""

import contextlib
import pathlib
import random
from collections.abc import Iterator

import sqlalchemy as sa

from archiver.ledger import Ledger
from tests.harness.daemons import Site
from tests.postgres import BadNetwork, PostgresServer, plain_engine
from tests.s3_servers import FaultyProxy, S3Server
from tests.s3_servers.process import free_port

QUERY_RATE = 20
"""The account's."""
DOORS_AHEAD_SECONDS = (180, -180)
WORKERS_AHEAD_SECONDS = (0, -120, -240)
"""Kling takes no token of a clock that is ahead, so none of these is."""


class Fleet(Site):
    """Its doors have a port each; the tests ask the ledger past the bad network."""

    def __init__(
        self,
        folder: pathlib.Path,
        s3: S3Server,
        server: PostgresServer,
        proxy: FaultyProxy,
        network: BadNetwork,
    ) -> None:
        self.database = server.create_database()
        self.direct_url = server.url(self.database)
        super().__init__(
            folder,
            s3,
            KLING_LEDGER_URL=network.url(self.database),
            KLING_LEDGER_LISTEN_URL=self.direct_url,
            KLING_S3_ENDPOINT_URL=proxy.endpoint_url,
            KLING_QUERY_RATE_PER_SECOND=str(QUERY_RATE),
        )
        self.door_ports = [free_port() for _ in DOORS_AHEAD_SECONDS]
        self.engine = plain_engine(self.direct_url)
        self._beside = plain_engine(server.url("postgres"))

    @property
    def callback_url(self) -> str:
        """Of either door, as a balancer would choose."""
        self.port = random.choice(self.door_ports)
        return super().callback_url

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        opened = Ledger.open(self.direct_url, daemon=False)
        try:
            yield opened
        finally:
            opened.close()

    def ask(self, query: str) -> list[sa.Row[tuple[object, ...]]]:
        """Of the database itself."""
        with self.engine.connect() as connection:
            return list(connection.exec_driver_sql(query))

    def set_read_only(self, value: str) -> None:
        """For sessions that begin from now on, and all begin anew."""
        with self._beside.connect() as connection:
            connection.exec_driver_sql(
                f"ALTER DATABASE {self.database} SET default_transaction_read_only = {value}"
            )
            sessions = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
            connection.execute(sessions, {"name": self.database})

    def dispose(self) -> None:
        """Close the connections that the server may have ended."""
        self.engine.dispose()
        self._beside.dispose()

    def leases(self) -> int:
        (row,) = self.ask("SELECT count(*) FROM tasks WHERE lease_token IS NOT NULL")
        return int(str(row[0]))

    def asker(self) -> int | None:
        """The process that asks for the account; None while none does."""
        rows = self.ask(
            "SELECT pid FROM duties JOIN daemons ON daemons.id = holder"
            " WHERE kind = 'ask' AND lease_token IS NOT NULL"
            " AND lease_until > extract(epoch FROM clock_timestamp()) * 1000"
        )
        return int(str(rows[0][0])) if rows else None
