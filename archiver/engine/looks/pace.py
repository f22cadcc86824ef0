"""When to look next.

At start and every hour. Between these also:
- after five minutes in which nothing has succeeded;
- after a failure of something shared: at once, then every ten seconds until a look or some work succeeds;
- when work goes on for long without a success.
"""

import time
from collections.abc import Callable

from archiver.engine.looks.outage import SLOW_SECONDS, Outage
from archiver.failures import HOLD_PROBE_SECONDS, Disposition, Failure

IDLE_SECONDS = 5 * 60.0
DOUBT_SECONDS = 10.0
REGULAR_SECONDS = 60 * 60.0


class Pace:
    """The pace of one look. Belongs to one thread, except `doubt`."""

    def __init__(self, outage: Outage, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._outage = outage
        self._monotonic = monotonic
        self._looked_at = self._regular_at = float("-inf")
        self._failed_in_a_row = 0
        self._pause_seconds = 0.0
        """The pause after a failed look."""
        self._is_doubted = False

    def doubt(self) -> None:
        """Work has failed: look at once."""
        self._is_doubted = True

    @property
    def is_regular(self) -> bool:
        """Whether this is the look at start or the hourly one."""
        return self._monotonic() >= self._regular_at + REGULAR_SECONDS

    def is_due(self) -> bool:
        now = self._monotonic()
        if self._is_doubted or self.is_regular:
            return True
        if self._failed_in_a_row:
            return now >= self._looked_at + self._pause_seconds
        if self._outage.is_doubtful:
            return now >= self._looked_at + DOUBT_SECONDS
        if self._outage.is_slow:
            return now >= self._looked_at + SLOW_SECONDS
        return now >= max(self._looked_at, self._outage.worked_at) + IDLE_SECONDS

    def begin(self) -> bool:
        """A look begins; whether it is the regular one."""
        is_regular, self._is_doubted = self.is_regular, False
        self._looked_at = self._monotonic()
        if is_regular:
            self._regular_at = self._looked_at
        return is_regular

    def succeeded(self) -> None:
        self._failed_in_a_row = 0

    def failed(self, error: Failure) -> None:
        """The next look follows at once; then every ten seconds. Refused keys are left alone for longer."""
        self._failed_in_a_row += 1
        if error.disposition is Disposition.HOLD:
            self._pause_seconds = HOLD_PROBE_SECONDS
        else:
            self._pause_seconds = 0.0 if self._failed_in_a_row == 1 else DOUBT_SECONDS
