"""Claims succeeded tasks for the transfer slots that are free."""

import collections
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence, Set

from archiver.engine.leased_work import LeasedWork
from archiver.engine.pools import WorkPool
from archiver.engine.slots.lane_slots import lane_slots
from archiver.engine.slots.transfer_slots import TransferSlots
from archiver.engine.stages import Stages
from archiver.engine.threads import IDLE_SECONDS
from archiver.model import Lane, Lease, Stage


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
        wake: threading.Event,
        on_recovered: Callable[[Mapping[str, Set[str]]], None],
        watched: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        """`executor` has `threads` threads; `slots` are those of the process, shared with other accounts.

        `on_recovered` is called after each task with the hosts that have answered, as `HostWatch.take_recovered` has
        them; `watched()` goes around the work on each task.
        """
        self._stages = stages
        self._account = stages.account.name
        self._work = work
        self._slots = slots
        self._hosts = stages.hosts
        self._process_holds = stages.process_holds
        self._wake = wake
        self._on_recovered = on_recovered
        self.pool = WorkPool(executor, threads, on_free=self._freed, watched=watched)
        self._running: collections.Counter[Lane] = collections.Counter()
        """Tasks under way, by the lane that took them."""
        self._lock = threading.Lock()
        self._has_backlog = False
        """The last claim got as many tasks as it asked for. More are probably due, so the next claim needs no look
        first."""
        slots.join(self._account, wake=wake.set)

    def step(self) -> None:
        """Claim tasks for free slots and hand them to threads; wait a little where there is nothing to claim."""
        self._wake.clear()
        if not self.pool.free():  # the end of each transfer wakes this loop
            self._wake.wait(IDLE_SECONDS)
            return
        if self._process_holds is not None and self._process_holds.stops(self._account, Stage.ARCHIVE):
            self._slots.idle(self._account)
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
        finally:  # if no thread could be started, an unfilled slot must not count as taken for ever
            self._slots.give_back(self._account, len(leases) - (self.pool.started - started_before))
        return leases

    def _claim(self, count: int) -> list[Lease]:
        """Tasks for `count` slots; slots without a task are given back."""
        leases = list[Lease]()
        avoided, wanted = self._hosts.avoided(), count
        if self._process_holds is not None:
            avoided |= self._process_holds.hosts(self._account)
            wanted = self._process_holds.room(self._account, Stage.ARCHIVE, count)
        try:
            leases = self._stages.ledger.claims.archive(
                slots=self._lane_slots(wanted),
                count_max=wanted,
                hosts_avoided=avoided,
                hosts_first_tries_only=self._hosts.first_tries_only(),
                account=self._account,
            )
        finally:
            if len(leases) < count:
                self._slots.idle(self._account)
                self._slots.give_back(self._account, count - len(leases))
        return leases

    def _lane_slots(self, count: int) -> dict[Lane, int]:
        with self._lock:
            return lane_slots(count, running=self._running, started=self.pool.started)

    def _start_one(self, lease: Lease) -> None:
        self._count(lease, 1)
        try:
            self.pool.run(self._archive, lease)
        except BaseException:
            self._count(lease, -1)
            raise

    def _archive(self, lease: Lease) -> None:
        try:
            with self._stages.outages.at(Stage.ARCHIVE).under_way():
                self._work.run(lease, lambda: self._stages.archiver.archive(lease))
            self._on_recovered(self._hosts.take_recovered())
        finally:
            self._count(lease, -1)

    def _count(self, lease: Lease, change: int) -> None:
        (self._hosts.began if change > 0 else self._hosts.ended)(lease)
        if lease.lane is not None:
            with self._lock:
                self._running[lease.lane] += change

    def _freed(self) -> None:
        """A transfer has ended: its slot goes to the account with the fewest."""
        self._slots.give_back(self._account)
        self._wake.set()
