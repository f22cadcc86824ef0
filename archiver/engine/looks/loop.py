"""Looks, and the holds that they set and end: an outage is reported although no task has met it yet."""

import threading
import time
from collections.abc import Callable

from archiver import log
from archiver.engine.failure_handling import log_hold
from archiver.engine.looks.look import Look
from archiver.engine.looks.outage import STAGES, Outage
from archiver.engine.looks.pace import Pace
from archiver.engine.process_holds import ProcessHolds
from archiver.engine.threads import IDLE_SECONDS
from archiver.failures import Disposition, Failure
from archiver.ledger import Ledger
from archiver.metrics import Metrics
from archiver.model import Stage


class LookLoop:
    """Looks at one thing for one account. `step` belongs to one thread."""

    def __init__(
        self,
        look: Look,
        outage: Outage,
        *,
        account: str,
        ledger: Ledger,
        metrics: Metrics,
        wake: threading.Event,
        wake_stage: Callable[[Stage], None],
        monotonic: Callable[[], float] = time.monotonic,
        process_holds: ProcessHolds | None = None,
    ) -> None:
        """`wake_stage(stage)` is called for each stage that resumes after a look."""
        self.name = f"{look.outside}-look-loop"
        self._look = look
        self._outage = outage
        self._stages = STAGES[look.outside]
        self._account = account
        self._ledger = ledger
        self._metrics = metrics
        self._wake = wake
        self._wake_stage = wake_stage
        self._process_holds = process_holds
        self._monotonic = monotonic
        self._pace = Pace(outage, monotonic=monotonic)
        outage.on_doubt = self._doubt

    def begin(self) -> None:
        """Look now, as after a start: another process's outage may not concern this process."""
        self._pace = Pace(self._outage, monotonic=self._monotonic)

    def end(self) -> None:
        """Nothing to end: a running look is answered soon."""

    def step(self) -> None:
        """Look if it is time, else wait a little. Raises Stopped."""
        if not self._pace.is_due():
            self._wake.wait(IDLE_SECONDS)
            self._wake.clear()
            return
        is_regular = self._pace.begin()
        try:
            self._look.look()
        except Failure as error:
            self._failed(error, is_regular=is_regular)
        else:
            self._succeeded()

    def _doubt(self) -> None:
        self._pace.doubt()
        self._wake.set()

    def _succeeded(self) -> None:
        """The pace is updated last: if the ledger raises, the next look comes as soon as after a failure."""
        self._outage.looked_well()
        if self._process_holds is not None:
            self._process_holds.looked_well(self._account, self._stages[0])
        ended = list[tuple[Stage, str]]()
        if self._ledger.holds.any():
            ended = self._ledger.holds.release_by_look(account=self._account, stages=self._stages)
        self._pace.succeeded()
        for stage, reason in ended:
            log.get().info("hold.released", account=self._account, stage=stage, reason=reason)
            self._wake_stage(stage)

    def _failed(self, error: Failure, *, is_regular: bool) -> None:
        self._pace.failed(error)
        is_outage = self._outage.failed(error, is_look=True)
        for stage in self._stages:
            self._metrics.failures_total.labels(account=self._account, stage=stage, reason=error.reason).inc()
        if not (is_outage or is_regular or error.disposition is Disposition.HOLD):
            log.get().warning(
                "look.failed",
                account=self._account,
                outside=self._look.outside,
                reason=error.reason,
                message=str(error),
            )
            return
        self._outage.believe()
        if self._process_holds is not None and self._process_holds.takes(
            error, account=self._account, stage=self._stages[0], by_look=True
        ):
            return
        for stage in self._ledger.holds.set_by_look(error, account=self._account, stages=self._stages):
            log_hold(error, account=self._account, stage=stage)
