"""Two doors and three workers: where they are, and what their ledger says past the bad networks."""

import contextlib
import pathlib
import random
import threading
import time
from collections.abc import Iterator

import sqlalchemy as sa

from archiver.ledger import Ledger
from tests.harness.daemons import Site
from tests.postgres import BadNetwork, PostgresPair, plain_engine
from tests.s3_servers import FaultyProxy, S3Server
from tests.s3_servers.process import free_port

QUERY_RATE = 20
"""The account's."""
DOORS_AHEAD_SECONDS = (180, -180)
WORKERS_AHEAD_SECONDS = (0, -120, -240)
"""Kling takes no token of a clock that is ahead, so none of these is."""


class Networks:
    """One to the address that moves at a failover, and one to each server."""

    def __init__(self, pair: PostgresPair) -> None:
        self.of_address = BadNetwork(pair.folder)
        self.of_servers = [BadNetwork(server.folder) for server in pair.servers]

    @property
    def all(self) -> list[BadNetwork]:
        return [self.of_address, *self.of_servers]

    @contextlib.contextmanager
    def working(self) -> Iterator["Networks"]:
        with contextlib.ExitStack() as opened:
            for network in self.all:
                opened.enter_context(network.working())
            yield self

    def url_of_both(self, database: str) -> str:
        """As libpq names several servers."""
        hosts = ",".join(f"127.0.0.1:{network.port}" for network in self.of_servers)
        return f"postgresql://postgres@{hosts}/{database}"


class Fleet(Site):
    """Its doors have a port each; the tests ask the ledger past the bad networks."""

    def __init__(
        self, folder: pathlib.Path, s3: S3Server, pair: PostgresPair, proxy: FaultyProxy, networks: Networks
    ) -> None:
        self.database = pair.create_database()
        self.direct_url = pair.url(self.database)
        super().__init__(
            folder,
            s3,
            KLING_LEDGER_URL=networks.of_address.url(self.database),
            KLING_LEDGER_LISTEN_URL=self.direct_url,
            KLING_S3_ENDPOINT_URL=proxy.endpoint_url,
            KLING_QUERY_RATE_PER_SECOND=str(QUERY_RATE),
        )
        self.url_of_both = networks.url_of_both(self.database)
        self.door_ports = [free_port() for _ in DOORS_AHEAD_SECONDS]
        self.refused = 0
        """Callbacks that a door answered with anything but 200."""
        self.answer_seconds_max = 0.0
        """How long a callback waited at a door, or waited in vain."""
        self._engine = plain_engine(self.direct_url)
        self._beside = plain_engine(pair.url("postgres"))
        self._lock = threading.Lock()

    @property
    def callback_url(self) -> str:
        """Of either door, as a balancer would choose."""
        self.port = random.choice(self.door_ports)
        return super().callback_url

    def call_back(self, task_id: str, *, status: str = "succeed") -> int | None:
        began = time.monotonic()
        answered = super().call_back(task_id, status=status)
        with self._lock:
            self.answer_seconds_max = max(self.answer_seconds_max, time.monotonic() - began)
            self.refused += answered not in (200, None)
        return answered

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        opened = Ledger.open(self.direct_url, daemon=False)
        try:
            yield opened
        finally:
            opened.close()

    def ask(self, query: str) -> list[sa.Row[tuple[object, ...]]]:
        """Of the database itself."""
        with self._engine.connect() as connection:
            return list(connection.exec_driver_sql(query))

    @contextlib.contextmanager
    def set(self, setting: str) -> Iterator[None]:
        """A default of the database, for sessions that begin now. They all do."""
        name = setting.partition(" ")[0]
        self._begin_anew(f"SET {setting}")
        yield
        self._begin_anew(f"RESET {name}")

    def _begin_anew(self, change: str) -> None:
        with self._beside.connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {self.database} {change}")
            sessions = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
            connection.execute(sessions, {"name": self.database})
        self.dispose()

    def dispose(self) -> None:
        """Close the connections that the server may have ended."""
        self._engine.dispose()
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
