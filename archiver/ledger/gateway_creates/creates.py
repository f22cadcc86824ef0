"""References of creates: committed before a create is sent, gone once its task is known.

A row is there from before the first byte of a create until its task is registered. So whatever dies in between, the
ledger knows whom to tell, and finds the task by its callback (which names the reference), its external id or its time.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from archiver.ledger.callbacks import unconfirmed_row
from archiver.ledger.databases.dialect import insert_missing, upsert
from archiver.ledger.gateway_creates import matching
from archiver.ledger.gateway_creates.joining import (
    ABANDONED,
    OPEN,
    Joined,
    join,
    lock_tasks,
    take_over,
)
from archiver.ledger.part import Part, require_written, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.counts import Kind, Tally
from archiver.ledger.tables.history import add_line
from archiver.ledger.tables.named_values import set_named_value
from archiver.ledger.tables.rows import find_all
from archiver.model import DAY_MS, DiscoveredBy, State

SECONDS_MAX = 1.0
"""Of a transaction that a client waits for."""
REFERENCE_DAYS_MAX = 7
"""A callback that has not come by then will not come, and a sweep has been there many times."""
_PRUNED_MAX = 500
_REFUSES_CALLBACKS = "gateway_without_callback_url:"

_TABLE = schema.gateway_creates
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
class GivenUp:
    """A create whose task was never found: its client is not told."""

    account: str
    family: str
    count: int


class GatewayCreates(Part):
    """The creates of clients."""

    @retried
    def begin(self, create: GatewayCreate) -> None:
        """Commit the reference: the create is about to be sent."""
        with self._database.write(seconds_max=SECONDS_MAX) as connection:
            values = _columns(create) | {"created_at": self._now(), "state": OPEN}
            connection.execute(insert_missing(connection, _TABLE), values)

    @retried
    def abandon(self, create: GatewayCreate) -> None:
        """Nobody is to be told by this reference, even if a `begin` that was not waited for is committed only now."""
        with self._database.write() as connection:
            values = _columns(create) | {"created_at": self._now(), "state": ABANDONED}
            upsert(connection, _TABLE, values, update=["state"])

    @retried
    def refuse(self, reference: str) -> None:
        """Nothing was created."""
        with self._database.write(seconds_max=SECONDS_MAX) as connection:
            connection.execute(sa.delete(_TABLE).where(_TABLE.c.reference == reference))

    @retried
    def register(self, create: GatewayCreate, task_id: str, *, seconds_max: float = SECONDS_MAX) -> bool:
        """Kling has created `task_id`: follow it, and let go of the reference; True when the id is new.

        A task that a callback or the sweep has brought already only takes what it lacks.
        """
        request = None if create.request is None else json.dumps(create.request)
        with self._database.write(seconds_max=seconds_max) as connection:
            now = self._now()
            row = find_all(connection, account=create.account, task_ids=[task_id]).get(task_id)
            if row is None:
                values = unconfirmed_row(
                    (create.account, task_id),
                    family_hint=create.family,
                    arrays=(),
                    discovered_by=DiscoveredBy.REGISTRATION,
                    now=now,
                )
                values |= {"external_task_id": create.external_task_id, "request": request}
                values |= {"client_callback_url": create.client_callback_url}
                inserted = insert_missing(connection, _TASKS).values(values).returning(_TASKS.c.id)
                row_ids = connection.execute(inserted).scalars().all()
                require_written(len(row_ids))
                tally = Tally()
                tally.add([Kind(create.account, State.REPORTED, is_confirmed=False)])
                tally.write(connection)
                add_line(connection, row_ids[0], at=now, event="task.registered", detail=create.family)
            else:
                take_over(connection, row, client_callback_url=create.client_callback_url, request=request)
            connection.execute(sa.delete(_TABLE).where(_TABLE.c.reference == create.reference))
            return row is None

    @retried
    def match(self) -> list[Joined]:
        """Join tasks with the creates that made them, where nobody heard the answer."""
        with self._database.read() as connection:
            now = self._now()
            found = [*matching.by_external_id(connection), *matching.by_time(connection, now=now)]
        if not found:
            return []
        with self._database.write() as connection:
            rows = lock_tasks(connection, [row_id for _, row_id, _ in found])
            return [
                join(connection, create, rows[row_id], by=by, now=now)
                for create, row_id, by in found
                if row_id in rows
            ]

    @retried
    def prune(self) -> list[GivenUp]:
        """Drop at most `_PRUNED_MAX` references that are too old; those whose clients are not told."""
        with self._database.read() as connection:
            before = self._now() - REFERENCE_DAYS_MAX * DAY_MS
            old = sa.select(_TABLE.c.reference).where(_TABLE.c.created_at < before).limit(_PRUNED_MAX)
            references = sorted(connection.execute(old).scalars())
        if not references:
            return []
        with self._database.write() as connection:
            gone = sa.delete(_TABLE).where(_TABLE.c.reference.in_(references)).returning(_TABLE)
            counts: dict[tuple[str, str], int] = {}
            for row in connection.execute(gone).mappings():
                if row["state"] == OPEN and row["client_callback_url"] is not None:
                    key = (row["account"], row["family"])
                    counts[key] = counts.get(key, 0) + 1
            return [GivenUp(account, family, count) for (account, family), count in counts.items()]

    @retried
    def note_callback_refused(self, path: str) -> None:
        """Kling refuses callback URLs in creates at `path`."""
        with self._database.write() as connection:
            set_named_value(connection, _REFUSES_CALLBACKS + path, self._now())

    def refuse_callbacks(self) -> frozenset[str]:
        """The paths whose creates take no callback URL."""
        table = schema.named_values
        query = sa.select(table.c.name).where(table.c.name.startswith(_REFUSES_CALLBACKS, autoescape=True))
        with self._database.read() as connection:
            names = connection.execute(query).scalars().all()
        return frozenset(name.removeprefix(_REFUSES_CALLBACKS) for name in names)


def _columns(create: GatewayCreate) -> dict[str, Any]:
    values = dataclasses.asdict(create)
    values["request"] = None if create.request is None else json.dumps(create.request)
    return values
