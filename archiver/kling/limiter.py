"""One rate for all queries of the process. No HTTP, no threads of its own.

Two rules:

1. A verification goes first: while one waits, nothing else is let through but one turn after every seven of
   verification for whom that kept waiting: callbacks without end must delay the sweep, which finds what no callback
   tells, and never end it. The background (sweep, single questions about unconfirmed ids) never gets more than half
   of the rate. List pages that answer for many
   unconfirmed ids at once may take the other half while no verification wants it: under a flood of forged ids in
   every family, half of the rate would let a genuine callback wait for more than 5 s for the list that shows it
   (tests/torture/flood.py). So a flood costs time that nobody else has asked for. When both wait, every third
   of their turns is the background's, and nobody starves.
2. Nobody waits past a stop: `acquire` raises `Stopped` at once when the process ends.

How it works: two token buckets, one for everything and one of half the rate for the background. Nobody is
handed a place in a queue; a thread that finds no token sleeps until there could be one and looks again.
Reservations would be fairer among equals, but a verification could then not overtake a sweep that
reserved first. A crash here loses nothing but the knowledge that the API found us too fast.
"""

import contextlib
import enum
import threading
import time
from collections.abc import Callable, Iterator

from archiver.failures import Stopped

FLOOR_DIVISOR = 32
"""Halving ends at this part of the configured rate."""
RECOVERY_PER_SECOND = 0.01
"""Part of the configured rate won back each second: from half to full takes 50 s, so a limit that lasts is
run into about once a minute, not once a second."""
HALVING_SECONDS_MIN = 1.0
"""Answers to requests that were sent side by side are one complaint, not several."""
VERIFICATIONS_IN_A_ROW = 7
"""So many verifications go first while something else waits; then it has one turn."""
LISTS_IN_A_ROW = 2
"""So many list pages go first when the background waits as well."""
UNANSWERED_IN_A_ROW = 5
"""From so many questions in a row that nobody answered on, each is a complaint: a service that is down is asked about
every five seconds, however much waits for it. One bad answer says nothing about the service."""
WAIT_SECONDS_MIN = 0.001
WAIT_SECONDS_MAX = 1.0


class Priority(enum.Enum):
    """Who asks."""

    VERIFY = "verify"
    MATCH = "match"
    """A list page, read for ids that nobody but an unsigned callback vouches for."""
    BACKGROUND = "background"
    """The sweep, and single questions about such ids."""


class _Bucket:
    """Tokens that come back with time; at most `burst` of them are kept."""

    def __init__(self, *, burst: float) -> None:
        self._burst = burst
        self.tokens = burst

    def add(self, tokens: float) -> None:
        self.tokens = min(self._burst, self.tokens + tokens)

    def empty(self) -> None:
        self.tokens = min(self.tokens, 0.0)


class RateLimiter:
    """At most `rate_per_second` requests a second on average, after a burst of at most one second's worth.

    Safe for any number of threads. `wait(seconds)` returns early with True once the process is stopping;
    give the stop event's own `wait`.
    """

    def __init__(
        self,
        rate_per_second: float = 2.0,
        *,
        wait: Callable[[float], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < rate_per_second < float("inf"):
            raise ValueError("The query rate must be a positive number of requests per second.")
        self._full_rate = rate_per_second
        self._rate = rate_per_second
        self._wait = wait
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._all = _Bucket(burst=max(1.0, rate_per_second))
        self._background = _Bucket(burst=max(1.0, rate_per_second / 2))
        self._counted_until = monotonic()
        self._halved_at = float("-inf")
        self._waiting = dict.fromkeys(Priority, 0)
        self._verifications_in_a_row = 0
        """For which something else kept waiting, since the last turn of anything else."""
        self._lists_in_a_row = LISTS_IN_A_ROW
        """Since the background's last turn."""
        self._unanswered = 0

    @property
    def rate_per_second(self) -> float:
        """The rate that holds now: the configured one, or less after a complaint of the API."""
        with self._lock:
            self._refill()
            return self._rate

    def acquire(self, priority: Priority, *, timeout_seconds: float | None = None) -> bool:
        """Wait for the right to send one request. False when `timeout_seconds` have passed without it.

        Raises `Stopped` as soon as the process stops, also when a token would be free.
        """
        until = float("inf") if timeout_seconds is None else self._monotonic() + timeout_seconds
        self._sleep(0.0)
        seconds = self._wait_for(priority)
        if not seconds:
            return True
        with self._queued(priority):
            while seconds:
                left = until - self._monotonic()
                if left <= 0:
                    return False
                self._sleep(min(seconds, left))
                seconds = self._wait_for(priority)
        return True

    def halve(self) -> None:
        """The API said "too fast" (1302): half the rate, and no burst. Repeated within a second it counts
        once."""
        with self._lock:
            self._refill()
            now = self._monotonic()
            if now - self._halved_at < HALVING_SECONDS_MIN:
                return
            self._halved_at = now
            self._rate = max(self._rate / 2, self._full_rate / FLOOR_DIVISOR)
            self._all.empty()
            self._background.empty()

    def unanswered(self) -> None:
        """Nobody answered a request: silence, a broken connection, a server error, a gateway's page."""
        with self._lock:
            self._unanswered += 1
            is_down = self._unanswered >= UNANSWERED_IN_A_ROW
        if is_down:
            self.halve()

    def answered(self) -> None:
        """The API answered, be it with a refusal: it is up."""
        with self._lock:
            self._unanswered = 0

    def _wait_for(self, priority: Priority) -> float:
        """Take a token and return 0, or say after how many seconds to look again."""
        with self._lock:
            self._refill()
            in_background = priority is Priority.BACKGROUND
            if self._gives_way(priority):
                return self._bounded(1 / self._rate)
            missing = 1 - self._all.tokens
            if in_background:
                missing = max(missing, 2 * (1 - self._background.tokens))
            if missing > 1e-9:
                return self._bounded(missing / self._rate)
            self._all.tokens -= 1
            if in_background:
                self._background.tokens -= 1
            self._count_turn(priority)
            return 0.0

    def _count_turn(self, priority: Priority) -> None:
        if priority is Priority.VERIFY:
            if self._waiting[Priority.MATCH] or self._waiting[Priority.BACKGROUND]:
                self._verifications_in_a_row += 1
            return
        self._verifications_in_a_row = 0
        self._lists_in_a_row = 0 if priority is Priority.BACKGROUND else self._lists_in_a_row + 1

    def _gives_way(self, priority: Priority) -> bool:
        verification_had_its = self._verifications_in_a_row >= VERIFICATIONS_IN_A_ROW
        background_could_go = self._waiting[Priority.BACKGROUND] > 0 and self._background.tokens >= 1
        if priority is Priority.VERIFY:
            # For nobody who could not go: a turn that is held free and not taken would be lost.
            return verification_had_its and (self._waiting[Priority.MATCH] > 0 or background_could_go)
        if self._waiting[Priority.VERIFY] and not verification_had_its:
            return True
        lists_had_theirs = self._lists_in_a_row >= LISTS_IN_A_ROW
        if priority is Priority.BACKGROUND:
            return self._waiting[Priority.MATCH] > 0 and not lists_had_theirs
        return lists_had_theirs and background_could_go

    def _refill(self) -> None:
        """Bring rate and tokens up to now. The rate grows evenly: its mean over the time is exact enough."""
        now = self._monotonic()
        seconds = max(0.0, now - self._counted_until)
        self._counted_until = max(now, self._counted_until)
        grown = min(self._full_rate, self._rate + seconds * RECOVERY_PER_SECOND * self._full_rate)
        tokens = seconds * (self._rate + grown) / 2
        self._rate = grown
        self._all.add(tokens)
        self._background.add(tokens / 2)

    @contextlib.contextmanager
    def _queued(self, priority: Priority) -> Iterator[None]:
        """Let the others see who waits."""
        with self._lock:
            self._waiting[priority] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[priority] -= 1

    def _sleep(self, seconds: float) -> None:
        if self._wait(seconds):
            raise Stopped

    @staticmethod
    def _bounded(seconds: float) -> float:
        return min(max(seconds, WAIT_SECONDS_MIN), WAIT_SECONDS_MAX)
