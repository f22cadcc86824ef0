"""What time alone does to rows: deadlines pass, unconfirmed ids are dropped, missing callbacks are counted."""

import dataclasses
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from archiver.failures import HOLD_PROBE_SECONDS, RETRY_SECONDS_MAX
from archiver.ledger import schema
from archiver.ledger.claims import LEASE_SECONDS
from archiver.ledger.history import note
from archiver.ledger.sweeps import SWEEP_LEASE_SECONDS, add_missed
from archiver.model import DAY_MS, RETENTION_MS, State, Status

UNCONFIRMED_MAX = 1_000_000
ROWS_MAX = 500
"""Rows a transaction: what waits behind one is never more than a callback's patience."""

SLACK_MS = 60_000
WAITS_MS_MAX = (
    # queue, states, the longest that such a row ever has to wait
    (schema.QUEUE_ARCHIVE, (State.SUCCEEDED,), RETRY_SECONDS_MAX * 1000),
    (schema.QUEUE_ARCHIVE, (State.LOST,), DAY_MS),
    (schema.QUEUE_VERIFY, (State.RUNNING,), RETRY_SECONDS_MAX * 1000),
    (schema.QUEUE_VERIFY, (State.BURIED, State.FAILED), DAY_MS),
    # A million unknown ids may wait for their daily question: looking for the reported ones among them costs too much.
    (schema.QUEUE_UNCONFIRMED, (State.REPORTED, State.UNKNOWN, State.BURIED), DAY_MS),
)
"""What waits for longer was told to by a clock that has been set back since."""

_VERDICTS = (
    # state, verdict, queue, reason
    (State.SUCCEEDED, State.LOST, schema.QUEUE_ARCHIVE, None),
    (State.RUNNING, State.FAILED, None, "never_finished"),
    (State.REPORTED, State.UNKNOWN, schema.QUEUE_UNCONFIRMED, None),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Expiry:
    """One verdict of the deadline."""

    account: str
    task_id: str
    family: str | None
    verdict: State
    reason: str


def expire(connection: sa.Connection, *, now: int, but: Collection[str] = ()) -> list[Expiry]:
    """Pass the verdict on tasks whose deadline is over, `but` not on those of these accounts, at most `ROWS_MAX` of a
    kind a call.

    A succeeded task that the API confirmed only after its deadline gets its one try first; a leased one is being tried
    now.
    """
    table = schema.tasks
    had_its_chance = sa.or_(table.c.attempts > 0, table.c.confirmed_at < table.c.deadline_at)
    expired: list[Expiry] = []
    for state, verdict, queue, reason in _VERDICTS:
        query = (
            sa.select(table)
            .where(
                table.c.state == state,
                table.c.deadline_at <= now,
                table.c.lease_token.is_(None),
                table.c.account.not_in(but),
                had_its_chance if state is State.SUCCEEDED else sa.true(),
            )
            .limit(ROWS_MAX)
        )
        for row in connection.execute(query).mappings().all():
            why = reason or row["reason"] or "deadline_passed"
            values = {
                "state": verdict,
                "queue": queue,
                "reason": why,
                "due_at": None if queue is None else now + DAY_MS,
            }
            if verdict is State.UNKNOWN and row["not_found_since"] is None:
                values |= {
                    "due_at": now
                }  # the API has never been heard about it: an outage, or a clock that was wrong
            if verdict is State.LOST:
                values |= {
                    "due_at": now,
                    "message": row["message"] or "its deadline passed before it was archived",
                }
            connection.execute(sa.update(table).where(table.c.id == row["id"]).values(values))
            note(connection, row["id"], at=now, event=f"task.{verdict}", detail=why)
            expired.append(Expiry(row["account"], row["task_id"], row["family"], verdict, why))
    return expired + _expire_buried(connection, now=now, but=but)


def _expire_buried(connection: sa.Connection, *, now: int, but: Collection[str]) -> list[Expiry]:
    """A buried task that succeeded upstream is lost; one the API never confirmed is only unknown."""
    table = schema.tasks
    query = (
        sa.select(table)
        .where(table.c.state == State.BURIED, table.c.deadline_at <= now, table.c.lease_token.is_(None))
        .where(table.c.account.not_in(but))
        .limit(ROWS_MAX)
    )
    expired = []
    for row in connection.execute(query).mappings().all():
        lost = row["confirmed_at"] is not None
        verdict = State.LOST if lost else State.UNKNOWN
        due_at = None if row["reason"] == "asset_gone" else now
        values = {
            "state": verdict,
            "queue": schema.QUEUE_ARCHIVE if lost else schema.QUEUE_UNCONFIRMED,
            "due_at": due_at if lost else now + DAY_MS,
        }
        connection.execute(sa.update(table).where(table.c.id == row["id"]).values(values))
        note(connection, row["id"], at=now, event=f"task.{verdict}", detail=row["reason"])
        expired.append(Expiry(row["account"], row["task_id"], row["family"], verdict, row["reason"]))
    return expired


def prunable(connection: sa.Connection, *, now: int, most: int) -> list[int]:
    """The rows (at most `ROWS_MAX`) of ids that the API never confirmed and that have had their 30 days, or are above
    `most`. What the API confirmed is kept for ever; and it must have said that it does not know an id before that is
    too old: a callback that came while the clock was a year behind is not.

    What is above `most` is taken from the account that has the most of them, so that a flood of forged ids costs no
    other account a genuine one; and there from what the API has denied, before the oldest of the others."""
    table = schema.tasks
    unconfirmed = table.c.confirmed_at.is_(None)
    oldest = sa.select(table.c.id).where(unconfirmed).order_by(table.c.first_seen_at, table.c.id)
    denied = oldest.where(table.c.not_found_since.is_not(None))
    aged = denied.where(table.c.first_seen_at <= now - RETENTION_MS)
    ids = list(connection.execute(aged.limit(ROWS_MAX)).scalars())
    if ids:
        return ids
    total = connection.execute(sa.select(sa.func.count()).select_from(table).where(unconfirmed)).scalar_one()
    surplus = min(total - most, ROWS_MAX)
    if surplus <= 0:
        return []
    account = _most_unconfirmed(connection)
    # Adding nothing keeps SQLite from walking all of the account's, the many that nobody has denied among them.
    first = list(connection.execute(denied.where(table.c.account + "" == account).limit(surplus)).scalars())
    if first:
        return first
    return list(connection.execute(oldest.where(table.c.account == account).limit(surplus)).scalars())


def _most_unconfirmed(connection: sa.Connection) -> str | None:
    """The account with the most ids that the API never confirmed."""
    table = schema.tasks
    counted = (
        sa.select(table.c.account, sa.func.count())
        .where(table.c.confirmed_at.is_(None))
        .group_by(table.c.account)
    )
    return max(connection.execute(counted), key=lambda row: row[1], default=(None, 0))[0]


def prune(connection: sa.Connection, ids: Sequence[int]) -> int:
    """Drop these rows, unless the API has confirmed one meanwhile or somebody is asking about it; how many went."""
    table = schema.tasks
    still = (table.c.queue == schema.QUEUE_UNCONFIRMED, table.c.lease_token.is_(None))
    return connection.execute(sa.delete(table).where(table.c.id.in_(ids), *still)).rowcount


@dataclasses.dataclass(frozen=True, slots=True)
class FutureDated:
    """What waits for a time that only a wrong clock can have named: row ids of tasks, ids of holds, families."""

    tasks: tuple[int, ...]
    holds: tuple[int, ...]
    sweeps: tuple[tuple[str, str], ...]

    def __bool__(self) -> bool:
        return bool(self.tasks or self.holds or self.sweeps)


def ahead(connection: sa.Connection, *, now: int) -> FutureDated:
    """Find it; of the tasks, `ROWS_MAX` of a kind. Each search is a walk along the end of an account's part of an
    index, which is empty but after a clock was set back."""
    tasks, holds, sweeps = schema.tasks, schema.holds, schema.sweeps
    found: list[int] = []
    for queue, states, most in WAITS_MS_MAX:
        late = tasks.c.due_at > now + most + SLACK_MS
        query = sa.select(tasks.c.id).where(tasks.c.queue == queue, late, tasks.c.state.in_(states))
        some: list[int] = []
        for account in _accounts_in(connection, queue):
            of_one = query.where(tasks.c.account == account).limit(ROWS_MAX - len(some))
            some += connection.execute(of_one).scalars()
        found += some
    probed = holds.c.probe_at > now + HOLD_PROBE_SECONDS * 1000 + SLACK_MS
    swept = sa.or_(
        sweeps.c.last_success_at > now + SLACK_MS,
        sweeps.c.last_full_at > now + SLACK_MS,
        sweeps.c.lease_until > now + SWEEP_LEASE_SECONDS * 1000 + SLACK_MS,
    )
    families = connection.execute(sa.select(sweeps.c.account, sweeps.c.family).where(swept)).all()
    return FutureDated(
        tuple(found),
        tuple(connection.execute(sa.select(holds.c.id).where(probed)).scalars()),
        tuple((row.account, row.family) for row in families),
    )


def _accounts_in(connection: sa.Connection, queue: str) -> list[str]:
    """The accounts that have tasks in `queue`: one look into the index for each, not a walk over all of their rows."""
    table = schema.tasks
    least = sa.select(sa.func.min(table.c.account)).where(table.c.queue == queue)
    accounts: list[str] = []
    found = connection.execute(least).scalar()
    while found is not None:
        accounts.append(found)
        found = connection.execute(least.where(table.c.account > found)).scalar()
    return accounts


def bring_forward(connection: sa.Connection, late: FutureDated, *, now: int) -> None:
    """Make it due now. Too early does no harm, and too late may be after day 30.

    A lease gets an ordinary end: whoever lives renews it before, and a family is swept in full again.
    """
    tasks, holds, sweeps = schema.tasks, schema.holds, schema.sweeps
    chosen, until = tasks.c.id.in_(late.tasks), now + LEASE_SECONDS * 1000
    at_rest = sa.update(tasks).where(chosen, tasks.c.lease_token.is_(None))
    connection.execute(at_rest.values(due_at=now))
    at_work = sa.update(tasks).where(chosen, tasks.c.lease_token.is_not(None))
    connection.execute(at_work.values(due_at=until, lease_until=until))
    connection.execute(sa.update(holds).where(holds.c.id.in_(late.holds)).values(probe_at=now))
    for account, family in late.sweeps:
        same = (sweeps.c.account == account, sweeps.c.family == family)
        blank = {"last_success_at": None, "last_full_at": None, "lease_token": None, "lease_until": None}
        connection.execute(sa.update(sweeps).where(*same).values(blank))


def count_missed(
    connection: sa.Connection, *, now: int, patience_ms: int, first_started_at: int
) -> dict[tuple[str, str], int]:
    """Tasks that the sweep was first to find finished, `patience_ms` ago, and that no callback has reported
    since: {(account, family): how many}. Each is looked at once, and only one that finished after the ledger's
    first start counts: nobody was there to be called back before."""
    table = schema.tasks
    query = (
        sa.select(table.c.id, table.c.account, table.c.family, table.c.callback_status, table.c.updated_at)
        .where(table.c.swept_finished_at.is_not(None), table.c.swept_finished_at <= now - patience_ms)
        .limit(ROWS_MAX)
    )
    rows = connection.execute(query).mappings().all()
    missed: dict[tuple[str, str], int] = {}
    for row in rows:
        ours = (row["updated_at"] or 0) >= first_started_at
        if ours and row["callback_status"] not in (Status.SUCCEEDED, Status.FAILED):
            whose = (row["account"], row["family"])
            missed[whose] = missed.get(whose, 0) + 1
    if rows:
        ids = [row["id"] for row in rows]
        connection.execute(sa.update(table).where(table.c.id.in_(ids)).values(swept_finished_at=None))
    for (account, family), count in missed.items():
        add_missed(connection, account=account, family=family, count=count)
    return missed
