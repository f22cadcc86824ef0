"""How long an answer may take, and how far the API's clock is from ours."""

import email.utils
import math
from collections.abc import Callable


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


def skew_ms(date: str | None, *, sent_at: float, received_at: float) -> int | None:
    """The API's clock minus ours, from its `Date` header.

    The server wrote its time, cut to seconds, between `sent_at` and `received_at` (Unix seconds). Of the differences
    that allow this, the smallest is taken.
    """
    try:
        server_ms = email.utils.parsedate_to_datetime(date or "").timestamp() * 1000
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    skew_min = server_ms - received_at * 1000
    skew_max = server_ms + 999 - sent_at * 1000
    return round(max(skew_min, min(skew_max, 0.0)))
