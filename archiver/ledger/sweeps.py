"""What the sweep remembers of a family, and the lease that lets one sweeper at a time read its list."""

import dataclasses
import uuid

import sqlalchemy as sa

from archiver.ledger import schema

SWEEP_LEASE_SECONDS = 60


@dataclasses.dataclass(frozen=True, slots=True)
class SweepMemory:
    """What earlier sweeps of a family have found out (times in Unix ms)."""

    last_success_at: int | None
    last_full_at: int | None
    oldest_first: bool
    last_page: int | None
    """The last page with rows, where the list runs oldest first."""


def memory(connection: sa.Connection, *, account: str, family: str) -> SweepMemory:
    """What is known of a family; blanks where it was never swept."""
    table = schema.sweeps
    query = sa.select(table).where(table.c.account == account, table.c.family == family)
    row = connection.execute(query).mappings().first()
    if row is None:
        return SweepMemory(None, None, oldest_first=False, last_page=None)
    return SweepMemory(row["last_success_at"], row["last_full_at"], row["oldest_first"], row["last_page"])


def begin(connection: sa.Connection, *, account: str, family: str, now: int) -> str | None:
    """Take the family for this sweeper: a token, or None while another one has it."""
    table = schema.sweeps
    where = (table.c.account == account, table.c.family == family)
    token = uuid.uuid4().hex
    lease = {"lease_token": token, "lease_until": now + SWEEP_LEASE_SECONDS * 1000}
    row = connection.execute(sa.select(table.c.lease_until).where(*where)).first()
    if row is None:
        connection.execute(sa.insert(table).values({**_blank(account, family), **lease}))
        return token
    if row.lease_until is not None and row.lease_until > now:
        return None
    connection.execute(sa.update(table).where(*where).values(lease))
    return token


def _blank(account: str, family: str) -> dict[str, object]:
    return {"account": account, "family": family, "oldest_first": False, "missed_callbacks": 0}


def add_missed(connection: sa.Connection, *, account: str, family: str, count: int) -> None:
    """Count callbacks that never came; list matching may find some of a family that is never swept."""
    table = schema.sweeps
    same = sa.update(table).where(table.c.account == account, table.c.family == family)
    if connection.execute(same.values(missed_callbacks=table.c.missed_callbacks + count)).rowcount == 0:
        connection.execute(sa.insert(table).values({**_blank(account, family), "missed_callbacks": count}))


def renew(connection: sa.Connection, token: str, *, now: int) -> bool:
    """Keep the family for another `SWEEP_LEASE_SECONDS`; False when somebody else has it now."""
    table = schema.sweeps
    statement = sa.update(table).where(table.c.lease_token == token)
    until = now + SWEEP_LEASE_SECONDS * 1000
    return connection.execute(statement.values(lease_until=until)).rowcount == 1


def end(
    connection: sa.Connection,
    token: str,
    *,
    succeeded_at: int | None,
    full: bool,
    oldest_first: bool,
    last_page: int | None,
) -> None:
    """Give the family back; `succeeded_at` (Unix ms, when the sweep began) only where it went through."""
    table = schema.sweeps
    values: dict[str, object] = {"lease_token": None, "lease_until": None}
    if succeeded_at is not None:
        values |= {"last_success_at": succeeded_at, "oldest_first": oldest_first, "last_page": last_page}
        if full:
            values["last_full_at"] = succeeded_at
    connection.execute(sa.update(table).where(table.c.lease_token == token).values(values))


def free_all(connection: sa.Connection) -> None:
    """A daemon that starts on SQLite is the only one: whoever held a sweep lease in a daemon is dead. A command
    that sweeps beside it notices at its next renewal and stops."""
    connection.execute(sa.update(schema.sweeps).values(lease_token=None, lease_until=None))
