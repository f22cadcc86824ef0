"""Reads everything that `/tasks` or `/solutions` shows of a window of time. No ledger, no HTTP of its own.

What API.md 5.3 leaves undocumented is assumed in its worst form:

- No order: a window is read to its end.
- A cursor may stop working, repeat itself, or lead on for ever. The window is then read in halves, and so on, until a
  part needs no cursor. Rows that are read twice only cost calls: recording is idempotent.
- Bounds may or may not belong to the window: halves overlap by a second.
"""

from collections.abc import Callable, Iterator

from archiver.failures import ApiAnswerUnreadable, ApiBadParameter, ApiRequestInvalid
from archiver.kling.new_standard_calls import WindowPage

OVERLAP_MS = 1000
SPAN_MS_MIN = 4 * OVERLAP_MS
PAGES_MAX = 1000
"""Pages behind one first page; more of them mean that the cursors run in a circle."""

Read = Callable[[int, int, str], WindowPage]
"""(start, end, cursor) → page; times in Unix ms, the cursor empty for the first page."""


class _CursorLost(Exception):
    """The cursor does not lead to the rest of the window."""


def read_window(read: Read, *, start: int, end: int) -> Iterator[WindowPage]:
    """Every page from `start` to `end` (Unix ms), some perhaps twice.

    Raises what `read` raises for a first page, and ApiAnswerUnreadable where even the shortest part has no end.
    """
    waiting = [(start, end)]
    while waiting:
        first, last = waiting.pop()
        try:
            yield from _read_stretch(read, first, last)
        except _CursorLost as error:
            if last - first <= SPAN_MS_MIN:
                raise ApiAnswerUnreadable(f"A list by time could not be read to its end: {error}") from None
            middle = (first + last) // 2
            waiting += [(first, middle + OVERLAP_MS), (middle - OVERLAP_MS, last)]


def _read_stretch(read: Read, start: int, end: int) -> Iterator[WindowPage]:
    page = read(start, end, "")
    yield page
    cursors: set[str] = set()
    while page.has_more:
        if not page.next_cursor or page.next_cursor in cursors or len(cursors) >= PAGES_MAX:
            raise _CursorLost("its cursor leads nowhere")
        cursors.add(page.next_cursor)
        try:
            page = read(start, end, page.next_cursor)
        except (ApiBadParameter, ApiRequestInvalid) as error:
            raise _CursorLost(str(error)) from None
        yield page
