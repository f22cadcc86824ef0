"""Asks the API about tasks whose objects are missing in the bucket: for the object in the manifest, and for URLs that
work.

The queries take at most a quarter of the budget, wait behind verification, and go one at a time. An emptied bucket
costs at most 30 queries a minute at 2 queries/s, and waits behind every task that has never been archived.
"""

import dataclasses
from collections.abc import Callable

from archiver import log
from archiver.failures import (
    Failure,
    LeaseLost,
    LedgerUnavailable,
    ResultsMissing,
    Stopped,
    TaskNotShown,
    reason_of,
    retry_due,
)
from archiver.leases import LeaseKeeper, give_back
from archiver.ledger import Ledger
from archiver.metrics import Metrics
from archiver.model import Lease, Task

TRIES_MIN = 3
"""Tries before a task is given up: the API may be wrong about it once or twice."""
DENIED_MS = 5 * 60_000


@dataclasses.dataclass(frozen=True)
class RestoreQuestions:
    """The queries of one account. `now` gives Unix ms, `random` numbers in [0, 1)."""

    account: str
    asking: Ledger
    """The ledger for claims: only the process that asks the API for the account may claim."""
    ledger: Ledger
    """The ledger for the outcome of a claim, which the lease on the work guards."""
    keeper: LeaseKeeper
    """Keeps the leases of folder work."""
    ask: Callable[[Lease], Task | None]
    """The task as the API names its files now; None where it names none."""
    metrics: Metrics
    now: Callable[[], int]
    random: Callable[[], float]
    hold_in_outage: Callable[[Lease, Exception], object]
    """Called with each failure."""

    def claim(self) -> Lease | None:
        """Lease the next task to ask about; None if there is none."""
        asked_at = self.keeper.asking()
        lease = self.asking.restores.claim(account=self.account)
        if lease is not None:
            self.keeper.keep([lease], asked_at=asked_at)
        return lease

    def answer(self, lease: Lease) -> None:
        """Query the API, and end the lease. Raises LedgerUnavailable: then the lease ends by itself, and the query is
        repeated."""
        try:
            self._answer(lease)
        except LeaseLost:
            log.get().warning("lease.lost", task_id=lease.task_id, stage=lease.stage)
        except Stopped:
            self.let_go(lease)
        except LedgerUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 -- any failure is retried; logged with its traceback
            self.hold_in_outage(lease, error)
            self._retry(lease, error, retry_due(lease.attempt, now=self.now(), rand=self.random()))
        finally:
            self.keeper.drop(lease)

    def let_go(self, lease: Lease) -> None:
        """Give the lease back; the task is due again at once."""
        self.keeper.drop(lease)
        give_back(lease, self.ledger.folder_work.give_back)

    def _answer(self, lease: Lease) -> None:
        is_last = lease.attempt >= TRIES_MIN
        try:
            task = self.ask(lease)
        except TaskNotShown as error:
            if not is_last or self.now() < lease.deadline_at:
                raise  # a gateway may have a bad hour
            self._give_up(lease, error)
            return
        denied = ResultsMissing("the API no longer names its files")
        if task is not None:
            self.ledger.restores.answered(lease, task)
        elif is_last:
            self._give_up(lease, denied)
        else:
            self._retry(lease, denied, self.now() + DENIED_MS)

    def _give_up(self, lease: Lease, error: Failure) -> None:
        for key in self.ledger.restores.give_up(lease, error):
            log.get().error(
                "object.given_up", task_id=lease.task_id, key=key, reason=error.reason, message=str(error)
            )

    def _retry(self, lease: Lease, error: Exception, due_at: int) -> None:
        labels = {"account": lease.account, "stage": lease.stage, "reason": reason_of(error)}
        self.metrics.failures_total.labels(**labels).inc()
        self.ledger.folder_work.retry(lease, error, due_at=due_at)
        log.get().warning(
            "restore.retried",
            task_id=lease.task_id,
            reason=reason_of(error),
            message=str(error),
            attempt=lease.attempt,
            exc_info=None if isinstance(error, Failure) else error,
        )
