"""Which daemons are alive, and whether the ledger can be written."""

import dataclasses
import os
import platform
import uuid

import sqlalchemy as sa

from archiver.ledger.databases.dialect import upsert
from archiver.ledger.databases.protocol import Database
from archiver.ledger.part import Part
from archiver.ledger.tables import schema
from archiver.ledger.tables.named_values import (
    CLOCK_SKEW_MS,
    FIRST_STARTED_AT,
    forget_named_value,
    named_value,
    set_named_value,
)
from archiver.model import rfc3339

DAEMON_SEEN_MS = 60_000


@dataclasses.dataclass(frozen=True, slots=True)
class DaemonView:
    """One daemon, times in Unix ms."""

    id: str
    host: str
    pid: int
    version: str
    started_at: int
    seen_at: int

    def as_json(self) -> dict[str, object]:
        """As `status --json` prints it."""
        return {
            "id": self.id,
            "host": self.host,
            "pid": self.pid,
            "version": self.version,
            "started_at": rfc3339(self.started_at),
            "seen_at": rfc3339(self.seen_at),
        }


class Daemons(Part):
    """The daemons' signs of life."""

    def ping(self) -> None:
        """Prove that a transaction can begin and commit, changing nothing. Raises LedgerUnavailable."""
        table = schema.named_values
        unchanged = sa.update(table).where(table.c.name == FIRST_STARTED_AT).values(name=FIRST_STARTED_AT)
        with self._database.write() as connection:
            connection.execute(unchanged)

    def beat(
        self, daemon_id: str, *, version: str, started_at: int, clock_skew_ms: int | None = None
    ) -> None:
        """This daemon is alive. `clock_skew_ms` is how far the API's clock is ahead of its own, None before it was
        measured."""
        table = schema.daemons
        with self._database.write() as connection:
            now = self._now()
            if clock_skew_ms is None:
                forget_named_value(connection, CLOCK_SKEW_MS)
            else:
                set_named_value(connection, CLOCK_SKEW_MS, clock_skew_ms)
            row = {"id": daemon_id, "host": platform.node(), "pid": os.getpid(), "version": version}
            row |= {"started_at": started_at, "seen_at": now}
            upsert(connection, table, row, update=["seen_at"])
            connection.execute(sa.delete(table).where(table.c.seen_at < now - DAEMON_SEEN_MS))

    def leave(self, daemon_id: str) -> None:
        """This daemon has ended in good order."""
        with self._database.write() as connection:
            connection.execute(sa.delete(schema.daemons).where(schema.daemons.c.id == daemon_id))

    def alive(self) -> tuple[DaemonView, ...]:
        """The daemons seen within a minute: cheap enough to ask again and again."""
        with self._database.read() as connection:
            return alive_daemons(connection, now=self._now())

    def first_started_at(self) -> int | None:
        """When a daemon first worked on this ledger (Unix ms); None when none ever has."""
        with self._database.read() as connection:
            return named_value(connection, FIRST_STARTED_AT)


def begin_daemon(database: Database, connection: sa.Connection, *, now: int) -> None:
    """A daemon starts: free the leases of dead ones, and record the ledger's first start."""
    database.begin_daemon(connection, now=now)
    if named_value(connection, FIRST_STARTED_AT) is None:
        set_named_value(connection, FIRST_STARTED_AT, now)


def alive_daemons(connection: sa.Connection, *, now: int) -> tuple[DaemonView, ...]:
    """The daemons seen within a minute."""
    table = schema.daemons
    rows = connection.execute(sa.select(table).where(table.c.seen_at > now - DAEMON_SEEN_MS)).mappings()
    return tuple(DaemonView(**row) for row in rows)


def new_daemon_id() -> str:
    """An id for one run of a daemon."""
    return uuid.uuid4().hex
