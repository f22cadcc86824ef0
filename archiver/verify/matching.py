"""Answers for many waiting ids at once: a list page shows up to 500 tasks, an individual query one.

Everything that a page shows is recorded. That needs no lease, because recording only moves a task forward.

Ids that no page shows are queried individually afterwards, so forged ids never delay genuine ones. Ids under a made-up
family are queried individually from the start (`ledger.callbacks`).
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
from archiver.pulses.pulse import beat
from archiver.record import Recorder
from archiver.verify.lists import FamilyLists
from archiver.verify.places import is_known
from archiver.verify.unknown_ids import UnknownIdAlarm

LIST_IDS_MIN = 3
"""For fewer ids, individual queries are cheaper than a list."""
PAGE_IDS_MIN = 10
"""Waiting ids that are worth one more page."""
FLOOD_IDS_MIN = 500
"""This many ids that no list shows are a flood of forged ones."""
WAITING_IDS_MAX = 2000
"""How many ids of a queue are counted."""
RECENT_MS = 60 * 60 * 1000
"""The age of nearly all tasks that callbacks name."""


@dataclasses.dataclass(frozen=True, slots=True)
class MatchResult:
    count: int
    began: int
    """Unix ms. Ids due by then that still wait are queried individually; later ones wait for the next lists."""


@dataclasses.dataclass(frozen=True, slots=True)
class PageResult:
    pages: int
    matched: int
    """Ids that waited when matching began."""
    has_news: bool
    """The last page has a new task, or one that waited."""
    is_recent: bool
    """All its tasks were created within `RECENT_MS`."""


@dataclasses.dataclass(frozen=True, slots=True)
class FamilyPlan:
    family: str
    ids: int
    """Waiting ids that this list may show."""
    pages_max: int
    priority: Priority
    reads_on_while_recent: bool
    """In a burst, waiting tasks may lie behind pages of known ones. In a flood, forged ids would have the last hour
    read again and again while another family's genuine ids wait; the sweep finds what is missed."""

    def is_done(self, page: PageResult) -> bool:
        reads_on = page.has_news or (self.reads_on_while_recent and page.is_recent)
        return not reads_on or page.matched >= self.ids or page.pages >= self.pages_max


def plan(waiting: PendingCounts, families: Sequence[str]) -> list[FamilyPlan]:
    """The lists worth reading: enough ids wait for them, or a few wait behind ids that no list shows."""
    unplaced = waiting.by_family.get(None, 0)
    is_blocked = waiting.individually >= LIST_IDS_MIN

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
        reads_on_while_recent=waiting.individually < FLOOD_IDS_MIN,
    )


@dataclasses.dataclass(frozen=True)
class ListMatcher:
    account: str
    families: tuple[str, ...]
    ledger: Ledger
    lists: FamilyLists
    recorder: Recorder
    alarm: UnknownIdAlarm
    now: Callable[[], int]

    def match(self) -> MatchResult:
        """Match all that waits; an unreadable list leaves its ids to queries. Raises LedgerUnavailable and Stopped."""
        began, matched = self.now(), 0
        waiting = self.ledger.claims.pending(account=self.account, rows_max=WAITING_IDS_MAX)
        plans = [
            family_plan
            for family_plan in plan(waiting, self.families)
            if self.lists.availability.may_ask(family_plan.family)
        ]
        for family_plan in plans:
            if self.ledger.holds.is_held(account=self.account, stage=Stage.VERIFY, family=family_plan.family):
                continue
            matched += self._match_family(family_plan, began=began)
            self._leave_to_queries(family_plan.family, due_before=began)
        if plans and waiting.by_family.get(None):
            self._leave_to_queries(None, due_before=began)
        return MatchResult(matched, began)

    def _match_family(self, family_plan: FamilyPlan, *, began: int) -> int:
        family, matched = family_plan.family, 0
        try:
            listing = self.lists.open(family, family_plan.priority)
            for number, page in enumerate(listing.pages(), start=1):
                recorded = self.recorder.record_page(page.tasks, behind_ms=self.lists.client.behind_ms)
                matched += sum(_waited_before(result, began) for result in recorded)
                page.require_readable()
                self.lists.availability.answered(family)
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
            # A made-up family has no list; that shows nothing about the API.
            if family not in self.families or not self.lists.availability.refused(family, error):
                self.lists.log_unreadable(family, error)
        if matched:
            self.alarm.confirmed(now=self.now())
        return matched

    def _leave_to_queries(self, family: str | None, *, due_before: int) -> None:
        """Mark the rest, a batch a transaction: callbacks are written in between."""
        while self.ledger.claims.query_individually(
            account=self.account, family=family, due_before=due_before
        ):
            beat()


def _waited_before(recorded: RecordedTask, moment: int) -> bool:
    return recorded.waited_since is not None and recorded.waited_since <= moment


def _is_news(recorded: RecordedTask) -> bool:
    return recorded.waited_since is not None or recorded.outcome is RecordOutcome.NEW


def _is_since(page: Page, moment: int) -> bool:
    return page.rows > 0 and all((task.created_at or 0) >= moment for task in page.tasks)
