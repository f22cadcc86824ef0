"""What earlier sweeps of a family have found out, and the lease that lets one sweeper at a time read its list."""

import dataclasses
import uuid

import sqlalchemy as sa

from archiver.ledger.claims import TAKEOVER_MS
from archiver.ledger.databases.dialect import insert_missing
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema

SWEEP_LEASE_SECONDS = 60


@dataclasses.dataclass(frozen=True, slots=True)
class SweepMemory:
    """What earlier sweeps of a family found out (times in Unix ms)."""

    last_success_at: int | None
    last_full_at: int | None
    oldest_first: bool
    last_page: int | None
    """The last page with rows, where the list runs oldest first."""
    page_rows: int | None = None
    """How many rows a page may be asked for, where that has been found out."""


class Sweeps(Part):
    """Leases families, and keeps what the sweeper remembers of them."""

    def memory(self, *, account: str, family: str) -> SweepMemory:
        """What earlier sweeps found out; blank if the family was never swept."""
        table = schema.sweeps
        query = sa.select(table).where(table.c.account == account, table.c.family == family)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return SweepMemory(None, None, oldest_first=False, last_page=None)
        return SweepMemory(
            row["last_success_at"],
            row["last_full_at"],
            row["oldest_first"],
            row["last_page"],
            row["page_rows"],
        )

    @retried
    def begin(self, *, account: str, family: str) -> str | None:
        """Lease the family: a token, or None while another sweeper holds the lease."""
        table = schema.sweeps
        same = (table.c.account == account, table.c.family == family)
        token = uuid.uuid4().hex
        with self._database.write() as connection:
            now = self._now()
            lease = {"lease_token": token, "lease_until": now + SWEEP_LEASE_SECONDS * 1000}
            connection.execute(insert_missing(connection, table).values(_blank(account, family)))
            free = sa.or_(table.c.lease_until.is_(None), table.c.lease_until <= now - TAKEOVER_MS)
            leased = connection.execute(sa.update(table).where(*same, free).values(lease))
            return token if leased.rowcount else None

    @retried
    def renew(self, token: str) -> bool:
        """Keep the family for another `SWEEP_LEASE_SECONDS`; False when another sweeper has it now."""
        table = schema.sweeps
        with self._database.write() as connection:
            until = self._now() + SWEEP_LEASE_SECONDS * 1000
            statement = sa.update(table).where(table.c.lease_token == token)
            return connection.execute(statement.values(lease_until=until)).rowcount == 1

    @retried
    def end(
        self,
        token: str,
        *,
        succeeded_at: int | None,
        full: bool,
        oldest_first: bool,
        last_page: int | None,
        read_at: int | None = None,
        page_rows: int | None = None,
    ) -> None:
        """Give the family back. `succeeded_at` (Unix ms, when the sweep began) only for a whole sweep: its findings are
        remembered.

        `read_at` is the begin of a sweep that read the whole list and still does not count as a success: reading it
        again within a day would show no more. `page_rows` is None where the sweep has not learned it.
        """
        table = schema.sweeps
        values: dict[str, object] = {"lease_token": None, "lease_until": None}
        came_to_end_at = read_at if succeeded_at is None else succeeded_at
        if succeeded_at is not None:
            values["last_success_at"] = succeeded_at
        if came_to_end_at is not None:
            values |= {"oldest_first": oldest_first, "last_page": last_page}
            if full:
                values["last_full_at"] = came_to_end_at
        if page_rows is not None:
            values["page_rows"] = page_rows
        with self._database.write() as connection:
            connection.execute(sa.update(table).where(table.c.lease_token == token).values(values))


def add_missed(connection: sa.Connection, *, account: str, family: str, count: int) -> None:
    """Count callbacks that never came, also for a family that was never swept: list matching may find some."""
    table = schema.sweeps
    connection.execute(insert_missing(connection, table).values(_blank(account, family)))
    same = sa.update(table).where(table.c.account == account, table.c.family == family)
    connection.execute(same.values(missed_callbacks=table.c.missed_callbacks + count))


def _blank(account: str, family: str) -> dict[str, object]:
    return {"account": account, "family": family, "oldest_first": False, "missed_callbacks": 0}
