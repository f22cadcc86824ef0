"""Notices when the API knows none of the ids that callbacks name: nearly always a wrong key, region or account.

In memory only: after a restart ten more ids find it out again.
"""

import collections
import threading

UNKNOWN_MIN = 10
WITHIN_MS = 60 * 60 * 1000


class UnknownIdAlarm:
    """Counts ids that turned out unknown since the last one that was confirmed. Thread-safe; times are Unix ms."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unknown: collections.deque[int] = collections.deque(maxlen=UNKNOWN_MIN)
        self._said_at: int | None = None

    def confirmed(self) -> None:
        """The API knew an id that somebody had named."""
        with self._lock:
            self._unknown.clear()

    def unknown(self, *, now: int) -> bool:
        """An id was given up as unknown. True when it is time to say so: ten within an hour and none confirmed, at most
        once an hour."""
        with self._lock:
            self._unknown.append(now)
            many = len(self._unknown) == UNKNOWN_MIN and self._unknown[0] > now - WITHIN_MS
            if not many or (self._said_at is not None and self._said_at > now - WITHIN_MS):
                return False
            self._said_at = now
            return True
