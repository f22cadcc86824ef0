"""Ids that a user registers, that an operator wants tried again, or that the API's own collections show."""

import dataclasses
import json
from collections.abc import Mapping, Sequence, Set
from typing import Any

import sqlalchemy as sa

from archiver.ledger.callbacks import unconfirmed_row
from archiver.ledger.claims import TAKEOVER_MS
from archiver.ledger.databases.dialect import insert_missing, locking, unindexed
from archiver.ledger.part import Part, require_written, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.counts import KIND_COLUMNS, Kind, Tally, kind_of
from archiver.ledger.tables.history import add_line, trim
from archiver.ledger.tables.rows import find
from archiver.ledger.tables.tombstones import forgotten_ids, require_not_forgotten
from archiver.model import DAY_MS, RETENTION_MS, DiscoveredBy, State


@dataclasses.dataclass(frozen=True, slots=True)
class ExistingTask:
    """What the submitter must know before it creates a task under an external id."""

    task_id: str
    """The task's own id; the external id itself until the API has confirmed it."""
    is_confirmed: bool
    """Whether the API has ever confirmed that this task exists."""
    family: str | None
    """From the API, else from the registration."""
    request: Mapping[str, object] | None
    """The body of the create, if a registration names it."""


@dataclasses.dataclass(frozen=True, slots=True)
class RetryResult:
    """How many ids will be tried again, the unknown ids, and the ids that are in the bucket already."""

    retried: int
    not_known: tuple[str, ...]
    archived: tuple[str, ...]


class Registrations(Part):
    """Follows ids without a callback."""

    @retried
    def register(
        self,
        task_id: str,
        *,
        account: str,
        family: str,
        external_task_id: str | None = None,
        request: Mapping[str, object] | None = None,
        created_at: int | None = None,
    ) -> bool:
        """Follow an id or external id that a user names; True when it is new.

        A confirmed task only takes what it lacks. An unconfirmed one is queried afresh under this family: the user
        knows better than the callback URL. A new id's deadline is counted from `created_at` (Unix ms), but is at least
        a day away, so that the id gets a try. Raises TaskForgotten.
        """
        request_json = None if request is None else json.dumps(request)
        with self._database.write() as connection:
            now = self._now()
            row = find(connection, account=account, task_id=task_id, to_write=True)
            if row is None:
                require_not_forgotten(connection, account=account, task_id=task_id)
                values = unconfirmed_row(
                    (account, task_id),
                    family_hint=family,
                    arrays=(),
                    discovered_by=DiscoveredBy.REGISTRATION,
                    now=now,
                )
                values |= {"external_task_id": external_task_id, "request": request_json}
                if created_at is not None:
                    values["deadline_at"] = max(min(created_at, now) + RETENTION_MS, now + DAY_MS)
                _insert(connection, values, now=now)
                return True
            given = {"family_hint": family, "request": request_json, "external_task_id": external_task_id}
            _complete(connection, row, given, now=now)
            return False

    def known(self, task_id: str, *, account: str) -> ExistingTask | None:
        """A registered task by id or external id; None when the ledger has neither."""
        with self._database.read() as connection:
            row = find(connection, account=account, task_id=task_id)
        if row is None:
            return None
        request = json.loads(row["request"]) if row["request"] else None
        family = row["family"] or row["family_hint"]
        return ExistingTask(row["task_id"], row["confirmed_at"] is not None, family, request)

    @retried
    def withdraw(self, task_id: str, *, account: str) -> bool:
        """Delete a registration that neither the API nor a callback has named; whether there was one. Only for its
        maker, who knows that the task was never created. A worker that queries the id now loses its lease."""
        table = schema.tasks
        never_named = (
            table.c.account == account,
            table.c.task_id == task_id,
            table.c.confirmed_at.is_(None),
            table.c.discovered_by == DiscoveredBy.REGISTRATION,
            table.c.callbacks == 0,
        )
        with self._database.write() as connection:
            deleted = sa.delete(table).where(*never_named).returning(*KIND_COLUMNS)
            tally = Tally()
            tally.remove(gone := [kind_of(row) for row in connection.execute(deleted).mappings()])
            tally.write(connection)
            return bool(gone)

    @retried
    def enrol(self, found: Mapping[str, Sequence[str]], *, account: str) -> int:
        """Follow at most 500 ids that a collection of the API shows without families; how many were new.

        `found` gives the result arrays of each. An unconfirmed id that was unknown or buried is queried afresh;
        forgotten ones are left alone.
        """
        table = schema.tasks
        query = sa.select(table.c.id, table.c.task_id, *KIND_COLUMNS).where(
            table.c.account == account, table.c.task_id.in_(found.keys())
        )
        with self._database.write() as connection:
            now, tally = self._now(), Tally()
            rows = connection.execute(locking(connection, query, table)).mappings()
            known = {row["task_id"]: row for row in rows}
            for task_id, row in known.items():
                if row["confirmed_at"] is None and row["state"] in (State.UNKNOWN, State.BURIED):
                    change = sa.update(table).where(
                        table.c.id == row["id"], unindexed(table.c.state) == row["state"]
                    )
                    change = change.where(table.c.lease_token.is_(None))
                    again = {"state": State.REPORTED, "due_at": now, "asked": 0, "not_found_since": None}
                    again |= {
                        "named_at": now,
                        "reason": None,
                        "message": None,
                        "result_arrays": ",".join(found[task_id]),
                    }
                    if connection.execute(change.values(again)).rowcount:
                        tally.change(row, again)
            new = [
                unconfirmed_row(
                    (account, task_id),
                    family_hint=None,
                    arrays=found[task_id],
                    discovered_by=DiscoveredBy.SWEEP,
                    now=now,
                )
                for task_id in _new_ids(connection, found.keys() - known.keys(), account=account)
            ]
            if new:
                written = connection.execute(insert_missing(connection, table), new)
                require_written(written.rowcount, len(new))
            tally.add(Kind(account, State.REPORTED, is_confirmed=False) for _ in new)
            tally.write(connection)
            return len(new)

    @retried
    def retry(self, task_ids: Sequence[str], *, account: str) -> RetryResult:
        """An operator wants these ids or external ids tried now. At most 500 a call."""
        with self._database.write() as connection:
            now = self._now()
            states = {
                task_id: _retry(connection, account=account, task_id=task_id, now=now)
                for task_id in sorted(task_ids)
            }
        archived = tuple(task_id for task_id, state in states.items() if state is State.ARCHIVED)
        not_known = tuple(task_id for task_id, state in states.items() if state is None)
        return RetryResult(len(states) - len(archived) - len(not_known), not_known, archived)


def _new_ids(connection: sa.Connection, unknown: Set[str], *, account: str) -> list[str]:
    if not unknown:
        return []
    return sorted(unknown - forgotten_ids(connection, account=account, task_ids=unknown))


def _retry(connection: sa.Connection, *, account: str, task_id: str, now: int) -> State | None:
    """Try one task now; the state it was in, None for an unknown id.

    Leaves alone an archived task, whose manifest is final, and a leased one. A failed one stays failed while it is
    queried. A succeeded one is fetched at once: the archive stage queries again if its URLs have expired.
    """
    row = find(connection, account=account, task_id=task_id, to_write=True)
    if row is None:
        return None
    state = State(row["state"])
    is_leased = row["lease_until"] is not None and row["lease_until"] + TAKEOVER_MS > now
    if state is State.ARCHIVED or is_leased:
        return state
    changes: dict[str, Any] = {"due_at": now, "held": 0, "query_individually": True}
    changes |= {"lease_token": None, "lease_until": None}
    if state is State.FAILED:
        changes |= {"queue": schema.QUEUE_VERIFY}
    if state in (State.REPORTED, State.UNKNOWN):
        changes |= {"state": State.REPORTED, "not_found_since": None, "asked": 0}
    table = schema.tasks
    change = sa.update(table).where(table.c.id == row["id"], unindexed(table.c.state) == row["state"])
    same_lease = table.c.lease_token.is_not_distinct_from(row["lease_token"])
    require_written(connection.execute(change.where(same_lease).values(changes)).rowcount)
    tally = Tally()
    tally.change(row, changes)
    tally.write(connection)
    add_line(connection, row["id"], at=now, event="task.retry_requested", detail=state)
    trim(connection, row["id"])
    return state


def _insert(connection: sa.Connection, values: Mapping[str, object], *, now: int) -> None:
    """The row of an id that the ledger does not have."""
    table, tally = schema.tasks, Tally()
    inserted = insert_missing(connection, table).values(values).returning(table.c.id)
    row_ids = connection.execute(inserted).scalars().all()
    require_written(len(row_ids))
    (row_id,) = row_ids
    tally.add([Kind(str(values["account"]), State.REPORTED, is_confirmed=False)])
    tally.write(connection)
    add_line(connection, row_id, at=now, event="task.registered", detail=str(values["family_hint"]))


def _complete(
    connection: sa.Connection, row: sa.RowMapping, given: Mapping[str, str | None], *, now: int
) -> None:
    """Add what the row lacks of `given`; an unconfirmed id is due at once, under the family that is given."""
    changes: dict[str, Any] = {name: row[name] or value for name, value in given.items()}
    if row["confirmed_at"] is None:  # also an id that was buried under another family
        tally = Tally()
        changes["family_hint"] = given["family_hint"]
        changes |= {"state": State.REPORTED, "due_at": now, "reason": None, "message": None}
        changes |= {"named_at": now}
        changes |= {"asked": 0, "not_found_since": None, "query_individually": False}
        # A worker that queries it under its old family must not settle it.
        changes |= {"lease_token": None, "lease_until": None}
        tally.change(row, changes)
        tally.write(connection)
    table = schema.tasks
    change = sa.update(table).where(table.c.id == row["id"], unindexed(table.c.state) == row["state"])
    require_written(connection.execute(change.values(changes)).rowcount)
