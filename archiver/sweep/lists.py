"""The sweep of one family's list: reading its pages, recording or counting their rows, and when to stop."""

import dataclasses
from collections.abc import Callable

from archiver import log
from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.kling.listing import PAGES_MAX, Listing, PagesRenumbered, page_at
from archiver.kling.pages import PAGE_ROWS, Page, is_mostly_unreadable
from archiver.ledger import Ledger, RecordOutcome, SweepMemory
from archiver.model import RETENTION_MS, TERMINAL, State, Status, Task
from archiver.record import ROWS_MAX, Recorder
from archiver.sweep.counts import CountedIds, PageCounts
from archiver.sweep.page_rows import PageRows

QUIET_PAGES = 2
"""Pages in a row without anything open that end an incremental sweep. The second one is the overlap."""


def listing_of(family: str, *, client: KlingClient, memory: SweepMemory, page_rows: PageRows) -> Listing:
    """The list of `family`, read in the order that earlier sweeps found out."""

    def read(number: int) -> Page:
        before = page_rows.rows

        def page_of(rows: int) -> int:
            return page_at(number, rows_before=before, rows=rows)

        page = page_rows.ask(
            lambda rows: client.list_page(
                family, page=page_of(rows), size=rows, priority=Priority.BACKGROUND
            ),
            may_ask_for=lambda rows: page_of(rows) <= PAGES_MAX,
        )
        if page_rows.rows != before:
            raise PagesRenumbered(rows_before=before, rows=page_rows.rows)
        return page

    last_page = memory.last_page
    if last_page is not None:
        last_page = page_at(last_page, rows_before=memory.page_rows or PAGE_ROWS, rows=page_rows.rows)
    return Listing(read, oldest_first=memory.oldest_first, last_page=last_page)


def is_older(task: Task, moment: int) -> bool:
    """Whether the task was created by `moment` (Unix ms)."""
    return task.created_at is not None and task.created_at <= moment


def log_skipped_rows(count: int, first_reason: str, *, account: str, family: str) -> None:
    """Log that rows of a page could not be read: each may be a task that is never archived."""
    log.get().warning("sweep.row_skipped", account=account, family=family, count=count, message=first_reason)


@dataclasses.dataclass(frozen=True)
class ListRecorder:
    """Records every row of a page."""

    family: str
    client: KlingClient
    recorder: Recorder

    def take(self, page: Page) -> PageCounts:
        """Record the page."""
        # Where most rows are unreadable the page may show no tasks at all, and the sweep fails.
        is_readable = not is_mostly_unreadable(rows=page.rows, malformed=page.malformed)
        tasks = [*page.tasks, *(page.unread if is_readable else ())]
        recorded = self.recorder.record_page(tasks, behind_ms=self.client.behind_ms)
        if page.malformed:
            log_skipped_rows(
                page.malformed, page.reasons[0], account=self.recorder.account, family=self.family
            )
        outcomes = [result.outcome for result in recorded]
        return PageCounts(
            rows=page.rows,
            malformed=page.malformed,
            found=outcomes.count(RecordOutcome.NEW),
            moved=outcomes.count(RecordOutcome.MOVED),
            passed_by=outcomes.count(RecordOutcome.PASSED_BY),
            open=sum(result.state is not None and result.state not in TERMINAL for result in recorded),
        )


@dataclasses.dataclass(frozen=True)
class ListForecast:
    """Counts what a page would add to the ledger, and writes nothing. Rows that shift from page to page count once."""

    account: str
    client: KlingClient
    ledger: Ledger
    now: Callable[[], int]
    counted: CountedIds
    """The ids counted so far, also by forecasts of other families."""

    def take(self, page: Page) -> PageCounts:
        """Count the page."""
        ids = [task.task_id for task in page.tasks]
        states, forgotten = self._states(ids), self._forgotten(ids)
        deleted_before = self.now() - self.client.behind_ms - RETENTION_MS
        counts = PageCounts(rows=page.rows, malformed=page.malformed)
        for task in page.tasks:
            if task.task_id in forgotten:
                continue
            state = states.get(task.task_id)
            is_gone = state is None and is_older(task, deleted_before)
            counts.open += not is_gone and state not in TERMINAL
            if not self.counted.add(task.task_id):
                continue
            counts.passed_by += is_gone
            counts.found += state is None and not is_gone
            if task.status is Status.SUCCEEDED and state is not State.ARCHIVED and not is_gone:
                counts.to_archive += 1
                counts.files += len(task.assets)
        return counts

    def _forgotten(self, ids: list[str]) -> set[str]:
        forgotten: set[str] = set()
        for start in range(0, len(ids), ROWS_MAX):
            part = ids[start : start + ROWS_MAX]
            forgotten |= self.ledger.tombstones.ids(account=self.account, task_ids=part)
        return forgotten

    def _states(self, ids: list[str]) -> dict[str, State]:
        states: dict[str, State] = {}
        for start in range(0, len(ids), ROWS_MAX):
            states |= self.ledger.records.states(account=self.account, task_ids=ids[start : start + ROWS_MAX])
        return states


@dataclasses.dataclass
class QuietPages:
    """Stops after `QUIET_PAGES` in a row that cannot matter. On such a page all rows are older than `horizon()` (Unix
    ms) or, in an incremental sweep, no row is open in the ledger. A list without an order is read to its end."""

    listing: Listing
    full: bool
    horizon: Callable[[], int]
    _in_a_row: int = 0
    _reading: int = 1

    def __call__(self, page: Page, counts: PageCounts) -> bool:
        if self._reading != self.listing.readings:
            self._reading, self._in_a_row = self.listing.readings, 0
        horizon = self.horizon()
        is_old = all(is_older(task, horizon) for task in page.tasks)
        is_quiet = is_old or (counts.open == 0 and not self.full)
        self._in_a_row = self._in_a_row + 1 if is_quiet and page.malformed == 0 else 0
        return self.listing.sorted and self._in_a_row >= QUIET_PAGES
