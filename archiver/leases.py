"""Renews leases while their work goes on, and tells when one has ended.

There are two clocks. In the ledger a lease ends by the wall clock. Here it ends `LEASE_SECONDS` after the process
*asked* for it, by the clock of `archiver.clock`, which also runs while the machine is suspended. So it ends here a
little earlier, unless the wall clock is set forward. Then the row's fencing token decides, and create-only puts keep
two workers from harming a task.

`check` precedes every put. It uses the local clock and costs nothing. After a pause (a laptop lid, a live migration) it
finds that the leases have ended, and nothing is written. `confirm` precedes the manifest; it also asks the ledger.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from archiver import log
from archiver.clock import seconds_passed
from archiver.failures import LeaseLost, LedgerUnavailable
from archiver.ledger import Ledger
from archiver.ledger.claims import LEASE_SECONDS
from archiver.model import Lease, LeasedAsset

RENEW_SECONDS = 10.0
"""A third of a lease: two renewals may fail before it is lost."""
CONFIRMED_SECONDS = 15.0
"""The time that a lease must have left when the manifest is put. Renewed every 10 s, it has 20 s left unless the ledger
is slow."""


class Leases(Protocol):
    """The part of the ledger that renews and confirms leases."""

    def renew(self, leases: Sequence[Lease]) -> set[int]:
        """Renew these leases; the row ids of those that still hold."""

    def assets(self, lease: Lease) -> tuple[LeasedAsset, ...] | None:
        """The task's present assets; None when the lease has ended."""


def give_back(lease: Lease, end: Callable[[Lease], object]) -> None:
    """Give the lease back by `end`, which makes its work due again at once. If the ledger is unavailable, the lease
    ends by itself."""
    try:
        end(lease)
    except LeaseLost:
        return  # it ended after all
    except LedgerUnavailable as error:
        log.get().warning("ledger.unavailable", message=str(error))


class LeaseKeeper:
    """The leases of this process. Thread-safe."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        monotonic: Callable[[], float] = seconds_passed,
        leases: Leases | None = None,
    ) -> None:
        """`leases` are leases on tasks by default. Row ids are unique within one part of the ledger only, so each part
        needs its own keeper."""
        self._leases = leases or ledger.claims
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._held: dict[int, tuple[Lease, float]] = {}

    def asking(self) -> float:
        """The moment before a claim, for `keep`."""
        return self._monotonic()

    def keep(self, leases: Sequence[Lease], *, asked_at: float) -> None:
        """Renew these from now on; `asked_at` is from `asking`."""
        with self._lock:
            for lease in leases:
                self._held[lease.row_id] = (lease, asked_at + LEASE_SECONDS)

    def drop(self, lease: Lease) -> None:
        """Stop renewing it."""
        with self._lock:
            held = self._held.get(lease.row_id)
            if held is not None and held[0].token == lease.token:
                del self._held[lease.row_id]

    def check(self, lease: Lease) -> None:
        """Raises LeaseLost unless the lease has time left by the local clock."""
        with self._lock:
            held = self._held.get(lease.row_id)
        if held is None or held[0].token != lease.token or self._monotonic() >= held[1]:
            raise LeaseLost(f"the lease on task {lease.task_id} is over")

    def confirm(self, lease: Lease) -> tuple[LeasedAsset, ...]:
        """Ask the ledger too. Returns the task's assets as it has them.

        Raises LeaseLost, or LedgerUnavailable.

        A read is enough, and saves every task an fsync: no other worker claims the row before the lease ends. A lease
        with less than `CONFIRMED_SECONDS` left is renewed first, so that there is time for the put.
        """
        self.check(lease)
        if self._left(lease) < CONFIRMED_SECONDS:
            self._renew([lease])
            self.check(lease)
        assets = self._leases.assets(lease)
        if assets is None:
            self.drop(lease)
            raise LeaseLost(f"another worker holds the lease on task {lease.task_id}")
        return assets

    def _left(self, lease: Lease) -> float:
        with self._lock:
            held = self._held.get(lease.row_id)
        return 0.0 if held is None else held[1] - self._monotonic()

    def renew(self) -> None:
        """Renew all leases. The caller repeats this every `RENEW_SECONDS`, so a failure is tried again."""
        with self._lock:
            leases = [lease for lease, _ in self._held.values()]
        if not leases:
            return
        try:
            self._renew(leases)
        except LedgerUnavailable as error:
            log.get().warning("ledger.unavailable", message=str(error))

    def _renew(self, leases: Sequence[Lease]) -> None:
        asked_at = self._monotonic()
        renewed = self._leases.renew(leases)
        with self._lock:
            for lease in leases:
                known = self._held.get(lease.row_id)
                if known is None or known[0].token != lease.token:
                    continue  # its work has ended meanwhile
                if lease.row_id in renewed:
                    self._held[lease.row_id] = (lease, asked_at + LEASE_SECONDS)
                else:
                    del self._held[lease.row_id]

    def held(self) -> list[Lease]:
        with self._lock:
            return [lease for lease, _ in self._held.values()]
