"""Taking work: one statement per lane writes token, lease end, attempt and next due time before any work.

So a crash right after the commit is already a retry: the row is due again when its lease ends. Nothing has to
notice the dead worker, and nobody has to clean up after it.
"""

import functools
import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.dml import ReturningUpdate

from archiver.failures import HOLD_PROBE_SECONDS
from archiver.ledger import schema
from archiver.ledger.callbacks import CONSOLE_TEST
from archiver.ledger.history import note, trim
from archiver.ledger.rows import find
from archiver.model import (
    Asset,
    DiscoveredBy,
    Lease,
    LeasedAsset,
    Role,
    Stage,
    State,
    StoredAsset,
)

LEASE_SECONDS = 30
LANES = ("deadline", "attempts", "deadline", "newest")
"""Slot by slot: half to the nearest deadline, a quarter to the fewest attempts, a quarter to the newest."""

STAGE_QUEUES: Mapping[Stage, tuple[str, ...]] = {
    Stage.VERIFY: (schema.QUEUE_VERIFY, schema.QUEUE_UNCONFIRMED),
    Stage.ARCHIVE: (schema.QUEUE_ARCHIVE,),
}


# Statements that run for every task are made once, here and below: to build one anew costs several times what SQLite
# needs to run it, and with all threads at work that is processor time taken from downloads.
_NOW = sa.bindparam("now", type_=sa.BigInteger)
_DUE_BEFORE = sa.bindparam("due_before", type_=sa.BigInteger)
_ACCOUNT = sa.bindparam("whose", type_=sa.Text)


def shares(count: int, *, offset: int) -> dict[str, int]:
    """How many of `count` slots, the first being slot number `offset`, go to which lane."""
    lanes = [LANES[(offset + slot) % len(LANES)] for slot in range(count)]
    return {lane: lanes.count(lane) for lane in dict.fromkeys(lanes)}


def claim_archive(
    connection: sa.Connection,
    *,
    count: int,
    offset: int,
    now: int,
    hosts_avoided: Collection[str],
    account: str | None = None,
) -> list[Lease]:
    """Lease up to `count` succeeded tasks (of `account`; None for all): the probes of holds that are due one, the rest
    shared out between the lanes."""
    table = schema.tasks
    holds = _holds_of(connection, Stage.ARCHIVE, account)
    probes = _claim_probes(connection, holds, count=count, now=now)
    allowed = [~_covers(hold) for hold in holds]
    if hosts_avoided:
        allowed.append(sa.or_(table.c.asset_host.is_(None), table.c.asset_host.not_in(hosts_avoided)))
    return probes + _claim_lanes(
        connection,
        schema.QUEUE_ARCHIVE,
        allowed,
        count=count - len(probes),
        offset=offset,
        now=now,
        due_before=now,
        account=account,
    )


def claim_verify(
    connection: sa.Connection,
    *,
    count: int,
    offset: int,
    now: int,
    due_before: int,
    own_paths_only: bool = False,
    account: str | None = None,
) -> list[Lease]:
    """Lease up to `count` tasks (of `account`; None for all) to ask for singly: the probes of holds that are due one,
    and of what was due by `due_before` the known ids first, then ids nobody has confirmed, first come first served."""
    holds = _holds_of(connection, Stage.VERIFY, account)
    probes = _claim_probes(connection, holds, count=count, now=now)
    count -= len(probes)
    allowed = [~_covers(hold) for hold in holds]
    known = _claim_lanes(
        connection,
        schema.QUEUE_VERIFY,
        [*allowed, ~_in_crowd(schema.tasks.c)] if own_paths_only else allowed,
        count=count,
        offset=offset,
        now=now,
        due_before=min(now, due_before),
        account=account,
    )
    wanted = count - len(known)
    if wanted <= 0:
        return probes + known
    waiting = _longest_due(
        schema.QUEUE_UNCONFIRMED, [*allowed, *_of(account)], now=now, due_before=due_before
    )
    chosen: sa.Select[Any] = waiting.with_only_columns(schema.tasks.c.id).limit(wanted)
    if own_paths_only:
        first = waiting.limit(CROWD_SEEN_MAX).subquery()
        chosen = sa.select(first.c.id).where(~_in_crowd(first.c)).limit(wanted)
    return probes + known + _lease(connection, _leasing(chosen), now=now)


def claim_batch(
    connection: sa.Connection, *, count: int, now: int, due_before: int, account: str | None = None
) -> list[Lease]:
    """Lease up to `count` tasks of the crowd (of `account`; None for all), longest due first: of those that the API has
    confirmed, else of the others, never of both, since they are asked for at different precedence."""
    holds = _holds_of(connection, Stage.VERIFY, account)
    allowed = [*(~_covers(hold) for hold in holds), *_of(account)]
    for queue in STAGE_QUEUES[Stage.VERIFY]:
        waiting = _longest_due(queue, allowed, now=now, due_before=due_before)
        first = waiting.limit(CROWD_SEEN_MAX).subquery()
        chosen = sa.select(first.c.id).where(_in_crowd(first.c)).limit(count)
        if leases := _lease(connection, _leasing(chosen), now=now):
            return leases
    return []


def _of(account: str | None) -> list[sa.ColumnElement[bool]]:
    return [] if account is None else [schema.tasks.c.account == account]


CROWD_SEEN_MAX = 2000
"""Rows that a claim looks at to tell the crowd from the others. Should all of these be of the other kind, those behind
them wait until it is their turn: callbacks must not wait for a walk through a million forged ids."""


def _longest_due(
    queue: str, allowed: Sequence[sa.ColumnElement[bool]], *, now: int, due_before: int
) -> sa.Select[Any]:
    table = schema.tasks
    return (
        sa.select(table.c.id, table.c.family, table.c.family_hint, table.c.asked)
        .where(table.c.queue == queue, table.c.due_at <= min(now, due_before), _free(now))
        .where(*allowed)
        .order_by(table.c.due_at, table.c.id)
    )


def _in_crowd(columns: ReadOnlyColumnCollection[str, Any]) -> sa.ColumnElement[bool]:
    """Ids that one question at `/tasks` or `/solutions` may answer by the dozen."""
    family = sa.func.coalesce(columns.family, columns.family_hint, "")
    wrong_hint = sa.and_(columns.family.is_(None), columns.asked > 0)
    return sa.or_(family == "", family.like("tasks/%"), family.like("solutions/%"), wrong_hint)


def _claim_probes(
    connection: sa.Connection, holds: Sequence[sa.RowMapping], *, count: int, now: int
) -> list[Lease]:
    """One task for every one of `holds` whose probe is due, taken in spite of the hold; at most `count`. A hold without
    any task to probe with keeps its turn."""
    table = schema.tasks
    leases: list[Lease] = []
    for hold in holds:
        if hold["probe_at"] > now:
            break
        row_id = _probe_of(connection, hold, now=now) if len(leases) < count else None
        if row_id is None:
            continue
        following = now + HOLD_PROBE_SECONDS * 1000
        again = sa.update(schema.holds).where(schema.holds.c.id == hold["id"]).values(probe_at=following)
        connection.execute(again)
        chosen = sa.select(table.c.id).where(table.c.id == row_id)
        leases += _lease(connection, _leasing(chosen), now=now, is_probe=True)
    return leases


def _probe_of(connection: sa.Connection, hold: Mapping[Any, Any], *, now: int) -> int | None:
    """The row to probe a hold with: one that has never set off a hold, longest due first; else, due or not, the one
    that has done so the least often. A poisonous task is thus the probe only where there is no other."""
    table = schema.tasks
    queues = table.c.queue.in_(STAGE_QUEUES[Stage(hold["stage"])])
    of_hold = sa.select(table.c.id).where(queues, _free(now), _covers(hold)).limit(1)
    fresh = of_hold.where(table.c.held == 0, table.c.due_at <= now).order_by(table.c.due_at)
    blamed = of_hold.where(table.c.held > 0).order_by(table.c.held, table.c.due_at)
    found = connection.execute(fresh).scalar()
    return found if found is not None else connection.execute(blamed).scalar()


def _claim_lanes(
    connection: sa.Connection,
    queue: str,
    allowed: Sequence[sa.ColumnElement[bool]],
    *,
    count: int,
    offset: int,
    now: int,
    due_before: int,
    account: str | None,
) -> list[Lease]:
    leases: list[Lease] = []
    one_only = account is not None
    parameters: dict[str, Any] = {"whose": account} if one_only else {}
    for lane, slots in shares(count, offset=offset).items():
        claim = _lane_claim(queue, lane, one_only=one_only)
        if allowed:
            claim = _leasing(_lane(queue, lane, one_only=one_only).where(*allowed))
        leases += _lease(connection, claim, now=now, due_before=due_before, slots=slots, **parameters)
    return leases


@functools.cache
def _lane_claim(queue: str, lane: str, *, one_only: bool) -> ReturningUpdate[Any]:
    """The claim of one lane while nothing is held. Made once: to build it anew for each task that is claimed costs
    several times what SQLite needs to run it."""
    return _leasing(_lane(queue, lane, one_only=one_only))


def _lane(queue: str, lane: str, *, one_only: bool) -> sa.Select[int]:
    """What one lane offers, of one account only or of all."""
    table = schema.tasks
    orders: Mapping[str, tuple[sa.ColumnElement[Any], ...]] = {
        "deadline": (table.c.deadline_at,),
        "attempts": (table.c.attempts, table.c.due_at),
        # Not by when we first saw them: to a sweep that finds a backlog, all of that is newer than the callback before.
        "newest": (table.c.deadline_at.desc(),),
    }
    return (
        sa.select(table.c.id)
        # Adding nothing keeps SQLite from walking the index on due_at, and sorting the whole backlog after it.
        .where(table.c.queue == queue, table.c.due_at + 0 <= _DUE_BEFORE, _free(_NOW))
        .where(table.c.confirmed_at.is_not(None))  # it always is here; says which indexes will do
        .where(table.c.account == _ACCOUNT if one_only else sa.true())
        .order_by(*orders[lane])
        .limit(sa.bindparam("slots", type_=sa.Integer))
    )


def _free(now: int | sa.BindParameter[int]) -> sa.ColumnElement[bool]:
    """Nobody works on the row."""
    until = schema.tasks.c.lease_until
    return sa.or_(until.is_(None), until <= now)


def _family() -> sa.ColumnElement[str | None]:
    return sa.func.coalesce(schema.tasks.c.family, schema.tasks.c.family_hint)


def _holds_of(connection: sa.Connection, stage: Stage, account: str | None) -> Sequence[sa.RowMapping]:
    """The holds of `stage` (of `account`; None for all), the one whose probe is due first ahead.

    There are a few at most, and whoever claims reads them first: a condition with literals is several times cheaper
    than a subquery for each row of a held backlog.
    """
    query = _HOLDS if account is None else _HOLDS_OF_ONE
    return connection.execute(query, {"stage": stage, "whose": account}).mappings().all()


_HOLDS = (
    sa.select(schema.holds)
    .where(schema.holds.c.stage == sa.bindparam("stage"))
    .order_by(schema.holds.c.probe_at)
)
_HOLDS_OF_ONE = _HOLDS.where(schema.holds.c.account == _ACCOUNT)


def _covers(hold: Mapping[Any, Any]) -> sa.ColumnElement[bool]:
    """The row is of the hold's account, and of its family and host where it names them."""
    table = schema.tasks
    conditions = [table.c.account == hold["account"]]
    if hold["host"]:
        conditions.append(sa.func.coalesce(table.c.asset_host, "") == hold["host"])
    if hold["family"]:
        conditions.append(sa.func.coalesce(_family(), "") == hold["family"])
    return sa.and_(*conditions)


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


def _lease(
    connection: sa.Connection,
    claim: ReturningUpdate[Any],
    *,
    now: int,
    is_probe: bool = False,
    **more: int | str,
) -> list[Lease]:
    """Run a claim; `more` are the parameters of its own besides the lease's."""
    parameters = {"token": uuid.uuid4().hex, "until": now + LEASE_SECONDS * 1000, "now": now, **more}
    rows = connection.execute(claim, parameters).mappings().all()
    assets = _assets_of(connection, [row["id"] for row in rows if row["queue"] == schema.QUEUE_ARCHIVE])
    return [_read(row, assets.get(row["id"], ()), is_probe=is_probe) for row in rows]


def _assets_of(connection: sa.Connection, row_ids: Sequence[int]) -> dict[int, tuple[LeasedAsset, ...]]:
    if not row_ids:
        return {}
    found: dict[int, list[LeasedAsset]] = {}
    for row in connection.execute(_ASSETS_OF, {"task_rows": row_ids}).mappings():
        found.setdefault(row["task"], []).append(_read_asset(row))
    return {row_id: tuple(assets) for row_id, assets in found.items()}


_ASSETS_OF = (
    sa.select(schema.assets)
    .where(schema.assets.c.task.in_(sa.bindparam("task_rows", expanding=True)))
    .order_by(schema.assets.c.id)
)


def assets_if_leased(connection: sa.Connection, lease: Lease) -> tuple[LeasedAsset, ...] | None:
    """The assets of a leased task as the ledger has them now; None where the row no longer carries the lease's
    token."""
    parameters = {"task_row": lease.row_id, "token": lease.token}
    rows = connection.execute(_ASSETS_IF_LEASED, parameters).mappings().all()
    if not rows:
        return None
    return tuple(
        _read_asset(row) for row in rows if row["id"] is not None
    )  # a task without any is one empty row


_ASSETS_IF_LEASED = (
    sa.select(schema.assets)
    .select_from(schema.tasks.outerjoin(schema.assets, schema.assets.c.task == schema.tasks.c.id))
    .where(schema.tasks.c.id == sa.bindparam("task_row"), schema.tasks.c.lease_token == sa.bindparam("token"))
    .order_by(schema.assets.c.id)
)


def _read_asset(row: Mapping[Any, Any]) -> LeasedAsset:
    asset = Asset(
        stem=row["stem"],
        url=row["url"],
        role=Role(row["role"]),
        index=row["api_index"],
        watermarked=row["watermarked"],
    )
    stored = None
    if row["name"] is not None:
        stored = StoredAsset(
            stem=row["stem"],
            name=row["name"],
            key=row["key"],
            role=asset.role,
            index=asset.index,
            watermarked=asset.watermarked,
            bytes=row["bytes"],
            sha256=row["sha256"],
            content_type=row["content_type"],
            width=row["width"],
            height=row["height"],
            source_url=row["source_url"],
            suspect=row["suspect"],
        )
    return LeasedAsset(asset, stored, row["incomplete_sha256"], row["incomplete_at"])


def _read(row: Mapping[Any, Any], assets: tuple[LeasedAsset, ...], *, is_probe: bool) -> Lease:
    stage = Stage.ARCHIVE if row["queue"] == schema.QUEUE_ARCHIVE else Stage.VERIFY
    return Lease(
        row_id=row["id"],
        token=row["lease_token"],
        stage=stage,
        account=row["account"],
        task_id=row["task_id"],
        external_task_id=row["external_task_id"],
        state=State(row["state"]),
        attempt=row["attempts"],
        asked=row["asked"],
        family=row["family"],
        family_hint=row["family_hint"],
        result_arrays=tuple(filter(None, row["result_arrays"].split(","))),
        confirmed=row["confirmed_at"] is not None,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deadline_at=row["deadline_at"],
        discovered_by=DiscoveredBy(row["discovered_by"]),
        asset_host=row["asset_host"],
        document=json.loads(row["document"]) if row["document"] else {},
        request=json.loads(row["request"]) if row["request"] else None,
        assets=assets,
        is_console_test=row["callback_status"] == CONSOLE_TEST,
        is_probe=is_probe,
    )


def renew(connection: sa.Connection, leases: Sequence[Lease], *, now: int) -> set[int]:
    """Give every lease that still holds another `LEASE_SECONDS`; the row ids of those."""
    table = schema.tasks
    until = now + LEASE_SECONDS * 1000
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


def free_all(connection: sa.Connection, *, now: int) -> int:
    """Free every lease: a daemon that starts on SQLite is alone, so whoever held one is dead. How many.

    A task whose work kills the process would be first again after every start; its attempts count, so each
    time it waits a little longer, at most a lease.
    """
    table = schema.tasks
    wait = sa.case((table.c.attempts <= 2, 0), (table.c.attempts <= 4, 5_000), else_=LEASE_SECONDS * 1000)
    statement = (
        sa.update(table)
        .where(table.c.lease_token.is_not(None))
        .values(lease_token=None, lease_until=None, due_at=now + wait)
    )
    return connection.execute(statement).rowcount


QUERY_INDIVIDUALLY_MAX = 500
"""Rows a transaction."""


def query_individually(
    connection: sa.Connection, *, account: str, family: str | None, due_before: int
) -> int:
    """Mark ids that waited before a list was read and that none of its pages has shown; how many, at most
    `QUERY_INDIVIDUALLY_MAX`."""
    table = schema.tasks
    same = _family().is_(None) if family is None else _family() == family
    some = (
        sa.select(table.c.id)
        .where(
            table.c.queue.in_(STAGE_QUEUES[Stage.VERIFY]),
            table.c.account == account,
            same,
            table.c.due_at <= due_before,
            table.c.lease_token.is_(None),
            table.c.query_individually.is_(False),
        )
        .limit(QUERY_INDIVIDUALLY_MAX)
    )
    statement = sa.update(table).where(table.c.id.in_(some.scalar_subquery())).values(query_individually=True)
    return connection.execute(statement).rowcount


def ask_again(connection: sa.Connection, *, account: str, task_id: str, now: int) -> State | None:
    """An operator wants this task (id or external id) tried now. The state it was found in; None when nobody knows
    the id.

    An archived task is left alone: its manifest is final. A failed one stays failed while it is asked for, so that only
    the API's word moves it. A succeeded one is fetched at once: its URLs are known, and where they are gone the archive
    stage asks afresh. What somebody works on this very moment is left to them.
    """
    row = find(connection, account=account, task_id=task_id)
    if row is None:
        return None
    state = State(row["state"])
    if state is State.ARCHIVED or (row["lease_until"] is not None and row["lease_until"] > now):
        return state
    changes: dict[str, Any] = {"due_at": now, "held": 0, "query_individually": True}
    changes |= {"lease_token": None, "lease_until": None}
    if state is State.FAILED:
        changes |= {"queue": schema.QUEUE_VERIFY}
    if state in (State.REPORTED, State.UNKNOWN):
        changes |= {"state": State.REPORTED, "not_found_since": None, "asked": 0}
    connection.execute(sa.update(schema.tasks).where(schema.tasks.c.id == row["id"]).values(changes))
    note(connection, row["id"], at=now, event="task.retry_requested", detail=state)
    trim(connection, row["id"])
    return state
