"""Finds tasks that no callback named: reads each family's list, or `/tasks` and `/solutions`, and records their rows.

Incremental: from the newest end until two pages in a row hold only tasks that have ended here or are too old to matter.
Full, once a day and at first: back to the horizon, so that 30 days are archived without a single callback.

A lease gives a family to one sweeper at a time. A page is in the ledger before the next is read, so a crash loses only
pages not yet read.
"""

import dataclasses
import functools
from collections.abc import Callable, Generator, Iterator

from archiver import log
from archiver.failures import Disposition, Failure, ListTooLong, Stopped
from archiver.families import collection_of
from archiver.kling.client import KlingClient
from archiver.kling.listing import PAGES_MAX, Listing
from archiver.kling.new_standard_calls import WindowPage
from archiver.kling.pages import PAGE_ROWS, Page, is_mostly_unreadable
from archiver.ledger import Ledger, SweepMemory
from archiver.metrics import Metrics
from archiver.model import DAY_MS, RETENTION_MS, Stage
from archiver.record import Recorder
from archiver.sweep.counts import CountedIds, PageCounts, SweepCounts, SweepEnd
from archiver.sweep.lists import ListForecast, ListRecorder, QuietPages, is_older, listing_of
from archiver.sweep.loop import NoLease, Sink, SweepLease, sweep
from archiver.sweep.new_standard import Selector, WindowForecast, WindowRecorder, windows_since
from archiver.sweep.page_rows import PageRows
from archiver.verify.availability import Availability

HORIZON_MS = RETENTION_MS + DAY_MS
"""How far back a sweep looks: the retention, and a day for clocks and for the undocumented start of it."""

OnPage = Callable[[SweepCounts], None]


def _ignore(_counts: SweepCounts) -> None:
    pass


def _ignore_end(_error: BaseException | None) -> None:
    pass


def _never(_page: WindowPage, _counts: PageCounts) -> bool:
    """Windows have no order, so all are read."""
    return False


@dataclasses.dataclass(frozen=True)
class _LedgerLease:
    ledger: Ledger
    token: str

    def renew(self) -> bool:
        return self.ledger.sweeps.renew(self.token)


@dataclasses.dataclass
class _Reading:
    """One reading of one family, real or dry."""

    listing: Listing
    """For a collection it stays unread."""
    since: int | None
    lease: SweepLease
    counts: SweepCounts
    page_rows: PageRows
    came_to_end: bool = False
    """The sweep has read everything that the API shows, whether or not that is a success."""


class FamilySweep:
    """A sweep under way, page by page. After a crash its lease ends by itself, and what it has read is recorded."""

    def __init__(
        self,
        counts: SweepCounts,
        pages: Iterator[PageCounts],
        *,
        on_page: OnPage,
        on_end: Callable[[BaseException | None], None],
    ) -> None:
        """`on_end` is called once with the failure, or None."""
        self.counts = counts
        self._pages = pages
        self._on_page = on_page
        self._on_end = on_end

    def step(self) -> bool:
        """Read a page; False once there is none. After False, or an exception, call it no more. Raises Failure and
        Stopped."""
        try:
            page = next(self._pages, None)
            if page is not None:
                self._on_page(self.counts)
        except BaseException as error:
            self._on_end(error)
            raise
        if page is None:
            self._on_end(None)
        return page is not None

    def leave(self) -> None:
        """Give it up between two pages."""
        self._on_end(Stopped())


@dataclasses.dataclass(frozen=True)
class Sweeper:
    """Sweeps one account. `now` gives Unix ms."""

    account: str
    families: tuple[str, ...]
    client: KlingClient
    ledger: Ledger
    availability: Availability
    recorder: Recorder
    metrics: Metrics
    full_interval_ms: int
    now: Callable[[], int]

    def is_full_due(self, family: str) -> bool:
        """Whether the day's full sweep of `family` is still to come."""
        memory = self._memory(family)
        return memory.last_full_at is None or memory.last_full_at + self.full_interval_ms <= self.now()

    def is_unavailable(self, family: str) -> bool:
        """Whether the API is known not to offer this sweep, and it is too early to ask again."""
        return self.availability.is_unavailable(family)

    def sweep(self, family: str, *, full: bool, on_page: OnPage = _ignore) -> SweepCounts:
        """Sweep one family; `on_page` is called after each page. Raises Failure and Stopped."""
        under_way = self.begin(family, full=full, on_page=on_page)
        while under_way.step():
            continue
        return under_way.counts

    def begin(self, family: str, *, full: bool, on_page: OnPage = _ignore) -> FamilySweep:
        """Begin a sweep that the caller steps page by page."""
        counts = SweepCounts(family, full)
        token = self.ledger.sweeps.begin(account=self.account, family=family)
        if token is None:
            counts.end = SweepEnd.BUSY
            return FamilySweep(counts, iter(()), on_page=_ignore, on_end=_ignore_end)
        reading = self._reading(counts, _LedgerLease(self.ledger, token))
        return FamilySweep(
            counts,
            self._pages(reading),
            on_page=on_page,
            on_end=functools.partial(self._end, token, reading, self.now()),
        )

    def _pages(self, reading: _Reading) -> Iterator[PageCounts]:
        family = reading.counts.family
        if collection := collection_of(family):
            selector = self._selector(collection)
            pages = self._read_windows(collection, WindowRecorder(selector, self.recorder), reading)
        else:
            pages = self._read_list(ListRecorder(family, self.client, self.recorder), reading)
        return self._noted(pages, reading)

    def _noted(
        self, pages: Generator[PageCounts, None, Failure | None], reading: _Reading
    ) -> Iterator[PageCounts]:
        """Raises Failure after the last page if the sweep does not count as a success."""
        family = reading.counts.family
        failure: Failure | None = None
        while True:
            try:
                page = next(pages)
            except StopIteration as end:
                failure = end.value
                break
            if not is_mostly_unreadable(rows=page.rows, malformed=page.malformed):
                self.availability.answered(family)
            yield page
        if reading.counts.end is not SweepEnd.FINISHED:
            return
        reading.came_to_end = True
        if reading.listing.overflows:
            self._log_overflow(reading)
        if reading.listing.hides_newest:
            failure = failure or ListTooLong(
                f"Page {PAGES_MAX} of the list of {family} is full, and its newest tasks may lie behind it."
            )
        if self._hides_pages(reading):
            failure = failure or ListTooLong(
                f"The list of {family} answers every page number with the same full page, and older tasks may lie "
                "behind it.",
                what_to_do="The server at KLING_BASE_URL ignores pageNum: check the setting and any gateway. "
                "Tasks without a callback may not be found: register them (kling-archiver register).",
            )
        if failure is not None:
            raise failure

    def _hides_pages(self, reading: _Reading) -> bool:
        """Whether tasks that are not deleted yet may lie behind the one page that a list shows."""
        page = reading.listing.still_page
        if page is None or page.rows < reading.page_rows.rows:
            return False
        horizon = self._horizon()
        return not any(is_older(task, horizon) for task in page.tasks)

    def _end(self, token: str, reading: _Reading, began: int, error: BaseException | None) -> None:
        """Give the family back; a whole sweep is logged and counted."""
        has_ended = reading.came_to_end
        self.ledger.sweeps.end(
            token,
            succeeded_at=began if has_ended and error is None else None,
            read_at=began if has_ended else None,
            full=reading.counts.full,
            oldest_first=reading.listing.oldest_first,
            last_page=reading.listing.last_page,
            page_rows=reading.page_rows.rows if has_ended or reading.page_rows.has_shrunk else None,
        )
        if error is None:
            self._log(reading, began=began)

    def forecast(self, family: str, *, full: bool, counted: CountedIds) -> Iterator[SweepCounts]:
        """Read as `sweep` does and write nothing: how many tasks and files it would bring, after each page. Ids in
        `counted` do not count again; new ones are added to it. Raises Failure."""
        counts = SweepCounts(family, full)
        reading = self._reading(counts, NoLease())
        if collection := collection_of(family):
            pages = self._read_windows(
                collection, WindowForecast(self._selector(collection), counted), reading
            )
        else:
            forecast = ListForecast(self.account, self.client, self.ledger, self.now, counted)
            pages = self._read_list(forecast, reading)
        for _ in pages:
            yield counts

    def note_failure(self, family: str, error: Failure) -> bool:
        """Count and log a failed sweep. If the API turns out not to offer the list, do neither and return False."""
        is_outage = error.outside is not None and error.disposition is Disposition.HOLD
        if not is_outage and self.availability.refused(family, error):
            return False
        self.metrics.failures_total.labels(account=self.account, stage=Stage.SWEEP, reason=error.reason).inc()
        log.get().warning(
            "sweep.failed", account=self.account, family=family, reason=error.reason, message=str(error)
        )
        return True

    def _reading(self, counts: SweepCounts, lease: SweepLease) -> _Reading:
        memory = self._memory(counts.family)
        # The day's full sweep finds out whether pages can be larger again.
        page_rows = PageRows(PAGE_ROWS if counts.full else memory.page_rows or PAGE_ROWS)
        return _Reading(
            listing=listing_of(counts.family, client=self.client, memory=memory, page_rows=page_rows),
            since=None if counts.full else memory.last_success_at,
            lease=lease,
            counts=counts,
            page_rows=page_rows,
        )

    def _read_list(self, sink: Sink[Page], reading: _Reading) -> Generator[PageCounts, None, Failure | None]:
        until = QuietPages(reading.listing, full=reading.counts.full, horizon=self._horizon)
        return sweep(reading.listing.pages(), sink, reading.lease, reading.counts, until=until)

    def _read_windows(
        self, collection: str, sink: Sink[WindowPage], reading: _Reading
    ) -> Generator[PageCounts, None, Failure | None]:
        pages = windows_since(
            reading.since,
            collection=collection,
            client=self.client,
            page_rows=reading.page_rows,
            now=self.now,
        )
        return sweep(pages, sink, reading.lease, reading.counts, until=_never)

    def _selector(self, collection: str) -> Selector:
        return Selector(self.account, self.families, self.client, self.ledger, collection, self.now)

    def _memory(self, family: str) -> SweepMemory:
        return self.ledger.sweeps.memory(account=self.account, family=family)

    def _horizon(self) -> int:
        """The horizon by the slower of the two clocks: a fast clock must not hide tasks that are not deleted yet."""
        return self.now() - self.client.behind_ms - HORIZON_MS

    def _log(self, reading: _Reading, *, began: int) -> None:
        counts, listing = reading.counts, reading.listing
        fields = dataclasses.asdict(counts) | {"order": listing.order, "seconds": (self.now() - began) / 1000}
        for unwanted in ("to_archive", "files"):
            fields.pop(unwanted)
        log.get().info("sweep.finished", account=self.account, **fields)
        if counts.end is SweepEnd.FINISHED:
            gauge = self.metrics.last_sweep_success_timestamp_seconds.labels(
                account=self.account, family=counts.family
            )
            gauge.set(began / 1000)
        if listing.stands_still:
            log.get().warning(
                "sweep.stood_still",
                account=self.account,
                family=counts.family,
                message="the list answered the same page for another page number",
            )

    def _log_overflow(self, reading: _Reading) -> None:
        hidden = "newer tasks may be" if reading.listing.hides_newest else "older tasks are"
        log.get().error(
            "sweep.overflowed",
            account=self.account,
            family=reading.counts.family,
            message=f"page {PAGES_MAX} of the list is full: {hidden} out of a sweep's reach",
        )
