"""Changes that only time causes: deadlines pass, unconfirmed ids are dropped, missing callbacks are counted."""

import collections
import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import sqlalchemy as sa

from archiver.failures import FRESH_MS_MAX, HOLD_PROBE_SECONDS, RETRY_SECONDS_MAX, ApiAnswerUnreadable
from archiver.ledger.claims import LEASE_SECONDS, TAKEOVER_MS
from archiver.ledger.databases.dialect import skipping_locked, unindexed
from archiver.ledger.databases.protocol import Database
from archiver.ledger.folder_work.queueing import queue_incomplete
from archiver.ledger.part import Part, retried
from archiver.ledger.sweeps import SWEEP_LEASE_SECONDS, add_missed
from archiver.ledger.tables import schema, set_aside
from archiver.ledger.tables.account_names import account_names
from archiver.ledger.tables.archived import slim_tasks
from archiver.ledger.tables.counts import Kind, Tally, add_counts, task_counts
from archiver.ledger.tables.forwards import EVENT_OF_STATE, queue_forwards
from archiver.ledger.tables.history import add_line
from archiver.ledger.tables.named_values import (
    FIRST_STARTED_AT,
    ROWS_TO_SLIM,
    forget_named_value,
    named_value,
    set_named_value,
)
from archiver.ledger.tables.unconfirmed import drop_aged, drop_surplus, has_aged, unconfirmed_counts
from archiver.model import DAY_MS, RETENTION_MS, Stage, State, Status

UNCONFIRMED_MAX = 1_000_000
ROWS_MAX = 500
"""Rows of one transaction, for which callbacks wait."""
EXPIRED_ROWS_MAX = 100
"""Rows of one transaction: each takes several statements, and PostgreSQL may be a continent away."""

SLIMMED_ROWS_MAX = 50
"""Rows of one transaction; the upkeep runs up to 20 of these a round."""
COUNT_ROWS_MIN = 200
"""Fewer rows of counts than this are not folded: a sum over them takes no time."""
FOLDED_ROWS_MAX = 10_000
_ROWS_TO_FOLD = sa.select(sa.func.count()).select_from(schema.task_counts)

SLACK_MS = 60_000
WAITS_MS_MAX = (
    # queue, states, the longest that such a row ever has to wait
    (schema.QUEUE_ARCHIVE, (State.SUCCEEDED,), FRESH_MS_MAX),
    (schema.QUEUE_ARCHIVE, (State.LOST,), DAY_MS),
    (schema.QUEUE_VERIFY, (State.RUNNING,), int(RETRY_SECONDS_MAX * 1000)),
    (schema.QUEUE_VERIFY, (State.BURIED, State.FAILED), DAY_MS),
    # Reported ids wait for less, but to find them among a million unknown ones costs too much.
    (schema.QUEUE_UNCONFIRMED, (State.REPORTED, State.UNKNOWN, State.BURIED), DAY_MS),
)
"""A row waits longer only if the clock was set back after the row was written."""

_OVERDUE = (State.SUCCEEDED, State.RUNNING, State.REPORTED, State.BURIED)


@dataclasses.dataclass(frozen=True, slots=True)
class Expiry:
    """A task whose deadline has passed, and the state it is in now."""

    account: str
    task_id: str
    family: str | None
    verdict: State
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class FutureDated:
    """Rows with a time that only a wrong clock can have set; sweeps as (account, family)."""

    tasks: tuple[int, ...]
    holds: tuple[int, ...]
    sweeps: tuple[tuple[str, str], ...]

    @property
    def count(self) -> int:
        """The number of rows of all three kinds."""
        return len(self.tasks) + len(self.holds) + len(self.sweeps)


class Deadlines(Part):
    """Batches of work for the upkeep."""

    def __init__(self, database: Database, *, now: Callable[[], int], unconfirmed_max: int) -> None:
        super().__init__(database, now=now)
        self._unconfirmed_max = unconfirmed_max

    @retried
    def expire(self, *, except_accounts: Collection[str] = ()) -> list[Expiry]:
        """Expire up to EXPIRED_ROWS_MAX overdue tasks, except those of `except_accounts`; fewer are all that there are.

        A leased task is left to its worker; a succeeded one that was confirmed after its deadline gets one try first.
        """
        table = schema.tasks
        had_its_try = sa.or_(table.c.attempts > 0, table.c.confirmed_at < table.c.deadline_at)
        expired: list[Expiry] = []
        with self._database.write() as connection:
            now, tally = self._now(), Tally()
            held = _held_accounts(connection)
            for state in _OVERDUE:
                overdue = (
                    sa.select(table)
                    .where(table.c.state == state, table.c.deadline_at <= now)
                    .where(table.c.lease_token.is_(None), table.c.account.not_in(except_accounts))
                    .limit(EXPIRED_ROWS_MAX - len(expired))
                )
                if state is State.SUCCEEDED:
                    overdue = overdue.where(had_its_try)
                for row in connection.execute(skipping_locked(overdue, table)).mappings().all():
                    changes = _expiry(row, hold=held.get(row["account"]), now=now)
                    change = sa.update(table).where(
                        table.c.id == row["id"], unindexed(table.c.state) == state
                    )
                    change = change.where(table.c.lease_token.is_(None), table.c.deadline_at <= now)
                    if not connection.execute(change.values(changes)).rowcount:
                        continue  # another process has moved or leased it since
                    tally.change(row, changes)
                    if changes["state"] is State.LOST and changes["due_at"] is None:
                        queue_incomplete(connection, row["id"], now=now)
                    verdict, reason = changes["state"], changes["reason"]
                    if verdict in EVENT_OF_STATE:
                        is_row = table.c.id == row["id"]
                        queue_forwards(connection, is_row, EVENT_OF_STATE[verdict], now=now)
                    add_line(connection, row["id"], at=now, event=f"task.{verdict}", detail=reason)
                    expired.append(Expiry(row["account"], row["task_id"], row["family"], verdict, reason))
            tally.write(connection)
        return expired

    @retried
    def prune(self, *, by_age: bool = True) -> int:
        """Drop up to ROWS_MAX unconfirmed ids that are too old (`by_age`: the clock can be trusted) or too many; how
        many.

        An id is too old if the API has denied it and nothing has named it for 30 days. The surplus is taken from the
        account that has most: a flood of forged ids costs no other account a genuine one.
        """
        with self._database.read() as connection:
            now = self._now()
            named_before = now - RETENTION_MS
            counts = unconfirmed_counts(connection)
            surplus = min(sum(counts.values()) - self._unconfirmed_max, ROWS_MAX)
            aged = by_age and next(
                (name for name in counts if has_aged(connection, account=name, named_before=named_before)),
                None,
            )
        if not aged and surplus <= 0:
            return 0
        with self._database.write() as connection:
            if aged:
                return drop_aged(connection, account=aged, named_before=named_before, rows_max=ROWS_MAX)
            largest = max(counts, key=counts.__getitem__)
            return drop_surplus(connection, account=largest, rows_max=surplus, now=now)

    @retried
    def slim_archived(self) -> int:
        """Drop data that archived tasks of an earlier version no longer need, SLIMMED_ROWS_MAX rows at a time; how many
        rows are left. Goes through the ledger once, the newest tasks first."""
        with self._database.read() as connection:
            if not named_value(connection, ROWS_TO_SLIM):
                return 0
        with self._database.write() as connection:
            until = named_value(connection, ROWS_TO_SLIM) or 0
            after = max(0, until - SLIMMED_ROWS_MAX)
            slim_tasks(connection, after=after, until=until)
            if after:
                set_named_value(connection, ROWS_TO_SLIM, after)
            else:
                forget_named_value(connection, ROWS_TO_SLIM)
            return after

    @retried
    def fold_counts(self) -> int:
        """Put up to FOLDED_ROWS_MAX rows of counts together, if there are many; how many rows there are fewer.

        One statement deletes the rows and returns them, so a count that another process adds meanwhile is not lost.
        """
        table = schema.task_counts
        with self._database.read() as connection:
            if connection.execute(_ROWS_TO_FOLD).scalar_one() <= COUNT_ROWS_MIN:
                return 0
        oldest = sa.select(table.c.id).order_by(table.c.id).limit(FOLDED_ROWS_MAX)
        taken = sa.delete(table).where(table.c.id.in_(oldest.scalar_subquery())).returning(table)
        with self._database.write() as connection:
            sums: collections.Counter[Kind] = collections.Counter()
            rows = connection.execute(taken).all()
            for row in rows:
                sums[Kind(row.account, row.state, row.is_confirmed)] += row.tasks
            add_counts(connection, sums)
            return len(rows) - sum(1 for count in sums.values() if count)

    @retried
    def bring_forward(self, *, of_all_accounts: bool = False) -> int:
        """Make rows due that wait too long because the clock was set back; how many tasks, holds and sweeps. Work that
        comes too early does no harm; too late may mean after day 30.

        Looks only where tasks are counted, or `of_all_accounts`: a count that is wrong must not hide a task for ever.
        A leased task waits for an ordinary lease's end, which a living worker renews. A family is swept in full again.
        """
        with self._database.read() as connection:
            late = _future_dated(connection, now=self._now(), of_all_accounts=of_all_accounts)
        if late.count:
            with self._database.write() as connection:
                _bring_forward(connection, late, now=self._now())
        return late.count

    @retried
    def count_missed(self, *, patience_ms: int) -> dict[tuple[str, str], int]:
        """Callbacks found missing since the last call: {(account, family): how many}.

        One is missing when the sweep was first to find a task finished, `patience_ms` ago. Tasks that finished before
        the ledger's first start do not count: there was no receiver.
        """
        table = schema.tasks
        with self._database.write() as connection:
            now = self._now()
            first_started_at = named_value(connection, FIRST_STARTED_AT) or 0
            query = (
                sa.select(
                    table.c.id, table.c.account, table.c.family, table.c.callback_status, table.c.updated_at
                )
                .where(table.c.swept_finished_at.is_not(None), table.c.swept_finished_at <= now - patience_ms)
                .limit(ROWS_MAX)
            )
            rows = connection.execute(skipping_locked(query, table)).mappings().all()
            missed: dict[tuple[str, str], int] = {}
            for row in rows:
                could_come = (row["updated_at"] or 0) >= first_started_at
                if could_come and row["callback_status"] not in (Status.SUCCEEDED, Status.FAILED):
                    key = (row["account"], row["family"])
                    missed[key] = missed.get(key, 0) + 1
            if rows:
                looked_at = sa.update(table).where(table.c.id.in_([row["id"] for row in rows]))
                connection.execute(looked_at.values(swept_finished_at=None))
            for (account, family), count in missed.items():
                add_missed(connection, account=account, family=family, count=count)
        return missed


def _held_accounts(connection: sa.Connection) -> dict[str, str]:
    """Account → the reason of its oldest hold of queries."""
    table = schema.holds
    query = sa.select(table.c.account, table.c.reason).where(table.c.stage == Stage.VERIFY)
    held: dict[str, str] = {}
    for account, reason in connection.execute(query.order_by(table.c.since, table.c.id)):
        held.setdefault(account, reason)
    return held


def _expiry(row: Mapping[Any, Any], *, hold: str | None, now: int) -> dict[str, Any]:
    """What the deadline changes in a row. Pure. `hold` is the reason why the account's tasks are not queried, if they
    are not."""
    reason = row["reason"] or "deadline_passed"
    state = State(row["state"])
    lost = {"state": State.LOST, "queue": schema.QUEUE_ARCHIVE, "due_at": now, "reason": reason}
    lost |= {"claim_group": None, "fresh_wanted_at": None, "fresh_due_at": None}
    lost |= set_aside.lost(row, now=now)
    unknown = {"state": State.UNKNOWN, "queue": schema.QUEUE_UNCONFIRMED, "reason": reason, **set_aside.SEEN}
    if state is State.RUNNING:
        is_unread = reason == ApiAnswerUnreadable.reason
        if not is_unread and now - (row["running_at"] or 0) <= DAY_MS:
            failed = {"state": State.FAILED, "queue": None, "due_at": None, "claim_group": None}
            return failed | {"reason": "never_finished"}
        # No process could ask the API: the task may have succeeded.
        message = row["message"] or "the API has not answered about it for a day before its deadline"
        return lost | {"reason": row["reason"] or hold or "deadline_passed", "message": message}
    if state is State.SUCCEEDED:
        return lost | {"message": row["message"] or "its deadline passed before it was archived"}
    if state is State.REPORTED:
        # Due at once if the API has never answered about it: an outage, or a wrong clock.
        return unknown | {"due_at": now if row["not_found_since"] is None else now + DAY_MS}
    if row["confirmed_at"] is None:  # buried, and the API has never confirmed it
        return unknown | {"due_at": now + DAY_MS}
    return lost | {"due_at": None if reason == "asset_gone" else now}


def _future_dated(connection: sa.Connection, *, now: int, of_all_accounts: bool) -> FutureDated:
    """Up to ROWS_MAX tasks of each kind. Each search walks the end of an account's part of an index: normally empty."""
    tasks, holds, sweeps = schema.tasks, schema.holds, schema.sweeps
    row_ids: list[int] = []
    every = account_names(connection) if of_all_accounts else None
    kinds = [kind for kind, count in task_counts(connection).items() if count > 0]
    for queue, states, wait_ms_max in WAITS_MS_MAX:
        late = tasks.c.due_at > now + wait_ms_max + SLACK_MS
        query = sa.select(tasks.c.id).where(
            tasks.c.queue == queue, late, unindexed(tasks.c.state).in_(states)
        )
        of_kind: list[int] = []
        for account in every or sorted({kind.account for kind in kinds if kind.state in states}):
            of_account = query.where(tasks.c.account == account).limit(ROWS_MAX - len(of_kind))
            of_kind += connection.execute(of_account).scalars()
        row_ids += of_kind
    probed = holds.c.probe_at > now + HOLD_PROBE_SECONDS * 1000 + SLACK_MS
    swept = sa.or_(
        sweeps.c.last_success_at > now + SLACK_MS,
        sweeps.c.last_full_at > now + SLACK_MS,
        sweeps.c.lease_until > now + SWEEP_LEASE_SECONDS * 1000 + SLACK_MS,
    )
    families = connection.execute(sa.select(sweeps.c.account, sweeps.c.family).where(swept)).all()
    return FutureDated(
        tuple(row_ids),
        tuple(connection.execute(sa.select(holds.c.id).where(probed)).scalars()),
        tuple((row.account, row.family) for row in families),
    )


def _bring_forward(connection: sa.Connection, late: FutureDated, *, now: int) -> None:
    tasks, holds, sweeps = schema.tasks, schema.holds, schema.sweeps
    chosen, until = tasks.c.id.in_(late.tasks), now + LEASE_SECONDS * 1000
    free = sa.update(tasks).where(chosen, tasks.c.lease_token.is_(None))
    connection.execute(free.values(due_at=now))
    leased = sa.update(tasks).where(chosen, tasks.c.lease_token.is_not(None))
    connection.execute(leased.values(due_at=until + TAKEOVER_MS, lease_until=until))
    connection.execute(sa.update(holds).where(holds.c.id.in_(late.holds)).values(probe_at=now))
    for account, family in late.sweeps:
        same = (sweeps.c.account == account, sweeps.c.family == family)
        blank = {"last_success_at": None, "last_full_at": None, "lease_token": None, "lease_until": None}
        connection.execute(sa.update(sweeps).where(*same).values(blank))
