"""Sweeps that a command requests, and their progress. The process that queries the API for the account does them,
within its budget."""

import dataclasses
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.model import DAY_MS

DRY_RUN = "(dry run)"
"""Stands in place of a family: an older version, which has no dry runs, then refuses the request instead of
sweeping."""

_TABLE = schema.sweep_requests


@dataclasses.dataclass(frozen=True, slots=True)
class SweepRequest:
    """A request to sweep one family now, or a dry run over an account's families."""

    id: str
    family: str
    """`DRY_RUN` for a dry run."""
    is_full: bool
    dry_run_of: tuple[str, ...] = ()
    """The families of a dry run."""

    @property
    def is_dry_run(self) -> bool:
        return bool(self.dry_run_of)


@dataclasses.dataclass(frozen=True, slots=True)
class ToldFailure:
    """A failure that another process reports."""

    reason: str
    message: str
    what_to_do: str
    concerns_account: bool
    """Every other family would fail the same way."""

    def __str__(self) -> str:
        return self.message


@dataclasses.dataclass(frozen=True, slots=True)
class RequestProgress:
    """The progress of a request."""

    counts: Mapping[str, Any] | None
    """The values of `SweepCounts`; None before the first page."""
    failure: ToldFailure | None
    has_ended: bool


class SweepRequests(Part):
    """Requests sweeps, and answers requests."""

    @retried
    def request(self, *, account: str, family: str, is_full: bool, dry_run_of: Sequence[str] = ()) -> str:
        """Request a sweep, or a dry run of some families; returns the id of the request. Requests that no command waits
        for are dropped after a day."""
        request_id = uuid.uuid4().hex
        row = {"id": request_id, "account": account, "family": family, "is_full": is_full}
        row["dry_run_of"] = ",".join(dry_run_of) or None
        with self._database.write() as connection:
            now = self._now()
            connection.execute(sa.delete(_TABLE).where(_TABLE.c.requested_at < now - DAY_MS))
            connection.execute(sa.insert(_TABLE), {**row, "requested_at": now})
        return request_id

    @retried
    def withdraw(self, request_id: str) -> None:
        """The command no longer waits for the request."""
        with self._database.write() as connection:
            connection.execute(sa.delete(_TABLE).where(_TABLE.c.id == request_id))

    def open(self, *, account: str) -> list[SweepRequest]:
        """The requests that wait, the oldest first."""
        query = (
            sa.select(_TABLE.c.id, _TABLE.c.family, _TABLE.c.is_full, _TABLE.c.dry_run_of)
            .where(_TABLE.c.account == account, _TABLE.c.ended_at.is_(None))
            .order_by(_TABLE.c.requested_at, _TABLE.c.id)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [
            SweepRequest(*row[:3], tuple(row.dry_run_of.split(",")) if row.dry_run_of else ()) for row in rows
        ]

    @retried
    def advance(self, request_id: str, counts: Mapping[str, object]) -> None:
        """Record the request's progress."""
        with self._database.write() as connection:
            of_it = sa.update(_TABLE).where(_TABLE.c.id == request_id)
            connection.execute(of_it.values(counts=json.dumps(counts)))

    @retried
    def end(
        self, request_id: str, counts: Mapping[str, object], *, failure: ToldFailure | None = None
    ) -> None:
        """The request is done, or has failed."""
        told = None if failure is None else json.dumps(dataclasses.asdict(failure))
        with self._database.write() as connection:
            of_it = sa.update(_TABLE).where(_TABLE.c.id == request_id)
            ended = {"counts": json.dumps(counts), "failure": told, "ended_at": self._now()}
            connection.execute(of_it.values(ended))

    def progress(self, request_id: str) -> RequestProgress | None:
        """The progress of a request; None if it was dropped."""
        with self._database.read() as connection:
            query = sa.select(_TABLE).where(_TABLE.c.id == request_id)
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        return RequestProgress(
            counts=None if row["counts"] is None else json.loads(row["counts"]),
            failure=None if row["failure"] is None else ToldFailure(**json.loads(row["failure"])),
            has_ended=row["ended_at"] is not None,
        )
