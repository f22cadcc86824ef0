"""Notices when the API knows none of the ids that callbacks name: nearly always a wrong key, region or account.

In memory only: after a restart it takes ten more ids.
"""

import collections
import threading

UNKNOWN_MIN = 10
WITHIN_MS = 60 * 60 * 1000


class UnknownIdAlarm:
    """Counts the ids that were given up as unknown since the API last confirmed one. Thread-safe; times are Unix ms."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unknown: collections.deque[int] = collections.deque(maxlen=UNKNOWN_MIN)
        self._raised_at: int | None = None
        self._confirmed_at: int | None = None
        self._is_raised = False

    @property
    def is_raised(self) -> bool:
        """Whether the API has known no id since the alarm."""
        with self._lock:
            return self._is_raised

    def confirmed(self, *, now: int) -> None:
        """Note that the API knew an id."""
        with self._lock:
            self._unknown.clear()
            self._confirmed_at = now
            self._is_raised = False

    def unknown(self, *, now: int) -> bool:
        """Note that an id was given up. True for the tenth within an hour, at most once an hour."""
        with self._lock:
            self._unknown.append(now)
            many = len(self._unknown) == UNKNOWN_MIN and self._unknown[0] > now - WITHIN_MS
            if self._confirmed_at is not None and self._confirmed_at > now - WITHIN_MS:
                return False  # the others may be forged
            self._is_raised = self._is_raised or many
            if not many or (self._raised_at is not None and self._raised_at > now - WITHIN_MS):
                return False
            self._raised_at = now
            return True
