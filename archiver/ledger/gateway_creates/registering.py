"""Registers tasks that clients have created through the gateway."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.callbacks import unconfirmed_row
from archiver.ledger.databases.dialect import insert_missing, unindexed
from archiver.ledger.gateway_creates.joining import take_over
from archiver.ledger.part import require_written
from archiver.ledger.tables import schema
from archiver.ledger.tables.counts import Kind, Tally
from archiver.ledger.tables.history import add_lines
from archiver.ledger.tables.rows import find_all
from archiver.ledger.tables.tombstones import forgotten_ids
from archiver.model import DiscoveredBy, State

_TASKS = schema.tasks


@dataclasses.dataclass(frozen=True, slots=True)
class GatewayCreate:
    """What is known of a create before it is sent."""

    reference: str
    account: str
    family: str
    external_task_id: str | None
    client_callback_url: str | None
    request: Mapping[str, object] | None
    """Without image data."""


@dataclasses.dataclass(frozen=True, slots=True)
class CreatedTask:
    """Kling's answer to a create."""

    create: GatewayCreate
    task_id: str


def register_all(connection: sa.Connection, created: Sequence[CreatedTask], *, now: int) -> list[bool]:
    """Register the tasks; for each, whether its id is new. A forgotten id is not."""
    known: dict[tuple[str, str], Mapping[Any, Any]] = {}
    forgotten: set[tuple[str, str]] = set()
    for account in sorted({task.create.account for task in created}):
        ids = [task.task_id for task in created if task.create.account == account]
        rows = find_all(connection, account=account, task_ids=ids)
        known |= {(account, task_id): row for task_id, row in rows.items()}
        if unknown := set(ids) - rows.keys():
            gone = forgotten_ids(connection, account=account, task_ids=unknown)
            forgotten |= {(account, task_id) for task_id in gone}
    new: dict[tuple[str, str], CreatedTask] = {}
    are_new = []
    for task in created:
        identity = (task.create.account, task.task_id)
        are_new.append(identity not in known and identity not in new and identity not in forgotten)
        if identity in forgotten:
            continue
        if identity in known:
            _note_named(connection, known[identity])
            take_over(
                connection,
                known[identity],
                client_callback_url=task.create.client_callback_url,
                request=request_json(task.create),
                now=now,
            )
        else:
            new.setdefault(identity, task)
    if new:
        _insert(connection, [new[identity] for identity in sorted(new)], now=now)
    return are_new


def request_json(create: GatewayCreate) -> str | None:
    """The request as the ledger stores it."""
    return None if create.request is None else json.dumps(create.request)


def _insert(connection: sa.Connection, created: Sequence[CreatedTask], *, now: int) -> None:
    rows = [_row(task, now=now) for task in created]
    found = connection.execute(_with_ids(insert_missing(connection, _TASKS)), rows).all()
    require_written(len(found), len(rows))
    tally = Tally()
    tally.add(Kind(task.create.account, State.REPORTED, is_confirmed=False) for task in created)
    tally.write(connection)
    add_lines(connection, [(row.id, "task.registered", row.family_hint) for row in found], at=now)


@functools.cache
def _with_ids(insert: sa.Insert) -> sa.Executable:
    return insert.returning(_TASKS.c.id, _TASKS.c.family_hint)


def _row(task: CreatedTask, *, now: int) -> dict[str, Any]:
    create = task.create
    row = unconfirmed_row(
        (create.account, task.task_id),
        family_hint=create.family,
        arrays=(),
        discovered_by=DiscoveredBy.REGISTRATION,
        now=now,
    )
    given = {"external_task_id": create.external_task_id, "request": request_json(create)}
    named = {"named_by_create": True, "client_callback_url": create.client_callback_url}
    return {**row, **given, **named}


def _note_named(connection: sa.Connection, row: Mapping[Any, Any]) -> None:
    """Note that the API gave this id: a callback that came before could have named an external id."""
    if row["named_by_create"]:
        return
    change = sa.update(_TASKS).where(_TASKS.c.id == row["id"], unindexed(_TASKS.c.state) == row["state"])
    require_written(connection.execute(change.values(named_by_create=True)).rowcount)
