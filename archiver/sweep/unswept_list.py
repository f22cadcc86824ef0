"""The list of one family that no sweep reads, as a look reads it: from its newest end, page by page.

A look begins with the largest pages that the API documents. After a failure it begins anew with smaller ones, because
a large page may be the cause. Failed queries count towards the bound too.
"""

from collections.abc import Iterable, Iterator

from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.kling.listing import Listing
from archiver.kling.pages import PAGE_ROWS, Page
from archiver.sweep.lists import is_older

QUERIES_MAX = 20
"""For each list and look. These show 10,000 rows. If the list runs oldest first they show fewer, because its last
page must be found."""
ROWS = (PAGE_ROWS, 100, 20)
"""The rows of a page: at first, after one failure, after two."""


class _QueriesSpent(Exception):
    pass


class UnsweptList:
    """One family's list. Belongs to one thread."""

    def __init__(self, family: str, client: KlingClient, *, priority: Priority) -> None:
        self.family = family
        self._client = client
        self._priority = priority
        self.clean_until = 0
        """Unix ms. Looks have found nothing among the tasks created by then."""
        self._begun_at = 0
        """Unix ms: when the present reading began."""
        self.is_whole = False
        """Whether the present reading has shown every task of the list."""
        self._listing = Listing(self._read)
        self._pages: Iterator[Page] | None = None
        self._search_from = 1
        """Where the search for the last page of a list that runs oldest first begins. If one look's queries do not
        suffice for it, the next look goes on."""
        self._last_with_rows = 1
        self._has_unread = False
        self._open_since = 0
        """Unix ms: the creation time of the oldest task that this reading has shown and that no look can judge yet."""
        self.begin_look()

    def begin_look(self) -> None:
        """The next look begins: all queries are free again."""
        self._queries = self._failures = 0
        self.begin_again()

    def begin_again(self) -> None:
        """Read from the newest end again, within the queries that this look has left."""
        self._pages = None

    def fail(self) -> bool:
        """The list could not be read; whether this look may try it again."""
        self._failures += 1
        return self._failures < len(ROWS) and self._queries < QUERIES_MAX

    def next_page(self, now: int) -> Page | None:
        """The next page; None at the end of the list, or if the queries are spent.

        Raises Failure, Stopped. The reading then begins anew.
        """
        pages, self._pages = self._pages or self._begin(now), None
        try:
            page = next(pages, None)
        except _QueriesSpent:
            self._search_from = self._last_with_rows
            return None
        self._pages = pages
        self._search_from = self._listing.last_page or 1
        self.is_whole = page is None and not self._has_unread
        return page

    def end_at(self, horizon: int, page: Page) -> bool:
        """Whether the tasks behind `page` were all created by `horizon` (Unix ms), so that no more need be read."""
        is_past = bool(page.tasks) and all(is_older(task, horizon) for task in page.tasks)
        self.is_whole = self._listing.sorted and is_past and not self._has_unread
        return self._listing.sorted and is_past

    def note_open(self, created_at: Iterable[int | None]) -> None:
        """The page has shown tasks that no look can judge yet."""
        for moment in created_at:
            self._open_since = min(self._open_since, moment or 0)

    def note_clean(self, *, margin_ms: int) -> None:
        """The reading has found nothing among the tasks that were created `margin_ms` before its beginning, but for
        those that are still open."""
        until = self._begun_at - self._client.behind_ms - margin_ms
        self.clean_until = max(self.clean_until, min(until, self._open_since - 1))

    def _begin(self, now: int) -> Iterator[Page]:
        self._begun_at, self.is_whole, self._has_unread, self._open_since = now, False, False, now
        self._listing = Listing(
            self._read, oldest_first=self._listing.oldest_first, last_page=self._search_from
        )
        self._last_with_rows = 1
        return self._listing.pages()

    def _read(self, number: int) -> Page:
        if self._queries >= QUERIES_MAX:
            raise _QueriesSpent
        self._queries += 1
        rows = ROWS[min(self._failures, len(ROWS) - 1)]
        page = self._client.list_page(self.family, page=number, size=rows, priority=self._priority)
        page.require_readable()
        self._has_unread |= page.malformed > 0
        if page.rows:
            self._last_with_rows = max(self._last_with_rows, number)
        return page
