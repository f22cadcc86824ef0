"""One piece of work on one lease, and its end: success, failure, a lost lease or a stop."""

import functools
from collections.abc import Callable, Sequence

from archiver import log
from archiver.engine.stages import Stages
from archiver.engine.threads import Guard
from archiver.failures import Deposed, LeaseLost, Stopped
from archiver.leases import give_back
from archiver.model import Lease


class LeasedWork:
    """Renews leases while their work goes on, and ends each of them in one way. Thread-safe."""

    def __init__(
        self,
        stages: Stages,
        guard: Guard,
        *,
        on_success: Callable[[Lease], None],
    ) -> None:
        """`on_success(lease)` is called after work that succeeded, and shows that the outside works."""
        self._ledger, self._keeper = stages.ledger, stages.keeper
        self._failure_handler = stages.failure_handler
        self._guard = guard
        self._on_success = on_success

    def hand_over(self, leases: Sequence[Lease], *, asked_at: float, start: Callable[[Lease], None]) -> None:
        """Keep each lease and give it to a thread by `start`.

        If no thread can be started, the remaining leases are given back: otherwise they would be renewed although no
        thread works on them. The lease at which `start` failed may lie in the pool's queue; its thread finds it lost.
        """
        self._keeper.keep(leases, asked_at=asked_at)
        for place, lease in enumerate(leases):
            try:
                start(lease)
            except Exception:
                self.let_go(leases[place:])
                raise

    def hand_over_together(
        self, batch: Sequence[Lease], *, asked_at: float, start: Callable[[], None]
    ) -> None:
        """Hand over a batch that one thread works on."""
        self._keeper.keep(batch, asked_at=asked_at)
        try:
            start()
        except Exception:
            self.let_go(batch)
            raise

    def run(self, lease: Lease, work: Callable[[], bool | None]) -> bool:
        """Do the work on one lease; whether it succeeded. `work` returns False where that says nothing of the
        outside."""
        try:
            is_proof = work() is not False
        except LeaseLost:
            log.get().warning("lease.lost", task_id=lease.task_id, stage=lease.stage)
            return False
        except Stopped:
            self._give_back(lease)
            return False
        except Exception as error:  # noqa: BLE001 -- `FailureHandler` records it, with its traceback if it is unlisted
            self._guard.attempt("failure-handling", functools.partial(self._handle, lease, error))
            return False
        finally:
            self._keeper.drop(lease)
        if is_proof:
            self._guard.attempt("hold-release", lambda: self._on_success(lease))
        return True

    def _handle(self, lease: Lease, error: Exception) -> None:
        try:
            self._failure_handler.handle(lease, error)
        except Deposed:
            self._give_back(lease)

    def let_go(self, leases: Sequence[Lease]) -> None:
        """Give back leases. A thread that still works on one puts nothing more."""
        for lease in leases:
            self._keeper.drop(lease)
            self._give_back(lease)

    def _give_back(self, lease: Lease) -> None:
        """Give the lease back: the task is due again at once, and the attempt does not count."""
        give_back(lease, self._ledger.outcomes.give_back)
