"""Which daemons are alive, and whether the ledger can be written."""

import dataclasses
import enum
import functools
import json
import os
import pathlib
import platform
import secrets
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from archiver.ledger.callbacks import try_to_record
from archiver.ledger.databases.dialect import insert_missing, upsert
from archiver.ledger.databases.protocol import PROBE_SECONDS_MAX, Database
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.named_values import (
    CLOCK_SKEW_MS,
    FIRST_STARTED_AT,
    forget_named_value,
    named_value,
    set_named_value,
)
from archiver.model import DAY_MS, Problem, rfc3339

BEAT_MS_MAX = 120_000
"""A daemon without a sign of life for so long counts as dead."""
KEPT_MS = 30 * DAY_MS
"""Rows of dead daemons are kept so long, because they tell since when no daemon works."""


class Service(enum.StrEnum):
    """What a daemon does."""

    DOOR = "door"
    """It takes callbacks."""
    GATEWAY = "gateway"
    WORK = "work"
    """It verifies, archives and sweeps."""


WHOLE = (Service.DOOR, Service.WORK)


@dataclasses.dataclass(frozen=True, slots=True)
class DaemonView:
    """One daemon, times in Unix ms."""

    name: str
    pid: int
    version: str
    serves: tuple[Service, ...]
    started_at: int
    seen_at: int
    accounts: tuple[str, ...]
    """The accounts whose API it queries."""
    leases: int
    """Its leases on tasks when it was last seen."""
    warnings: tuple[Problem, ...]
    left_at: int | None
    """When it ended in good order."""
    is_gone: bool
    """It ended without saying so: this machine has no such process any more. False if this process cannot see it."""

    def is_alive(self, *, now: int) -> bool:
        """Whether it runs, as far as the ledger knows."""
        return self.left_at is None and not self.is_gone and self.seen_at > now - BEAT_MS_MAX

    def as_json(self) -> dict[str, object]:
        """As `status --json` prints it."""
        return {
            "name": self.name,
            "pid": self.pid,
            "version": self.version,
            "serves": list(self.serves),
            "since": rfc3339(self.started_at),
            "seen_at": rfc3339(self.seen_at),
            "accounts": list(self.accounts),
            "leases": self.leases,
        }


class Daemons(Part):
    """The daemons' signs of life."""

    @retried
    def ping(self) -> None:
        """Prove that a callback could be recorded, changing nothing. Raises LedgerUnavailable."""
        with self._database.write(seconds_max=PROBE_SECONDS_MAX) as connection:
            change = functools.partial(try_to_record, self._database, connection, now=self._now())
            self._database.try_change(connection, change)

    @retried
    def beat(
        self,
        name: str,
        *,
        version: str,
        started_at: int,
        serves: Sequence[Service] = WHOLE,
        accounts: Sequence[str] = (),
        leases: int = 0,
        clock_skew_ms: int | None = None,
    ) -> None:
        """This daemon is alive. `clock_skew_ms` is how far the API's clock is ahead of its own, None before it was
        measured; one that asks for no account leaves it to those that do."""
        table = schema.daemons
        with self._database.write() as connection:
            now = self._now()
            if clock_skew_ms is not None:
                set_named_value(connection, CLOCK_SKEW_MS, clock_skew_ms)
            elif accounts and Service.WORK in serves:
                forget_named_value(connection, CLOCK_SKEW_MS)
            said = {"serves": json.dumps(serves), "accounts": json.dumps(accounts), "leases": leases}
            said |= {"seen_at": now, "left_at": None}
            row = {"name": name, "host": platform.node(), "pid": os.getpid(), "version": version}
            row["pid_namespace"] = _pid_namespace()
            upsert(connection, table, {**row, **said, "started_at": started_at}, update=list(said))
            connection.execute(sa.delete(table).where(table.c.seen_at < now - KEPT_MS))

    @retried
    def warn(self, name: str, warnings: Sequence[Problem]) -> None:
        """Replace this daemon's warnings by its present ones. It must have beaten."""
        table = schema.daemons
        said = json.dumps([dataclasses.asdict(warning) for warning in warnings])
        with self._database.write() as connection:
            connection.execute(sa.update(table).where(table.c.name == name).values(warnings=said))

    @retried
    def tell_successes(self, name: str, ages_ms: Mapping[str, int]) -> None:
        """Replace the times of this daemon's last successes; `ages_ms` says how long ago each was. It must have
        beaten."""
        table = schema.daemons
        with self._database.write() as connection:
            now = self._now()
            worked = json.dumps({thing: now - age for thing, age in ages_ms.items()})
            connection.execute(sa.update(table).where(table.c.name == name).values(worked=worked))

    def others(self, name: str, *, thing: str, within_ms: int) -> tuple[int, bool]:
        """How many other daemons do work, and whether one of them has succeeded at `thing` within that time."""
        table = schema.daemons
        with self._database.read() as connection:
            now = self._now()
            others = [
                daemon
                for daemon in alive_daemons(connection, now=now)
                if daemon.name != name and Service.WORK in daemon.serves
            ]
            worked = connection.execute(
                sa.select(table.c.worked).where(table.c.name.in_([daemon.name for daemon in others]))
            ).scalars()
            return len(others), any(json.loads(told).get(thing, 0) >= now - within_ms for told in worked)

    @retried
    def leave(self, name: str) -> None:
        """This daemon ends in order."""
        table = schema.daemons
        with self._database.write() as connection:
            ended = sa.update(table).where(table.c.name == name)
            connection.execute(ended.values(left_at=self._now(), leases=0))

    def alive(self) -> tuple[DaemonView, ...]:
        """The daemons that run: cheap enough to ask again and again."""
        with self._database.read() as connection:
            return alive_daemons(connection, now=self._now())

    def first_started_at(self) -> int | None:
        """When a daemon first worked on this ledger (Unix ms); None when none ever has."""
        with self._database.read() as connection:
            return named_value(connection, FIRST_STARTED_AT)


def begin_daemon(database: Database, connection: sa.Connection, *, now: int) -> None:
    """A daemon starts: free the leases of dead ones, and record the ledger's first start."""
    database.begin_daemon(connection, now=now)
    first = insert_missing(connection, schema.named_values)
    connection.execute(first.values(name=FIRST_STARTED_AT, value=str(now)))


def alive_daemons(connection: sa.Connection, *, now: int) -> tuple[DaemonView, ...]:
    """The daemons that run."""
    return tuple(daemon for daemon in all_daemons(connection) if daemon.is_alive(now=now))


def all_daemons(connection: sa.Connection) -> tuple[DaemonView, ...]:
    """The running daemons, and those that ran within `KEPT_MS`; the longest running comes first."""
    table = schema.daemons
    rows = connection.execute(sa.select(table).order_by(table.c.started_at, table.c.name)).mappings()
    return tuple(_view(row) for row in rows)


def new_daemon_name() -> str:
    """A name for one run of a daemon."""
    return f"{platform.node()}-{secrets.token_hex(4)}"


def _view(row: sa.RowMapping) -> DaemonView:
    return DaemonView(
        name=row["name"],
        pid=row["pid"],
        version=row["version"],
        serves=tuple(map(Service, json.loads(row["serves"]))),
        started_at=row["started_at"],
        seen_at=row["seen_at"],
        accounts=tuple(json.loads(row["accounts"])),
        leases=row["leases"],
        warnings=tuple(Problem(**warning) for warning in json.loads(row["warnings"])),
        left_at=row["left_at"],
        is_gone=row["left_at"] is None and _is_gone(row),
    )


def _is_gone(row: sa.RowMapping) -> bool:
    """Whether a process of this machine has ended. A number that another process has taken since hides it."""
    namespace = _pid_namespace()
    if namespace is None or (row["host"], row["pid_namespace"]) != (platform.node(), namespace):
        return False
    try:
        os.kill(row["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:  # of another user
        return False
    return False


def _pid_namespace() -> str | None:
    """The namespace of process ids: containers have their own ids, and may share a host's name. None if the system does
    not tell it."""
    try:
        return str(pathlib.Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None
