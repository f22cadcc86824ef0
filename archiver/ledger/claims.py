"""Leases: a claim writes token, lease end, attempt and next due time before any work begins.

After a crash the row is due again when its lease ends: no process has to notice the dead worker or clean up.
"""

import dataclasses
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.dml import ReturningUpdate

from archiver.failures import HOLD_PROBE_SECONDS
from archiver.ledger.databases.dialect import without_index
from archiver.ledger.part import Part
from archiver.ledger.tables import schema
from archiver.ledger.tables.rows import assets_of, read_asset, read_lease
from archiver.model import Lease, LeasedAsset, Stage

LEASE_SECONDS = 30

LANES = ("deadline", "attempts", "deadline", "newest")
"""Slot by slot: half to the nearest deadline, a quarter to the fewest attempts, a quarter to the newest."""

STAGE_QUEUES: Mapping[Stage, tuple[str, ...]] = {
    Stage.VERIFY: (schema.QUEUE_VERIFY, schema.QUEUE_UNCONFIRMED),
    Stage.ARCHIVE: (schema.QUEUE_ARCHIVE,),
}

BATCH_SCAN_ROWS_MAX = 2000
"""Rows that a claim looks at to tell batch ids from others. It stops there even if it finds none: callbacks must not
wait for a walk through a million forged ids."""

QUERY_INDIVIDUALLY_MAX = 500
"""A call."""


# --- statements ---------------------------------------------------------------------------------------------------
# Made once: to build them for each task took 2.2 of the 3.7 ms of processor time that the ledger needed per task. Only
# conditions for holds and hosts are added at run time.

_NOW = sa.bindparam("now", type_=sa.BigInteger)
_DUE_BEFORE = sa.bindparam("due_before", type_=sa.BigInteger)
_ACCOUNT = sa.bindparam("of_account", type_=sa.Text)
_QUEUE = sa.bindparam("of_queue", type_=sa.Text)
_SLOTS = sa.bindparam("slots", type_=sa.Integer)


def _free(now: int | sa.BindParameter[int]) -> sa.ColumnElement[bool]:
    """No worker holds a lease on the row."""
    until = schema.tasks.c.lease_until
    return sa.or_(until.is_(None), until <= now)


def _family() -> sa.ColumnElement[str | None]:
    return sa.func.coalesce(schema.tasks.c.family, schema.tasks.c.family_hint)


def _lane(*order: sa.ColumnElement[Any]) -> sa.Select[int]:
    table = schema.tasks
    return (
        sa.select(table.c.id)
        # The index must give the order: one on due_at would make SQLite sort the whole backlog.
        .where(table.c.queue == _QUEUE, without_index(table.c.due_at) <= _DUE_BEFORE, _free(_NOW))
        .where(table.c.confirmed_at.is_not(None))  # always true here; allows the partial indexes
        .where(table.c.account == _ACCOUNT)
        .order_by(*order)
        .limit(_SLOTS)
    )


def _leasing(chosen: sa.Select[int]) -> ReturningUpdate[Any]:
    """The statement that leases the rows of `chosen` and returns them."""
    table = schema.tasks
    until = sa.bindparam("until", type_=sa.BigInteger)
    return (
        sa.update(table)
        .where(table.c.id.in_(chosen.scalar_subquery()))
        .values(
            lease_token=sa.bindparam("token", type_=sa.Text),
            lease_until=until,
            due_at=until,
            attempts=table.c.attempts + 1,
            asked_at=_NOW,
        )
        .returning(table)
    )


_LANE_ROWS: Mapping[str, sa.Select[int]] = {
    "deadline": _lane(schema.tasks.c.deadline_at),
    "attempts": _lane(schema.tasks.c.attempts, schema.tasks.c.due_at),
    # Not by first sight: all of a backlog that a sweep finds would be newer than the callback before it.
    "newest": _lane(schema.tasks.c.deadline_at.desc()),
}

CLAIMS: Mapping[str, ReturningUpdate[Any]] = {lane: _leasing(rows) for lane, rows in _LANE_ROWS.items()}
"""The claim of each lane while nothing is held."""

_CLAIM_ROW = _leasing(sa.select(schema.tasks.c.id).where(schema.tasks.c.id == sa.bindparam("row_id")))

_LONGEST_DUE: sa.Select[Any] = (
    sa.select(schema.tasks.c.id, schema.tasks.c.family, schema.tasks.c.family_hint, schema.tasks.c.asked)
    .where(schema.tasks.c.queue == _QUEUE, schema.tasks.c.account == _ACCOUNT)
    .where(schema.tasks.c.due_at <= _DUE_BEFORE, _free(_NOW))
    .order_by(schema.tasks.c.due_at, schema.tasks.c.id)
)

_HOLDS = (
    sa.select(schema.holds)
    .where(schema.holds.c.stage == sa.bindparam("stage"), schema.holds.c.account == _ACCOUNT)
    .order_by(schema.holds.c.probe_at)
)

_WHOLE_HOLD = _HOLDS.where(schema.holds.c.family == "", schema.holds.c.host == "")
"""The hold that stops a whole stage of an account."""

_ANY_DUE = (
    sa.select(schema.tasks.c.id)
    .where(schema.tasks.c.queue == _QUEUE, schema.tasks.c.account == _ACCOUNT)
    .where(schema.tasks.c.due_at <= _NOW, _free(_NOW))
    .limit(1)
)

_ASSETS_IF_LEASED = (
    sa.select(schema.assets)
    .select_from(schema.tasks.outerjoin(schema.assets, schema.assets.c.task == schema.tasks.c.id))
    .where(schema.tasks.c.id == sa.bindparam("task_row"), schema.tasks.c.lease_token == sa.bindparam("token"))
    .order_by(schema.assets.c.id)
)


@dataclasses.dataclass(frozen=True, slots=True)
class PendingCounts:
    """Due ids that wait for a query."""

    by_family: Mapping[str | None, int]
    """Those that a list page may answer for, by family (None: no family is known)."""
    confirmed: frozenset[str]
    """The families among them that have tasks which the API has confirmed."""
    individually: int
    """Those that no list page shows, counted up to the limit."""


class Claims(Part):
    """Taking leases and keeping them."""

    def archive(
        self, *, account: str, count: int, offset: int, hosts_avoided: Collection[str] = ()
    ) -> list[Lease]:
        """Lease up to `count` succeeded tasks: first due probes of holds, then a share for each lane. `offset` is the
        number of the first slot; it decides the lanes."""
        host = schema.tasks.c.asset_host
        with self._database.write() as connection:
            now = self._now()
            holds = _holds_of(connection, Stage.ARCHIVE, account=account)
            probes = _claim_probes(connection, holds, count=count, now=now)
            allowed = [~_covers(hold) for hold in holds]
            if hosts_avoided:
                allowed.append(sa.or_(host.is_(None), host.not_in(hosts_avoided)))
            rest = _Request(schema.QUEUE_ARCHIVE, account, now=now, due_before=now)
            return probes + _claim_lanes(connection, rest, allowed, count=count - len(probes), offset=offset)

    def verify(
        self,
        *,
        account: str,
        count: int,
        offset: int,
        due_before: int | None = None,
        own_paths_only: bool = False,
    ) -> list[Lease]:
        """Lease up to `count` ids for individual queries: due probes of holds, then confirmed ids, then unconfirmed
        ones, first come first served.

        `due_before` (Unix ms) leaves later ids to a list page, `own_paths_only` leaves to `batch` what it can lease.
        """
        with self._database.write() as connection:
            now = self._now()
            due_before = now if due_before is None else min(now, due_before)
            holds = _holds_of(connection, Stage.VERIFY, account=account)
            probes = _claim_probes(connection, holds, count=count, now=now)
            count -= len(probes)
            allowed = [~_covers(hold) for hold in holds]
            confirmed = _claim_lanes(
                connection,
                _Request(schema.QUEUE_VERIFY, account, now=now, due_before=due_before),
                [*allowed, ~_is_batchable(schema.tasks.c)] if own_paths_only else allowed,
                count=count,
                offset=offset,
            )
            count -= len(confirmed)
            if count <= 0:
                return probes + confirmed
            rest = _Request(schema.QUEUE_UNCONFIRMED, account, now=now, due_before=due_before)
            waiting = _LONGEST_DUE.where(*allowed)
            chosen = waiting.with_only_columns(schema.tasks.c.id).limit(_SLOTS)
            if own_paths_only:
                scanned = waiting.limit(BATCH_SCAN_ROWS_MAX).subquery()
                chosen = sa.select(scanned.c.id).where(~_is_batchable(scanned.c)).limit(_SLOTS)
            return probes + confirmed + _lease(connection, _leasing(chosen), rest, slots=count)

    def batch(self, *, account: str, count: int, due_before: int | None = None) -> list[Lease]:
        """Lease up to `count` ids that one batch query can answer, longest due first.

        Confirmed ids, else unconfirmed ones, never both: they are queried at different priorities.
        """
        with self._database.write() as connection:
            now = self._now()
            due_before = now if due_before is None else min(now, due_before)
            allowed = [~_covers(hold) for hold in _holds_of(connection, Stage.VERIFY, account=account)]
            scanned = _LONGEST_DUE.where(*allowed).limit(BATCH_SCAN_ROWS_MAX).subquery()
            claim = _leasing(sa.select(scanned.c.id).where(_is_batchable(scanned.c)).limit(_SLOTS))
            for queue in STAGE_QUEUES[Stage.VERIFY]:
                request = _Request(queue, account, now=now, due_before=due_before)
                if leases := _lease(connection, claim, request, slots=count):
                    return leases
            return []

    def any_due(self, stage: Stage, *, account: str) -> bool:
        """Whether a claim might find work. A read, so an idle loop never writes."""
        with self._database.read() as connection:
            now = self._now()
            held = connection.execute(_WHOLE_HOLD, {"stage": stage, "of_account": account}).first()
            if held is not None and held.probe_at > now:
                return False
            for queue in STAGE_QUEUES[stage]:
                parameters = {"of_queue": queue, "of_account": account, "now": now}
                if connection.execute(_ANY_DUE, parameters).first() is not None:
                    return True
            return False

    def renew(self, leases: Sequence[Lease]) -> set[int]:
        """Give leases another `LEASE_SECONDS`; the row ids of those that still hold."""
        table = schema.tasks
        with self._database.write() as connection:
            until = self._now() + LEASE_SECONDS * 1000
            held: set[int] = set()
            for token in {lease.token for lease in leases}:
                row_ids = [lease.row_id for lease in leases if lease.token == token]
                statement = (
                    sa.update(table)
                    .where(table.c.id.in_(row_ids), table.c.lease_token == token)
                    .values(lease_until=until, due_at=until)
                    .returning(table.c.id)
                )
                held |= set(connection.execute(statement).scalars())
            return held

    def assets(self, lease: Lease) -> tuple[LeasedAsset, ...] | None:
        """The task's present assets, maybe more and fresher than the lease's; None when the lease has ended."""
        with self._database.read() as connection:
            parameters = {"task_row": lease.row_id, "token": lease.token}
            rows = connection.execute(_ASSETS_IF_LEASED, parameters).mappings().all()
        if not rows:
            return None
        # The outer join gives a task without assets one empty row.
        return tuple(read_asset(row) for row in rows if row["id"] is not None)

    def pending(self, *, account: str, rows_max: int) -> PendingCounts:
        """How many due ids wait for a query; looks at `rows_max` rows of each queue."""
        table = schema.tasks
        counts: dict[str | None, int] = {}
        families: dict[str, set[str | None]] = {}
        individually = 0
        with self._database.read() as connection:
            now = self._now()
            for queue in STAGE_QUEUES[Stage.VERIFY]:
                due = (
                    sa.select(_family().label("family"))
                    .where(table.c.queue == queue, table.c.due_at <= now)
                    .where(table.c.account == account, table.c.lease_token.is_(None))
                    .limit(rows_max)
                )
                listed = due.where(table.c.query_individually.is_(False)).subquery()
                grouped = sa.select(listed.c.family, sa.func.count()).group_by(listed.c.family)
                rows = connection.execute(grouped).all()
                families[queue] = {family for family, _ in rows}
                for family, count in rows:
                    counts[family] = counts.get(family, 0) + count
                others = due.where(table.c.query_individually.is_(True)).subquery()
                counted = sa.select(sa.func.count()).select_from(others)
                individually += connection.execute(counted).scalar_one()
        confirmed = frozenset(family for family in families[schema.QUEUE_VERIFY] if family is not None)
        return PendingCounts(counts, confirmed, min(individually, rows_max))

    def query_individually(self, *, account: str, family: str | None, due_before: int) -> int:
        """Mark ids of `family` that were due before its list was read (`due_before`, Unix ms) and that no page has
        shown; how many."""
        table = schema.tasks
        unseen = (
            sa.select(table.c.id)
            .where(
                table.c.queue.in_(STAGE_QUEUES[Stage.VERIFY]),
                table.c.account == account,
                _family().is_(None) if family is None else _family() == family,
                table.c.due_at <= due_before,
                table.c.lease_token.is_(None),
                table.c.query_individually.is_(False),
            )
            .limit(QUERY_INDIVIDUALLY_MAX)
        )
        marked = sa.update(table).where(table.c.id.in_(unseen.scalar_subquery()))
        with self._database.write() as connection:
            return connection.execute(marked.values(query_individually=True)).rowcount


def shares(count: int, *, offset: int) -> dict[str, int]:
    """How many of `count` slots, the first being slot number `offset`, go to each lane."""
    lanes = [LANES[(offset + slot) % len(LANES)] for slot in range(count)]
    return {lane: lanes.count(lane) for lane in dict.fromkeys(lanes)}


@dataclasses.dataclass(frozen=True, slots=True)
class _Request:
    """Which rows a claim may take."""

    queue: str
    account: str
    _: dataclasses.KW_ONLY
    now: int
    due_before: int


def _claim_lanes(
    connection: sa.Connection,
    request: _Request,
    allowed: Sequence[sa.ColumnElement[bool]],
    *,
    count: int,
    offset: int,
) -> list[Lease]:
    leases: list[Lease] = []
    for lane, slots in shares(count, offset=offset).items():
        claim = _leasing(_LANE_ROWS[lane].where(*allowed)) if allowed else CLAIMS[lane]
        leases += _lease(connection, claim, request, slots=slots)
    return leases


def _claim_probes(
    connection: sa.Connection, holds: Sequence[sa.RowMapping], *, count: int, now: int
) -> list[Lease]:
    """One task for each hold whose probe is due, at most `count`. A hold without a task to probe with keeps its
    turn."""
    leases: list[Lease] = []
    for hold in holds:
        if hold["probe_at"] > now:
            break
        row_id = _probe_of(connection, hold, now=now) if len(leases) < count else None
        if row_id is None:
            continue
        probe_at = now + HOLD_PROBE_SECONDS * 1000
        connection.execute(
            sa.update(schema.holds).where(schema.holds.c.id == hold["id"]).values(probe_at=probe_at)
        )
        leases += _run(connection, _CLAIM_ROW, {"row_id": row_id}, now=now, is_probe=True)
    return leases


def _probe_of(connection: sa.Connection, hold: Mapping[Any, Any], *, now: int) -> int | None:
    """The row to probe a hold with: the longest due that never set a hold; else, due or not, the one that did so least
    often. A poisonous task is thus the last choice."""
    table = schema.tasks
    queues = table.c.queue.in_(STAGE_QUEUES[Stage(hold["stage"])])
    of_hold = sa.select(table.c.id).where(queues, _free(now), _covers(hold)).limit(1)
    innocent = of_hold.where(table.c.held == 0, table.c.due_at <= now).order_by(table.c.due_at)
    blamed = of_hold.where(table.c.held > 0).order_by(table.c.held, table.c.due_at)
    row_id = connection.execute(innocent).scalar()
    return row_id if row_id is not None else connection.execute(blamed).scalar()


def _is_batchable(columns: ReadOnlyColumnCollection[str, Any]) -> sa.ColumnElement[bool]:
    """Ids that are queried at `/tasks` or `/solutions`, many at a time: also those whose family is unknown or was
    wrong."""
    family = sa.func.coalesce(columns.family, columns.family_hint, "")
    wrong_hint = sa.and_(columns.family.is_(None), columns.asked > 0)
    return sa.or_(family == "", family.like("tasks/%"), family.like("solutions/%"), wrong_hint)


def _holds_of(connection: sa.Connection, stage: Stage, *, account: str) -> Sequence[sa.RowMapping]:
    """The holds of a stage, the next probe first. Read before the claim: conditions with literals are several times
    cheaper than a subquery for each row of a held backlog."""
    return connection.execute(_HOLDS, {"stage": stage, "of_account": account}).mappings().all()


def _covers(hold: Mapping[Any, Any]) -> sa.ColumnElement[bool]:
    """The hold stops the row."""
    table = schema.tasks
    conditions = [table.c.account == hold["account"]]
    if hold["host"]:
        conditions.append(sa.func.coalesce(table.c.asset_host, "") == hold["host"])
    if hold["family"]:
        conditions.append(sa.func.coalesce(_family(), "") == hold["family"])
    return sa.and_(*conditions)


def _lease(
    connection: sa.Connection, claim: ReturningUpdate[Any], request: _Request, *, slots: int
) -> list[Lease]:
    parameters: dict[str, int | str] = {
        "of_queue": request.queue,
        "of_account": request.account,
        "due_before": request.due_before,
        "slots": slots,
    }
    return _run(connection, claim, parameters, now=request.now)


def _run(
    connection: sa.Connection,
    claim: ReturningUpdate[Any],
    parameters: Mapping[str, int | str],
    *,
    now: int,
    is_probe: bool = False,
) -> list[Lease]:
    lease: dict[str, int | str] = {"token": uuid.uuid4().hex, "until": now + LEASE_SECONDS * 1000, "now": now}
    rows = connection.execute(claim, {**parameters, **lease}).mappings().all()
    assets = assets_of(connection, [row["id"] for row in rows if row["queue"] == schema.QUEUE_ARCHIVE])
    return [read_lease(row, assets.get(row["id"], ()), is_probe=is_probe) for row in rows]
