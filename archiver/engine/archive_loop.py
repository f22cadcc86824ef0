"""Claims succeeded tasks for the transfer slots that are free."""

import concurrent.futures
import threading
from collections.abc import Sequence

from archiver.engine.host_watch import HostWatch
from archiver.engine.leased_work import LeasedWork
from archiver.engine.pools import WorkPool
from archiver.engine.stages import Stages
from archiver.engine.threads import IDLE_SECONDS
from archiver.engine.transfer_slots import TransferSlots
from archiver.model import Lease, Stage


class ArchiveLoop:
    """The archive stage of one account. `step` belongs to one thread."""

    name = "archive-loop"

    def __init__(
        self,
        stages: Stages,
        work: LeasedWork,
        executor: concurrent.futures.Executor,
        *,
        threads: int,
        slots: TransferSlots,
        hosts: HostWatch,
        wake: threading.Event,
    ) -> None:
        """`executor` has `threads` threads; `slots` are those of the process, shared with other accounts."""
        self._stages = stages
        self._account = stages.account.name
        self._work = work
        self._slots = slots
        self._hosts = hosts
        self._wake = wake
        self.pool = WorkPool(executor, threads, on_free=self._freed)
        self._has_backlog = False
        """The last claim got as many tasks as it asked for: there are more, most likely, and no need to look first."""
        slots.join(self._account, wake=wake.set)

    def step(self) -> None:
        """Claim tasks for free slots and hand them to threads; wait a little where there is nothing to claim."""
        self._wake.clear()
        if not self.pool.free():  # each transfer that ends wakes this loop
            self._wake.wait(IDLE_SECONDS)
            return
        if not self._has_backlog and not self._stages.ledger.claims.any_due(
            Stage.ARCHIVE, account=self._account
        ):
            self._slots.idle(self._account)
            self._wake.wait(IDLE_SECONDS)
            return
        if not self._start(self._slots.take(self._account, self._hosts.room())):
            self._wake.wait(IDLE_SECONDS)

    def _start(self, slots: int) -> Sequence[Lease]:
        self._has_backlog = False
        if not slots:
            return []
        asked_at = self._stages.keeper.asking()
        leases = self._claim(slots)
        self._has_backlog = len(leases) >= slots
        started_before = self.pool.started
        try:
            self._work.hand_over(leases, asked_at=asked_at, start=self._start_one)
        finally:  # where no thread could be had, an unfilled slot must not count as taken for ever
            self._slots.give_back(self._account, len(leases) - (self.pool.started - started_before))
        return leases

    def _claim(self, count: int) -> list[Lease]:
        """Tasks for `count` slots; slots without a task are given back."""
        leases = list[Lease]()
        try:
            leases = self._stages.ledger.claims.archive(
                count=count,
                offset=self.pool.started,
                hosts_avoided=self._hosts.avoided(),
                account=self._account,
            )
        finally:
            if len(leases) < count:
                self._slots.idle(self._account)
                self._slots.give_back(self._account, count - len(leases))
        return leases

    def _start_one(self, lease: Lease) -> None:
        self._hosts.began(lease.asset_host)
        self.pool.run(self._archive, lease)

    def _archive(self, lease: Lease) -> None:
        try:
            self._work.run(lease, lambda: self._stages.archiver.archive(lease))
        finally:
            self._hosts.ended(lease.asset_host)

    def _freed(self) -> None:
        """A transfer has ended: its slot goes to the account with the fewest."""
        self._slots.give_back(self._account)
        self._wake.set()
