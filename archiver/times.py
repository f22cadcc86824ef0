"""Parses times as people write them."""

import datetime
import re

_AGO = re.compile(r"([0-9]{1,6})\s*([smhd])(?: ago)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_time(written: str, *, now: int) -> int:
    """Unix ms of `2026-11-20`, `2026-11-20T08:00Z` (UTC where no offset is named), or of `36h` before `now`. Raises
    ValueError with what is wrong."""
    text = written.strip()
    if ago := _AGO.fullmatch(text.lower()):
        return now - int(ago[1]) * _SECONDS[ago[2]] * 1000
    try:
        moment = datetime.datetime.fromisoformat(text.upper())
    except ValueError:
        raise ValueError("must be a time such as 2026-11-20, 2026-11-20T08:00Z, 36h or 7d") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return int(moment.timestamp() * 1000)
