"""Answers for many waiting ids at once by reading list pages.

Matching reads pages from the newest end and records whatever they show, as the sweep does. It needs no lease, because
recording only ever moves a task forward. Ids that no page shows are marked for individual queries.

So forged ids never delay genuine ones: a list page shows up to 500 genuine ids, and is read before any id is queried
individually. A made-up family has no pages; its ids are queried individually from the start (`ledger.callbacks`).

A list costs one call for up to 500 ids, an individual query one call for each; the numbers below weigh the two.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

from archiver.failures import Failure, LedgerUnavailable
from archiver.families import collection_of
from archiver.kling.limiter import Priority
from archiver.kling.pages import PAGE_ROWS, Page
from archiver.ledger import Ledger, PendingCounts, RecordedTask, RecordOutcome
from archiver.model import Stage
from archiver.record import Recorder
from archiver.verify.availability import Availability
from archiver.verify.lists import FamilyLists
from archiver.verify.places import is_known
from archiver.verify.unknown_ids import UnknownIdAlarm

LIST_IDS_MIN = 3
"""From this many waiting ids on, one list call is cheaper than querying each."""
PAGE_IDS_MIN = 10
"""A further page answers more than one query does, so it takes this many waiting ids."""
FLOOD_IDS_MIN = 500
"""This many ids that no list shows are a flood of forged ones, not a burst of genuine ones."""
WAITING_IDS_MAX = 2000
"""How many waiting ids of each queue are counted."""
RECENT_MS = 60 * 60 * 1000
"""Nearly all callbacks come for tasks created within this time."""


@dataclasses.dataclass(frozen=True, slots=True)
class MatchResult:
    """What list matching has answered."""

    count: int
    began: int
    """Unix ms. Ids due by then that still wait are to be queried individually; later ones wait for the next lists."""


@dataclasses.dataclass(frozen=True, slots=True)
class PageResult:
    """What the pages of one list have brought so far."""

    pages: int
    matched: int
    """Ids that had waited before matching began, on all pages."""
    has_news: bool
    """The last page showed a new task, or one that waited."""
    is_recent: bool
    """Every task of the last page was created within `RECENT_MS`."""


@dataclasses.dataclass(frozen=True, slots=True)
class FamilyPlan:
    """How to read one family's list."""

    family: str
    ids: int
    """Waiting ids that the list may show."""
    pages_max: int
    """More pages would cost more than individual queries."""
    priority: Priority
    reads_on_while_recent: bool
    """In a burst, pages of known tasks may lie before those that wait. Not in a flood: the last hour would be read
    again and again for forged ids, while another family's genuine callbacks wait. The sweep finds what is missed."""

    def is_done(self, page: PageResult) -> bool:
        """Whether to stop after this page."""
        reads_on = page.has_news or (self.reads_on_while_recent and page.is_recent)
        return not reads_on or page.matched >= self.ids or page.pages >= self.pages_max


def plan(waiting: PendingCounts, families: Sequence[str]) -> list[FamilyPlan]:
    """The lists worth reading, where `families` are configured.

    A list is worth its call when enough ids wait for it. It also is when ids that no list shows stand before a few that
    a list might show: a genuine id should not wait behind them.
    """
    unplaced = waiting.by_family.get(None, 0)
    is_blocked = waiting.singly >= LIST_IDS_MIN

    def is_worth(family: str, count: int) -> bool:
        if count >= LIST_IDS_MIN:
            return True
        return is_known(family, families) and (is_blocked or count + unplaced >= LIST_IDS_MIN)

    worth = [
        family
        for family, count in waiting.by_family.items()
        if family is not None and is_worth(family, count)
    ]
    if unplaced and (is_blocked or unplaced >= LIST_IDS_MIN):
        worth += families
    return [
        _family_plan(family, waiting, ids=waiting.by_family.get(family, 0) + unplaced)
        for family in dict.fromkeys(worth)
        if collection_of(family) is None
    ]


def _family_plan(family: str, waiting: PendingCounts, *, ids: int) -> FamilyPlan:
    return FamilyPlan(
        family=family,
        ids=ids,
        pages_max=max(2 * math.ceil(ids / PAGE_ROWS), ids // PAGE_IDS_MIN),
        priority=Priority.VERIFY if family in waiting.confirmed else Priority.MATCH,
        reads_on_while_recent=waiting.singly < FLOOD_IDS_MIN,
    )


@dataclasses.dataclass(frozen=True)
class ListMatcher:
    """Matches one account's waiting ids. `now` gives Unix ms."""

    account: str
    families: tuple[str, ...]
    ledger: Ledger
    lists: FamilyLists
    availability: Availability
    recorder: Recorder
    alarm: UnknownIdAlarm
    now: Callable[[], int]

    def match(self) -> MatchResult:
        """Read the lists worth reading, and mark what they do not show for individual queries.

        Raises LedgerUnavailable and Stopped. A list that cannot be read leaves its ids to individual queries.
        """
        began, matched = self.now(), 0
        waiting = self.ledger.waiting(account=self.account, most=WAITING_IDS_MAX)
        plans = [
            family_plan
            for family_plan in plan(waiting, self.families)
            if self.availability.may_ask(family_plan.family)
        ]
        for family_plan in plans:
            if self.ledger.is_held(account=self.account, stage=Stage.VERIFY, family=family_plan.family):
                continue
            matched += self._match_family(family_plan, began=began)
            self._leave_to_queries(family_plan.family, due_before=began)
        if plans and waiting.by_family.get(None):
            self._leave_to_queries(None, due_before=began)
        return MatchResult(matched, began)

    def _match_family(self, family_plan: FamilyPlan, *, began: int) -> int:
        """How many ids that waited when matching began the list has answered for."""
        family, matched = family_plan.family, 0
        try:
            listing = self.lists.open(family, family_plan.priority)
            for number, page in enumerate(listing.pages(), start=1):
                recorded = self.recorder.record_page(page.tasks, behind_ms=self.lists.client.behind_ms)
                self.availability.answered(family)
                matched += sum(_waited_before(result, began) for result in recorded)
                result = PageResult(
                    pages=number,
                    matched=matched,
                    has_news=any(map(_is_news, recorded)),
                    is_recent=_is_since(page, began - RECENT_MS),
                )
                if family_plan.is_done(result):
                    break
        except LedgerUnavailable:
            raise
        except Failure as error:
            # A made-up family has no list; its refusal says nothing of the API.
            if family not in self.families or not self.availability.refused(family, error):
                self.lists.log_unreadable(family, error)
        if matched:
            self.alarm.confirmed()
        return matched

    def _leave_to_queries(self, family: str | None, *, due_before: int) -> None:
        """Mark the rest for individual queries, batch by batch: callbacks are written between two transactions."""
        while self.ledger.query_individually(account=self.account, family=family, due_before=due_before):
            continue


def _waited_before(recorded: RecordedTask, moment: int) -> bool:
    return recorded.waited_since is not None and recorded.waited_since <= moment


def _is_news(recorded: RecordedTask) -> bool:
    return recorded.waited_since is not None or recorded.outcome is RecordOutcome.NEW


def _is_since(page: Page, moment: int) -> bool:
    """Whether the page has tasks and every one was created since `moment` (Unix ms)."""
    return page.rows > 0 and all((task.created_at or 0) >= moment for task in page.tasks)
