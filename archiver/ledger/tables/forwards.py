"""Forwards that wait to be sent to applications.

A forward is queued in the transaction that changes the task, so no crash forgets one or invents one. There is one for
each task, target, event and amendment; its `webhook_id` is made from these, so a repeat can be recognised.

Two cases queue nothing: a manifest that was found in the bucket, and, for the operator, a task that had ended before
the ledger's first start. `forwards send` covers these.
"""

import collections
import enum
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from archiver.ledger.databases.dialect import insert_missing
from archiver.ledger.tables import schema
from archiver.ledger.tables.named_values import FIRST_STARTED_AT, FORWARDS_TO_OPERATOR
from archiver.model import State

OPERATOR_CONSUMER = ""
CONSUMER_CHARACTERS_MAX = 300
_ROW = schema.tasks.c


class ForwardTarget(enum.StrEnum):
    """The application that a forward goes to."""

    OPERATOR = "operator"
    CLIENT = "client"
    """The client that created the task through the gateway."""


class ForwardEvent(enum.StrEnum):
    """The event of a forward. The values are a contract, except the first two, which are passed on to clients once."""

    SUBMITTED = "submitted"
    PROCESSING = "processing"
    ARCHIVED = "archived"
    FAILED = "failed"
    LOST = "lost"
    AMENDED = "amended"


PASSED_ON = frozenset({ForwardEvent.SUBMITTED, ForwardEvent.PROCESSING})
"""Events that are tried once, and neither listed nor counted."""

EVENT_OF_STATE = {
    State.ARCHIVED: ForwardEvent.ARCHIVED,
    State.FAILED: ForwardEvent.FAILED,
    State.LOST: ForwardEvent.LOST,
}


class ForwardState(enum.StrEnum):
    """The values are a contract."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


class ForwardTally:
    """How the numbers of forwards change in one transaction. `write` them before it ends."""

    def __init__(self) -> None:
        self._changes: collections.Counter[str] = collections.Counter()

    def add(self, state: str, count: int = 1) -> None:
        """Add `count` (may be negative) to this state."""
        self._changes[state] += count

    def move(self, event: str, before: str, after: str) -> None:
        """A forward of this event has another state."""
        if event not in PASSED_ON:
            self._changes[before] -= 1
            self._changes[after] += 1

    def write(self, connection: sa.Connection) -> None:
        """Write the total changes."""
        rows = [{"state": state, "forwards": count} for state, count in self._changes.items() if count]
        if rows:
            connection.execute(_ADD_COUNTS, rows)


_ADD_COUNTS = sa.insert(schema.forward_counts)
_SUM = sa.cast(
    sa.func.sum(schema.forward_counts.c.forwards), sa.BigInteger
)  # PostgreSQL's is a decimal number
_TOTALS = sa.select(schema.forward_counts.c.state, _SUM).group_by(schema.forward_counts.c.state)


def forward_counts(connection: sa.Connection) -> dict[ForwardState, int]:
    """How many forwards are in each state; every state is named."""
    counts = {row[0]: row[1] for row in connection.execute(_TOTALS)}
    return {state: counts.get(state, 0) for state in ForwardState}


def webhook_id(*, task_id: str, target: str, event: str, number: int) -> str:
    """An id that never changes, whatever the target's URL and the account's name become: task ids are the API's own."""
    named = "\n".join((task_id, target, event, str(number)))
    return f"fwd_{hashlib.sha256(named.encode()).hexdigest()[:32]}"


def consumer_of(url: str) -> str:
    """The origin of a client's URL: a server that is down is down for all its paths."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port or ''}".lower()[:CONSUMER_CHARACTERS_MAX]
    except ValueError:
        return "?"


def _value_of(name: str) -> sa.ScalarSelect[str]:
    table = schema.named_values
    return sa.select(table.c.value).where(table.c.name == name).scalar_subquery()


_WANTED = sa.select(
    _ROW.id,
    _ROW.account,
    _ROW.task_id,
    _ROW.client_callback_url,
    _ROW.document,
    _ROW.reason,
    _ROW.message,
    _ROW.first_seen_at,
    _ROW.running_at,
    sa.func.coalesce(_ROW.updated_at, _ROW.created_at).label("ended_at"),
    _value_of(FORWARDS_TO_OPERATOR).label("to_operator"),
    _value_of(FIRST_STARTED_AT).label("first_started_at"),
).where(sa.or_(_ROW.client_callback_url.is_not(None), _value_of(FORWARDS_TO_OPERATOR).is_not(None)))
"""Tasks that have a target for forwards, and what the targets depend on: one query for all of them."""


def queue_forwards(
    connection: sa.Connection,
    chosen: sa.ColumnElement[bool],
    event: ForwardEvent,
    *,
    now: int,
    number: int = 0,
    document: str | None = None,
    stems: Collection[str] | None = None,
    adopted_from: int | None = None,
) -> None:
    """Queue `event` of these tasks for each of their targets.

    `stems` are those of the files in the forward; if None, of all stored files. `document` is the API's object, where
    the task's row has another. `adopted_from` is when a manifest that was found in the bucket was made: one
    that is older than the row of the task makes no forward.
    """
    rows = connection.execute(_WANTED.where(chosen)).mappings().all()
    found = [row for row in rows if adopted_from is None or adopted_from >= row["first_seen_at"]]
    wanted = [(row, target) for row in found for target in ForwardTarget if _is_wanted(row, target)]
    if wanted:
        kept = {} if document is None else {"document": document}
        told = [({**row, **kept}, target) for row, target in wanted]
        insert(connection, told, event, number=number, now=now, stems=stems)


def _is_wanted(row: Mapping[Any, Any], target: ForwardTarget) -> bool:
    if target is ForwardTarget.CLIENT:
        return row["client_callback_url"] is not None
    # `updated_at` may be missing, or be when the task began to run: a task that this ledger has seen running ended
    # later.
    is_since = row["running_at"] is not None or (row["ended_at"] or 0) >= int(row["first_started_at"] or 0)
    return row["to_operator"] is not None and is_since


def insert(
    connection: sa.Connection,
    wanted: Sequence[tuple[Mapping[Any, Any], ForwardTarget]],
    event: ForwardEvent,
    *,
    number: int,
    now: int,
    stems: Collection[str] | None = None,
) -> int:
    """Insert the forwards that are not there; how many."""
    tasks = {row["id"] for row, _ in wanted}
    stored = {} if event in PASSED_ON or stems is not None else _stored_stems(connection, tasks)
    rows = [
        _forward(row, target, event, number=number, now=now)
        | {"facts": _facts(row, stored.get(row["id"], ()) if stems is None else stems)}
        for row, target in wanted
    ]
    rows.sort(key=lambda row: (row["task"], row["target"]))
    inserted = connection.execute(insert_missing(connection, schema.forwards), rows).rowcount
    if event not in PASSED_ON:
        tally = ForwardTally()
        tally.add(ForwardState.WAITING, inserted)
        tally.write(connection)
    return inserted


def _stored_stems(connection: sa.Connection, tasks: Collection[int]) -> dict[int, list[str]]:
    table = schema.assets
    query = sa.select(table.c.task, table.c.stem).where(table.c.task.in_(tasks), table.c.name.is_not(None))
    stems: dict[int, list[str]] = {}
    for row in connection.execute(query):
        stems.setdefault(row.task, []).append(row.stem)
    return stems


def _facts(row: Mapping[Any, Any], stems: Collection[str]) -> str:
    facts = {"reason": row.get("reason"), "message": row.get("message"), "stems": sorted(stems)}
    return json.dumps(facts, separators=(",", ":"))


def _forward(
    row: Mapping[Any, Any], target: ForwardTarget, event: ForwardEvent, *, number: int, now: int
) -> dict[str, Any]:
    is_client = target is ForwardTarget.CLIENT
    document = row["document"]
    named = webhook_id(task_id=row["task_id"], target=target, event=event, number=number)
    return {
        "task": row["id"],
        "account": row["account"],
        "consumer": consumer_of(row["client_callback_url"]) if is_client else OPERATOR_CONSUMER,
        "webhook_id": named,
        "target": target,
        "event": event,
        "number": number,
        "state": ForwardState.WAITING,
        "document": None if document == "{}" else document,
        "queued_at": now,
        "due_at": now,
    }


def queue_passed_on(
    connection: sa.Connection, shown: Mapping[int, tuple[ForwardEvent, str]], *, now: int
) -> None:
    """An answer of the API shows of these rows, which have a client's URL, this status by this document."""
    table = schema.forwards
    query = sa.select(table.c.task, table.c.event).where(
        table.c.task.in_(shown), table.c.target == ForwardTarget.CLIENT
    )
    known = {(row.task, row.event) for row in connection.execute(query)}
    new = [row_id for row_id, (event, _) in shown.items() if (row_id, event) not in known]
    if not new:
        return
    columns = (_ROW.id, _ROW.account, _ROW.task_id, _ROW.client_callback_url)
    rows = connection.execute(sa.select(*columns).where(_ROW.id.in_(new))).mappings().all()
    for row in sorted(rows, key=lambda row: row["id"]):
        event, document = shown[row["id"]]
        told = {**row, "document": document}
        insert(connection, [(told, ForwardTarget.CLIENT)], event, number=0, now=now)


def queue_for_client(connection: sa.Connection, row_id: int, *, now: int) -> None:
    """A client's URL has been written to this row. If the task has ended already, queue the forward about its end."""
    row = connection.execute(sa.select(schema.tasks).where(_ROW.id == row_id)).mappings().one()
    event = EVENT_OF_STATE.get(State(row["state"]))
    if event is not None:
        insert(connection, [(row, ForwardTarget.CLIENT)], event, number=0, now=now)
