"""Finds what no callback has told of and no list below `/v1/` shows: the sweep of `/tasks` and `/solutions`.

Read by windows of time that overlap by hours, because it is not documented whether a window goes by creation or by
change (archiver/kling/API.md 5.3): a task that ran when it was first shown must be shown again when it has finished.
Once a day the window is all 30 days.

What is shown without its family is not recorded as it is: legacy tasks lose their index and more on the way. Where a
configured family may have made the task, its id is enrolled, and verification asks that family's own path first.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from archiver import log
from archiver.failures import (
    ApiAnswerUnreadable,
    ApiBadParameter,
    ApiRequestInvalid,
    Disposition,
    Failure,
)
from archiver.families import COLLECTION_SWEEPS, PLACES, SOLUTIONS, collection_of
from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.kling.new_standard import NewStandardTask, covers, guess_family, own_paths, roles_of
from archiver.kling.new_standard_calls import WindowPage, ask_window
from archiver.kling.results import read_task
from archiver.kling.windows import pages
from archiver.ledger import KnownState, Ledger, RecordedTask, RecordOutcome
from archiver.metrics import Metrics
from archiver.model import RETENTION_MS, TERMINAL, State, Status, Task
from archiver.record import Recorder

OVERLAP_MS = 6 * 60 * 60 * 1000
"""How far a window reaches back before the last sweep: longer than a task takes to finish. What takes longer still, the
day's full sweep finds."""
PAGE_TRIES = 4
ROWS_MAX = 500
"""Ids that the ledger takes a call."""


@dataclasses.dataclass
class PageCounts:
    """What one page has brought."""

    rows: int
    found: int = 0
    moved: int = 0
    passed_by: int = 0
    reasons: list[str] = dataclasses.field(default_factory=list)
    """One sentence for each row that could not be read."""
    to_archive: int = 0
    files: int = 0


@dataclasses.dataclass
class _Sorted:
    """The rows of one page, by what is to be done with them."""

    to_record: list[Task] = dataclasses.field(default_factory=list)
    to_enrol: dict[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    missing: list[Task] = dataclasses.field(default_factory=list)
    """Those of both that have succeeded and are not in the bucket."""


@dataclasses.dataclass(frozen=True)
class Discoverer:
    """Reads one account's `/tasks` and `/solutions`. `now` gives Unix ms, `rand` numbers in [0, 1)."""

    account: str
    families: tuple[str, ...]
    client: KlingClient
    ledger: Ledger
    metrics: Metrics
    now: Callable[[], int]
    rand: Callable[[], float]

    def read(
        self,
        collection: str,
        *,
        since: int | None,
        on_page: Callable[[PageCounts], bool],
        seen: set[str] | None = None,
    ) -> None:
        """Take in all that `collection` has shown since a moment (Unix ms; None: all there is), page by page, until
        `on_page` says False. With `seen` nothing is written, and what is counted goes into it, each id once.

        Raises Failure and Stopped.
        """
        # By the API's clock, or the one of the two that shows more: ours may be wrong, and `since` is by ours.
        end = self.now() + self.client.ahead_ms
        start = oldest = self._oldest()
        if since is not None:
            start = max(oldest, min(since, end) - self.client.behind_ms - OVERLAP_MS)

        def read_page(first: int, last: int, cursor: str) -> WindowPage:
            return self._page(collection, first, last, cursor)

        for page in pages(read_page, start=start, end=end):
            if not on_page(self._take(page, seen=seen)):
                return

    def _page(self, collection: str, start: int, end: int, cursor: str) -> WindowPage:
        """One page, asked for again where it could not be had just now."""
        for _ in range(PAGE_TRIES - 1):
            try:
                return self._ask(collection, start, end, cursor)
            except (ApiBadParameter, ApiRequestInvalid):
                raise  # a window or a cursor that is refused will be refused again
            except Failure as error:
                if error.disposition is not Disposition.RETRY:
                    raise
        return self._ask(collection, start, end, cursor)

    def _ask(self, collection: str, start: int, end: int, cursor: str) -> WindowPage:
        return ask_window(
            self.client, collection, start=start, end=end, cursor=cursor, priority=Priority.BACKGROUND
        )

    def _take(self, page: WindowPage, *, seen: set[str] | None) -> PageCounts:
        found = PageCounts(rows=page.rows, reasons=list(page.reasons))
        work = self._sort(page, found)
        if seen is not None:
            work.missing = [task for task in work.missing if task.task_id not in seen]
            seen.update(task.task_id for task in work.missing)
        found.to_archive = len(work.missing)
        found.files = sum(len(task.assets) for task in work.missing)
        if seen is not None:
            return found
        recorder = Recorder(self.account, self.ledger, self.metrics, self.rand)
        recorded = recorder.record_page(work.to_record, behind_ms=self.client.behind_ms)
        self._count(found, recorded)
        # A server that takes no notice of `limit` would exceed what one statement may hold.
        wanted = list(work.to_enrol.items())
        for first in range(0, len(wanted), ROWS_MAX):
            some = dict(wanted[first : first + ROWS_MAX])
            found.found += self.ledger.enrol(some, account=self.account)
        return found

    def _count(self, found: PageCounts, recorded: Sequence[RecordedTask]) -> None:
        for one in recorded:
            found.found += one.outcome is RecordOutcome.NEW
            found.moved += one.outcome is RecordOutcome.MOVED
            found.passed_by += one.outcome is RecordOutcome.PASSED_BY

    def _sort(self, page: WindowPage, found: PageCounts) -> _Sorted:
        rows: list[tuple[NewStandardTask, Task]] = []
        for shown in page.shown:
            try:
                rows.append((shown, self._read(shown)))
            except ApiAnswerUnreadable as error:
                found.reasons.append(str(error))
        standings: dict[str, KnownState] = {}
        for first in range(0, len(rows), ROWS_MAX):
            ids = [task.task_id for _, task in rows[first : first + ROWS_MAX]]
            standings |= self.ledger.standings(account=self.account, task_ids=ids)
        work = _Sorted()
        for shown, task in rows:
            if self._is_old(task) and task.task_id not in standings:
                found.passed_by += 1
            else:
                self._sort_one(shown, task, standings, work)
        return work

    def _sort_one(
        self, shown: NewStandardTask, task: Task, standings: Mapping[str, KnownState], work: _Sorted
    ) -> None:
        standing = standings.get(task.task_id)
        if standing is not None and standing.family is not None:
            ours = collection_of(standing.family) == shown.collection
            if ours and standing.state is not State.ARCHIVED:
                again = dataclasses.replace(task, family=guess_family(shown, [standing.family]))
                work.to_record.append(again)
                self._miss(again, work, state=standing.state)
            return
        if standing is None and not self._is_wanted(shown, task):
            return
        self._miss(task, work, state=None)
        roles = roles_of(shown.document)
        if shown.collection == SOLUTIONS or not own_paths(None, self.families, roles):
            work.to_record.append(task)
        elif standing is None or standing.state in (State.UNKNOWN, State.BURIED):
            work.to_enrol[task.task_id] = sorted(PLACES[role].array for role in roles if role in PLACES)

    def _is_wanted(self, shown: NewStandardTask, task: Task) -> bool:
        """Whether a task that nobody has named is to be archived. One of `/tasks` that runs is not yet: what it will
        make is not known, and it is shown again when it has."""
        if shown.collection == SOLUTIONS:
            return True
        return task.status is Status.SUCCEEDED and covers(self.families, roles_of(shown.document))

    def _read(self, shown: NewStandardTask) -> Task:
        return read_task(shown.document, family=guess_family(shown, self.families))

    def _oldest(self) -> int:
        return self.now() - self.client.behind_ms - RETENTION_MS

    def _is_old(self, task: Task) -> bool:
        return task.created_at is not None and task.created_at <= self._oldest()

    def _miss(self, task: Task, work: _Sorted, *, state: State | None) -> None:
        if task.status is Status.SUCCEEDED and state not in TERMINAL:
            work.missing.append(task)

    def say_skipped(self, found: PageCounts, *, collection: str) -> None:
        """A row that cannot be read may be a task that nobody will archive."""
        if found.reasons:
            log.get().warning(
                "sweep.row_skipped",
                account=self.account,
                family=COLLECTION_SWEEPS[collection],
                count=len(found.reasons),
                message=found.reasons[0],
            )
