"""Leases: a claim writes token, lease end, attempt and next due time before any work begins.

After a crash the row is due again when its lease ends: no process has to notice the dead worker or clean up.
"""

import functools
from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from archiver.ledger.claims import matching
from archiver.ledger.claims.held_ids import longest_due
from archiver.ledger.claims.lanes import claim_in_turns, claim_lane, unconfirmed_share
from archiver.ledger.claims.leasing import (
    ACCOUNT,
    LEASE_SECONDS,
    NOW,
    QUEUE,
    SLOTS,
    TAKEOVER_MS,
    Request,
    free,
    lease_rows,
    leasing,
    run_claim,
)
from archiver.ledger.claims.matching import PendingCounts, is_batchable
from archiver.ledger.claims.probes import WHOLE_HOLD, claim_probes, holds_of, is_whole
from archiver.ledger.claims.promotion import promote
from archiver.ledger.databases.dialect import first_unlocked, skipping_locked
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import groups, schema
from archiver.ledger.tables.rows import read_asset
from archiver.model import Lane, Lease, LeasedAsset, Stage

_ANY_DUE = (
    sa.select(schema.tasks.c.id)
    .where(schema.tasks.c.queue == QUEUE, schema.tasks.c.account == ACCOUNT)
    .where(schema.tasks.c.due_at <= NOW, free(NOW))
    .limit(1)
)

_WANTS_FRESH = (
    sa.select(schema.tasks.c.id)
    .where(schema.tasks.c.account == ACCOUNT, schema.tasks.c.fresh_due_at <= NOW, free(NOW))
    .order_by(schema.tasks.c.fresh_due_at)
)
_CLAIM_FRESH = leasing(skipping_locked(_WANTS_FRESH.limit(SLOTS), schema.tasks))

_ASSETS_IF_LEASED = (
    sa.select(schema.assets)
    .select_from(schema.tasks.outerjoin(schema.assets, schema.assets.c.task == schema.tasks.c.id))
    .where(schema.tasks.c.id == sa.bindparam("task_row"), schema.tasks.c.lease_token == sa.bindparam("token"))
    .order_by(schema.assets.c.id)
)


class Claims(Part):
    """Takes leases and renews them."""

    @retried
    def archive(
        self,
        *,
        account: str,
        slots: Mapping[Lane, int],
        count_max: int,
        hosts_avoided: Collection[str] = (),
        hosts_first_tries_only: Collection[str] = (),
    ) -> list[Lease]:
        """Lease up to `count_max` tasks: first due probes of holds, then at most `slots` of each lane, in their order.

        For a held host, and for `hosts_first_tries_only`, only tasks that were never tried there are leased; for
        `hosts_avoided`, none.
        """
        excluded = {rank + host for host in hosts_avoided for rank in groups.RANKS}
        excluded |= {rank + host for host in hosts_first_tries_only for rank in (groups.TRIED, groups.LOST)}
        with self._database.write() as connection:
            now = self._now()
            promote(connection, schema.QUEUE_ARCHIVE, account=account, now=now)
            holds = holds_of(connection, Stage.ARCHIVE, account=account)
            # Tasks under way are probes already. One that drips takes half an hour: one more every 30 s would fill all
            # slots.
            busy = {*hosts_avoided, *hosts_first_tries_only}
            probed = [hold for hold in holds if hold["host"] not in busy]
            leases = claim_probes(connection, probed, count=count_max, now=now)
            if any(is_whole(hold) for hold in holds):
                return leases
            excluded |= {name for hold in holds for name in groups.covered_by(hold)}
            request = Request(schema.QUEUE_ARCHIVE, account, now=now, due_before=now)
            for lane, of_lane in slots.items():
                count = min(of_lane, count_max - len(leases))
                leases += claim_lane(connection, lane, request, excluded=excluded, slots=count)
            return leases

    @retried
    def fresh(self, *, account: str, count: int) -> list[Lease]:
        """Lease up to `count` tasks whose URLs do not work, for verification to ask for others. A read looks first:
        nearly always there are none."""
        with self._database.read() as connection:
            wanting = {"of_account": account, "now": self._now()}
            if connection.execute(_WANTS_FRESH.limit(1), wanting).first() is None:
                return []
        with self._database.write() as connection:
            now = self._now()
            holds = holds_of(connection, Stage.VERIFY, account=account)
            if any(is_whole(hold) for hold in holds):
                return []
            held = [hold["family"] for hold in holds]
            claim = _CLAIM_FRESH
            if held:
                wanting_fresh = _WANTS_FRESH.where(schema.tasks.c.family.not_in(held)).limit(SLOTS)
                claim = leasing(skipping_locked(wanting_fresh, schema.tasks))
            parameters = {"of_account": account, "slots": count}
            return run_claim(connection, claim, parameters, now=now, stage=Stage.VERIFY)

    @retried
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
            promote(connection, schema.QUEUE_VERIFY, account=account, now=now)
            holds = holds_of(connection, Stage.VERIFY, account=account)
            leases = claim_probes(connection, holds, count=count, now=now)
            if any(is_whole(hold) for hold in holds):
                return leases
            held = [hold["family"] for hold in holds]
            unconfirmed = functools.partial(
                _claim_unconfirmed,
                connection,
                Request(schema.QUEUE_UNCONFIRMED, account, now=now, due_before=due_before),
                held=held,
                own_paths_only=own_paths_only,
            )
            if share := unconfirmed_share(count - len(leases), offset=offset):
                leases += unconfirmed(slots=share)
            leases += claim_in_turns(
                connection,
                Request(schema.QUEUE_VERIFY, account, now=now, due_before=due_before),
                excluded=[groups.UNTRIED + family for family in held],
                batchable_excluded=own_paths_only,
                count=count - len(leases),
                offset=offset - unconfirmed_share(offset, offset=0),
            )
            if len(leases) < count:
                leases += unconfirmed(slots=count - len(leases))
            return leases

    @retried
    def batch(self, *, account: str, count: int, offset: int, due_before: int | None = None) -> list[Lease]:
        """Lease up to `count` ids that one batch query can answer, longest due first.

        Confirmed ids, else unconfirmed ones, never both: they are queried at different priorities. In each fourth batch
        (`offset` is its number) unconfirmed ones come first.
        """
        with self._database.write() as connection:
            now = self._now()
            due_before = now if due_before is None else min(now, due_before)
            holds = holds_of(connection, Stage.VERIFY, account=account)
            if any(is_whole(hold) for hold in holds):
                return []
            held = [hold["family"] for hold in holds]
            queues = schema.STAGE_QUEUES[Stage.VERIFY]
            for queue in reversed(queues) if unconfirmed_share(1, offset=offset) else queues:
                request = Request(queue, account, now=now, due_before=due_before)
                waiting = longest_due(connection, request, held)
                batchable = waiting.where(is_batchable(waiting.selected_columns))
                claim = leasing(first_unlocked(connection, batchable, schema.tasks, limit=SLOTS))
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
            for queue in schema.STAGE_QUEUES[stage]:
                parameters = {"of_queue": queue, "of_account": account, "now": now}
                if connection.execute(_ANY_DUE, parameters).first() is not None:
                    return True
            if stage is Stage.VERIFY:
                wants_fresh = _WANTS_FRESH.limit(1)
                return (
                    connection.execute(wants_fresh, {"of_account": account, "now": now}).first() is not None
                )
            return False

    @retried
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

    @retried
    def query_individually(self, *, account: str, family: str | None, due_before: int) -> int:
        """Mark ids of `family` that were due before its list was read (`due_before`, Unix ms) and that no page has
        shown; how many."""
        with self._database.write() as connection:
            return matching.query_individually(
                connection, account=account, family=family, due_before=due_before
            )


def _claim_unconfirmed(
    connection: sa.Connection, request: Request, *, held: Collection[str], own_paths_only: bool, slots: int
) -> list[Lease]:
    waiting = longest_due(connection, request, held)
    if own_paths_only:
        waiting = waiting.where(~is_batchable(waiting.selected_columns))
    chosen = first_unlocked(connection, waiting, schema.tasks, limit=SLOTS)
    return lease_rows(connection, leasing(chosen), request, slots=slots)
