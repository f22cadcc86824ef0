"""Holds: rows that stop a part of the pipeline. The claims look at them; nobody else has to."""

import sqlalchemy as sa

from archiver.failures import HOLD_PROBE_SECONDS, Failure
from archiver.ledger import schema
from archiver.model import Stage


def set_hold(connection: sa.Connection, error: Failure, *, account: str, stage: Stage, now: int) -> bool:
    """Stop `stage` of `account` (for a family or host only, where `error` names one). True when it is new.

    One that is there already keeps its `since` and takes the newest reason.
    """
    table = schema.holds
    family, host = error.family or "", error.host or ""
    same = (
        table.c.account == account,
        table.c.stage == stage,
        table.c.family == family,
        table.c.host == host,
    )
    what = {"reason": error.reason, "message": str(error), "what_to_do": error.what_to_do}
    if connection.execute(sa.update(table).where(*same).values(what)).rowcount:
        return False
    row = {
        "account": account,
        "stage": stage,
        "family": family,
        "host": host,
        "since": now,
        "probe_at": now + HOLD_PROBE_SECONDS * 1000,
    }
    connection.execute(sa.insert(table).values({**row, **what}))
    return True


def release(
    connection: sa.Connection,
    *,
    account: str,
    stages: tuple[Stage, ...],
    family: str | None,
    host: str | None = None,
) -> list[str]:
    """Something of this account, family and host succeeded: every hold of `stages` that covered it goes.
    The reasons of those that went."""
    table = schema.holds
    statement = (
        sa.delete(table)
        .where(
            table.c.account == account,
            table.c.stage.in_(stages),
            table.c.family.in_(["", family or ""]),
            table.c.host.in_(["", host or ""]),
        )
        .returning(table.c.reason)
    )
    return list(connection.execute(statement).scalars())


def is_held(connection: sa.Connection, *, account: str, stage: Stage, family: str) -> bool:
    """Whether a hold stops this stage for this family just now."""
    table = schema.holds
    query = sa.select(table.c.id).where(
        table.c.account == account, table.c.stage == stage, table.c.family.in_(["", family])
    )
    return connection.execute(query.limit(1)).first() is not None


def any_hold(connection: sa.Connection) -> bool:
    """Whether there is any hold at all."""
    return connection.execute(_ANY).first() is not None


_ANY = sa.select(schema.holds.c.id).limit(1)
