"""Holds: rows that stop a part of the pipeline. Claims obey them."""

import dataclasses

import sqlalchemy as sa

from archiver.failures import HOLD_PROBE_SECONDS, Failure
from archiver.ledger.part import Part
from archiver.ledger.tables import schema
from archiver.model import Stage, rfc3339

_ANY = sa.select(schema.holds.c.id).limit(1)


@dataclasses.dataclass(frozen=True, slots=True)
class HoldView:
    """One hold. `since` is Unix ms; `family` and `host` are None where the hold covers all of them."""

    account: str
    stage: Stage
    reason: str
    since: int
    what_to_do: str
    message: str
    family: str | None
    host: str | None

    def as_json(self) -> dict[str, object]:
        """As `/readyz` lists it; `status --json` leaves out what only people read."""
        return {
            "account": self.account,
            "stage": self.stage,
            "reason": self.reason,
            "since": rfc3339(self.since),
            "what_to_do": self.what_to_do,
            "message": self.message,
            "family": self.family,
            "host": self.host,
        }


class Holds(Part):
    """Setting and lifting holds. `outcomes.hold` sets one together with the end of a lease."""

    def set(self, error: Failure, *, account: str, stage: Stage) -> bool:
        """Stop a stage where no task is at hand (the sweep); True when the hold is new."""
        with self._database.write() as connection:
            return set_hold(connection, error, account=account, stage=stage, now=self._now())

    def release(
        self, *, account: str, stages: tuple[Stage, ...], family: str | None, host: str | None = None
    ) -> list[str]:
        """Work of this account, family and host succeeded: lift every hold of `stages` that covers it; the reasons of
        the lifted holds."""
        table = schema.holds
        covering = sa.delete(table).where(
            table.c.account == account,
            table.c.stage.in_(stages),
            table.c.family.in_(["", family or ""]),
            table.c.host.in_(["", host or ""]),
        )
        with self._database.write() as connection:
            return list(connection.execute(covering.returning(table.c.reason)).scalars())

    def is_held(self, *, account: str, stage: Stage, family: str) -> bool:
        """Whether a hold stops this stage for this family."""
        table = schema.holds
        query = sa.select(table.c.id).where(
            table.c.account == account, table.c.stage == stage, table.c.family.in_(["", family])
        )
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def any(self) -> bool:
        """Whether there is a hold at all."""
        with self._database.read() as connection:
            return connection.execute(_ANY).first() is not None

    def all(self) -> tuple[HoldView, ...]:
        """Every hold, the oldest first."""
        with self._database.read() as connection:
            return all_holds(connection)


def set_hold(connection: sa.Connection, error: Failure, *, account: str, stage: Stage, now: int) -> bool:
    """Stop `stage` of `account` (one family or host only, where `error` names one). True when the hold is new.

    A hold that exists already keeps its `since` and takes the newest reason.
    """
    table = schema.holds
    family, host = error.family or "", error.host or ""
    same = (
        table.c.account == account,
        table.c.stage == stage,
        table.c.family == family,
        table.c.host == host,
    )
    why = {"reason": error.reason, "message": str(error), "what_to_do": error.what_to_do}
    if connection.execute(sa.update(table).where(*same).values(why)).rowcount:
        return False
    row = {
        "account": account,
        "stage": stage,
        "family": family,
        "host": host,
        "since": now,
        "probe_at": now + HOLD_PROBE_SECONDS * 1000,
    }
    connection.execute(sa.insert(table).values({**row, **why}))
    return True


def all_holds(connection: sa.Connection) -> tuple[HoldView, ...]:
    """Every hold, the oldest first."""
    table = schema.holds
    rows = connection.execute(sa.select(table).order_by(table.c.since, table.c.id)).mappings()
    return tuple(
        HoldView(
            account=row["account"],
            stage=Stage(row["stage"]),
            reason=row["reason"],
            since=row["since"],
            what_to_do=row["what_to_do"],
            message=row["message"],
            family=row["family"] or None,
            host=row["host"] or None,
        )
        for row in rows
    )
