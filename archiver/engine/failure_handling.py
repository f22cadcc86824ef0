"""What happens after a stage has failed on a task, in one way for every stage: decide, write, count and log.

`failures.decide` decides, and gives the delay of a retry.
"""

import dataclasses
from collections.abc import Callable

from archiver import log
from archiver.archive.fresh_urls import wants_fresh_urls
from archiver.engine.host_watch import HostWatch
from archiver.engine.looks.outage import Outages
from archiver.engine.process_holds import ProcessHolds
from archiver.failures import (
    Bury,
    Disposition,
    Failure,
    Hold,
    LeaseLost,
    NotOffered,
    Outside,
    PartlyDone,
    Retry,
    TaskNotShown,
    decide,
    files_of,
    reason_of,
)
from archiver.ledger import HoldOutcome, Ledger
from archiver.metrics import Metrics
from archiver.model import Lease, Stage


@dataclasses.dataclass(frozen=True)
class FailureHandler:
    """Ends leases whose work failed. `now` gives Unix ms, `rand` numbers in [0, 1)."""

    ledger: Ledger
    metrics: Metrics
    hosts: HostWatch
    outages: Outages
    now: Callable[[], int]
    rand: Callable[[], float]
    asking: Ledger | None = None
    """The ledger for leases of verification, if it differs."""
    process_holds: ProcessHolds | None = None
    """Set if other processes may work on the same ledger."""

    def handle(self, lease: Lease, error: Exception) -> Retry | Hold | Bury | None:
        """End `lease`, which failed with `error`; the decision, or None where the lease was lost, or where verification
        asks the API for fresh URLs.

        Raises LedgerUnavailable: then nothing was written, and the lease's end brings the task back.
        """
        if lease.stage is Stage.ARCHIVE:
            error = self.hosts.judged(lease, error)
            if wants_fresh_urls(lease, error, now=self.now()):
                self._want_fresh_urls(lease, error)
                return None
        partly = error if isinstance(error, PartlyDone) else PartlyDone(error, stored=(), failed={})
        cause = partly.cause
        self.hold_in_outage(lease, cause)
        decision = decide(
            cause, attempt=lease.attempt, now=self.now(), deadline=lease.deadline_at, rand=self.rand()
        )
        try:
            self._write(lease, partly, decision)
        except LeaseLost:
            log.get().warning("lease.lost", task_id=lease.task_id, stage=lease.stage)
            return None
        self._count(lease, cause)
        self._log(lease, partly, decision)
        return decision

    def hold_in_outage(self, lease: Lease, cause: Exception) -> None:
        """Turn the failure into a hold if similar work has failed often enough, or is held already."""
        if isinstance(cause, TaskNotShown | NotOffered):
            self.outages.of(Outside.API).suspect()
        if not isinstance(cause, Failure) or cause.outside is None or cause.disposition is Disposition.HOLD:
            return
        is_outage = self.outages.of(cause.outside).failed(cause, task_id=lease.task_id)
        if is_outage or self._ledger_of(lease).holds.is_stopped(account=lease.account, stage=lease.stage):
            cause.as_hold()

    def _write(self, lease: Lease, partly: PartlyDone, decision: Retry | Hold | Bury) -> None:
        cause, stored, failed = partly.cause, partly.stored, partly.failed
        outcomes = self._ledger_of(lease).outcomes
        if isinstance(decision, Hold) and isinstance(cause, Failure):
            for_all = not self.is_of_process(cause, account=lease.account, stage=lease.stage)
            outcome = outcomes.hold(lease, cause, stored=stored, failed=failed, for_all=for_all)
            if outcome is HoldOutcome.NEW:
                log_hold(cause, account=lease.account, stage=lease.stage)
            elif outcome is HoldOutcome.OWN:
                log.get().warning("task.retried", **_fields(lease, partly))
        elif isinstance(decision, Bury) and isinstance(cause, Failure):
            outcomes.bury(lease, cause, decision, stored=stored, failed=failed)
        elif isinstance(decision, Retry):
            outcomes.retry(lease, cause, decision, stored=stored, failed=failed)

    def is_of_process(self, error: Failure, *, account: str, stage: Stage) -> bool:
        """Whether a failure that holds concerns only this process. Raises LedgerUnavailable."""
        holds = self.process_holds
        return holds is not None and holds.takes(error, account=account, stage=stage)

    def _ledger_of(self, lease: Lease) -> Ledger:
        return self.asking if self.asking is not None and lease.stage is Stage.VERIFY else self.ledger

    def _want_fresh_urls(self, lease: Lease, error: Exception) -> None:
        partly = error if isinstance(error, PartlyDone) else PartlyDone(error, stored=(), failed={})
        try:
            self.ledger.outcomes.want_fresh(lease, partly.cause, stored=partly.stored, failed=partly.failed)
        except LeaseLost:
            log.get().warning("lease.lost", task_id=lease.task_id, stage=lease.stage)
            return
        self._count(lease, partly.cause)
        fields = _fields(lease, partly)
        log.get().warning(
            "task.retried", **fields | {"message": f"{partly.cause}; the API is asked for a fresh URL"}
        )

    def _count(self, lease: Lease, cause: Exception) -> None:
        labels = {"account": lease.account, "stage": lease.stage, "reason": reason_of(cause)}
        self.metrics.failures_total.labels(**labels).inc()

    def _log(self, lease: Lease, partly: PartlyDone, decision: Retry | Hold | Bury) -> None:
        cause, fields = partly.cause, _fields(lease, partly)
        if isinstance(decision, Bury):
            what = cause.what_to_do if isinstance(cause, Failure) else ""
            log.get().error("task.buried", **fields, what_to_do=what)
        elif isinstance(decision, Retry):
            unexpected = not isinstance(cause, Failure)
            # Only a bug of ours needs its traceback.
            log.get().warning("task.retried", **fields, exc_info=cause if unexpected else None)


def _fields(lease: Lease, partly: PartlyDone) -> dict[str, object]:
    cause = partly.cause
    files = files_of(cause, partly.failed)
    return {
        "task_id": lease.task_id,
        "family": lease.family or lease.family_hint,
        "stage": lease.stage,
        "reason": reason_of(cause),
        "message": str(cause),
        "attempt": lease.attempt,
        **({"files": files} if files else {}),
    }


def log_hold(error: Failure, *, account: str, stage: str) -> None:
    """The log line of a new hold: what stopped and what to do."""
    log.get().error(
        "hold.set",
        account=account,
        stage=stage,
        family=error.family,
        host=error.host if error.is_probed else None,
        reason=error.reason,
        message=str(error),
        what_to_do=error.what_to_do,
    )
