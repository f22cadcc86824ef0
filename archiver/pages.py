"""Reads a family's list from its newest end, whichever way the list runs. No ledger, no HTTP of its own.

What kling-api.md 5.2 leaves undocumented is assumed in its worst form:

- The order is found out from the rows themselves; a list without any order is read to its end.
- A short page is not the end; two empty ones are.
- Rows shift while we read: towards the next page where new tasks push (newest first, read forwards), towards
  the previous one where old tasks vanish (oldest first, read backwards). In both directions of reading a row
  then shows twice, and none is passed over.
- A server that ignores `pageNum` answers the same page for ever: seen, said, and taken as the end.
- There are 1000 pages. A full last one means that older tasks cannot be seen, and is said.
"""

import dataclasses
import enum
import itertools
from collections.abc import Callable, Iterator

from archiver.kling import Page

PAGES_MOST = 1000
_NOISE = 0.1
"""Part of the neighbours that may stand the wrong way round in a list that is still called sorted: equal
seconds, or an order by another clock than `created_at`."""


class Order(enum.StrEnum):
    """Which way a list runs."""

    NEWEST_FIRST = "newest_first"
    OLDEST_FIRST = "oldest_first"
    NONE = "none"
    UNTOLD = "untold"
    """Too few rows to tell."""


def order_of(page: Page) -> Order:
    """Which way this page runs, by `created_at` of its rows."""
    times = [task.created_at for task in page.tasks if task.created_at is not None]
    steps = [later - earlier for earlier, later in itertools.pairwise(times) if later != earlier]
    if not steps:
        return Order.UNTOLD
    upwards = sum(step > 0 for step in steps) / len(steps)
    if upwards <= _NOISE:
        return Order.NEWEST_FIRST
    return Order.OLDEST_FIRST if upwards >= 1 - _NOISE else Order.NONE


@dataclasses.dataclass
class Listing:
    """One reading of a family's list. Iterate `pages`; the other fields say what was found out meanwhile."""

    read: Callable[[int], Page]
    oldest_first: bool = False
    """What an earlier reading found out; corrected by this one."""
    last_page: int | None = None
    """Where the rows ended, for a list that runs oldest first."""
    order: Order = Order.UNTOLD
    stands_still: bool = False
    """The server gave the same page again for another number."""
    overflows: bool = False
    """Page 1000 was full."""

    def pages(self) -> Iterator[Page]:
        """Every page, newest end first where there is one. Stop iterating whenever enough was seen."""
        if self.oldest_first:
            yield from self._backwards()
        else:
            yield from self._forwards()

    @property
    def sorted(self) -> bool:
        """Whether "only old rows on this page" says anything about the pages after it."""
        return self.order in (Order.NEWEST_FIRST, Order.OLDEST_FIRST)

    def _forwards(self) -> Iterator[Page]:
        empty, before = 0, None
        for number in range(1, PAGES_MOST + 1):
            page = self.read(number)
            self._learn(page)
            if self.order is Order.OLDEST_FIRST and number == 1:
                self.oldest_first = True
                yield from self._backwards()
                return
            empty = empty + 1 if page.rows == 0 else 0
            if empty == 2:
                return
            if self._is_repeated(page, before):
                return
            before = page
            yield page
        self.overflows = before is not None and before.rows > 0

    def _backwards(self) -> Iterator[Page]:
        self.last_page = self._find_last(self.last_page or 1)
        before = None
        for number in range(self.last_page, 0, -1):
            page = self.read(number)
            self._learn(page)
            if self.order is Order.NEWEST_FIRST:
                # It has turned round since: start over from the other end, rather than miss the newest.
                self.oldest_first = False
                yield from self._forwards()
                return
            if self._is_repeated(page, before):
                return
            before = page
            yield page
        self.overflows = self.last_page == PAGES_MOST

    def _learn(self, page: Page) -> None:
        found = order_of(page)
        if found is Order.UNTOLD or found is self.order:
            return
        # Two pages that run differently: nothing is sorted here.
        self.order = found if self.order is Order.UNTOLD else Order.NONE

    def _is_repeated(self, page: Page, before: Page | None) -> bool:
        self.stands_still = before is not None and page.rows > 0 and page.ids == before.ids
        return self.stands_still

    def _find_last(self, start: int) -> int:
        """The last page with rows: doubling from `start`, then halving; each question looks at two pages,
        since one empty page is not the end."""
        low, high = 1, start
        while high < PAGES_MOST and self._has_rows_from(high):
            low, high = high, min(high * 2, PAGES_MOST)
        while high - low > 1:
            middle = (low + high) // 2
            if self._has_rows_from(middle):
                low = middle
            else:
                high = middle
        return high if self._has_rows_from(high) else low

    def _has_rows_from(self, number: int) -> bool:
        if self.read(number).rows:
            return True
        return number < PAGES_MOST and self.read(number + 1).rows > 0
