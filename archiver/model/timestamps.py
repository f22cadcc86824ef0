"""Times: Unix milliseconds inside, RFC 3339 outside, and what the API may send for one."""

import datetime
import re

DAY_MS = 86_400_000
RETENTION_MS = 30 * DAY_MS
"""Kling deletes results 30 days after the task (archiver/kling/API.md 8.3). From which time is undocumented; we assume
`created_at`, the earlier one."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def api_time(value: object) -> int | None:
    """Unix milliseconds from a number or decimal string of the API, or from RFC 3339 text; seconds and microseconds are
    scaled.

    None if missing or absurd: outside 2020–2100.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,20}", value):
        return _sane(_of_rfc3339(value))
    if isinstance(value, float) and not 0 <= value < 1e18:
        return None
    number = int(value)
    return _sane(number) or _sane(number * 1000) or _sane(number // 1000)


def _sane(milliseconds: int | None) -> int | None:
    is_sane = milliseconds is not None and 1_577_836_800_000 <= milliseconds < 4_102_444_800_000
    return milliseconds if is_sane else None


def _of_rfc3339(text: str) -> int | None:
    """None without an offset, too: it may be anywhere within a day."""
    try:
        moment = datetime.datetime.fromisoformat(text.strip().upper()) if len(text) <= 64 else None
    except ValueError:
        return None
    if moment is None or moment.tzinfo is None:
        return None
    return (moment - _EPOCH) // datetime.timedelta(milliseconds=1)


def rfc3339(milliseconds: int) -> str:
    """`2026-11-20T11:38:00.000Z`: the format of every time that leaves the program."""
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
