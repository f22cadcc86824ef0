"""Claims forwards for the free threads of its own pool: an application that hangs holds these, and no transfer slot.

Consumers take turns (`forward/consumers`). If more wait than one round looks at, the next round goes on behind the
last one.
"""

import concurrent.futures
import functools
import threading
import time
from collections.abc import Callable

from archiver import log
from archiver.engine.pools import WorkPool
from archiver.engine.threads import IDLE_SECONDS, Guard
from archiver.failures import Failure
from archiver.forward.consumers import ConsumerShares
from archiver.forward.stage import Forwarder, Taken
from archiver.ledger import OPERATOR_CONSUMER, ForwardLease
from archiver.model import Stage

FORWARD_THREADS = 8
HELD_FAILURES = 3
"""Failures in a row after which the operator's application is held."""


class ForwardLoop:
    """The forward stage of a process, for all of its accounts. `step` belongs to one thread."""

    name = "forward-loop"

    def __init__(
        self,
        forwarder: Forwarder,
        executor: concurrent.futures.Executor,
        guard: Guard,
        *,
        wake: threading.Event,
        threads: int = FORWARD_THREADS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`executor` has `threads` threads."""
        self._forwarder = forwarder
        self._guard = guard
        self._wake = wake
        self._monotonic = monotonic
        self._shares = ConsumerShares(threads, monotonic=monotonic)
        watched = functools.partial(guard.watched, "forward-work")
        self._pool = WorkPool(executor, threads, on_free=wake.set, watched=watched)
        self._after: str | None = None

    def step(self) -> None:
        """Begin the tries that may begin now; wait a little if there are none."""
        self._wake.clear()
        if not self._pool.free() or not self._begin_round():
            self._wake.wait(IDLE_SECONDS)

    def stop(self, *, seconds: float) -> bool:
        """Wait at most `seconds` for the tries that are under way, after the last step. A try that still goes on may be
        sent again."""
        return self._pool.close(seconds=seconds)

    def _begin_round(self) -> int:
        """How many tries have begun."""
        due = self._forwarder.ledger.forwards.due_consumers(after=self._after)
        self._after = due.after
        self._shares.expect_failure(due.unanswered - {OPERATOR_CONSUMER})  # which has holds
        names = dict.fromkeys(due.names)
        names.pop(OPERATOR_CONSUMER, None)
        # The operator's first in every round: there may be ten thousand clients.
        operator = [OPERATOR_CONSUMER] if self._forwarder.operator is not None else []
        return sum(self._begin(name) for name in (*operator, *self._shares.in_turn(names)))

    def _begin(self, name: str) -> int:
        room = min(self._shares.room(name), self._pool.free())
        if not room:
            return 0
        asked_at = self._monotonic()
        leases = self._forwarder.ledger.forwards.claim(name, accounts=self._forwarder.accounts, count=room)
        for lease in leases:
            self._shares.began(name)
            try:
                self._pool.run(functools.partial(self._forward, asked_at=asked_at), lease)
            except BaseException:
                self._shares.ended(name, was_taken=None)
                raise
        return len(leases)

    def _forward(self, lease: ForwardLease, *, asked_at: float) -> None:
        taken, failure = Taken.NOTHING, None
        try:
            taken, failure = self._try(lease, asked_at=asked_at)
        finally:
            was_taken = {Taken.YES: True, Taken.NO: False, Taken.NOTHING: None}[taken]
            failures = self._shares.ended(lease.consumer, was_taken=was_taken)
        if failure is not None and lease.consumer == OPERATOR_CONSUMER and failures >= HELD_FAILURES:
            self._guard.attempt("forward-hold", functools.partial(self._hold, lease, failure))

    def _try(self, lease: ForwardLease, *, asked_at: float) -> tuple[Taken, Failure | None]:
        outcome: list[tuple[Taken, Failure | None]] = []
        self._guard.attempt(
            self.name, lambda: outcome.append(self._forwarder.forward(lease, asked_at=asked_at))
        )
        return outcome[0] if outcome else (Taken.NOTHING, None)

    def _hold(self, lease: ForwardLease, failure: Failure) -> None:
        if self._forwarder.ledger.forwards.hold(failure, account=lease.account):
            log.get().error(
                "hold.set",
                account=lease.account,
                stage=Stage.FORWARD,
                reason=failure.reason,
                message=str(failure),
                what_to_do=failure.what_to_do,
            )
