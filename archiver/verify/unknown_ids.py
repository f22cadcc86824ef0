"""Notices when the API knows none of the ids that callbacks name: nearly always a wrong key, region or account.

In memory only: after a restart it takes ten more ids.
"""

import collections
import threading

UNKNOWN_MIN = 10
WITHIN_MS = 60 * 60 * 1000


class UnknownIdAlarm:
    """Counts ids given up as unknown since the API last confirmed one. Thread-safe; times are Unix ms."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unknown: collections.deque[int] = collections.deque(maxlen=UNKNOWN_MIN)
        self._raised_at: int | None = None

    def confirmed(self) -> None:
        """Note that the API knew an id."""
        with self._lock:
            self._unknown.clear()

    def unknown(self, *, now: int) -> bool:
        """Note that an id was given up. True for the tenth within an hour, at most once an hour."""
        with self._lock:
            self._unknown.append(now)
            many = len(self._unknown) == UNKNOWN_MIN and self._unknown[0] > now - WITHIN_MS
            if not many or (self._raised_at is not None and self._raised_at > now - WITHIN_MS):
                return False
            self._raised_at = now
            return True
