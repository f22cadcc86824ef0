"""Reads a family's list from its newest end. No ledger, no HTTP of its own.

What API.md 5.2 leaves undocumented is assumed in its worst form:

- The rows themselves tell the order; a list without any is read to its end.
- A short page is not the end; two empty ones are.
- Rows shift during the reading: to the next page as tasks come (newest first, read forwards), to the previous one as
  tasks vanish (oldest first, read backwards). Either way a row shows twice, and none is missed.
- A list that shifts by exactly a page shows a page again. A server that ignores `pageNum` does so for ever, which is
  the end (`stands_still`).
- A full page 1000 hides the tasks behind it (`overflows`): the oldest, or, of a list that does not run newest first,
  perhaps the newest (`hides_newest`).
- Pages may have to be smaller (`PagesRenumbered`): a number then names other rows, so the reading begins anew. What was
  read shows twice, and no row is skipped, whether or not the server obeys the size.
"""

import dataclasses
import enum
import itertools
from collections.abc import Callable, Iterator

from archiver.kling.pages import Page

PAGES_MAX = 1000
REPEATS_MAX = 3
_NOISE = 0.1
"""A list with this share of neighbours out of order still counts as sorted: another clock may order it."""


class Order(enum.StrEnum):
    """Which way a list runs."""

    NEWEST_FIRST = "newest_first"
    OLDEST_FIRST = "oldest_first"
    NONE = "none"
    UNTOLD = "untold"
    """Too few rows were read to tell."""


@dataclasses.dataclass(frozen=True, slots=True)
class Steps:
    """How often `created_at` rises and falls from a row to the next."""

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


class PagesRenumbered(Exception):
    """Raised by `read` from a page that had to be asked for in smaller pages. All later reads are of that size."""

    def __init__(self, *, rows_before: int, rows: int) -> None:
        super().__init__()
        self.rows_before = rows_before
        self.rows = rows


def page_at(number: int, *, rows_before: int, rows: int) -> int:
    """The page of `rows` in which the first row of page `number` of `rows_before` lies."""
    return (number - 1) * rows_before // rows + 1


@dataclasses.dataclass
class Listing:
    """One reading of a family's list; the fields say what it finds out."""

    read: Callable[[int], Page]
    oldest_first: bool = False
    """What an earlier reading found; this one corrects it."""
    last_page: int | None = None
    """The last page with rows, of a list that runs oldest first."""
    stands_still: bool = False
    """The server answers every page number with the same page."""
    still_page: Page | None = None
    """The page that the server repeats."""
    readings: int = 1
    """How often the reading has begun."""
    _steps: Steps = Steps(0, 0)
    """The steps of all pages so far: one short page shows too little."""
    _turned: bool = False
    _ids_before: tuple[str, ...] = ()
    """The ids of the page before."""
    _repeats: int = 0
    """How often in a row that page has come again."""
    _rows_max: int = 0
    _rows_of_last_page: int = 0
    _kept: tuple[int, Page] | None = None

    def pages(self) -> Iterator[Page]:
        """Every page, from the newest end where there is one. Stop iterating at any time."""
        while True:
            try:
                yield from self._backwards() if self.oldest_first else self._forwards()
            except PagesRenumbered as change:
                self._begin_anew(change)
            else:
                return

    @property
    def order(self) -> Order:
        """Which way the list runs, as far as it was read."""
        return self._steps.order

    @property
    def sorted(self) -> bool:
        """Whether pages behind old rows are older still: the list has an order, and is read from its newest end."""
        return self.order is (Order.OLDEST_FIRST if self.oldest_first else Order.NEWEST_FIRST)

    @property
    def overflows(self) -> bool:
        """Page 1000 has rows, and no page had more: the server chooses the size of its pages."""
        return 0 < self._rows_max <= self._rows_of_last_page

    @property
    def hides_newest(self) -> bool:
        """Whether the newest tasks may lie behind page 1000."""
        return self.overflows and self.order is not Order.NEWEST_FIRST

    def _begin_anew(self, change: PagesRenumbered) -> None:
        if self.last_page is not None:
            number = page_at(self.last_page, rows_before=change.rows_before, rows=change.rows)
            self.last_page = min(PAGES_MAX, number)
        self._turned, self._kept = False, None
        self._ids_before, self._repeats, self.stands_still = (), 0, False
        self.still_page = None
        self._rows_max = self._rows_of_last_page = 0
        self.readings += 1

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
                # Its order has changed since: start from the other end, where the newest are.
                self._turned, self.oldest_first, self.last_page = True, False, None
                yield from self._forwards()
                return
            if self._is_standing_still(page):
                return
            if not self._repeats:
                yield page

    def _learn(self, number: int, page: Page) -> Page:
        self._steps += steps_of(page)
        self._rows_max = max(self._rows_max, page.rows)
        if number == PAGES_MAX:
            self._rows_of_last_page = page.rows
        return page

    def _is_standing_still(self, page: Page) -> bool:
        """Whether the same page came `REPEATS_MAX` times again; fewer may be a list that shifted by a page."""
        repeated = page.ids != () and page.ids == self._ids_before
        self._repeats = self._repeats + 1 if repeated else 0
        self._ids_before = page.ids
        self.stands_still = self._repeats >= REPEATS_MAX
        self.still_page = page if self.stands_still else None
        return self.stands_still

    def _find_last(self, start: int) -> int:
        """The last page with rows: outwards in doubling steps, then by halves. Each step looks at two pages, since one
        empty page is not the end; 3 reads where nothing has changed."""
        low, high = self._around(start)
        while high - low > 1:
            middle = (low + high) // 2
            if self._has_rows_from(middle):
                low = middle
            else:
                high = middle
        return low

    def _around(self, start: int) -> tuple[int, int]:
        """A page with rows at or behind it (or page 1), and a later one with none."""
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
        """Read a page, unless the search has just read it."""
        if self._kept is not None and self._kept[0] == number:
            return self._kept[1]
        return self.read(number)
