"""Time that passes: a clock that also runs while this machine is suspended, and a timeout for a whole answer."""

import math
import time
from collections.abc import Callable


def _seconds_since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


seconds_passed = _seconds_since_boot if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
"""Seconds, never set back. On Linux they also pass while the machine is suspended (a laptop lid). Other systems offer
Python no such clock: there a lease outlives a suspend by its remaining time, and the fencing token in the ledger
decides."""


class TimeLeft:
    """A read timeout that shrinks: the seconds until the next byte must come, at most `idle_seconds`, and none past the
    deadline of the whole answer.

    The HTTP client applies one timeout to each read, so a server that drips bytes would hold a thread for ever. It
    hands the value to `socket.settimeout`, which asks any integer-like object for its value anew.
    """

    def __init__(self, *, idle_seconds: float, answer_seconds: float, monotonic: Callable[[], float]) -> None:
        self._idle_seconds = idle_seconds
        self._monotonic = monotonic
        self._ends_at = monotonic() + answer_seconds

    def __index__(self) -> int:
        left = self._ends_at - self._monotonic()
        if left <= 0:
            raise TimeoutError("The answer as a whole took too long.")
        return math.ceil(min(left, self._idle_seconds))
