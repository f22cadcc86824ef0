"""Reads `StatusView`. It costs the same on ten tasks and on ten million: each query takes a few steps along an index,
and of what may be many, `TASKS_MAX` at most are looked at."""

from collections.abc import Mapping

import sqlalchemy as sa

from archiver.ledger.availability import unavailable_lists
from archiver.ledger.daemons import all_daemons
from archiver.ledger.databases.dialect import in_index_order
from archiver.ledger.databases.protocol import Database
from archiver.ledger.duties.duties import all_duties
from archiver.ledger.duties.leasing import DutyKind
from archiver.ledger.gateway_creates.doubts import unseen_doubts
from archiver.ledger.holds import all_holds
from archiver.ledger.status.attached import amendments, dead_forwards, missing_objects
from archiver.ledger.status.tasks import (
    buried_tasks,
    lost_tasks,
    nearest_deadlines,
    oldest_succeeded,
    unread_tasks,
)
from archiver.ledger.status.view import AskedAccount, StatusView, SweepView
from archiver.ledger.tables import schema
from archiver.ledger.tables.counts import task_counts
from archiver.ledger.tables.forwards import ForwardState, forward_counts
from archiver.ledger.tables.named_values import (
    CLOCK_SKEW_MS,
    FIRST_STARTED_AT,
    LAST_CALLBACK_AT,
    named_values,
)
from archiver.model import DAY_MS, State

LOST_MS = 7 * DAY_MS
"""For how long a lost task is a problem."""


def read_status(database: Database, connection: sa.Connection, *, now: int) -> StatusView:
    """The ledger as this transaction sees it."""
    counts: dict[tuple[str, State], int] = {}
    for kind, count in task_counts(connection).items():
        key = (kind.account, State(kind.state))
        counts[key] = counts.get(key, 0) + count
    counts = {key: count for key, count in sorted(counts.items()) if count}
    forwards = forward_counts(connection)
    values = named_values(connection, (LAST_CALLBACK_AT, CLOCK_SKEW_MS, FIRST_STARTED_AT))
    accounts = _accounts(counts, *State)
    with in_index_order(connection):
        earliest_deadline, nearest_deadline = nearest_deadlines(connection)
        oldest = tuple(oldest_succeeded(connection, _accounts(counts, State.SUCCEEDED)))
        unread = tuple(unread_tasks(connection, _accounts(counts, State.RUNNING)))
        lost = tuple(lost_tasks(connection, _accounts(counts, State.LOST), since=now - LOST_MS))
        buried = tuple(buried_tasks(connection, counts))
        dead = tuple(dead_forwards(connection, accounts if forwards.get(ForwardState.DEAD) else ()))
    return StatusView(
        now=now,
        counts=counts,
        earliest_deadline=earliest_deadline,
        nearest_deadline=nearest_deadline,
        oldest_succeeded=oldest,
        unread=unread,
        lost=lost,
        buried=buried,
        amendments=tuple(amendments(connection)),
        missing_objects=tuple(missing_objects(connection, accounts, now=now)),
        dead_forwards=dead,
        doubts=tuple(unseen_doubts(connection)),
        forward_counts=forwards,
        last_callback_at=values.get(LAST_CALLBACK_AT),
        sweeps=_sweeps(connection),
        unavailable=unavailable_lists(connection),
        holds=all_holds(connection),
        clock_skew_ms=values.get(CLOCK_SKEW_MS),
        daemons=all_daemons(connection),
        asked=tuple(
            AskedAccount(view.duty.account, view.held_until)
            for view in all_duties(connection, now=now)
            if view.duty.kind is DutyKind.ASK
        ),
        first_started_at=values.get(FIRST_STARTED_AT),
        disk=database.disk(),
        obstacle=database.obstacle(),
    )


def _accounts(counts: Mapping[tuple[str, State], int], *states: State) -> list[str]:
    """Those that have tasks in one of these states. The others are not asked about."""
    return sorted({account for account, state in counts if state in states})


def _sweeps(connection: sa.Connection) -> tuple[SweepView, ...]:
    table = schema.sweeps
    columns = (table.c.account, table.c.family, table.c.last_success_at, table.c.missed_callbacks)
    query = sa.select(*columns).order_by(table.c.family, table.c.account)
    return tuple(SweepView(**row) for row in connection.execute(query).mappings())
