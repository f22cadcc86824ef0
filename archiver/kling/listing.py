"""Reads a family's list from its newest end, whichever way the list runs. No ledger, no HTTP of its own.

What API.md 5.2 leaves undocumented is assumed in its worst form:

- The order is found out from the rows themselves; a list without any order is read to its end.
- A short page is not the end; two empty ones are.
- Rows shift while we read: towards the next page where new tasks push (newest first, read forwards), towards
  the previous one where old tasks vanish (oldest first, read backwards). In both directions of reading a row
  then shows twice, and none is passed over.
- A list that shifts by exactly a page shows the same page again; a server that ignores `pageNum` does so for ever,
  which is seen, said, and taken as the end.
- There are 1000 pages. A full last one means that older tasks cannot be seen, and is said.
"""

import dataclasses
import enum
import itertools
from collections.abc import Callable, Iterator

from archiver.kling.pages import Page

PAGES_MAX = 1000
REPEATS_MAX = 3
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


@dataclasses.dataclass(frozen=True, slots=True)
class Steps:
    """How often `created_at` goes up and down from a row to the next."""

    up: int
    down: int

    def __add__(self, other: "Steps") -> "Steps":
        return Steps(self.up + other.up, self.down + other.down)

    @property
    def order(self) -> Order:
        """Which way rows with these steps run."""
        if self.up + self.down == 0:
            return Order.UNTOLD
        upwards = self.up / (self.up + self.down)
        if upwards <= _NOISE:
            return Order.NEWEST_FIRST
        return Order.OLDEST_FIRST if upwards >= 1 - _NOISE else Order.NONE


def steps_of(page: Page) -> Steps:
    """The steps within one page; rows of the same moment make none."""
    times = [task.created_at for task in page.tasks if task.created_at is not None]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return Steps(up=sum(step > 0 for step in steps), down=sum(step < 0 for step in steps))


@dataclasses.dataclass
class Listing:
    """One reading of a family's list. Iterate `pages`; the other fields say what was found out meanwhile."""

    read: Callable[[int], Page]
    oldest_first: bool = False
    """What an earlier reading found out; corrected by this one."""
    last_page: int | None = None
    """Where the rows ended, for a list that runs oldest first."""
    stands_still: bool = False
    """The server gave the same page again for another number."""
    _steps: Steps = Steps(0, 0)
    """Of all pages so far: a short page, read alone, says too little."""
    _turned: bool = False
    _before: tuple[str, ...] = ()
    """The ids of the page before, and how often in a row it has come."""
    _repeats: int = 0
    _rows_most: int = 0
    _rows_at_the_end: int = 0
    _kept: tuple[int, Page] | None = None

    def pages(self) -> Iterator[Page]:
        """Every page, newest end first where there is one. Stop iterating whenever enough was seen."""
        if self.oldest_first:
            yield from self._backwards()
        else:
            yield from self._forwards()

    @property
    def order(self) -> Order:
        """Which way the list runs, as far as it was read."""
        return self._steps.order

    @property
    def sorted(self) -> bool:
        """Whether "only old rows on this page" says anything about the pages after it: the list runs one way, and we
        read it from its newest end."""
        return self.order is (Order.OLDEST_FIRST if self.oldest_first else Order.NEWEST_FIRST)

    @property
    def overflows(self) -> bool:
        """Page 1000 was full, so there are tasks that no page shows. Full is what no other page was fuller than: the
        size of pages is the server's own affair."""
        return 0 < self._rows_most <= self._rows_at_the_end

    def _forwards(self) -> Iterator[Page]:
        empty = 0
        for number in range(1, PAGES_MAX + 1):
            page = self._learn(number, self.read(number))
            if self.order is Order.OLDEST_FIRST and not self._turned:
                # The newest tasks are at the other end.
                self._turned = self.oldest_first = True
                yield from self._backwards()
                return
            empty = empty + 1 if page.rows == 0 else 0
            if empty == 2 or self._is_standing_still(page):
                return
            if not self._repeats:
                yield page

    def _backwards(self) -> Iterator[Page]:
        self.last_page = self._find_last(self.last_page or 1)
        for number in range(self.last_page, 0, -1):
            page = self._learn(number, self._page(number))
            if self.order is Order.NEWEST_FIRST and not self._turned:
                # It has turned round since: start over from the other end, rather than miss the newest.
                self._turned, self.oldest_first, self.last_page = True, False, None
                yield from self._forwards()
                return
            if self._is_standing_still(page):
                return
            if not self._repeats:
                yield page

    def _learn(self, number: int, page: Page) -> Page:
        self._steps += steps_of(page)
        self._rows_most = max(self._rows_most, page.rows)
        if number == PAGES_MAX:
            self._rows_at_the_end = page.rows
        return page

    def _is_standing_still(self, page: Page) -> bool:
        """Whether the server has answered one and the same page again and again. Once or twice the list may have
        shifted by exactly a page."""
        repeated = page.rows > 0 and page.ids == self._before
        self._repeats = self._repeats + 1 if repeated else 0
        self._before = page.ids
        self.stands_still = self._repeats >= REPEATS_MAX
        return self.stands_still

    def _find_last(self, start: int) -> int:
        """The last page with rows, from where it was last time: outwards in doubling steps, then by halves. Each
        question looks at two pages, since one empty page is not the end. Where nothing has changed that is 3 reads."""
        low, high = self._around(start)
        while high - low > 1:
            middle = (low + high) // 2
            if self._has_rows_from(middle):
                low = middle
            else:
                high = middle
        return low

    def _around(self, start: int) -> tuple[int, int]:
        """A page from which on there are rows (or the first), and a later one from which on there are none."""
        step = 1
        if self._has_rows_from(start):
            low = start
            while low < PAGES_MAX:
                high = min(low + step, PAGES_MAX)
                if not self._has_rows_from(high):
                    return low, high
                low, step = high, step * 2
            return PAGES_MAX, PAGES_MAX
        high = start
        while high > 1:
            low = max(high - step, 1)
            if low == 1 or self._has_rows_from(low):
                return low, high
            high, step = low, step * 2
        return 1, 1

    def _has_rows_from(self, number: int) -> bool:
        for probed in (number, number + 1):
            page = self.read(probed) if probed <= PAGES_MAX else None
            if page is not None and page.rows:
                self._kept = probed, page
                return True
        return False

    def _page(self, number: int) -> Page:
        """A page, not read again where the search for the last one has just done so."""
        if self._kept is not None and self._kept[0] == number:
            return self._kept[1]
        return self.read(number)
