"""Callbacks: unproven claims. Each only names an id to query."""

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.families import FAMILIES
from archiver.ledger.databases.dialect import locking, unindexed
from archiver.ledger.databases.protocol import DOOR_SECONDS_MAX, Database
from archiver.ledger.gateway_creates.joining import join_callbacks
from archiver.ledger.part import Part, require_written, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.counts import Kind, Tally
from archiver.ledger.tables.named_values import LAST_CALLBACK_AT, set_named_value
from archiver.ledger.tables.rows import CONSOLE_TEST
from archiver.ledger.tables.tombstones import forgotten_ids
from archiver.ledger.tables.unconfirmed import DropCount, drop_surplus, unconfirmed_counts
from archiver.model import RETENTION_MS, TERMINAL, Callback, CallbackOutcome, DiscoveredBy, State, Status

UNKNOWN_QUERY_MS_MIN = 10 * 60 * 1000
"""An unknown id is queried at most once in this time, however many callbacks name it."""

_ROOM_MAX = 10_000
"""By how much each process may exceed the maximum."""

Row = dict[str, Any]

_REPEAT_COLUMNS = (
    "callbacks",
    "last_callback_at",
    "named_at",
    "callback_status",
    "family_hint",
    "result_arrays",
    "due_at",
)
"""What a callback may change in a known row."""

_UPDATE = (
    sa.update(schema.tasks)
    .where(
        schema.tasks.c.id == sa.bindparam("row_id"),
        unindexed(schema.tasks.c.state) == sa.bindparam("state_read"),
    )
    .where(schema.tasks.c.callbacks == sa.bindparam("callbacks_read"))
    .values({name: sa.bindparam(f"new_{name}") for name in _REPEAT_COLUMNS})
)


class Callbacks(Part):
    """Records callbacks.

    A new id makes room for itself: no flood can bring more than `unconfirmed_max` unconfirmed ids, however fast it
    comes.
    """

    def __init__(
        self, database: Database, *, now: Callable[[], int], unconfirmed_max: int, dropped: DropCount
    ) -> None:
        super().__init__(database, now=now)
        self._unconfirmed_max = unconfirmed_max
        self._dropped = dropped
        self._room = 0
        """New ids until the count has to be looked at again. Other processes take from the same room: hence
        `_ROOM_MAX`."""

    @retried
    def record(self, callbacks: Sequence[Callback]) -> list[CallbackOutcome]:
        """Record callbacks durably, with one fsync for all of them; the outcome of each."""
        with self._database.write(seconds_max=DOOR_SECONDS_MAX) as connection:
            now, dropped = self._now(), 0
            rows = _rows_of(connection, callbacks)
            outcomes = []
            new: dict[tuple[str, str], Row] = {}
            changed: dict[int, Row] = {}
            for callback in callbacks:
                identity = (callback.account, callback.task_id)
                row = rows.get(identity)
                outcomes.append(_outcome(row, callback))
                if row is None:
                    rows[identity] = new[identity] = unconfirmed_row(
                        identity,
                        family_hint=callback.family_hint,
                        arrays=callback.result_arrays,
                        discovered_by=DiscoveredBy.CALLBACK,
                        now=now,
                        callback=callback,
                    )
                    continue
                # In place: the next callback of this batch may be about the same task.
                row |= _changes(row, callback, now=now)
                if identity not in new:
                    changed[row["id"]] = row
            if changed:
                repeats = [_repeated(changed[row_id]) for row_id in sorted(changed)]
                require_written(connection.execute(_UPDATE, repeats).rowcount, len(repeats))
            if new:
                # Of two processes with the same ids, the second waits for the first.
                forgotten = _insert(self._database, connection, [new[identity] for identity in sorted(new)])
                dropped = self._make_room(connection, len(new) - len(forgotten), now=now)
                outcomes = _without_forgotten(outcomes, callbacks, forgotten)
            if referring := _referring(callbacks, rows):
                join_callbacks(connection, referring, now=now)
            set_named_value(connection, LAST_CALLBACK_AT, now, even_if_locked=False)
        self._dropped.add(dropped)
        return outcomes

    def _make_room(self, connection: sa.Connection, new_ids: int, *, now: int) -> int:
        """Drop as many unconfirmed ids as are too many, with `new_ids` just inserted; how many.

        At most twice as many as have come, because the sender waits. The upkeep drops the rest, for example after the
        maximum was lowered.
        """
        self._room -= new_ids
        if self._room > 0:
            return 0
        counts = unconfirmed_counts(connection)
        self._room = min(_ROOM_MAX, self._unconfirmed_max - sum(counts.values()))
        surplus = min(-self._room, 2 * new_ids)
        if surplus <= 0:
            return 0
        account = max(counts, key=counts.__getitem__)
        return drop_surplus(connection, account=account, rows_max=surplus, now=now)


def try_to_record(database: Database, connection: sa.Connection, *, now: int) -> None:
    """Make every change that a callback about a new id makes. The caller undoes it."""
    identity = ("", secrets.token_hex(8))
    row = unconfirmed_row(identity, family_hint=None, arrays=(), discovered_by=DiscoveredBy.CALLBACK, now=now)
    _insert(database, connection, [row])
    set_named_value(connection, LAST_CALLBACK_AT, now, even_if_locked=False)


def _insert(database: Database, connection: sa.Connection, rows: Sequence[Row]) -> frozenset[tuple[str, str]]:
    """Insert new ids; the identities of forgotten tasks, which are not inserted."""
    inserted = database.insert_new_ids(connection, rows)
    forgotten = frozenset[tuple[str, str]]()
    if inserted < len(rows):
        forgotten = _forgotten_among(connection, rows)
    new = [row for row in rows if (row["account"], row["task_id"]) not in forgotten]
    require_written(inserted, len(new))
    tally = Tally()
    tally.add(Kind(row["account"], State.REPORTED, is_confirmed=False) for row in new)
    tally.write(connection)
    return forgotten


def _forgotten_among(connection: sa.Connection, rows: Sequence[Row]) -> frozenset[tuple[str, str]]:
    named: dict[str, list[str]] = {}
    for row in rows:
        named.setdefault(row["account"], []).append(row["task_id"])
    return frozenset(
        (account, task_id)
        for account, task_ids in named.items()
        for task_id in forgotten_ids(connection, account=account, task_ids=task_ids)
    )


def _without_forgotten(
    outcomes: list[CallbackOutcome],
    callbacks: Sequence[Callback],
    forgotten: Collection[tuple[str, str]],
) -> list[CallbackOutcome]:
    """A callback about a forgotten task brings nothing new."""
    if not forgotten:
        return outcomes
    return [
        CallbackOutcome.DUPLICATE if (callback.account, callback.task_id) in forgotten else outcome
        for outcome, callback in zip(outcomes, callbacks, strict=True)
    ]


def unconfirmed_row(
    identity: tuple[str, str],
    *,
    family_hint: str | None,
    arrays: Sequence[str],
    discovered_by: DiscoveredBy,
    now: int,
    callback: Callback | None = None,
) -> Row:
    """The row of an unconfirmed id (`identity` is account and task id): due at once, its deadline counted from now.

    An id of an unknown family is queried individually: strangers could make us read lists of invented families, which
    would delay genuine ids.
    """
    account, task_id = identity
    return {
        "account": account,
        "task_id": task_id,
        "external_task_id": None,
        "family_hint": family_hint,
        "result_arrays": ",".join(arrays),
        "state": State.REPORTED,
        "queue": schema.QUEUE_UNCONFIRMED,
        "attempts": 0,
        "held": 0,
        "due_at": now,
        "deadline_at": now + RETENTION_MS,
        "first_seen_at": now,
        "named_at": now,
        "asked": 0,
        "query_individually": family_hint is not None and family_hint not in FAMILIES,
        "discovered_by": discovered_by,
        "callbacks": 0 if callback is None else 1,
        "callback_status": None if callback is None else _status_of(callback),
        "last_callback_at": None if callback is None else now,
        "request": None,
    }


def _rows_of(connection: sa.Connection, callbacks: Sequence[Callback]) -> dict[tuple[str, str], Row]:
    table = schema.tasks
    query = sa.select(
        table.c.id,
        table.c.account,
        table.c.task_id,
        table.c.state,
        table.c.due_at,
        table.c.asked_at,
        table.c.callback_status,
        table.c.callbacks,
        table.c.family_hint,
        table.c.result_arrays,
        table.c.client_callback_url,
    ).where(
        table.c.account.in_({callback.account for callback in callbacks}),
        table.c.task_id.in_({callback.task_id for callback in callbacks}),
    )
    return {
        (row["account"], row["task_id"]): {**row, "callbacks_read": row["callbacks"]}
        for row in connection.execute(locking(connection, query, table)).mappings()
    }


def _referring(
    callbacks: Sequence[Callback], rows: Mapping[tuple[str, str], Row]
) -> dict[str, tuple[str, str]]:
    """Reference of a create → account and id of its task, if that task is not registered yet."""
    identities = {
        callback.create_reference: (callback.account, callback.task_id)
        for callback in callbacks
        if callback.create_reference is not None
    }
    return {
        reference: identity
        for reference, identity in identities.items()
        if rows[identity].get("client_callback_url") is None
    }


def _outcome(row: Mapping[str, Any] | None, callback: Callback) -> CallbackOutcome:
    """A duplicate names a task that has ended, or repeats the last status."""
    if row is None:
        return CallbackOutcome.ACCEPTED
    known = row["state"] in TERMINAL or row["callback_status"] == _status_of(callback)
    return CallbackOutcome.DUPLICATE if known else CallbackOutcome.ACCEPTED


def _status_of(callback: Callback) -> str:
    return CONSOLE_TEST if callback.is_console_test else callback.status or ""


def _changes(row: Row, callback: Callback, *, now: int) -> Row:
    """What another callback changes: counts, missing hints, and maybe when the API is queried."""
    has_ended = row["callback_status"] in (Status.SUCCEEDED, Status.FAILED)
    return {
        "callbacks": row["callbacks"] + 1,
        "last_callback_at": now,
        "named_at": now,
        "callback_status": row["callback_status"] if has_ended else _status_of(callback),
        "family_hint": _better_hint(row["family_hint"], callback.family_hint),
        "result_arrays": row["result_arrays"] or ",".join(callback.result_arrays),
        "due_at": _due_at(row, callback, now=now),
    }


def _repeated(row: Row) -> Row:
    as_read = {"row_id": row["id"], "state_read": row["state"], "callbacks_read": row["callbacks_read"]}
    return as_read | {f"new_{name}": row[name] for name in _REPEAT_COLUMNS}


def _better_hint(known: str | None, given: str | None) -> str | None:
    """A family that exists beats an invented one; else the first one given stays."""
    if given is not None and (known is None or (known not in FAMILIES and given in FAMILIES)):
        return given
    return known


def _due_at(row: Row, callback: Callback, *, now: int) -> int | None:
    """When to query: at once if a callback says that a running task has ended, but only once per status, so that
    repeats cannot spend the query budget.
    """
    due_at: int | None = row["due_at"]
    if due_at is None:
        return None
    ended = callback.status in (Status.SUCCEEDED, Status.FAILED)
    if row["state"] == State.RUNNING and ended and row["callback_status"] != _status_of(callback):
        return min(due_at, now)
    if row["state"] == State.UNKNOWN:
        return min(due_at, max(now, (row["asked_at"] or 0) + UNKNOWN_QUERY_MS_MIN))
    return due_at
