"""Holds: rows that stop a part of the pipeline. Claims obey them."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from archiver.failures import HOLD_PROBE_SECONDS, Failure
from archiver.ledger.part import Part
from archiver.ledger.tables import schema
from archiver.model import Stage, rfc3339

_ANY = sa.select(schema.holds.c.id).limit(1)

_NARROW = sa.select(schema.holds).where(
    schema.holds.c.stage != Stage.SWEEP, sa.or_(schema.holds.c.family != "", schema.holds.c.host != "")
)
"""Holds of one family or host. A sweep waits for no task, and tries by itself."""


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

    def release(self, *, account: str, stages: tuple[Stage, ...], family: str | None) -> list[str]:
        """Work of this account and family succeeded: lift every hold of `stages` that covers it, but for those of hosts
        (`release_host`); the reasons of the lifted holds."""
        table = schema.holds
        covering = sa.delete(table).where(
            table.c.account == account,
            table.c.stage.in_(stages),
            table.c.family.in_(["", family or ""]),
            table.c.host == "",
        )
        with self._database.write() as connection:
            return list(connection.execute(covering.returning(table.c.reason)).scalars())

    def release_host(self, *, account: str, host: str, reasons: Collection[str]) -> list[str]:
        """A file, or an answer about one, came from `host`: lift its holds of these reasons; the reasons lifted."""
        table = schema.holds
        disproved = sa.delete(table).where(
            table.c.account == account,
            table.c.stage == Stage.ARCHIVE,
            table.c.host == host,
            table.c.reason.in_(reasons),
        )
        with self._database.write() as connection:
            return list(connection.execute(disproved.returning(table.c.reason)).scalars())

    def drop_idle(self) -> list[HoldView]:
        """Drop holds of one host or family that no task is left for: nothing would ever lift them. A task that comes
        later sets again what is still wrong."""
        with self._database.read() as connection:
            idle = [
                (row["id"], _view(row))
                for row in connection.execute(_NARROW).mappings()
                if not _has_tasks(connection, row)
            ]
        if not idle:
            return []
        with self._database.write() as connection:
            dropped = sa.delete(schema.holds).where(schema.holds.c.id.in_([row_id for row_id, _ in idle]))
            connection.execute(dropped)
        return [view for _, view in idle]

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
    return tuple(_view(row) for row in rows)


def _view(row: Mapping[Any, Any]) -> HoldView:
    return HoldView(
        account=row["account"],
        stage=Stage(row["stage"]),
        reason=row["reason"],
        since=row["since"],
        what_to_do=row["what_to_do"],
        message=row["message"],
        family=row["family"] or None,
        host=row["host"] or None,
    )


def _has_tasks(connection: sa.Connection, hold: Mapping[Any, Any]) -> bool:
    """Whether any task waits for what the hold stops. Reads the waiting part of an index at most."""
    table = schema.tasks
    of_account = sa.select(table.c.id).where(table.c.account == hold["account"]).limit(1)
    covered = sa.func.coalesce(table.c.family, table.c.family_hint) == hold["family"]
    queues = [schema.QUEUE_VERIFY, schema.QUEUE_UNCONFIRMED]
    if hold["host"]:
        covered, queues = table.c.asset_host == hold["host"], [schema.QUEUE_ARCHIVE]
    return any(
        connection.execute(of_account.where(table.c.queue == queue, covered)).first() is not None
        for queue in queues
    )
