"""Holds in claims: which rows they stop, and the one row that probes each."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.failures import HOLD_PROBE_SECONDS, backoff_ms
from archiver.ledger.claims.lanes import group_names
from archiver.ledger.claims.leasing import ACCOUNT, NOW, QUEUE, free, leasing, run_claim
from archiver.ledger.databases.dialect import in_index_order, skipping_locked
from archiver.ledger.holds import PROBE_FIRST_SECONDS
from archiver.ledger.tables import groups, schema
from archiver.model import Lease, Stage

CANDIDATES_MAX = 20
"""Rows of a group among which a probe is chosen."""

UNCONFIRMED_PROBE_SECONDS_MAX = 3600

_CLAIM_ROW = leasing(
    skipping_locked(
        sa.select(schema.tasks.c.id).where(schema.tasks.c.id == sa.bindparam("row_id"), free(NOW)),
        schema.tasks,
    )
)

_CANDIDATE = (
    schema.tasks.c.id,
    schema.tasks.c.held,
    schema.tasks.c.due_at,
    schema.tasks.c.deadline_at,
)
_GROUP = sa.select(*_CANDIDATE).where(
    schema.tasks.c.queue == QUEUE,
    schema.tasks.c.account == ACCOUNT,
    schema.tasks.c.claim_group == sa.bindparam("name", type_=sa.Text),
)
_LEAST_BLAMED = _GROUP.order_by(schema.tasks.c.held, schema.tasks.c.due_at).limit(1)
_LATEST = _GROUP.order_by(schema.tasks.c.deadline_at.desc()).limit(CANDIDATES_MAX)
_NEAREST = _GROUP.order_by(schema.tasks.c.deadline_at).limit(CANDIDATES_MAX)
_TURNS = (_LATEST, _NEAREST, _LEAST_BLAMED)

_HOLDS = (
    sa.select(schema.holds)
    .where(schema.holds.c.stage == sa.bindparam("stage"), schema.holds.c.account == ACCOUNT)
    .order_by(schema.holds.c.probe_at)
)

WHOLE_HOLD = _HOLDS.where(schema.holds.c.family == "", schema.holds.c.host == "")
"""The hold that stops a whole stage of an account."""


def asked_family() -> sa.ColumnElement[str | None]:
    return sa.func.coalesce(schema.tasks.c.family, schema.tasks.c.family_hint)


def claim_probes(
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
        if not begin_probe(connection, hold, now=now):
            continue
        leases += run_claim(connection, _CLAIM_ROW, {"row_id": row_id}, now=now, is_probe=True)
    return leases


def begin_probe(connection: sa.Connection, hold: Mapping[Any, Any], *, now: int) -> bool:
    """Take the turn to probe a hold; False where another process has it."""
    # The next one, should this one never end. `holds.next_probe_at` sets a nearer time when it fails.
    begun = {"probe_at": now + HOLD_PROBE_SECONDS * 1000, "probed_at": now, "probes": hold["probes"] + 1}
    due = sa.update(schema.holds).where(
        schema.holds.c.id == hold["id"], schema.holds.c.probe_at == hold["probe_at"]
    )
    return bool(connection.execute(due.values(begun)).rowcount)


def _probe_of(connection: sa.Connection, hold: Mapping[Any, Any], *, now: int) -> int | None:
    """The row to probe a hold with.

    In turn: of the tasks that were never blamed, the one with the latest and the one with the nearest deadline; and of
    those blamed least often (each failed probe is), the longest due. So a crowd of poisonous tasks at one end does not
    hide the healthy ones, and every task gets its turn.
    """
    turn = _TURNS[hold["probes"] % len(_TURNS)]
    rows: list[Any] = []
    for queue in schema.STAGE_QUEUES[Stage(hold["stage"])]:
        if queue != schema.QUEUE_UNCONFIRMED:
            rows += _of_groups(connection, hold, queue=queue, turn=turn)
        elif not hold["host"] and (not rows or not hold["family"]) and _may_be_unconfirmed(hold, now=now):
            rows += _unconfirmed(connection, hold, queue=queue, turn=turn, now=now)
    innocent = [row for row in rows if not row.held]
    if turn is _LATEST and innocent:
        best = max(innocent, key=lambda row: (row.deadline_at, row.id))
    elif turn is _NEAREST and innocent:
        best = min(innocent, key=lambda row: (row.deadline_at, row.id))
    else:
        best = min(rows, key=lambda row: (row.held, row.due_at, row.id), default=None)
    return None if best is None else int(best.id)


def _may_be_unconfirmed(hold: Mapping[Any, Any], *, now: int) -> bool:
    """Whether an unconfirmed id may probe the hold.

    A stranger can name ids of families that the credentials may not use. For a family that nothing but such ids wait
    for, the time between probes doubles to an hour. That delays no genuine task of a family that is swept: the sweep
    lifts the hold as soon as the family's list answers. One of another family waits for an hour at most.
    """
    probed_at: int | None = hold["probed_at"]
    if not hold["family"] or probed_at is None:
        return True
    wait = backoff_ms(
        hold["probes"],
        rand=1,
        first_seconds=PROBE_FIRST_SECONDS * 2,
        seconds_max=UNCONFIRMED_PROBE_SECONDS_MAX,
    )
    # Also where the clock was set back.
    return abs(now - probed_at) >= wait


def _of_groups(
    connection: sa.Connection, hold: Mapping[Any, Any], *, queue: str, turn: sa.Select[Any]
) -> list[Any]:
    """Candidates of each claim group that the hold stops."""
    rows: list[Any] = []
    for name in _groups_of(connection, hold, queue=queue):
        group = {"of_queue": queue, "of_account": hold["account"], "name": name}
        for candidates in dict.fromkeys((_LEAST_BLAMED, turn)):
            with in_index_order(connection):
                rows += connection.execute(candidates, group).all()
    return rows


def _groups_of(connection: sa.Connection, hold: Mapping[Any, Any], *, queue: str) -> list[str]:
    if hold["host"]:
        return [groups.UNTRIED + hold["host"], *groups.covered_by(hold)]
    if hold["family"]:
        return groups.covered_by(hold)
    return group_names(connection, queue, account=hold["account"])


def _unconfirmed(
    connection: sa.Connection, hold: Mapping[Any, Any], *, queue: str, turn: sa.Select[Any], now: int
) -> Sequence[Any]:
    """The unconfirmed id that is longest due, or the one that came due last. A failed probe comes due last."""
    table = schema.tasks
    due = (
        sa.select(*_CANDIDATE)
        .where(table.c.queue == queue, table.c.account == hold["account"], table.c.due_at <= now, free(now))
        .order_by(table.c.due_at.desc() if turn is _LATEST else table.c.due_at)
        .limit(CANDIDATES_MAX)
    )
    if hold["family"]:
        due = due.where(sa.func.coalesce(table.c.family_hint, "") == hold["family"])
    return connection.execute(due).all()


def is_whole(hold: Mapping[Any, Any]) -> bool:
    """Whether it stops a whole stage of an account."""
    return not hold["family"] and not hold["host"]


def holds_of(connection: sa.Connection, stage: Stage, *, account: str) -> Sequence[sa.RowMapping]:
    """The holds of a stage, the next probe first."""
    return connection.execute(_HOLDS, {"stage": stage, "of_account": account}).mappings().all()
