"""Claims folder work and ends it. The lease is on the row of work, not on the task: an archived task has none.

A hold that stops the whole archive stage stops folder work too, except for its share of the probes. When a probe is
due, the first to claim it makes it, a task or a piece of folder work. A hold of one host stops no folder work: it is
retried by itself (`retry`).

In a `Lease` of this part `row_id` is the id of that row; only this part understands it.
"""

import dataclasses
import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.failures import (
    HOLD_PROBE_SECONDS,
    RETRY_SECONDS_MAX,
    Failure,
    LeaseLost,
    backoff_ms,
    reason_of,
)
from archiver.ledger.claims import LEASE_SECONDS, TAKEOVER_MS
from archiver.ledger.claims.probes import WHOLE_HOLD, begin_probe
from archiver.ledger.databases.dialect import is_one_of, locking, skipping_locked
from archiver.ledger.holds import HoldOutcome, is_own_failure, next_probe_at, set_hold
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.archived import slim_assets
from archiver.ledger.tables.forwards import ForwardEvent, queue_forwards
from archiver.ledger.tables.history import add_line, trim
from archiver.ledger.tables.rows import assets_of, read_lease
from archiver.ledger.tables.second_looks import LOOK_AFTER_MS, MissingState, queue_look
from archiver.ledger.tables.stored import save_stored
from archiver.model import DAY_MS, FolderWorkKind, Lease, LeasedAsset, Stage, StoredAsset

ROWS_MAX = 500
"""Rows of one transaction, for which callbacks wait."""
WAIT_MS_MAX = DAY_MS + 60_000
"""No work waits longer than this, unless the clock was set back after its due time was written."""

_WORK = schema.folder_work
_AMENDMENT_KEYS = (
    sa.select(schema.amendments.c.key)
    .where(schema.amendments.c.task == sa.bindparam("task_row"))
    .order_by(schema.amendments.c.number)
)


@dataclasses.dataclass(frozen=True, slots=True)
class WantedObject:
    """An object that is missing in the bucket."""

    key: str
    stem: str | None
    """None for a manifest or an amendment."""


@dataclasses.dataclass(frozen=True, slots=True)
class FolderLease:
    """The right to put something into a task's folder."""

    kind: FolderWorkKind
    lease: Lease
    reasons: Mapping[str, str]
    """Why assets (by stem) are not stored."""
    wanted: tuple[WantedObject, ...] = ()
    """The objects to restore."""


@dataclasses.dataclass(frozen=True, slots=True)
class DroppedAmendment:
    """An amendment whose files could not be fetched by its deadline."""

    account: str
    task_id: str
    family: str | None
    reason: str


class FolderWork(Part):
    """Amendments, `incomplete.json`, and restored objects. Methods that end a lease raise LeaseLost."""

    @retried
    def claim(self, *, account: str) -> FolderLease | None:
        """Lease one piece of work, the least blamed first; None where none is due. Idle or held, it only reads."""
        due = due_work(account)
        with self._database.read() as connection:
            now = self._now()
            hold = _hold_of(connection, account)
            if hold is not None and hold["probe_at"] > now:
                return None
            if connection.execute(due, {"now": now}).first() is None:
                return None
        token = uuid.uuid4().hex
        with self._database.write() as connection:
            now = self._now()
            hold = _hold_of(connection, account)
            if hold is not None and not (
                hold["probe_at"] <= now
                and connection.execute(due, {"now": now}).first() is not None
                and begin_probe(connection, hold, now=now)
            ):
                return None
            until = now + LEASE_SECONDS * 1000
            chosen = skipping_locked(due, _WORK).scalar_subquery()
            claim = sa.update(_WORK).where(is_one_of(_WORK.c.id, chosen)).returning(_WORK)
            claim = claim.values(
                lease_token=token,
                lease_until=until,
                due_at=until + TAKEOVER_MS,
                attempts=_WORK.c.attempts + 1,
            )
            work = connection.execute(claim, {"now": now}).mappings().first()
            return None if work is None else _leased(connection, work, is_probe=hold is not None)

    @retried
    def renew(self, leases: Sequence[Lease]) -> set[int]:
        """Give leases another `LEASE_SECONDS`; the row ids of those that still hold."""
        with self._database.write() as connection:
            until = self._now() + LEASE_SECONDS * 1000
            values = {"lease_until": until, "due_at": until + TAKEOVER_MS}
            held = [
                lease.row_id
                for lease in leases
                if connection.execute(sa.update(_WORK).where(*held_by(lease)).values(values)).rowcount
            ]
            return set(held)

    def assets(self, lease: Lease) -> tuple[LeasedAsset, ...] | None:
        """The task's present assets; None when the lease has ended."""
        with self._database.read() as connection:
            query = sa.select(_WORK.c.task).where(*held_by(lease))
            row_id = connection.execute(query).scalar()
            return None if row_id is None else assets_of(connection, [row_id]).get(row_id, ())

    @retried
    def amended(
        self,
        lease: Lease,
        *,
        keys: Sequence[str],
        stored: Sequence[StoredAsset],
        error: Exception | None = None,
        due_at: int | None = None,
    ) -> bool:
        """Manifest and amendments (`keys`, in their order) name `stored`, and all of it is in the bucket. True when
        that is all of the task; else the rest is tried at `due_at` because of `error`, or at once if it is new."""
        with self._database.write() as connection:
            now = self._now()
            row_id = task_of(connection, lease)
            for number in _save_keys(connection, row_id, keys, now=now):
                queue_forwards(
                    connection,
                    schema.tasks.c.id == row_id,
                    ForwardEvent.AMENDED,
                    now=now,
                    number=number,
                    stems={asset.stem for asset in stored},
                    document=json.dumps(dict(lease.document), separators=(",", ":")),
                )
            queue_look(connection, row_id, account=lease.account, due_at=now + LOOK_AFTER_MS)
            save_stored(connection, row_id, stored)
            query = sa.select(schema.assets.c.stem).where(schema.assets.c.task == row_id)
            named = {asset.stem for asset in stored}
            done = named.issuperset(connection.execute(query).scalars())
            if done:
                connection.execute(sa.delete(_WORK).where(*held_by(lease)))
                slim_assets(connection, [row_id])
            else:
                release(connection, lease, due_at=now if due_at is None else due_at, error=error)
                end_probe(connection, lease, now=now)
            return done

    @retried
    def finish(self, lease: Lease, *, event: str, detail: str) -> None:
        """The work is done; `event` goes into the task's history."""
        with self._database.write() as connection:
            row_id = task_of(connection, lease)
            connection.execute(sa.delete(_WORK).where(*held_by(lease)))
            add_line(connection, row_id, at=self._now(), event=event, detail=detail)
            trim(connection, row_id)

    @retried
    def retry(self, lease: Lease, error: Exception, *, due_at: int) -> None:
        """Try it again at `due_at`."""
        with self._database.write() as connection:
            release(connection, lease, due_at=due_at, error=error)
            end_probe(connection, lease, now=self._now())

    @retried
    def hold(self, lease: Lease, error: Failure) -> HoldOutcome:
        """Set or confirm the hold of the archive stage. The attempt does not count; it is due with the next probe.

        Unless the failure is this work's own (`holds`): then it is retried after 30 s, doubling to 15 min.
        """
        with self._database.write() as connection:
            now = self._now()
            query = locking(connection, sa.select(_WORK.c.held).where(*held_by(lease)), _WORK)
            blamed: int = connection.execute(query).scalar() or 0
            if is_own_failure(connection, lease, error, blamed=blamed, now=now):
                due_at = now + backoff_ms(
                    lease.attempt, rand=1, first_seconds=HOLD_PROBE_SECONDS, seconds_max=RETRY_SECONDS_MAX
                )
                release(connection, lease, due_at=due_at, error=error, held=blamed + 1)
                return HoldOutcome.OWN
            is_new = set_hold(connection, error, account=lease.account, stage=lease.stage, now=now)
            due_at = next_probe_at(connection, lease, host=None, now=now)
            release(
                connection, lease, due_at=due_at, error=error, held=blamed + 1, attempts=_WORK.c.attempts - 1
            )
            return HoldOutcome.NEW if is_new else HoldOutcome.CONFIRMED

    @retried
    def give_back(self, lease: Lease) -> None:
        """Nothing was done: due at once, attempt not counted."""
        with self._database.write() as connection:
            values: dict[str, Any] = {"due_at": self._now(), "lease_token": None, "lease_until": None}
            values |= {"attempts": sa.case((_WORK.c.attempts > 0, _WORK.c.attempts - 1), else_=0)}
            if not connection.execute(sa.update(_WORK).where(*held_by(lease)).values(values)).rowcount:
                raise LeaseLost(f"another worker holds the lease on task {lease.task_id}")

    @retried
    def expire(self, *, except_accounts: Collection[str] = ()) -> list[DroppedAmendment]:
        """Drop up to ROWS_MAX amendments that have been tried and whose deadline has passed."""
        tasks = schema.tasks
        overdue = (
            sa.select(_WORK, tasks.c.account, tasks.c.task_id, tasks.c.family)
            .join(tasks, tasks.c.id == _WORK.c.task)
            .where(_WORK.c.deadline_at <= sa.bindparam("now"), _WORK.c.attempts > 0)
            .where(_WORK.c.lease_token.is_(None), tasks.c.account.not_in(except_accounts))
            .order_by(_WORK.c.id)
            .limit(ROWS_MAX)
        )
        with self._database.read() as connection:
            if connection.execute(overdue, {"now": self._now()}).first() is None:
                return []
        with self._database.write() as connection:
            now = self._now()
            dropped = []
            for row in connection.execute(overdue, {"now": now}).mappings().all():
                reason = row["reason"] or "deadline_passed"
                free = (_WORK.c.id == row["id"], _WORK.c.lease_token.is_(None))
                if not connection.execute(sa.delete(_WORK).where(*free)).rowcount:
                    continue  # another process has dropped or leased it since
                add_line(connection, row["task"], at=now, event="amendment.dropped", detail=reason)
                dropped.append(DroppedAmendment(row["account"], row["task_id"], row["family"], reason))
            return dropped


def due_work(account: str, *, asks_api: bool = False) -> sa.Select[int]:
    """The next piece of work at the parameter `now`: for a worker, or what asks the API first."""
    asks = sa.and_(_WORK.c.kind == FolderWorkKind.RESTORE, _WORK.c.document.is_(None))
    now = sa.bindparam("now", type_=sa.BigInteger)
    until = _WORK.c.lease_until
    return (
        sa.select(_WORK.c.id)
        .join(schema.tasks, schema.tasks.c.id == _WORK.c.task)
        .where(schema.tasks.c.account == account)
        .where(sa.or_(_WORK.c.due_at <= now, _WORK.c.due_at > now + WAIT_MS_MAX))
        .where(sa.or_(until.is_(None), until <= now - TAKEOVER_MS, until > now + WAIT_MS_MAX))
        .where(asks if asks_api else sa.not_(asks))
        .order_by(_WORK.c.held, _WORK.c.attempts, _WORK.c.due_at, _WORK.c.id)
        .limit(1)
    )


def _hold_of(connection: sa.Connection, account: str) -> Mapping[Any, Any] | None:
    """The hold that stops the whole archive stage."""
    stopped = {"stage": Stage.ARCHIVE, "of_account": account}
    return connection.execute(WHOLE_HOLD, stopped).mappings().first()


def held_by(lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
    return _WORK.c.id == lease.row_id, _WORK.c.lease_token == lease.token


def task_of(connection: sa.Connection, lease: Lease) -> int:
    """The task's row. Raises LeaseLost."""
    query = locking(connection, sa.select(_WORK.c.task).where(*held_by(lease)), _WORK)
    row_id = connection.execute(query).scalar()
    if row_id is None:
        raise LeaseLost(f"another worker holds the lease on task {lease.task_id}")
    return int(row_id)


def release(
    connection: sa.Connection,
    lease: Lease,
    *,
    due_at: int,
    error: Exception | None,
    held: int = 0,
    **columns: Any,
) -> None:
    values = {"due_at": due_at, "lease_token": None, "lease_until": None, "held": held, **columns}
    reason = {} if error is None else {"reason": reason_of(error)}
    if not connection.execute(sa.update(_WORK).where(*held_by(lease)).values(values | reason)).rowcount:
        raise LeaseLost(f"another worker holds the lease on task {lease.task_id}")


def end_probe(connection: sa.Connection, lease: Lease, *, now: int) -> None:
    """End a probe that showed nothing about the hold."""
    if lease.is_probe:
        next_probe_at(connection, lease, host=None, now=now)


def _save_keys(connection: sa.Connection, row_id: int, keys: Sequence[str], *, now: int) -> list[int]:
    """Save the keys; the numbers of the new ones."""
    table = schema.amendments
    query = sa.select(table.c.key).where(table.c.task == row_id)
    known = set(connection.execute(query).scalars())
    new = []
    for number, key in enumerate(keys, start=1):
        if key not in known:
            new.append(number)
            row = {"task": row_id, "number": number, "key": key, "amended_at": now}
            connection.execute(sa.insert(table).values(row))
            add_line(connection, row_id, at=now, event="task.amended", detail=key)
    return new


def _leased(connection: sa.Connection, work: Mapping[Any, Any], *, is_probe: bool) -> FolderLease:
    query = sa.select(schema.tasks).where(schema.tasks.c.id == work["task"])
    task = connection.execute(query).mappings().one()
    of_work = {name: work[name] for name in ("id", "lease_token", "attempts")} | {
        "queue": schema.QUEUE_ARCHIVE,
        "document": work["document"] or task["document"],
        "deadline_at": work["deadline_at"] or task["deadline_at"],
    }
    assets = assets_of(connection, [work["task"]]).get(work["task"], ())
    table = schema.assets
    unstored = sa.select(table.c.stem, table.c.reason).where(
        table.c.task == work["task"], table.c.name.is_(None)
    )
    reasons = {row.stem: row.reason or task["reason"] or "unknown" for row in connection.execute(unstored)}
    lease = read_lease({**task, **of_work}, assets, is_probe=is_probe)
    kind = FolderWorkKind(work["kind"])
    wanted = wanted_objects(connection, work["task"]) if kind is FolderWorkKind.RESTORE else ()
    return FolderLease(kind, lease, reasons, wanted)


def wanted_objects(connection: sa.Connection, row_id: int) -> tuple[WantedObject, ...]:
    """The objects of this task that are to be restored."""
    missing, assets = schema.missing_objects, schema.assets
    query = (
        sa.select(missing.c.key, assets.c.stem)
        .outerjoin(assets, sa.and_(assets.c.task == missing.c.task, assets.c.key == missing.c.key))
        .where(missing.c.task == row_id, missing.c.state == MissingState.WANTED)
        .order_by(missing.c.id)
    )
    return tuple(WantedObject(*row) for row in connection.execute(query))


def amendment_keys(connection: sa.Connection, row_id: int) -> tuple[str, ...]:
    """The keys of a task's amendments, in their order."""
    return tuple(connection.execute(_AMENDMENT_KEYS, {"task_row": row_id}).scalars())


def save_amendment_keys(connection: sa.Connection, row_id: int, keys: Sequence[str], *, now: int) -> None:
    """Amendments that were found beside an adopted manifest."""
    _save_keys(connection, row_id, keys, now=now)
