"""What `show`, `status`, metrics and readiness read: shapes are a contract (design section 9). Changes nothing."""

import dataclasses
import functools
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger import schema
from archiver.ledger.named_values import CLOCK_SKEW_MS, LAST_CALLBACK_AT, fact
from archiver.ledger.rows import find
from archiver.model import Stage, State, rfc3339

DAEMON_SEEN_MS = 60_000


def _time(value: int | None) -> str | None:
    return None if value is None else rfc3339(value)


def show(connection: sa.Connection, *, account: str, task_id: str) -> dict[str, Any] | None:
    """One task by its id or external id as `show --json` prints it; None when nobody knows it."""
    row = find(connection, account=account, task_id=task_id)
    if row is None:
        return None
    return {
        "task_id": row["task_id"],
        "account": row["account"],
        "family": row["family"] or row["family_hint"],
        "external_task_id": row["external_task_id"],
        "state": row["state"],
        "reason": row["reason"],
        "message": row["message"],
        "attempts": row["attempts"],
        "due_at": _time(row["due_at"]),
        "created_at": _time(row["created_at"]),
        "updated_at": _time(row["updated_at"]),
        "expires_at": _time(row["deadline_at"]),
        "discovered_by": row["discovered_by"],
        "callbacks": row["callbacks"],
        "manifest_key": row["manifest_key"],
        "assets": [_show_asset(asset) for asset in _of_task(connection, schema.assets, row["id"])],
        "history": [
            {"at": rfc3339(line["at"]), "event": line["event"], "detail": line["detail"]}
            for line in _of_task(connection, schema.history, row["id"])
        ],
    }


def _of_task(connection: sa.Connection, table: sa.Table, row_id: int) -> list[sa.RowMapping]:
    query = sa.select(table).where(table.c.task == row_id).order_by(table.c.id)
    return list(connection.execute(query).mappings())


def _show_asset(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "key": row["key"],
        "stored": row["name"] is not None,
        "bytes": row["bytes"],
        "sha256": row["sha256"],
        "reason": row["reason"],
    }


def status(connection: sa.Connection, *, now: int, accounts: Collection[str] | None = None) -> dict[str, Any]:
    """The whole ledger at a glance, as `status --json` prints it (of the holds it leaves out what is for people).

    A family that several accounts have was swept when the last of them was, and has missed what all of them have; of
    `accounts` only, where they are given.
    """
    sweeps = schema.sweeps
    known = sa.true() if accounts is None else sweeps.c.account.in_(accounts)
    sweep_rows = connection.execute(sa.select(sweeps).where(known).order_by(sweeps.c.family)).mappings().all()
    families: dict[str, list[sa.RowMapping]] = {}
    for row in sweep_rows:
        families.setdefault(row["family"], []).append(row)
    skew_ms = fact(connection, CLOCK_SKEW_MS)
    return {
        "states": states(connection),
        "earliest_deadline": _time(earliest_deadline(connection)),
        "last_callback_at": _time(fact(connection, LAST_CALLBACK_AT)),
        "last_sweep": {family: _time(_last_swept(rows)) for family, rows in families.items()},
        "missed_callbacks": {
            family: sum(row["missed_callbacks"] for row in rows) for family, rows in families.items()
        },
        "holds": holds(connection),
        "clock_skew_seconds": None if skew_ms is None else skew_ms / 1000,
        "daemons": daemons(connection, now=now),
    }


def _last_swept(rows: Sequence[sa.RowMapping]) -> int | None:
    """The oldest of the accounts' last sweeps; None where one of them never had any: an alert is about the worst."""
    times = [row["last_success_at"] for row in rows]
    return None if None in times else min(times)


def daemons(connection: sa.Connection, *, now: int) -> list[dict[str, Any]]:
    """Those that were seen within a minute."""
    table = schema.daemons
    alive = sa.select(table).where(table.c.seen_at > now - DAEMON_SEEN_MS)
    return [
        {
            "id": row["id"],
            "host": row["host"],
            "pid": row["pid"],
            "version": row["version"],
            "started_at": rfc3339(row["started_at"]),
            "seen_at": rfc3339(row["seen_at"]),
        }
        for row in connection.execute(alive).mappings()
    ]


def holds(connection: sa.Connection) -> list[dict[str, Any]]:
    """Every hold, the oldest first: what `status --json` prints of it, and what people read besides."""
    table = schema.holds
    rows = connection.execute(sa.select(table).order_by(table.c.since, table.c.id)).mappings()
    return [_show_hold(row) for row in rows]


def _show_hold(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "account": row["account"],
        "stage": row["stage"],
        "reason": row["reason"],
        "since": rfc3339(row["since"]),
        "what_to_do": row["what_to_do"],
        "message": row["message"],
        "family": row["family"] or None,
        "host": row["host"] or None,
    }


def states(connection: sa.Connection) -> dict[str, int]:
    """How many tasks are in which state; every state is named."""
    table = schema.tasks
    query = sa.select(table.c.state, sa.func.count()).group_by(table.c.state)
    counted = {row[0]: row[1] for row in connection.execute(query)}
    return {state.value: counted.get(state, 0) for state in State}


def earliest_deadline(connection: sa.Connection) -> int | None:
    """The nearest deadline (Unix ms) of a task that the API has confirmed and that is not in the bucket."""
    table = schema.tasks
    nearest = [
        sa.select(sa.func.min(table.c.deadline_at))
        .where(table.c.state == state, table.c.confirmed_at.is_not(None))
        .scalar_subquery()
        for state in (State.RUNNING, State.SUCCEEDED, State.BURIED)
    ]
    found = connection.execute(sa.select(*nearest)).one()
    return min((value for value in found if value is not None), default=None)


@dataclasses.dataclass(frozen=True, slots=True)
class PendingCounts:
    """Due ids that wait to be asked for."""

    by_family: Mapping[str | None, int]
    """Those that a list page may answer for, by family (None: no family is known)."""
    confirmed: frozenset[str]
    """The families among them that have tasks which the API has confirmed."""
    singly: int
    """Those that no list page shows, counted up to the limit."""


def waiting(connection: sa.Connection, *, account: str, now: int, most: int) -> PendingCounts:
    """How many due ids wait; looks at `most` of each queue, those that the API has confirmed first."""
    table = schema.tasks
    counts: dict[str | None, int] = {}
    found: dict[str, set[str | None]] = {}
    singly = 0
    for queue in (schema.QUEUE_VERIFY, schema.QUEUE_UNCONFIRMED):
        due = (
            sa.select(sa.func.coalesce(table.c.family, table.c.family_hint).label("family"))
            .where(table.c.queue == queue, table.c.due_at <= now)
            .where(table.c.account == account, table.c.lease_token.is_(None))
            .limit(most)
        )
        some = due.where(table.c.query_individually.is_(False)).subquery()
        rows = connection.execute(sa.select(some.c.family, sa.func.count()).group_by(some.c.family)).all()
        found[queue] = {family for family, _ in rows}
        for family, count in rows:
            counts[family] = counts.get(family, 0) + count
        others = due.where(table.c.query_individually.is_(True)).subquery()
        singly += connection.execute(sa.select(sa.func.count()).select_from(others)).scalar_one()
    confirmed = frozenset(family for family in found[schema.QUEUE_VERIFY] if family is not None)
    return PendingCounts(counts, confirmed, min(singly, most))


@dataclasses.dataclass(frozen=True, slots=True)
class ExistingTask:
    """What whoever is about to create a task under an external id must know of it."""

    task_id: str
    """The task's own id; the external id itself as long as the API has not confirmed it."""
    is_confirmed: bool
    """Whether the API has ever said that this task exists."""
    family: str | None
    """Settled by the API, or where it was registered."""
    request: Mapping[str, object] | None
    """What was asked for, where we were told."""


def known(connection: sa.Connection, *, account: str, task_id: str) -> ExistingTask | None:
    """By id or external id; None when nobody knows it."""
    row = find(connection, account=account, task_id=task_id)
    if row is None:
        return None
    request = json.loads(row["request"]) if row["request"] else None
    family = row["family"] or row["family_hint"]
    return ExistingTask(row["task_id"], row["confirmed_at"] is not None, family, request)


def settled_ids(connection: sa.Connection, *, account: str, task_ids: list[str]) -> dict[str, State]:
    """Which of these ids the ledger has, and in which state."""
    table = schema.tasks
    query = sa.select(table.c.task_id, table.c.state).where(
        table.c.account == account, table.c.task_id.in_(task_ids)
    )
    return {row.task_id: State(row.state) for row in connection.execute(query)}


@dataclasses.dataclass(frozen=True, slots=True)
class KnownState:
    """How far the ledger knows an id."""

    state: State
    family: str | None
    """Settled; None while the API has not confirmed the id."""


def standings(connection: sa.Connection, *, account: str, task_ids: Sequence[str]) -> dict[str, KnownState]:
    """How far each of these ids is known; those nobody has named are left out."""
    table = schema.tasks
    query = sa.select(table.c.task_id, table.c.state, table.c.family).where(
        table.c.account == account, table.c.task_id.in_(task_ids)
    )
    return {row.task_id: KnownState(State(row.state), row.family) for row in connection.execute(query)}


def document(connection: sa.Connection, *, account: str, task_id: str) -> Mapping[str, object] | None:
    """The API's own object of one task, where it was confirmed."""
    table = schema.tasks
    query = sa.select(table.c.document).where(table.c.account == account, table.c.task_id == task_id)
    found = connection.execute(query).scalar()
    return None if found is None else json.loads(found)


def ids_in(connection: sa.Connection, *, account: str, state: State, most: int | None) -> list[str]:
    """The ids of the tasks in `state`, nearest deadline first; all of them, or `most`."""
    table = schema.tasks
    query = sa.select(table.c.task_id).where(table.c.account == account, table.c.state == state)
    return list(connection.execute(query.order_by(table.c.deadline_at).limit(most)).scalars())


def work_due(
    connection: sa.Connection, *, stage: Stage, queues: tuple[str, ...], now: int, account: str | None
) -> bool:
    """Whether any row of `queues` (of `account`; None for all) is due and free, and its account not held; or a probe
    is."""
    held = connection.execute(_HELD_AS_A_WHOLE, {"stage": stage})
    idle = [row.account for row in held if row.probe_at > now]
    if account in idle:
        return False
    waiting = _waiting_row(one_only=account is not None)
    for queue in queues:
        parameters = {"queue": queue, "now": now, "whose": account, "idle": idle}
        if connection.execute(waiting, parameters).first() is not None:
            return True
    return False


_HELD_AS_A_WHOLE = sa.select(schema.holds.c.account, schema.holds.c.probe_at).where(
    schema.holds.c.stage == sa.bindparam("stage"), schema.holds.c.family == "", schema.holds.c.host == ""
)


@functools.cache
def _waiting_row(*, one_only: bool) -> sa.Select[int]:
    """A row that is due and free. Made once: every loop asks this whenever it is woken."""
    table = schema.tasks
    now = sa.bindparam("now", type_=sa.BigInteger)
    return (
        sa.select(table.c.id)
        .where(
            table.c.queue == sa.bindparam("queue"),
            table.c.due_at <= now,
            sa.or_(table.c.lease_until.is_(None), table.c.lease_until <= now),
            table.c.account == sa.bindparam("whose")
            if one_only
            else table.c.account.not_in(sa.bindparam("idle", expanding=True)),
        )
        .limit(1)
    )
