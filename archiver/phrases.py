"""Formats numbers and times for people."""

from collections.abc import Sequence

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
SHOWN_ID_LENGTH_MAX = 80


def distance(difference_ms: int) -> str:
    """`in 6.9 days` or `4 minutes ago`."""
    length = span(abs(difference_ms))
    return f"in {length}" if difference_ms > 0 else f"{length} ago"


def span(length_ms: int) -> str:
    """The time in the largest unit of which there are two or more; else in seconds."""
    seconds = length_ms // 1000
    if seconds >= 2 * _DAY:
        return f"{seconds * 10 // _DAY / 10:.1f} days"  # rounded down: 6.97 days are not 7
    for unit, name in ((_HOUR, "hours"), (_MINUTE, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return "1 second" if seconds == 1 else f"{seconds} seconds"


def count_of(count: int, noun: str) -> str:
    """`1 task`, `3 tasks`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listing(ids: Sequence[str], *, count: int) -> str:
    """The first few ids of `count`: `1, 2 and 7 more`."""
    more = count - len(ids)
    return ", ".join(ids) + (f" and {more} more" if more > 0 else "")


def shown_id(name: str) -> str:
    """An id as the operator typed it: in quotes if it is empty or has blanks, and cut if it is longer than any id."""
    if name and len(name) <= SHOWN_ID_LENGTH_MAX and not any(map(str.isspace, name)):
        return name
    rest = "…" if len(name) > SHOWN_ID_LENGTH_MAX else ""
    return f"'{name[:SHOWN_ID_LENGTH_MAX]}{rest}'"
