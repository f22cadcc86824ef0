"""How far the API's clock is from ours."""

import email.utils
import re

AGE_SECONDS_MAX = 10 * 366 * 86_400


def skew_ms(date: str | None, *, sent_at: float, received_at: float, age: str | None = None) -> int | None:
    """The API's clock minus ours, from its `Date` header and the `Age` of an answer from a cache.

    The server wrote its time, cut to seconds, between `sent_at` and `received_at` (Unix seconds), or a cache has told
    since when it has the answer. Of the differences that allow this, the smallest is taken.
    """
    try:
        server_ms = email.utils.parsedate_to_datetime(date or "").timestamp() * 1000
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    server_ms += _age_seconds(age) * 1000
    skew_min = server_ms - received_at * 1000
    skew_max = server_ms + 999 - sent_at * 1000
    return round(max(skew_min, min(skew_max, 0.0)))


def _age_seconds(age: str | None) -> int:
    """0 for an answer that comes from no cache, or says nonsense."""
    if age is None or not re.fullmatch(r"[0-9]{1,10}", age):
        return 0
    seconds = int(age)
    return seconds if seconds <= AGE_SECONDS_MAX else 0
