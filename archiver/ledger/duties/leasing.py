"""The statements that lease duties. Each checks what it relies on, so processes that race get one lease.

A duty's lease lasts `LEASE_SECONDS`. No other process takes it for another `TAKEOVER_SECONDS` after its end. A process
ends its lease by its own clock (`engine/duties`), so it has stopped before another one begins.
"""

import dataclasses
import enum
import uuid

import sqlalchemy as sa

from archiver.ledger.claims.leasing import LEASE_SECONDS, TAKEOVER_MS, free
from archiver.ledger.tables import schema

JUST_NOW_MS = 10_000
"""Within this time the API may still count the queries of the last asker."""

_TABLE = schema.duties


class DutyKind(enum.StrEnum):
    """The kinds of duty."""

    ASK = "ask"
    """All queries that count against an account's query budget."""
    UPKEEP = "upkeep"
    """Deadlines, pruning, missed callbacks, counts, alerts."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Duty:
    """One duty. The upkeep belongs to no account."""

    kind: DutyKind
    account: str = ""


UPKEEP = Duty(DutyKind.UPKEEP)


def asking(account: str) -> Duty:
    """The duty to query the API for this account."""
    return Duty(DutyKind.ASK, account)


@dataclasses.dataclass(frozen=True, slots=True)
class DutyLease:
    """The right of one process to a duty."""

    duty: Duty
    token: str
    follows: bool = False
    """Another process had the duty until just now."""


def duty_of(row: sa.RowMapping) -> Duty:
    return Duty(DutyKind(row["kind"]), row["account"])


def is_of(duty: Duty) -> sa.ColumnElement[bool]:
    return sa.and_(_TABLE.c.kind == duty.kind, _TABLE.c.account == duty.account)


def take(connection: sa.Connection, row: sa.RowMapping, *, holder: str, now: int) -> DutyLease | None:
    """Lease the duty of this row; None while another process has it."""
    duty = duty_of(row)
    follows = row["holder"] is not None and row["lease_until"] > now - JUST_NOW_MS
    lease = DutyLease(duty, uuid.uuid4().hex, follows)
    values = {"holder": holder, "lease_token": lease.token, "lease_until": _end(now)}
    taken = sa.update(_TABLE).where(is_of(duty), is_free(now)).values(values)
    return lease if connection.execute(taken).rowcount else None


def renew(connection: sa.Connection, lease: DutyLease, *, now: int) -> bool:
    """Keep a lease; False when another process has it."""
    renewed = sa.update(_TABLE).where(is_of(lease.duty), _TABLE.c.lease_token == lease.token)
    return connection.execute(renewed.values(lease_until=_end(now))).rowcount == 1


def release(connection: sa.Connection, lease: DutyLease, *, now: int) -> None:
    """Another process may take the duty at once."""
    released = sa.update(_TABLE).where(is_of(lease.duty), _TABLE.c.lease_token == lease.token)
    connection.execute(released.values(lease_token=None, lease_until=now))


def is_free(now: int) -> sa.ColumnElement[bool]:
    return sa.or_(_TABLE.c.lease_token.is_(None), free(now, _TABLE))


def is_over(row: sa.RowMapping, *, now: int) -> bool:
    """Whether the lease in this row has ended."""
    until: int = row["lease_until"]
    return row["lease_token"] is None or until <= now - TAKEOVER_MS


def _end(now: int) -> int:
    return now + LEASE_SECONDS * 1000
