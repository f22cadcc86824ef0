"""Finds what no callback named: reads each family's list, or `/tasks` and `/solutions`, and records it.

Incremental: from the newest end until two pages in a row hold only what has ended here or is too old to matter.
Full, once a day and at first: back to the horizon, so that 30 days are archived without a single callback.

A lease gives a family to one sweeper at a time. A page is in the ledger before the next is read, so a crash loses only
pages not yet read.
"""

import dataclasses
from collections.abc import Callable

from archiver import log
from archiver.failures import Failure
from archiver.families import collection_of
from archiver.kling.client import KlingClient
from archiver.kling.listing import Listing
from archiver.kling.new_standard_calls import WindowPage
from archiver.kling.pages import Page
from archiver.ledger import Ledger, SweepMemory
from archiver.metrics import Metrics
from archiver.model import DAY_MS, RETENTION_MS, Stage
from archiver.record import Recorder
from archiver.sweep.counts import PageCounts, SweepCounts, SweepEnd
from archiver.sweep.lists import ListForecast, ListRecorder, QuietPages, listing_of
from archiver.sweep.loop import NoLease, Sink, SweepLease, sweep
from archiver.sweep.new_standard import Selector, WindowForecast, WindowRecorder, windows_since
from archiver.verify.availability import Availability

HORIZON_MS = RETENTION_MS + DAY_MS
"""How far back a sweep looks: the retention, and a day for clocks and for the undocumented start of it."""

OnPage = Callable[[SweepCounts], None]


def _ignore(_counts: SweepCounts) -> None:
    pass


def _never(_page: WindowPage, _counts: PageCounts) -> bool:
    """Windows come in no order, so all are read."""
    return False


@dataclasses.dataclass(frozen=True)
class _LedgerLease:
    ledger: Ledger
    token: str

    def renew(self) -> bool:
        return self.ledger.sweeps.renew(self.token)


@dataclasses.dataclass(frozen=True)
class _Reading:
    """One sweep of one family under way, real or dry."""

    listing: Listing
    """Of a collection it stays unread."""
    since: int | None
    lease: SweepLease
    counts: SweepCounts
    on_page: OnPage


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
        counts = SweepCounts(family, full)
        token = self.ledger.sweeps.begin(account=self.account, family=family)
        if token is None:
            counts.end = SweepEnd.BUSY
            return counts
        began = self.now()

        def after_page(counts: SweepCounts) -> None:
            self.availability.answered(family)
            on_page(counts)

        reading = self._reading(counts, _LedgerLease(self.ledger, token), after_page)
        succeeded = False
        try:
            if collection := collection_of(family):
                selector = self._selector(collection)
                self._read_windows(collection, WindowRecorder(selector, self.recorder), reading)
            else:
                self._read_list(ListRecorder(family, self.client, self.recorder), reading)
            succeeded = counts.end is SweepEnd.FINISHED
        finally:
            self.ledger.sweeps.end(
                token,
                succeeded_at=began if succeeded else None,
                full=full,
                oldest_first=reading.listing.oldest_first,
                last_page=reading.listing.last_page,
            )
        self.availability.answered(family)
        self._log(counts, reading.listing, began=began)
        return counts

    def dry_run(
        self, family: str, *, full: bool, on_page: OnPage = _ignore, counted: set[str] | None = None
    ) -> SweepCounts:
        """Read as `sweep` does and write nothing: how many tasks and files it would bring. Ids in `counted` do not
        count again; new ones are added to it. Raises Failure."""
        counts = SweepCounts(family, full)
        counted = set() if counted is None else counted
        reading = self._reading(counts, NoLease(), on_page)
        if collection := collection_of(family):
            self._read_windows(collection, WindowForecast(self._selector(collection), counted), reading)
        else:
            self._read_list(ListForecast(self.account, self.client, self.ledger, self.now, counted), reading)
        return counts

    def note_failure(self, family: str, error: Failure) -> bool:
        """Count and log a failed sweep. False, and neither, where the API turns out not to offer it."""
        if self.availability.refused(family, error):
            return False
        self.metrics.failures_total.labels(stage=Stage.SWEEP, reason=error.reason).inc()
        log.get().warning(
            "sweep.failed", account=self.account, family=family, reason=error.reason, message=str(error)
        )
        return True

    def _reading(self, counts: SweepCounts, lease: SweepLease, on_page: OnPage) -> _Reading:
        memory = self._memory(counts.family)
        return _Reading(
            listing=listing_of(counts.family, client=self.client, memory=memory),
            since=None if counts.full else memory.last_success_at,
            lease=lease,
            counts=counts,
            on_page=on_page,
        )

    def _read_list(self, sink: Sink[Page], reading: _Reading) -> None:
        until = QuietPages(reading.listing, full=reading.counts.full, horizon=self._horizon)
        pages = reading.listing.pages()
        sweep(pages, sink, reading.lease, reading.counts, until=until, on_page=reading.on_page)

    def _read_windows(self, collection: str, sink: Sink[WindowPage], reading: _Reading) -> None:
        pages = windows_since(reading.since, collection=collection, client=self.client, now=self.now)
        sweep(pages, sink, reading.lease, reading.counts, until=_never, on_page=reading.on_page)

    def _selector(self, collection: str) -> Selector:
        return Selector(self.account, self.families, self.client, self.ledger, collection, self.now)

    def _memory(self, family: str) -> SweepMemory:
        return self.ledger.sweeps.memory(account=self.account, family=family)

    def _horizon(self) -> int:
        """By the slower of the two clocks: a fast one must not hide what is not deleted yet."""
        return self.now() - self.client.behind_ms - HORIZON_MS

    def _log(self, counts: SweepCounts, listing: Listing, *, began: int) -> None:
        fields = dataclasses.asdict(counts) | {"order": listing.order, "seconds": (self.now() - began) / 1000}
        for unwanted in ("to_archive", "files"):
            fields.pop(unwanted)
        log.get().info("sweep.finished", account=self.account, **fields)
        if counts.end is SweepEnd.FINISHED:
            gauge = self.metrics.last_sweep_success_timestamp_seconds.labels(family=counts.family)
            gauge.set(began / 1000)
        if listing.overflows:
            log.get().error(
                "sweep.overflowed",
                account=self.account,
                family=counts.family,
                message="page 1000 of the list is full: older tasks cannot be seen by a sweep",
            )
        if listing.stands_still:
            log.get().warning(
                "sweep.stood_still",
                account=self.account,
                family=counts.family,
                message="the list answered the same page for another page number",
            )
