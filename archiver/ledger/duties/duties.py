"""Assigns each duty to one process at a time.

Every process that may have a duty has a row of its own in `askers`, which it writes every few seconds. From those rows
all processes compute the same plan. A process that is killed loses its duties when its leases end; one that ends in
order gives them back at once.
"""

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping, Sequence

import sqlalchemy as sa

from archiver.ledger.claims.leasing import LEASE_SECONDS, TAKEOVER_MS
from archiver.ledger.databases.dialect import insert_missing, upsert
from archiver.ledger.duties.leasing import (
    UPKEEP,
    Duty,
    DutyKind,
    DutyLease,
    asking,
    duty_of,
    is_of,
    is_over,
    release,
    renew,
    take,
)
from archiver.ledger.duties.plan import assign
from archiver.ledger.holds import judge_anew
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.model import DAY_MS

LIVING_MS = LEASE_SECONDS * 1000 + TAKEOVER_MS
"""A process without a sign of life for so long has no duties any more, and gets none."""


@dataclasses.dataclass(frozen=True, slots=True)
class DutyView:
    """One duty, times in Unix ms."""

    duty: Duty
    holder: str | None
    """The name of the process; None while none holds it."""
    held_until: int
    """When the lease ends or, if no process holds the duty, when it ended."""
    clock_sound_at: int | None
    """When its asker last found that the API's clock agrees with the ledger's; None where it does not."""


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """The duties of a process after a round."""

    held: tuple[DutyLease, ...]
    surplus: tuple[DutyLease, ...]
    """Held duties that other processes should have. They are kept until they are released."""


class Duties(Part):
    """Takes duties, renews them and gives them back."""

    @retried
    def take_part(
        self,
        name: str,
        *,
        accounts: Collection[str],
        keeps_up: bool = True,
        held: Sequence[DutyLease] = (),
        sound: Collection[str] = (),
    ) -> Round:
        """One round of a process: give a sign of life, renew what it has, take what the plan gives it.

        `accounts` are those that its settings name; `keeps_up`: whether it may have the upkeep. `sound` are accounts
        whose API's clock agrees with the ledger's. With an account come the holds that only other settings can end:
        they are dropped, and what is still wrong sets them again.
        """
        with self._database.write() as connection:
            now = self._now()
            _give_sign(connection, name, accounts, keeps_up=keeps_up, now=now)
            rows = _with_rows(connection, [asking(account) for account in accounts])
            planned = _planned(_living(connection, now=now), rows, now=now)
            tokens = {lease.duty: lease for lease in held}
            mine = {duty for duty, owner in planned.items() if owner == name}
            kept: list[DutyLease] = []
            for duty in sorted(
                {*tokens, *mine}
            ):  # in one order, so that no two processes wait for each other
                lease = tokens.get(duty)
                if lease is not None and not renew(connection, lease, now=now):
                    lease = None
                if lease is None and duty in mine:
                    lease = take(connection, rows[duty], holder=name, now=now)
                    if lease is not None and duty.kind is DutyKind.ASK:
                        judge_anew(connection, account=duty.account)
                if lease is not None:
                    kept.append(lease)
                    _note_clock(connection, lease, is_sound=duty.account in sound, now=now)
            return Round(tuple(kept), tuple(lease for lease in kept if lease.duty not in mine))

    def is_restless(self, name: str, *, accounts: Collection[str], held: Collection[DutyLease]) -> bool:
        """Whether a round would change the process's duties. Cheap; for the time between two rounds."""
        with self._database.read() as connection:
            now = self._now()
            rows = _rows(connection)
            planned = _planned(_living(connection, now=now), rows, now=now)
        mine = {duty for duty, owner in planned.items() if owner == name}
        has = {lease.duty for lease in held}
        takeable = {duty for duty in mine - has if duty not in rows or is_over(rows[duty], now=now)}
        return bool(takeable or has - mine or {*map(asking, accounts)} - set(rows))

    @retried
    def take(self, duty: Duty, *, holder: str) -> DutyLease | None:
        """Lease one duty without regard to the plan, for a command. None while another process has it."""
        with self._database.write() as connection:
            row = _with_rows(connection, [duty])[duty]
            return take(connection, row, holder=holder, now=self._now())

    @retried
    def renew(self, lease: DutyLease) -> bool:
        """Keep one lease; False when another process has it."""
        with self._database.write() as connection:
            return renew(connection, lease, now=self._now())

    @retried
    def release(self, leases: Iterable[DutyLease]) -> None:
        """Give back duties: another process takes them at its next look."""
        with self._database.write() as connection:
            for lease in sorted(leases, key=lambda lease: lease.duty):
                release(connection, lease, now=self._now())

    @retried
    def leave(self, name: str, *, held: Iterable[DutyLease]) -> None:
        """The process ends in good order: it has no duties and gets none."""
        with self._database.write() as connection:
            connection.execute(sa.delete(schema.askers).where(schema.askers.c.name == name))
            for lease in sorted(held, key=lambda lease: lease.duty):
                release(connection, lease, now=self._now())

    def is_wanted(self, account: str) -> bool:
        """Whether any living process may ask for this account, no matter which one has it now."""
        with self._database.read() as connection:
            return account in wanted_accounts(connection, now=self._now())

    def all(self) -> tuple[DutyView, ...]:
        """Every duty that any process has ever had."""
        with self._database.read() as connection:
            return all_duties(connection, now=self._now())


def free_duties(connection: sa.Connection, *, now: int) -> None:
    """Free all duties: the only process that may use this ledger starts, so all others are dead."""
    # No process counts as the last holder, so the next one has the burst of a start.
    held = sa.update(schema.duties).where(schema.duties.c.holder.is_not(None))
    connection.execute(held.values(holder=None, lease_token=None, lease_until=now))
    connection.execute(sa.delete(schema.askers))


def all_duties(connection: sa.Connection, *, now: int) -> tuple[DutyView, ...]:
    """Every duty that any process has ever had."""
    return tuple(
        DutyView(
            duty,
            None if is_over(row, now=now) else row["holder"],
            row["lease_until"],
            row["clock_sound_at"],
        )
        for duty, row in sorted(_rows(connection).items())
    )


def wanted_accounts(connection: sa.Connection, *, now: int) -> frozenset[str]:
    """The accounts that a living process may ask for."""
    return frozenset[str]().union(*(asker.accounts for asker in _living(connection, now=now).values()))


@dataclasses.dataclass(frozen=True, slots=True)
class _Asker:
    accounts: frozenset[str]
    keeps_up: bool


def _give_sign(
    connection: sa.Connection, name: str, accounts: Collection[str], *, keeps_up: bool, now: int
) -> None:
    table = schema.askers
    said = {"accounts": json.dumps(sorted(accounts)), "keeps_up": keeps_up, "seen_at": now}
    upsert(connection, table, {"name": name, **said}, update=list(said))
    connection.execute(sa.delete(table).where(table.c.seen_at < now - DAY_MS))


def _living(connection: sa.Connection, *, now: int) -> dict[str, _Asker]:
    table = schema.askers
    rows = connection.execute(sa.select(table).where(table.c.seen_at > now - LIVING_MS)).mappings()
    return {row["name"]: _Asker(frozenset(json.loads(row["accounts"])), row["keeps_up"]) for row in rows}


def _rows(connection: sa.Connection) -> dict[Duty, sa.RowMapping]:
    rows = connection.execute(sa.select(schema.duties)).mappings()
    return {duty_of(row): row for row in rows}


def _with_rows(connection: sa.Connection, duties: Iterable[Duty]) -> dict[Duty, sa.RowMapping]:
    """All rows, also those of duties that no process has had yet."""
    rows = _rows(connection)
    missing = sorted({UPKEEP, *duties} - set(rows))
    if not missing:
        return rows
    for duty in missing:
        row = {"kind": duty.kind, "account": duty.account, "lease_until": 0}
        connection.execute(insert_missing(connection, schema.duties).values(row))
    return _rows(connection)


def _planned(
    living: Mapping[str, _Asker], rows: Mapping[Duty, sa.RowMapping], *, now: int
) -> dict[Duty, str]:
    """Duty → the name of the process that should have it."""
    held = {duty: row["holder"] for duty, row in rows.items() if not is_over(row, now=now)}
    holders = {duty.account: name for duty, name in held.items() if duty.kind is DutyKind.ASK}
    assigned = assign({name: asker.accounts for name, asker in living.items()}, holders)
    planned = {asking(account): name for account, name in assigned.items()}
    keepers = sorted(name for name, asker in living.items() if asker.keeps_up)
    if keepers:
        holder = held.get(UPKEEP)
        planned[UPKEEP] = holder if holder in keepers else keepers[0]
    return planned


def _note_clock(connection: sa.Connection, lease: DutyLease, *, is_sound: bool, now: int) -> None:
    if lease.duty.kind is DutyKind.ASK:
        mine = sa.update(schema.duties).where(is_of(lease.duty), schema.duties.c.lease_token == lease.token)
        connection.execute(mine.values(clock_sound_at=now if is_sound else None))
