"""Finds tasks of an account that nothing would archive: of families that KLING_FAMILIES leaves out (and
KLING_IGNORED_FAMILIES does not name), and that no callback, registration or gateway has named.

A day's look reads each such list when no sweep is due: from its newest end back to what an earlier look has found
clean, or to the end of Kling's retention, with at most `QUERIES_MAX` queries. It stops at the first task that it finds.
A list that cannot be read shows nothing: the account may not use that family. It does not delay the others.

`doctor` looks in the same way, once.

All of it is in memory. After a crash the next process looks again, from the beginning.
"""

import threading
import time
from collections.abc import Callable, Sequence, Set

from archiver.failures import (
    ApiForbidden,
    ApiRateLimited,
    ApiTokenRefused,
    Disposition,
    Failure,
    LedgerUnavailable,
    NotOffered,
)
from archiver.families import FAMILIES, collection_of
from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.kling.pages import Page
from archiver.ledger import Ledger, unix_ms
from archiver.model import RETENTION_MS, Problem, Status, Task
from archiver.record import ROWS_MAX
from archiver.sweep.unswept_list import UnsweptList

LOOK_SECONDS = 86_400.0
FIRST_LOOK_SECONDS = 600.0
"""After a start. The sweeps come first, and a process that starts again and again does not look each time."""
RETRY_SECONDS = 3600.0
"""After a failure that concerns the whole account, or while the ledger is away."""
FAILURES_IN_A_ROW_MAX = 3
"""If this many lists fail one after the other, or all that this look has left, the API itself fails."""
HANDED_OVER_SECONDS = 1800.0
"""How long a process repeats what it has found after another one has taken the account over: by then that one has
looked itself, so an alert about it does not end in between."""
NAMED_MS_MAX = 3_600_000
"""After its end, a task's callback has had this much time to come."""
REASON = "family_not_swept"
WHAT_TO_DO = (
    "They are archived only if a callback, a registration or the gateway names them. Add their families to "
    "KLING_FAMILIES, or set it to all. If you do not want their results, name them in KLING_IGNORED_FAMILIES."
)


def unswept(families: Sequence[str], *, ignored: Sequence[str] = ()) -> list[str]:
    """The families with a list of their own that are neither swept nor ignored on purpose."""
    named = {*families, *ignored}
    return [name for name in FAMILIES if name not in named and collection_of(name) is None]


def known_to(ledger: Ledger, *, account: str) -> Callable[[Sequence[str]], Set[str]]:
    """Returns a function that picks, from ids of tasks, those that the ledger knows or that `forget` removed."""

    def known(ids: Sequence[str]) -> Set[str]:
        found: set[str] = set()
        for start in range(0, len(ids), ROWS_MAX):
            part = ids[start : start + ROWS_MAX]
            found |= ledger.records.states(account=account, task_ids=part).keys()
            found |= ledger.tombstones.ids(account=account, task_ids=part)
        return found

    return known


class UnsweptFamilies:
    """Looks at the lists of one account. `problems` may be called from any thread, all else from one."""

    def __init__(
        self,
        account: str,
        unswept: Sequence[str],
        *,
        client: KlingClient,
        known: Callable[[Sequence[str]], Set[str]],
        priority: Priority = Priority.BACKGROUND,
        now: Callable[[], int] = unix_ms,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`unswept` are the families to look at, `known` is as `known_to` makes it, `now` gives Unix ms."""
        self._account = account
        self._lists = [UnsweptList(family, client, priority=priority) for family in unswept]
        self._known = known
        self._now = now
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._found: dict[str, Task] = {}
        """Family → a task of it that nothing has named. Kept until a look of that family says otherwise."""
        self._silent_from = float("inf")
        self._waiting: list[UnsweptList] = []
        self._failed_in_a_row = 0
        self._due_at = 0.0
        self._ended_looks = 0
        self.begin()

    def begin(self) -> None:
        """This process asks for the account from now on."""
        with self._lock:
            if self._monotonic() >= self._silent_from:  # the other process has looked since
                self._found.clear()
            self._silent_from = float("inf")
        self._begin_look(after_seconds=FIRST_LOOK_SECONDS)

    def end(self) -> None:
        """Another process asks from now on, and soon says what it finds."""
        with self._lock:
            self._silent_from = min(self._silent_from, self._monotonic() + HANDED_OVER_SECONDS)

    def step(self) -> None:
        """Read one page if it is time. Raises LedgerUnavailable, and Stopped."""
        if not self._lists or self._monotonic() < self._due_at:
            return
        now = self._now()
        current = self._waiting[0]
        try:
            page = current.next_page(now)
        except (NotOffered, ApiForbidden):
            self._failed_in_a_row = 0
            self._take(current, None, now=now)
        except Failure as error:  # the sweeps meet it too, and report it
            self._fail(current, error)
        else:
            self._failed_in_a_row = 0
            self._take(current, page, now=now)

    def look(self, *, ends_at: float) -> list[str]:
        """Look at once, until `ends_at` by `monotonic`, or until the API fails. The families whose lists were not read
        as far as a look reads them.

        Raises LedgerUnavailable, Stopped.
        """
        self._begin_look(after_seconds=0.0)
        before = self._ended_looks
        while self._ended_looks == before and self._due_at <= self._monotonic() < ends_at and self._lists:
            self.step()
        return [each.family for each in self._waiting] if self._ended_looks == before else []

    def problems(self) -> list[Problem]:
        """What the last looks have found. Never waits for a look."""
        with self._lock:
            found = dict(self._found) if self._monotonic() < self._silent_from else {}
        if not found:
            return []
        named = ", ".join(f"{family} (such as {task.task_id})" for family, task in sorted(found.items()))
        message = f"{self._account} has tasks that no sweep finds, and that nothing else has named: {named}"
        return [Problem("settings", message, WHAT_TO_DO, self._account, stage="sweep", reason=REASON)]

    def _begin_look(self, *, after_seconds: float) -> None:
        for each in self._lists:
            each.begin_look()
        self._waiting = list(self._lists)
        self._failed_in_a_row = 0
        self._due_at = self._monotonic() + after_seconds

    def _fail(self, current: UnsweptList, error: Failure) -> None:
        """The other lists come first. A list that fails again and again waits for the next look."""
        if _concerns_all_lists(error):
            self._due_at = self._monotonic() + RETRY_SECONDS
            return
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= min(FAILURES_IN_A_ROW_MAX, len(self._waiting)):
            self._failed_in_a_row = 0
            self._due_at = self._monotonic() + RETRY_SECONDS
        self._waiting.append(self._waiting.pop(0))
        if not current.fail():
            self._leave(current)

    def _take(self, current: UnsweptList, page: Page | None, *, now: int) -> None:
        """Judge a page; None where there is no further one."""
        try:
            is_over = self._judge(current, page, now=now)
        except LedgerUnavailable:
            # The list must not be asked again at every step until the ledger is back.
            current.begin_again()
            self._due_at = self._monotonic() + RETRY_SECONDS
            raise
        if is_over:
            self._leave(current)

    def _judge(self, current: UnsweptList, page: Page | None, *, now: int) -> bool:
        """Whether the reading of this list is over."""
        shown = page.tasks if page is not None else ()
        if unnamed := self._unnamed(shown, now=now):
            with self._lock:
                self._found[current.family] = unnamed[0]
            return True
        current.note_open(task.created_at for task in shown if not _is_settled(task, now=now))
        if page is not None and not current.end_at(max(current.clean_until, now - RETENTION_MS), page):
            return False
        with self._lock:
            found = self._found.get(current.family)
        if current.is_whole:
            current.note_clean(margin_ms=NAMED_MS_MAX)
        if found is not None and (current.is_whole or not self._unnamed([found], now=now)):
            with self._lock:
                self._found.pop(current.family, None)
        return True

    def _leave(self, current: UnsweptList) -> None:
        """Go on with the next list, or wait for the next look."""
        self._waiting.remove(current)
        if not self._waiting:
            self._ended_looks += 1
            self._begin_look(after_seconds=LOOK_SECONDS)

    def _unnamed(self, shown: Sequence[Task], *, now: int) -> list[Task]:
        """Those that have results which Kling still keeps, and that the ledger does not know."""
        tasks = [
            task
            for task in shown
            if task.status is Status.SUCCEEDED
            and (task.created_at or 0) > now - RETENTION_MS
            and _is_settled(task, now=now)
        ]
        known = self._known([task.task_id for task in tasks])
        return [task for task in tasks if task.task_id not in known]


def _is_settled(task: Task, *, now: int) -> bool:
    """Whether the task has ended, and its callback has had the time to come."""
    has_ended = task.status in (Status.SUCCEEDED, Status.FAILED)
    return has_ended and (task.updated_at or task.created_at or now) < now - NAMED_MS_MAX


def _concerns_all_lists(error: Failure) -> bool:
    """Refused keys, arrears, maintenance, the rate: the next list would fail too."""
    is_of_account = error.disposition is Disposition.HOLD and error.family is None
    return is_of_account or isinstance(error, (ApiRateLimited, ApiTokenRefused))
