"""One request rate for all queries of an account. No HTTP, no threads of its own.

1. Verification goes first, but while others wait every eighth request is theirs: endless callbacks can slow the sweep,
   which finds what no callback names, but never stop it.
2. The background gets at most half of the rate. List pages read for unconfirmed ids may use the other half while no
   verification wants it: with half, a flood of forged ids would delay a genuine callback by more than 5 s
   (tests/torture/flood.py). Where both wait, every third of their turns is the background's.
3. Fresh URLs get at most a quarter of the rate: a crowd of files that are gone must not delay the sweep.
4. `acquire` raises `Stopped` at once when the process ends.

Token buckets hold the rate: one for everything, one of half the rate for the background, one of a quarter for fresh
URLs. There is no queue: a thread without a token sleeps and looks again. With reservations a verification could
not overtake an earlier sweep.
"""

import contextlib
import dataclasses
import enum
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Set

from archiver.failures import Stopped
from archiver.pulses.pulse import beat

FLOOR_DIVISOR = 32
"""Halving stops at this part of the rate."""
RECOVERY_PER_SECOND = 0.01
"""Part of the configured rate won back each second. From half to full takes 50 s, so a lasting limit is hit about once
a minute."""
HALVING_SECONDS_MIN = 1.0
"""Requests sent at once are refused at once: one complaint."""
VERIFICATIONS_IN_A_ROW = 7
"""Verifications that go first while others wait; then one of those has a turn."""
LISTS_IN_A_ROW = 2
"""List pages that go first while the background waits."""
UNANSWERED_IN_A_ROW = 5
"""From this many unanswered requests in a row on, each is a complaint: a dead service is asked every five seconds. One
bad answer says nothing about the service."""
WAIT_SECONDS_MIN = 0.001
WAIT_SECONDS_MAX = 1.0


class Priority(enum.Enum):
    VERIFY = "verify"
    MATCH = "match"
    """A list page, read for ids that only an unsigned callback has named."""
    BACKGROUND = "background"
    """The sweep, and single queries for such ids."""
    FRESH = "fresh"
    """A single query for URLs that work, of a task that has succeeded."""


_PARTS: Mapping[Priority, float] = {Priority.BACKGROUND: 1 / 2, Priority.FRESH: 1 / 4}
"""The largest part of the rate that a priority may use; priorities that are not listed may use all of it."""


@dataclasses.dataclass
class Turns:
    """Decides which of the waiting kinds of request is next; no clock, no tokens."""

    verifications: int = 0
    """Verifications in a row while other kinds waited."""
    lists: int = LISTS_IN_A_ROW
    """List pages since the last turn of the background or of a fresh URL."""
    last: Priority = Priority.FRESH
    """Which of those two had the last turn."""

    def next(self, waiting: Set[Priority]) -> Priority:
        """The priority of `waiting` (not empty) that goes next."""
        others_wait = waiting - {Priority.VERIFY}
        if Priority.VERIFY in waiting and (not others_wait or self.verifications < VERIFICATIONS_IN_A_ROW):
            return Priority.VERIFY
        last_two = others_wait - {Priority.MATCH}
        if Priority.MATCH in waiting and (not last_two or self.lists < LISTS_IN_A_ROW):
            return Priority.MATCH
        if len(last_two) == 2:
            return Priority.BACKGROUND if self.last is Priority.FRESH else Priority.FRESH
        return next(iter(last_two))

    def count(self, priority: Priority, *, waiting: Set[Priority]) -> None:
        """Note a turn of `priority` while `waiting` waited."""
        if priority is Priority.VERIFY:
            self.verifications += bool(waiting - {Priority.VERIFY})
            return
        self.verifications = 0
        if priority is Priority.MATCH:
            self.lists += 1
        else:
            self.lists, self.last = 0, priority


class _Bucket:
    """A token bucket: at most `burst` tokens, refilled at a constant rate."""

    def __init__(self, *, burst: float) -> None:
        self._burst = burst
        self.tokens = burst

    def add(self, tokens: float) -> None:
        self.tokens = min(self._burst, self.tokens + tokens)

    def empty(self) -> None:
        self.tokens = min(self.tokens, 0.0)


class RateLimiter:
    """At most `rate_per_second` on average, after a burst of at most one second's worth. Thread-safe.

    `wait(seconds)` is the stop event's own `wait`: it returns True, early, once the process is stopping.
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
        self._parts = {
            priority: _Bucket(burst=max(1.0, rate_per_second * part)) for priority, part in _PARTS.items()
        }
        self._counted_until = monotonic()
        self._halved_at = float("-inf")
        self._waiting = dict.fromkeys(Priority, 0)
        self._turns = Turns()
        self._unanswered = 0

    @property
    def rate_per_second(self) -> float:
        """The configured rate, or less after a complaint of the API."""
        with self._lock:
            self._refill()
            return self._rate

    def acquire(self, priority: Priority, *, timeout_seconds: float | None = None) -> bool:
        """Wait for the right to send one request; False at the time-out. Raises `Stopped` once the process stops, even
        if a token is free."""
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
        """The API said "too fast" (1302): halve the rate and empty the buckets, at most once a second."""
        with self._lock:
            self._refill()
            now = self._monotonic()
            if now - self._halved_at < HALVING_SECONDS_MIN:
                return
            self._halved_at = now
            self._rate = max(self._rate / 2, self._full_rate / FLOOR_DIVISOR)
            self._empty()

    def spend_burst(self) -> None:
        """Another process has asked until just now: begin without a burst."""
        with self._lock:
            self._refill()
            self._empty()

    def _empty(self) -> None:
        self._all.empty()
        for bucket in self._parts.values():
            bucket.empty()

    def unanswered(self) -> None:
        """A request had no answer of the API: a time-out, a broken connection, a server error, a gateway's page."""
        with self._lock:
            self._unanswered += 1
            is_down = self._unanswered >= UNANSWERED_IN_A_ROW
        if is_down:
            self.halve()

    def answered(self) -> None:
        """The API is up, even if it refused."""
        with self._lock:
            self._unanswered = 0

    def _wait_for(self, priority: Priority) -> float:
        """Take a token and return 0, or return the seconds after which to look again."""
        with self._lock:
            self._refill()
            part = self._parts.get(priority)
            waiting = {each for each, count in self._waiting.items() if count}
            # A turn left to a priority without a token would be lost.
            able = waiting - {each for each, bucket in self._parts.items() if bucket.tokens < 1}
            if self._turns.next(able | {priority}) is not priority:
                return self._bounded(1 / self._rate)
            missing = 1 - self._all.tokens
            if part is not None:
                missing = max(missing, (1 - part.tokens) / _PARTS[priority])
            if missing > 1e-9:
                return self._bounded(missing / self._rate)
            self._all.tokens -= 1
            if part is not None:
                part.tokens -= 1
            self._turns.count(priority, waiting=waiting)
            return 0.0

    def _refill(self) -> None:
        """Bring rate and tokens up to now; the rate grows evenly, so its mean gives the tokens."""
        now = self._monotonic()
        seconds = max(0.0, now - self._counted_until)
        self._counted_until = max(now, self._counted_until)
        grown = min(self._full_rate, self._rate + seconds * RECOVERY_PER_SECOND * self._full_rate)
        tokens = seconds * (self._rate + grown) / 2
        self._rate = grown
        self._all.add(tokens)
        for priority, bucket in self._parts.items():
            bucket.add(tokens * _PARTS[priority])

    @contextlib.contextmanager
    def _queued(self, priority: Priority) -> Iterator[None]:
        with self._lock:
            self._waiting[priority] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[priority] -= 1

    def _sleep(self, seconds: float) -> None:
        beat()
        if self._wait(seconds):
            raise Stopped

    @staticmethod
    def _bounded(seconds: float) -> float:
        return min(max(seconds, WAIT_SECONDS_MIN), WAIT_SECONDS_MAX)
