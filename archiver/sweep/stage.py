"""Finds what the callbacks missed: reads each family's list and records all it shows.

Incremental: from the newest end until two pages in a row hold only what is finished here or too old to matter
(the second is the overlap). Full, once a day: back to the horizon. The first sweep of an account with history is a
full one, so its last 30 days are archived without a single callback.

What has no list of its own (`tasks/all`, `solutions/all`) is swept by `discovery`, under the same lease and memory.

A sweep is a reader with a lease: one sweeper a family at a time. It writes only through `ledger.record`, page by
page, so a crash halfway loses nothing but the pages not yet read, and the next sweep reads them.
"""

import dataclasses
import enum
from collections.abc import Callable, Sequence

from archiver import log
from archiver.failures import Disposition, Failure
from archiver.families import collection_of
from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.kling.listing import Listing
from archiver.kling.pages import PAGE_ROWS, Page
from archiver.ledger import Ledger, RecordedTask, RecordOutcome
from archiver.metrics import Metrics
from archiver.model import DAY_MS, RETENTION_MS, TERMINAL, Stage, State, Status, Task
from archiver.record import ROWS_MAX, Recorder
from archiver.sweep.new_standard import Discoverer, PageCounts
from archiver.verify.availability import Availability

HORIZON_MS = RETENTION_MS + DAY_MS
"""How far back a sweep looks: the retention, and a day for clocks and for the undocumented start of it."""
QUIET_PAGES = 2
"""Pages in a row without anything open that end an incremental sweep."""

PAGE_TRIES = 4
"""How often a page is asked for before the sweep fails. Should that outlast the sweep's lease, another sweeper may
take the family over, which the next renewal tells."""


class SweepEnd(enum.StrEnum):
    """How a sweep of one family ended."""

    FINISHED = "finished"
    BUSY = "busy"
    """Another sweeper has the family."""
    OVERTAKEN = "overtaken"
    """Another sweeper took the family while we read."""


@dataclasses.dataclass
class SweepCounts:
    """What one sweep of one family has seen."""

    family: str
    full: bool
    end: SweepEnd = SweepEnd.FINISHED
    pages: int = 0
    rows: int = 0
    found: int = 0
    """Tasks that the ledger did not have."""
    moved: int = 0
    passed_by: int = 0
    """First seen after their deadline: nothing can be had any more."""
    malformed: int = 0
    to_archive: int = 0
    """Dry run: succeeded tasks that are not in the bucket yet, and their files."""
    files: int = 0


@dataclasses.dataclass(frozen=True)
class Sweeper:
    """Sweeps one account. `now` gives Unix ms, `rand` numbers in [0, 1)."""

    account: str
    client: KlingClient
    ledger: Ledger
    offers: Availability
    discoverer: Discoverer
    metrics: Metrics
    full_interval_ms: int
    now: Callable[[], int]
    rand: Callable[[], float]

    def is_full_due(self, family: str) -> bool:
        """Whether the day's full sweep of `family` is still to come."""
        memory = self.ledger.sweep_memory(account=self.account, family=family)
        return memory.last_full_at is None or memory.last_full_at + self.full_interval_ms <= self.now()

    def sweep(
        self, family: str, *, full: bool, on_page: Callable[[SweepCounts], None] = lambda _counts: None
    ) -> SweepCounts:
        """Sweep one family; `on_page` is called after each page.

        Raises Failure (the family is given back) and Stopped.
        """
        counts = SweepCounts(family=family, full=full)
        token = self.ledger.sweep_begin(account=self.account, family=family)
        if token is None:
            counts.end = SweepEnd.BUSY
            return counts
        began = self.now()
        listing = self._listing(family)
        succeeded = False
        try:
            if collection_of(family) is None:
                self._read(listing, counts, token=token, on_page=on_page)
            else:
                self._discover(counts, token=token, on_page=on_page)
            succeeded = counts.end is SweepEnd.FINISHED
        finally:
            self.ledger.sweep_end(
                token,
                succeeded_at=began if succeeded else None,
                full=full,
                oldest_first=listing.oldest_first,
                last_page=listing.last_page,
            )
        self.offers.answered(family)
        self._say(counts, listing, began=began)
        return counts

    def _discover(
        self,
        counts: SweepCounts,
        *,
        token: str | None,
        on_page: Callable[[SweepCounts], None],
        seen: set[str] | None = None,
    ) -> None:
        """Read a collection through, keeping the lease `token`; with `seen`, in a dry run, nothing is written."""
        collection = collection_of(counts.family) or ""
        memory = self.ledger.sweep_memory(account=self.account, family=counts.family)

        def take(found: PageCounts) -> bool:
            if token is not None and not self.ledger.sweep_renew(token):
                counts.end = SweepEnd.OVERTAKEN
            self.offers.answered(counts.family)
            _add_found(counts, found)
            self.discoverer.say_skipped(found, collection=collection)
            on_page(counts)
            return counts.end is SweepEnd.FINISHED

        since = None if counts.full else memory.last_success_at
        self.discoverer.read(collection, since=since, on_page=take, seen=seen)

    def dry_run(
        self,
        family: str,
        *,
        full: bool,
        on_page: Callable[[SweepCounts], None] = lambda _counts: None,
        seen: set[str] | None = None,
    ) -> SweepCounts:
        """Read as `sweep` does and write nothing: how many tasks and files it would bring. Ids in `seen` were counted
        before, and those counted now are added to it. Raises Failure."""
        counts = SweepCounts(family=family, full=full)
        seen = set() if seen is None else seen
        if collection_of(family) is not None:
            self._discover(counts, token=None, on_page=on_page, seen=seen)
            return counts
        listing, quiet = self._listing(family), _Quiet()
        for page in listing.pages():
            open_rows = self._count(page, counts, seen=seen)
            on_page(counts)
            if quiet.after(
                open_rows=open_rows, page=page, listing=listing, full=full, horizon=self._horizon()
            ):
                break
        return counts

    def _listing(self, family: str) -> Listing:
        memory = self.ledger.sweep_memory(account=self.account, family=family)
        return Listing(
            lambda number: self._page(family, number),
            oldest_first=memory.oldest_first,
            last_page=memory.last_page,
        )

    def _page(self, family: str, number: int) -> Page:
        """One page, asked for again where it could not be had just now: a full sweep must not begin anew because of one
        answer. After "too fast" (1302) the limiter has halved its rate."""
        for _ in range(PAGE_TRIES - 1):
            try:
                return self._ask(family, number)
            except Failure as error:
                if error.disposition is not Disposition.RETRY:
                    raise
        return self._ask(family, number)

    def _ask(self, family: str, number: int) -> Page:
        return self.client.list_page(family, page=number, size=PAGE_ROWS, priority=Priority.BACKGROUND)

    def _horizon(self) -> int:
        """By the earlier of our clock and the API's: one that runs ahead must not hide what is still to be had."""
        return self.now() - self.client.behind_ms - HORIZON_MS

    def _read(
        self, listing: Listing, counts: SweepCounts, *, token: str, on_page: Callable[[SweepCounts], None]
    ) -> None:
        recorder = Recorder(self.account, self.ledger, self.metrics, self.rand)
        quiet = _Quiet()
        for page in listing.pages():
            if not self.ledger.sweep_renew(token):
                counts.end = SweepEnd.OVERTAKEN
                return
            recorded = recorder.record_page(page.tasks, behind_ms=self.client.behind_ms)
            self.offers.answered(counts.family)
            _add(counts, page, recorded)
            self._say_skipped(page, family=counts.family)
            on_page(counts)
            open_rows = sum(one.state is not None and one.state not in TERMINAL for one in recorded)
            if quiet.after(
                open_rows=open_rows, page=page, listing=listing, full=counts.full, horizon=self._horizon()
            ):
                return

    def _count(self, page: Page, counts: SweepCounts, *, seen: set[str]) -> int:
        """Dry run: count what a page would bring; how many of its rows are open here. Rows that shift from page to
        page are counted once."""
        ids = [task.task_id for task in page.tasks]
        known: dict[str, State] = {}
        for start in range(0, len(ids), ROWS_MAX):
            known |= self.ledger.settled(account=self.account, task_ids=ids[start : start + ROWS_MAX])
        open_rows = 0
        for task in page.tasks:
            state = known.get(task.task_id)
            is_gone = state is None and _is_old(task, self.now() - self.client.behind_ms - RETENTION_MS)
            open_rows += not is_gone and state not in TERMINAL
            if task.task_id not in seen:
                seen.add(task.task_id)
                _foresee(counts, task, state=state, is_gone=is_gone)
        counts.pages += 1
        counts.rows += page.rows
        counts.malformed += page.malformed
        return open_rows

    def _say_skipped(self, page: Page, *, family: str) -> None:
        """A row that cannot be read may be a task that nobody will archive."""
        if page.malformed:
            log.get().warning(
                "sweep.row_skipped",
                account=self.account,
                family=family,
                count=page.malformed,
                message=page.reasons[0],
            )

    def _say(self, counts: SweepCounts, listing: Listing, *, began: int) -> None:
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


@dataclasses.dataclass
class _Quiet:
    """Decides after each page whether enough was read. A list without an order never says."""

    pages: int = 0

    def after(self, *, open_rows: int, page: Page, listing: Listing, full: bool, horizon: int) -> bool:
        """True when the rest of the list cannot matter."""
        old = all(_is_old(task, horizon) for task in page.tasks)
        is_quiet = old if full else (old or open_rows == 0)
        self.pages = self.pages + 1 if is_quiet and page.malformed == 0 else 0
        return listing.sorted and self.pages >= QUIET_PAGES


def _is_old(task: Task, horizon: int) -> bool:
    return task.created_at is not None and task.created_at <= horizon


def _foresee(counts: SweepCounts, task: Task, *, state: State | None, is_gone: bool) -> None:
    counts.passed_by += is_gone
    counts.found += state is None and not is_gone
    if task.status is Status.SUCCEEDED and state is not State.ARCHIVED and not is_gone:
        counts.to_archive += 1
        counts.files += len(task.assets)


def _add(counts: SweepCounts, page: Page, recorded: Sequence[RecordedTask]) -> None:
    counts.pages += 1
    counts.rows += page.rows
    counts.malformed += page.malformed
    for one in recorded:
        counts.found += one.outcome is RecordOutcome.NEW
        counts.moved += one.outcome is RecordOutcome.MOVED
        counts.passed_by += one.outcome is RecordOutcome.PASSED_BY


def _add_found(counts: SweepCounts, found: PageCounts) -> None:
    counts.pages += 1
    counts.rows += found.rows
    counts.malformed += len(found.reasons)
    for name in ("found", "moved", "passed_by", "to_archive", "files"):
        setattr(counts, name, getattr(counts, name) + getattr(found, name))


def say_failed(error: Failure, *, account: str, family: str, metrics: Metrics) -> None:
    """Count and log that a sweep could not be finished."""
    metrics.failures_total.labels(stage=Stage.SWEEP, reason=error.reason).inc()
    log.get().warning("sweep.failed", account=account, family=family, reason=error.reason, message=str(error))
