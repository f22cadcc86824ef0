"""How long a fetch may take: as long as bytes keep coming, up to a limit."""

import math
from collections.abc import Callable

import httpcore2

PACE_SECONDS = 120.0
BYTES_PER_SECOND_MIN = 10_000
"""Over each `PACE_SECONDS`. A server that drips does not keep a slot, and a slow line gets its file."""


class Allowance:
    """How long each blocking call of a fetch may take: `idle_seconds`, and never past `until`; the body also keeps a
    pace.

    httpcore2 carries it in place of a number of seconds. It is asked before each call, so a server that drips single
    bytes does not get past the end. One thread uses it at a time.
    """

    def __init__(self, *, until: float, idle_seconds: float, clock: Callable[[], float]) -> None:
        self._until = until
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._began_at = clock()
        self.bytes = 0
        """Every byte that came, including the head: one read may bring the head's end and the body's start."""
        self._paced_from = self._began_at
        self._paced_bytes = 0

    def within(self, seconds: float) -> "Allowance":
        """For a step that may take `seconds` in all."""
        return Allowance(
            until=min(self._until, self._clock() + seconds), idle_seconds=seconds, clock=self._clock
        )

    def begin_body(self) -> None:
        """The pace counts from here: redirects and a slow head are not held against the body."""
        self._began_at = self._paced_from = self._clock()

    def came(self, count: int) -> None:
        """Note bytes that were read."""
        self.bytes += count
        self._paced_bytes += count

    def seconds(self) -> float:
        """More than 0. Raises httpcore2.TimeoutException if none are left."""
        now = self._clock()
        pace_left = self._pace_left(now)
        if pace_left <= 0:
            raise httpcore2.TimeoutException(
                f"fewer than {BYTES_PER_SECOND_MIN} bytes a second for {PACE_SECONDS:.0f} s"
            )
        left = min(self._idle_seconds, self._until - now, pace_left)
        if left <= 0:
            raise httpcore2.TimeoutException("the time allowed is used up")
        return left

    def _pace_left(self, now: float) -> float:
        """Seconds left to catch up with the pace; infinite if the fetch is ahead of it."""
        has_kept_it = self._paced_bytes >= BYTES_PER_SECOND_MIN * PACE_SECONDS
        if has_kept_it and now >= self._paced_from + PACE_SECONDS:
            self._paced_from, self._paced_bytes, has_kept_it = now, 0, False
        return math.inf if has_kept_it else self._paced_from + PACE_SECONDS - now

    @property
    def ended_alive(self) -> bool:
        """Whether the time is over although bytes still came fast enough."""
        now = self._clock()
        return now >= self._until and self.bytes >= BYTES_PER_SECOND_MIN * (now - self._began_at)


Timeout = float | Allowance | None


def seconds_of(timeout: Timeout) -> float | None:
    """Raises httpcore2.TimeoutException if none are left."""
    return timeout.seconds() if isinstance(timeout, Allowance) else timeout


def note_bytes(timeout: Timeout, count: int) -> None:
    if isinstance(timeout, Allowance):
        timeout.came(count)
