"""Warns if several workers share a store that cannot keep one worker from overwriting another's object.

Leases keep two workers from one task. A worker that was paused for longer than its lease is stopped by its own clock.
Last of all the store stops it, if it respects create-only puts.
"""

import dataclasses
from collections.abc import Sequence

from archiver.failures import LedgerUnavailable
from archiver.ledger import Ledger, Service
from archiver.model import Problem
from archiver.store import ConditionalPut, Store

_SAID: dict[str, str] = {
    ConditionalPut.IGNORED: "overwrites an object although a put may only create it",
    ConditionalPut.REFUSED: "knows no puts that only create an object",
}
_WHAT_TO_DO = (
    "An object may be put twice, with the same content. Run one worker (kling-archiver work), or take a store that "
    "respects If-None-Match: *."
)


@dataclasses.dataclass(frozen=True)
class SharedStore:
    """Reads the ledger, where workers record what the store does with a second put."""

    ledger: Ledger
    store: Store

    def problems(self) -> Sequence[Problem]:
        """None while the ledger is unavailable: that is a problem of its own."""
        try:
            said = _SAID.get(self.ledger.trust.of(self.store.location).second_put or "")
            workers = 0
            if said is not None:
                workers = sum(Service.WORK in daemon.serves for daemon in self.ledger.daemons.alive())
        except LedgerUnavailable:
            return ()
        if workers < 2:
            return ()
        message = f"{workers} workers share a store that {said}"
        return [Problem("settings", message, _WHAT_TO_DO, stage="archive", reason="store_overwrites")]
