"""Keeps leases alive while their work goes on, and says honestly when one is over.

Two clocks. The ledger's lease ends by the wall clock of its rows; ours ends `LEASE_SECONDS` after we *asked* for it,
by the monotonic clock, so a little earlier than the ledger's unless somebody sets the wall clock forward meanwhile.
Then the row's token tells whose it is, and create-only puts keep two workers on one task from harming it.
`check` looks at ours and costs nothing: it stands before every put. `confirm` asks the ledger as well: it stands
right before the manifest.

A process that is paused (a laptop lid, a live migration) finds its leases over by `check` and writes nothing.
"""

import threading
import time
from collections.abc import Callable, Sequence

from archiver import log
from archiver.failures import LeaseLost, LedgerUnavailable
from archiver.ledger import Ledger
from archiver.ledger.claims import LEASE_SECONDS
from archiver.model import Lease, LeasedAsset

RENEW_SECONDS = 10.0
"""A third of a lease: two renewals may fail before anything is lost."""
CONFIRMED_SECONDS = 15.0
"""What a lease must have left when the manifest is put. Renewed every 10 s, it has 20 unless the ledger is slow."""


class LeaseKeeper:
    """The leases that this process holds. Thread-safe."""

    def __init__(self, ledger: Ledger, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._held: dict[int, tuple[Lease, float]] = {}

    def asking(self) -> float:
        """The moment before a claim: what the leases it returns count from."""
        return self._monotonic()

    def keep(self, leases: Sequence[Lease], *, asked_at: float) -> None:
        """Renew these from now on; `asked_at` is what `asking` said before they were claimed."""
        with self._lock:
            for lease in leases:
                self._held[lease.row_id] = (lease, asked_at + LEASE_SECONDS)

    def drop(self, lease: Lease) -> None:
        """The work on this lease has ended, one way or another."""
        with self._lock:
            held = self._held.get(lease.row_id)
            if held is not None and held[0].token == lease.token:
                del self._held[lease.row_id]

    def check(self, lease: Lease) -> None:
        """Raises LeaseLost unless our lease has time left."""
        with self._lock:
            held = self._held.get(lease.row_id)
        if held is None or held[0].token != lease.token or self._monotonic() >= held[1]:
            raise LeaseLost(f"the lease on task {lease.task_id} is over")

    def confirm(self, lease: Lease) -> tuple[LeasedAsset, ...]:
        """Ask the ledger too whether the lease is ours; the task's assets as it has them now.

        Raises LeaseLost, or LedgerUnavailable when it cannot say.

        A read is enough, and spares every task an fsync: nobody else claims the row before the lease's end, and
        one that has less than `CONFIRMED_SECONDS` left is renewed first, so that there is time for the put.
        """
        self.check(lease)
        if self._left(lease) < CONFIRMED_SECONDS:
            self._renew([lease])
            self.check(lease)
        assets = self._ledger.assets(lease)
        if assets is None:
            self.drop(lease)
            raise LeaseLost(f"somebody else works on task {lease.task_id}")
        return assets

    def _left(self, lease: Lease) -> float:
        with self._lock:
            held = self._held.get(lease.row_id)
        return 0.0 if held is None else held[1] - self._monotonic()

    def renew(self) -> None:
        """Renew all that is held; called every `RENEW_SECONDS`. A ledger that cannot answer is asked again."""
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
        held = self._ledger.renew(leases)
        with self._lock:
            for lease in leases:
                mine = self._held.get(lease.row_id)
                if mine is None or mine[0].token != lease.token:
                    continue  # ended meanwhile
                if lease.row_id in held:
                    self._held[lease.row_id] = (lease, asked_at + LEASE_SECONDS)
                else:
                    del self._held[lease.row_id]

    def held(self) -> list[Lease]:
        """What is held now."""
        with self._lock:
            return [lease for lease, _ in self._held.values()]
