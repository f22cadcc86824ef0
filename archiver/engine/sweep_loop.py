"""When which family is swept. A sweep has no row in the ledger that waits, so this loop keeps the times itself.

Two rules:

1. A failed sweep does not delay the next family.
2. A failure of the account (refused keys, arrears) holds all of its sweeps but one probe every `HOLD_PROBE_SECONDS`,
   however short the interval and however many the families.

A restart sweeps every family at once, which costs a few list calls.
"""

import threading
import time
from collections.abc import Callable

from archiver import log
from archiver.engine.failure_handling import log_hold
from archiver.failures import HOLD_PROBE_SECONDS, Disposition, Failure, Stopped
from archiver.ledger import Ledger
from archiver.model import Stage
from archiver.sweep.counts import SweepEnd
from archiver.sweep.stage import Sweeper

RETRY_SECONDS = 30.0
"""After a failed sweep, or one that another sweeper was in the way of; at most the interval. Doubles with each failure
in a row: an API that is down must not be asked more often than one that is up."""
DOUBLINGS_MAX = 20
WAIT_SECONDS_MAX = 0.5


class SweepLoop:
    """Sweeps the families of one account in turn. `step` belongs to one thread, `resume` to any."""

    name = "sweep-loop"

    def __init__(
        self,
        *,
        sweeper: Sweeper,
        families: tuple[str, ...],
        ledger: Ledger,
        interval_seconds: float,
        stop: threading.Event,
        on_swept: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_swept(family)` is called after each finished sweep."""
        self._sweeper = sweeper
        self._ledger = ledger
        self._interval_seconds = interval_seconds
        self._stop = stop
        self._on_swept = on_swept
        self._monotonic = monotonic
        self._due_at = dict.fromkeys(families, monotonic())
        self._failed_in_a_row = dict.fromkeys(families, 0)
        self._resumed = threading.Event()

    def resume(self) -> None:
        """The hold is gone: sweep now."""
        self._resumed.set()

    def step(self) -> None:
        """Sweep what is due, then wait a little. Raises Stopped."""
        if self._resumed.is_set():
            self._resumed.clear()
            self._due_at = dict.fromkeys(self._due_at, self._monotonic())
        for family in self._due_at:
            if self._stop.is_set():
                return
            if self._due_at[family] <= self._monotonic():
                self._sweep(family)
        soonest = min(self._due_at.values(), default=self._monotonic() + WAIT_SECONDS_MAX)
        self._stop.wait(min(max(0.05, soonest - self._monotonic()), WAIT_SECONDS_MAX))

    def _sweep(self, family: str) -> None:
        failed = min(self._failed_in_a_row[family], DOUBLINGS_MAX)
        self._due_at[family] = self._monotonic() + min(RETRY_SECONDS * 2**failed, self._interval_seconds)
        self._failed_in_a_row[family] += 1  # until the sweep has succeeded
        try:
            if self._sweeper.is_unavailable(family):
                self._due_at[family] = self._monotonic() + self._interval_seconds
                return
            counts = self._sweeper.sweep(family, full=self._sweeper.is_full_due(family))
        except Stopped:
            raise
        except Failure as error:
            self._failed(family, error)
        except Exception:  # noqa: BLE001 -- the other families go on; logged with its traceback
            log.get().exception("worker.crashed", loop="sweep-loop", family=family)
        else:
            self._failed_in_a_row[family] = 0
            if counts.end is SweepEnd.FINISHED:
                self._due_at[family] = self._monotonic() + self._interval_seconds
                self._on_swept(family)

    def _failed(self, family: str, error: Failure) -> None:
        if not self._sweeper.note_failure(family, error) or error.disposition is not Disposition.HOLD:
            return
        account = self._sweeper.account
        probe_at = self._monotonic() + HOLD_PROBE_SECONDS
        for held in self._due_at if error.family is None else (family,):
            self._due_at[held] = max(self._due_at[held], probe_at)
        if self._ledger.holds.set(error, account=account, stage=Stage.SWEEP):
            log_hold(error, account=account, stage=Stage.SWEEP)
