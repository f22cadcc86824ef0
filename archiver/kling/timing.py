"""How far the API's clock is from ours."""

import email.utils


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
