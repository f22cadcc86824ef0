"""Leases: a claim writes token, lease end, attempt and next due time before any work begins.

After a crash the row is due again when its lease ends: no process has to notice the dead worker or clean up.
"""

import functools
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from archiver.ledger.claims import matching
from archiver.ledger.claims.lanes import claim_lanes, unconfirmed_share
from archiver.ledger.claims.leasing import (
    ACCOUNT,
    LEASE_SECONDS,
    NOW,
    QUEUE,
    SLOTS,
    STAGE_QUEUES,
    TAKEOVER_MS,
    Request,
    free,
    lease_rows,
    leasing,
)
from archiver.ledger.claims.matching import LONGEST_DUE, PendingCounts, is_batchable
from archiver.ledger.claims.probes import WHOLE_HOLD, claim_probes, covers, holds_of
from archiver.ledger.part import Part
from archiver.ledger.tables import schema
from archiver.ledger.tables.rows import read_asset
from archiver.model import Lease, LeasedAsset, Stage

BATCH_SCAN_ROWS_MAX = 2000
"""Rows that a claim looks at to tell batch ids from others. It stops there even if it finds none: callbacks must not
wait for a walk through a million forged ids."""

_ANY_DUE = (
    sa.select(schema.tasks.c.id)
    .where(schema.tasks.c.queue == QUEUE, schema.tasks.c.account == ACCOUNT)
    .where(schema.tasks.c.due_at <= NOW, free(NOW))
    .limit(1)
)

_ASSETS_IF_LEASED = (
    sa.select(schema.assets)
    .select_from(schema.tasks.outerjoin(schema.assets, schema.assets.c.task == schema.tasks.c.id))
    .where(schema.tasks.c.id == sa.bindparam("task_row"), schema.tasks.c.lease_token == sa.bindparam("token"))
    .order_by(schema.assets.c.id)
)


class Claims(Part):
    """Taking leases and keeping them."""

    def archive(
        self, *, account: str, count: int, offset: int, hosts_avoided: Collection[str] = ()
    ) -> list[Lease]:
        """Lease up to `count` succeeded tasks: first due probes of holds, then a share for each lane. `offset` is the
        number of the first slot; it decides the lanes."""
        host = schema.tasks.c.asset_host
        with self._database.write() as connection:
            now = self._now()
            holds = holds_of(connection, Stage.ARCHIVE, account=account)
            probes = claim_probes(connection, holds, count=count, now=now)
            allowed = [~covers(hold) for hold in holds]
            if hosts_avoided:
                allowed.append(sa.or_(host.is_(None), host.not_in(hosts_avoided)))
            rest = Request(schema.QUEUE_ARCHIVE, account, now=now, due_before=now)
            return probes + claim_lanes(connection, rest, allowed, count=count - len(probes), offset=offset)

    def verify(
        self,
        *,
        account: str,
        count: int,
        offset: int,
        due_before: int | None = None,
        own_paths_only: bool = False,
    ) -> list[Lease]:
        """Lease up to `count` ids for individual queries: due probes of holds, then confirmed ids, but in each fourth
        slot first an unconfirmed one, first come first served. What one kind leaves free is the other's.

        `offset` is the number of the first slot. `due_before` (Unix ms) leaves later ids to a list page,
        `own_paths_only` leaves to `batch` what it can lease.
        """
        with self._database.write() as connection:
            now = self._now()
            due_before = now if due_before is None else min(now, due_before)
            holds = holds_of(connection, Stage.VERIFY, account=account)
            leases = claim_probes(connection, holds, count=count, now=now)
            allowed = [~covers(hold) for hold in holds]
            waiting = LONGEST_DUE.where(*allowed)
            chosen = waiting.with_only_columns(schema.tasks.c.id).limit(SLOTS)
            if own_paths_only:
                scanned = waiting.limit(BATCH_SCAN_ROWS_MAX).subquery()
                chosen = sa.select(scanned.c.id).where(~is_batchable(scanned.c)).limit(SLOTS)
            unconfirmed = functools.partial(
                lease_rows,
                connection,
                leasing(chosen),
                Request(schema.QUEUE_UNCONFIRMED, account, now=now, due_before=due_before),
            )
            if share := unconfirmed_share(count - len(leases), offset=offset):
                leases += unconfirmed(slots=share)
            leases += claim_lanes(
                connection,
                Request(schema.QUEUE_VERIFY, account, now=now, due_before=due_before),
                [*allowed, ~is_batchable(schema.tasks.c)] if own_paths_only else allowed,
                count=count - len(leases),
                offset=offset - unconfirmed_share(offset, offset=0),
            )
            if len(leases) < count:
                leases += unconfirmed(slots=count - len(leases))
            return leases

    def batch(self, *, account: str, count: int, offset: int, due_before: int | None = None) -> list[Lease]:
        """Lease up to `count` ids that one batch query can answer, longest due first.

        Confirmed ids, else unconfirmed ones, never both: they are queried at different priorities. In each fourth batch
        (`offset` is its number) unconfirmed ones come first.
        """
        with self._database.write() as connection:
            now = self._now()
            due_before = now if due_before is None else min(now, due_before)
            allowed = [~covers(hold) for hold in holds_of(connection, Stage.VERIFY, account=account)]
            scanned = LONGEST_DUE.where(*allowed).limit(BATCH_SCAN_ROWS_MAX).subquery()
            claim = leasing(sa.select(scanned.c.id).where(is_batchable(scanned.c)).limit(SLOTS))
            queues = STAGE_QUEUES[Stage.VERIFY]
            for queue in reversed(queues) if unconfirmed_share(1, offset=offset) else queues:
                request = Request(queue, account, now=now, due_before=due_before)
                if leases := lease_rows(connection, claim, request, slots=count):
                    return leases
            return []

    def any_due(self, stage: Stage, *, account: str) -> bool:
        """Whether a claim might find work. A read, so an idle loop never writes."""
        with self._database.read() as connection:
            now = self._now()
            held = connection.execute(WHOLE_HOLD, {"stage": stage, "of_account": account}).first()
            if held is not None and held.probe_at > now:
                return False
            for queue in STAGE_QUEUES[stage]:
                parameters = {"of_queue": queue, "of_account": account, "now": now}
                if connection.execute(_ANY_DUE, parameters).first() is not None:
                    return True
            return False

    def renew(self, leases: Sequence[Lease]) -> set[int]:
        """Give leases another `LEASE_SECONDS`; the row ids of those that still hold."""
        table = schema.tasks
        with self._database.write() as connection:
            until = self._now() + LEASE_SECONDS * 1000
            held: set[int] = set()
            for token in {lease.token for lease in leases}:
                row_ids = [lease.row_id for lease in leases if lease.token == token]
                statement = (
                    sa.update(table)
                    .where(table.c.id.in_(row_ids), table.c.lease_token == token)
                    .values(lease_until=until, due_at=until + TAKEOVER_MS)
                    .returning(table.c.id)
                )
                held |= set(connection.execute(statement).scalars())
            return held

    def assets(self, lease: Lease) -> tuple[LeasedAsset, ...] | None:
        """The task's present assets, maybe more and fresher than the lease's; None when the lease has ended."""
        with self._database.read() as connection:
            parameters = {"task_row": lease.row_id, "token": lease.token}
            rows = connection.execute(_ASSETS_IF_LEASED, parameters).mappings().all()
        if not rows:
            return None
        # The outer join gives a task without assets one empty row.
        return tuple(read_asset(row) for row in rows if row["id"] is not None)

    def pending(self, *, account: str, rows_max: int) -> PendingCounts:
        """How many due ids wait for a query; looks at `rows_max` rows of each queue."""
        with self._database.read() as connection:
            return matching.pending(connection, account=account, rows_max=rows_max, now=self._now())

    def query_individually(self, *, account: str, family: str | None, due_before: int) -> int:
        """Mark ids of `family` that were due before its list was read (`due_before`, Unix ms) and that no page has
        shown; how many."""
        with self._database.write() as connection:
            return matching.query_individually(
                connection, account=account, family=family, due_before=due_before
            )
