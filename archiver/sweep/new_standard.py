"""The sweep of `/tasks` and `/solutions`.

It reads windows that reach back hours before the last sweep, for two reasons. A task that was shown while it ran must
be shown again. And it is not documented whether a window goes by creation or by change (archiver/kling/API.md 5.3).

Here legacy tasks lose their family, their index and more. A task that a configured family may have made is not recorded
but enrolled: verification queries that family's own path first.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from archiver.failures import ApiAnswerUnreadable, ApiBadParameter, ApiRequestInvalid
from archiver.families import COLLECTION_SWEEPS, PLACES, SOLUTIONS, collection_of
from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.kling.new_standard import NewStandardTask, covers, guess_family, own_paths, roles_of
from archiver.kling.new_standard_calls import WindowPage, ask_window
from archiver.kling.results import read_task
from archiver.kling.windows import read_window
from archiver.ledger import KnownState, Ledger, RecordOutcome
from archiver.model import RETENTION_MS, TERMINAL, State, Status, Task
from archiver.record import ROWS_MAX, Recorder
from archiver.sweep.counts import CountedIds, PageCounts
from archiver.sweep.lists import is_older, log_skipped_rows
from archiver.sweep.page_rows import PageRows

OVERLAP_MS = 6 * 60 * 60 * 1000
"""How far a window reaches back before the last sweep. Tasks that run longer are left to the day's full sweep."""


def windows_since(
    since: int | None, *, collection: str, client: KlingClient, page_rows: PageRows, now: Callable[[], int]
) -> Iterator[WindowPage]:
    """What `collection` has shown since a moment (Unix ms; None: 30 days), page by page. Raises Failure."""
    # Each bound goes by the clock, ours or the API's, that shows more tasks; `since` is by ours.
    end = now() + client.ahead_ms
    start = oldest = now() - client.behind_ms - RETENTION_MS
    if since is not None:
        start = max(oldest, min(since, end) - client.behind_ms - OVERLAP_MS)

    def read(first: int, last: int, cursor: str) -> WindowPage:
        return page_rows.ask(
            lambda rows: ask_window(
                client,
                collection,
                start=first,
                end=last,
                cursor=cursor,
                priority=Priority.BACKGROUND,
                rows_max=rows,
            ),
            except_for=(ApiBadParameter, ApiRequestInvalid),  # a refused cursor or window stays refused
        )

    return read_window(read, start=start, end=end)


@dataclasses.dataclass
class Selection:
    """The rows of one page: which to record and which to enrol."""

    to_record: list[Task] = dataclasses.field(default_factory=list)
    to_enrol: dict[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    """Id → its result arrays."""
    to_archive: list[Task] = dataclasses.field(default_factory=list)
    """Tasks of both kinds that have succeeded and are not in the bucket."""
    passed_by: int = 0
    unreadable: list[str] = dataclasses.field(default_factory=list)
    """One sentence for each unreadable row."""

    def counts(self, page: WindowPage) -> PageCounts:
        """The counts of the page, for every sink."""
        return PageCounts(rows=page.rows, malformed=len(self.unreadable), passed_by=self.passed_by)


@dataclasses.dataclass(frozen=True)
class Selector:
    """Sorts the rows of a page, and logs those that cannot be read."""

    account: str
    families: tuple[str, ...]
    client: KlingClient
    ledger: Ledger
    collection: str
    now: Callable[[], int]

    def select(self, page: WindowPage) -> Selection:
        """Sort the rows by what the ledger knows of them."""
        selection = Selection(unreadable=list(page.reasons))
        rows: list[tuple[NewStandardTask, Task]] = []
        for shown in page.shown:
            try:
                family = guess_family(shown, self.families)
                rows.append((shown, read_task(shown.document, family=family)))
            except ApiAnswerUnreadable as error:
                selection.unreadable.append(str(error))
        ids = [task.task_id for _, task in rows]
        known, forgotten = self._known(ids), self._forgotten(ids)
        deleted_before = self.now() - self.client.behind_ms - RETENTION_MS
        for shown, task in rows:
            if task.task_id in forgotten:
                continue
            if is_older(task, deleted_before) and task.task_id not in known:
                selection.passed_by += 1
            else:
                self._sort(shown, task, known.get(task.task_id), selection)
        if selection.unreadable:
            log_skipped_rows(
                len(selection.unreadable),
                selection.unreadable[0],
                account=self.account,
                family=COLLECTION_SWEEPS[self.collection],
            )
        return selection

    def _known(self, ids: list[str]) -> Mapping[str, KnownState]:
        known: dict[str, KnownState] = {}
        for start in range(0, len(ids), ROWS_MAX):
            known |= self.ledger.records.known_states(
                account=self.account, task_ids=ids[start : start + ROWS_MAX]
            )
        return known

    def _forgotten(self, ids: list[str]) -> set[str]:
        forgotten: set[str] = set()
        for start in range(0, len(ids), ROWS_MAX):
            part = ids[start : start + ROWS_MAX]
            forgotten |= self.ledger.tombstones.ids(account=self.account, task_ids=part)
        return forgotten

    def _sort(
        self, shown: NewStandardTask, task: Task, known: KnownState | None, selection: Selection
    ) -> None:
        if known is not None and known.family is not None:
            # Confirmed before. A task of another family is read at its own path.
            if collection_of(known.family) == shown.collection and known.state is not State.ARCHIVED:
                again = dataclasses.replace(task, family=guess_family(shown, [known.family]))
                selection.to_record.append(again)
                if task.status is Status.SUCCEEDED and known.state not in TERMINAL:
                    selection.to_archive.append(again)
            return
        if known is None and not self._is_wanted(shown, task):
            return
        if task.status is Status.SUCCEEDED:
            selection.to_archive.append(task)
        roles = roles_of(shown.document)
        if shown.collection == SOLUTIONS or not own_paths(None, self.families, roles):
            selection.to_record.append(task)
        elif known is None or known.state in (State.UNKNOWN, State.BURIED):
            arrays = sorted(PLACES[role].array for role in roles if role in PLACES)
            selection.to_enrol[task.task_id] = arrays

    def _is_wanted(self, shown: NewStandardTask, task: Task) -> bool:
        """Whether to archive a task that the ledger does not have. A running task of `/tasks` is skipped until it is
        shown with its outputs."""
        if shown.collection == SOLUTIONS:
            return True
        return task.status is Status.SUCCEEDED and covers(self.families, roles_of(shown.document))


@dataclasses.dataclass(frozen=True)
class WindowRecorder:
    """Records or enrols what is selected of a page."""

    selector: Selector
    recorder: Recorder

    def take(self, page: WindowPage) -> PageCounts:
        """Record and enrol."""
        selection = self.selector.select(page)
        counts = selection.counts(page)
        recorded = self.recorder.record_page(selection.to_record, behind_ms=self.selector.client.behind_ms)
        outcomes = [result.outcome for result in recorded]
        counts.found += outcomes.count(RecordOutcome.NEW)
        counts.moved += outcomes.count(RecordOutcome.MOVED)
        counts.passed_by += outcomes.count(RecordOutcome.PASSED_BY)
        # In parts: a server that ignores `limit` would exceed what one statement may hold.
        wanted = list(selection.to_enrol.items())
        for start in range(0, len(wanted), ROWS_MAX):
            part = dict(wanted[start : start + ROWS_MAX])
            counts.found += self.selector.ledger.registrations.enrol(part, account=self.selector.account)
        return counts


@dataclasses.dataclass(frozen=True)
class WindowForecast:
    """Counts the tasks and files that a page would bring, and writes nothing."""

    selector: Selector
    counted: CountedIds
    """The ids counted so far, also by forecasts of other families."""

    def take(self, page: WindowPage) -> PageCounts:
        """Count the page."""
        selection = self.selector.select(page)
        counts = selection.counts(page)
        missing = [task for task in selection.to_archive if self.counted.add(task.task_id)]
        counts.to_archive = len(missing)
        counts.files = sum(len(task.assets) for task in missing)
        return counts
