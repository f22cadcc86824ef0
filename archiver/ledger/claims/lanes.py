"""Lanes: the order in which the due tasks of a queue are leased.

Each statement leases one row: the best by the lane's order among the best of each claim group. So it takes one step
along an index for each group, however long the backlog is.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.dml import ReturningUpdate

from archiver.ledger.claims.leasing import ACCOUNT, DUE_BEFORE, NOW, QUEUE, Request, free, leasing, run_claim
from archiver.ledger.databases.dialect import in_index_order, skipping_locked
from archiver.ledger.tables import groups, schema
from archiver.model import Lane, Lease

TURNS = (Lane.DEADLINE, Lane.ATTEMPTS, Lane.DEADLINE, Lane.NEWEST)
"""Slot by slot: half to the nearest deadline, a quarter to the fewest attempts, a quarter to the newest."""

UNCONFIRMED_EVERY = 4
"""The last of each four slots of verification is first an unconfirmed id's: where many tasks run and no list can be
read, running ones alone would take every question, and a new callback would never be asked about."""

_LOWEST = sa.bindparam("lowest_group", type_=sa.Text)
_BELOW = sa.bindparam("below_group", type_=sa.Text)
_EXCLUDED = sa.bindparam("excluded_groups", type_=sa.Text, expanding=True)


def _of_queue(table: sa.FromClause) -> Sequence[sa.ColumnElement[bool]]:
    return (table.c.queue == QUEUE, table.c.account == ACCOUNT, table.c.claim_group < _BELOW)


def _groups() -> sa.CTE:
    """The names of the groups that have rows: one step along an index for each, then NULL."""
    first, following = schema.tasks.alias(), schema.tasks.alias()
    names = sa.select(_first_group(first, first.c.claim_group >= _LOWEST).label("name"))
    cte = names.cte("group_names", recursive=True)
    next_name = _first_group(following, following.c.claim_group > cte.c.name)
    return cte.union_all(sa.select(next_name).where(cte.c.name.is_not(None)))


def _first_group(table: sa.FromClause, bound: sa.ColumnElement[bool]) -> sa.ScalarSelect[str]:
    names = sa.select(table.c.claim_group).where(*_of_queue(table), bound)
    return names.order_by(table.c.claim_group).limit(1).scalar_subquery()


def _lane(*order: str, descending: bool = False) -> ReturningUpdate[Any]:
    """Lease the first row by the columns `order`."""

    def ordered(table: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        return [table.c[name].desc() if descending else table.c[name] for name in order]

    names, row, best = _groups(), schema.tasks.alias(), schema.tasks.alias()
    first_of_group = (
        sa.select(row.c.id)
        .where(row.c.queue == QUEUE, row.c.account == ACCOUNT, row.c.claim_group == names.c.name)
        .where(row.c.due_at <= DUE_BEFORE, free(NOW, row))
        .order_by(*ordered(row))
        .limit(1)
    )
    firsts = (
        sa.select(skipping_locked(first_of_group, row).scalar_subquery().label("id"))
        .where(names.c.name.is_not(None), names.c.name.not_in(_EXCLUDED))
        .subquery()
    )
    chosen = (
        sa.select(best.c.id)
        .select_from(firsts.join(best, best.c.id == firsts.c.id))
        .order_by(*ordered(best), best.c.id)
        .limit(1)
    )
    return leasing(chosen)


CLAIMS: Mapping[Lane, ReturningUpdate[Any]] = {
    Lane.DEADLINE: _lane("deadline_at"),
    Lane.ATTEMPTS: _lane("attempts", "due_at"),
    # Not by first sight: all of a backlog that a sweep finds would be newer than the callback before it.
    Lane.NEWEST: _lane("deadline_at", descending=True),
    Lane.LOST: _lane("attempts", "due_at"),
}


def claim_lane(
    connection: sa.Connection, lane: Lane, request: Request, *, excluded: Collection[str], slots: int
) -> list[Lease]:
    """Lease up to `slots` rows in the order of `lane`, none of the `excluded` groups."""
    parameters = {
        "of_queue": request.queue,
        "of_account": request.account,
        "due_before": request.due_before,
        "lowest_group": groups.LOST if lane is Lane.LOST else groups.UNTRIED,
        "below_group": groups.END if lane is Lane.LOST else groups.LOST,
        "excluded_groups": sorted(excluded),
    }
    leases: list[Lease] = []
    for _ in range(slots):
        leased = run_claim(connection, CLAIMS[lane], parameters, now=request.now, lane=lane)
        if not leased:
            break
        leases += leased
    return leases


def unconfirmed_share(count: int, *, offset: int) -> int:
    """How many of `count` slots, the first being slot number `offset`, are first unconfirmed ids'."""
    return (offset + count) // UNCONFIRMED_EVERY - offset // UNCONFIRMED_EVERY


_ALL_GROUPS = sa.select((every := _groups()).c.name).where(every.c.name.is_not(None))


def group_names(connection: sa.Connection, queue: str, *, account: str) -> list[str]:
    """The claim groups of a queue that have rows."""
    bounds = {"lowest_group": groups.UNTRIED, "below_group": groups.END}
    parameters = {"of_queue": queue, "of_account": account, **bounds}
    with in_index_order(connection):
        return list(connection.execute(_ALL_GROUPS, parameters).scalars())


def claim_in_turns(
    connection: sa.Connection,
    request: Request,
    *,
    excluded: Collection[str],
    batchable_excluded: bool,
    count: int,
    offset: int,
) -> list[Lease]:
    """Lease up to `count` rows, each slot in the order of its turn; `offset` is the number of the first slot.

    `batchable_excluded` leaves out the families that one query answers for many ids.
    """
    if batchable_excluded and count > 0:
        excluded = [*excluded, *_batchable_groups(connection, request)]
    leases: list[Lease] = []
    for slot in range(offset, offset + count):
        leased = claim_lane(connection, TURNS[slot % len(TURNS)], request, excluded=excluded, slots=1)
        if not leased:
            break
        leases += leased
    return leases


_BATCHABLE_GROUPS = (
    sa.select((names := _groups()).c.name)
    .where(names.c.name.is_not(None))
    .where(
        sa.or_(
            names.c.name == groups.UNTRIED,
            names.c.name.like(groups.UNTRIED + "tasks/%"),
            names.c.name.like(groups.UNTRIED + "solutions/%"),
        )
    )
)


def _batchable_groups(connection: sa.Connection, request: Request) -> list[str]:
    parameters = {
        "of_queue": request.queue,
        "of_account": request.account,
        "lowest_group": groups.UNTRIED,
        "below_group": groups.END,
    }
    with in_index_order(connection):
        return list(connection.execute(_BATCHABLE_GROUPS, parameters).scalars())
