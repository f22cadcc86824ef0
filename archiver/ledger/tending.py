"""What time alone does to rows: deadlines pass, unconfirmed ids are dropped, missing callbacks are counted."""

import dataclasses
from collections.abc import Sequence

import sqlalchemy as sa

from archiver.ledger import schema
from archiver.ledger.histories import note
from archiver.ledger.sweeping import add_missed
from archiver.model import DAY_MS, RETENTION_MS, State, Status

UNCONFIRMED_MOST = 1_000_000
ROWS_MOST = 500
"""Rows a transaction: what waits behind one is never more than a callback's patience."""

_VERDICTS = (
    # state, verdict, queue, reason
    (State.SUCCEEDED, State.LOST, schema.QUEUE_ARCHIVE, None),
    (State.RUNNING, State.FAILED, None, "never_finished"),
    (State.REPORTED, State.UNKNOWN, schema.QUEUE_INQUIRE, None),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Expired:
    """One verdict of the deadline."""

    account: str
    task_id: str
    family: str | None
    verdict: State
    reason: str


def expire(connection: sa.Connection, *, now: int) -> list[Expired]:
    """Pass the verdict on tasks whose deadline is over, at most `ROWS_MOST` of a kind a call.

    A succeeded task that the API confirmed only after its deadline gets its one try first; a leased one is being tried
    now.
    """
    table = schema.tasks
    had_its_chance = sa.or_(table.c.attempts > 0, table.c.confirmed_at < table.c.deadline_at)
    expired: list[Expired] = []
    for state, verdict, queue, reason in _VERDICTS:
        query = (
            sa.select(table)
            .where(
                table.c.state == state,
                table.c.deadline_at <= now,
                table.c.lease_token.is_(None),
                had_its_chance if state is State.SUCCEEDED else sa.true(),
            )
            .limit(ROWS_MOST)
        )
        for row in connection.execute(query).mappings().all():
            why = reason or row["reason"] or "deadline_passed"
            values = {
                "state": verdict,
                "queue": queue,
                "reason": why,
                "due_at": None if queue is None else now + DAY_MS,
            }
            if verdict is State.LOST:
                values |= {
                    "due_at": now,
                    "message": row["message"] or "its deadline passed before it was archived",
                }
            connection.execute(sa.update(table).where(table.c.id == row["id"]).values(values))
            note(connection, row["id"], at=now, event=f"task.{verdict}", detail=why)
            expired.append(Expired(row["account"], row["task_id"], row["family"], verdict, why))
    return expired + _expire_buried(connection, now=now)


def _expire_buried(connection: sa.Connection, *, now: int) -> list[Expired]:
    """A buried task that succeeded upstream is lost; one the API never confirmed is only unknown."""
    table = schema.tasks
    query = (
        sa.select(table)
        .where(table.c.state == State.BURIED, table.c.deadline_at <= now, table.c.lease_token.is_(None))
        .limit(ROWS_MOST)
    )
    expired = []
    for row in connection.execute(query).mappings().all():
        lost = row["confirmed_at"] is not None
        verdict = State.LOST if lost else State.UNKNOWN
        due_at = None if row["reason"] == "asset_gone" else now
        values = {
            "state": verdict,
            "queue": schema.QUEUE_ARCHIVE if lost else schema.QUEUE_INQUIRE,
            "due_at": due_at if lost else now + DAY_MS,
        }
        connection.execute(sa.update(table).where(table.c.id == row["id"]).values(values))
        note(connection, row["id"], at=now, event=f"task.{verdict}", detail=row["reason"])
        expired.append(Expired(row["account"], row["task_id"], row["family"], verdict, row["reason"]))
    return expired


def wait_no_longer(connection: sa.Connection, *, now: int) -> int:
    """The clock was set back: whatever is due later was told so by a clock that may have been days ahead, so at most
    `ROWS_MOST` tasks a call are due now; how many, 0 when there are no more. One try too soon is the price.

    With them the probes of the holds, and the day's full sweep, which would not come for as long. A lease corrects
    itself: its holder renews it, and who starts frees those of the dead.
    """
    tasks, holds, sweeps = schema.tasks, schema.holds, schema.sweeps
    connection.execute(sa.update(holds).where(holds.c.probe_at > now).values(probe_at=now))
    connection.execute(sa.update(sweeps).where(sweeps.c.last_full_at > now).values(last_full_at=None))
    queues = (schema.QUEUE_VERIFY, schema.QUEUE_INQUIRE, schema.QUEUE_ARCHIVE)
    some = (
        sa.select(tasks.c.id)
        .where(tasks.c.queue.in_(queues), tasks.c.due_at > now, tasks.c.lease_token.is_(None))
        .limit(ROWS_MOST)
    )
    statement = sa.update(tasks).where(tasks.c.id.in_(some.scalar_subquery())).values(due_at=now)
    return connection.execute(statement).rowcount


def prunable(connection: sa.Connection, *, now: int, most: int) -> list[int]:
    """The rows (at most `ROWS_MOST`) of ids that the API never confirmed and that have had their 30 days, or are the
    oldest above `most`. What the API confirmed is kept for ever."""
    table = schema.tasks
    unconfirmed = table.c.confirmed_at.is_(None)
    oldest = sa.select(table.c.id).where(unconfirmed).order_by(table.c.first_seen_at, table.c.id)
    aged = oldest.where(table.c.first_seen_at <= now - RETENTION_MS).limit(ROWS_MOST)
    ids = list(connection.execute(aged).scalars())
    if ids:
        return ids
    total = connection.execute(sa.select(sa.func.count()).select_from(table).where(unconfirmed)).scalar_one()
    surplus = min(total - most, ROWS_MOST)
    return list(connection.execute(oldest.limit(surplus)).scalars()) if surplus > 0 else []


def prune(connection: sa.Connection, ids: Sequence[int]) -> int:
    """Drop these rows, unless the API has confirmed one meanwhile or somebody is asking about it; how many went."""
    table = schema.tasks
    still = (table.c.queue == schema.QUEUE_INQUIRE, table.c.lease_token.is_(None))
    return connection.execute(sa.delete(table).where(table.c.id.in_(ids), *still)).rowcount


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
        .limit(ROWS_MOST)
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
