"""From an id that somebody named to the API's word about it, in the ledger.

`Verifier.ask` asks for one leased id. `Verifier.match` answers for many at once: it reads list pages from the
newest end and records whatever they show, through the same `ledger.record` as the sweep. Matching needs no
lease, because `record` only ever moves a task forward; what no page shows is then asked for singly.

A forged id costs at most its share of the background budget here, and can never push a genuine one aside:
genuine ones are on the list pages, which one call reads by the 500.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from archiver import log
from archiver.failures import Disposition, Failure, TaskNotFound
from archiver.families import families_fitting
from archiver.kling import PAGE_ROWS, KlingClient
from archiver.ledger import Ledger, Outcome, Recorded
from archiver.limiter import Priority
from archiver.metrics import Metrics
from archiver.model import Discovery, Lease, Stage, State, Status, Task
from archiver.pages import Listing
from archiver.setback import say_hold

MATCH_LEAST = 3
"""From so many waiting ids on, one list call is cheaper than asking for each."""
WAITING_MOST = 5000
LIST_TRIES = 3
"""So often a task whose watermarked files only the list can name waits for a list that cannot be read."""


@dataclasses.dataclass(frozen=True)
class Verifier:
    """One account's questions. `now` gives Unix ms, `rand` numbers in [0, 1)."""

    account: str
    families: tuple[str, ...]
    client: KlingClient
    ledger: Ledger
    metrics: Metrics
    now: Callable[[], int]
    rand: Callable[[], float]

    def ask(self, lease: Lease) -> State:
        """Ask the API for one leased id and record its word; the state the task is in now.

        Raises Failure; the lease is then still ours to settle.
        """
        try:
            task = self._query(lease)
        except TaskNotFound:
            return self._not_found(lease)
        if _may_lack_watermarks(task):
            task = self._fullest(lease, task)
        recorded = self.ledger.record(
            [task], account=self.account, by=lease.discovered_by, rand=self.rand(), asked_as=lease.task_id
        )
        say_recorded([task], recorded, metrics=self.metrics)
        return recorded[0].state or lease.state

    def _query(self, lease: Lease) -> Task:
        priority = Priority.VERIFY if lease.confirmed else Priority.BACKGROUND
        families = self._families_of(lease)
        for family in families[:-1]:
            try:
                return self.client.query(family, lease.task_id, priority=priority)
            except TaskNotFound:
                continue
        return self.client.query(families[-1], lease.task_id, priority=priority)

    def _fullest(self, lease: Lease, answer: Task) -> Task:
        """The answer, or its row on the list's newest page where that names more files: the single answers of some
        families (images/editing/expand) never name the watermarked ones. Asked before anything is archived, since a
        manifest is final; but a list that cannot be read must not for long keep the rest from its place.

        Raises Failure in the first tries.
        """
        try:
            newest = next(self._listing(answer.family).pages(), None)
        except Failure as error:
            if error.disposition is Disposition.RETRY and lease.attempt <= LIST_TRIES:
                raise
            self._say_unlisted(answer.family, error)
            return answer
        rows = [] if newest is None else [row for row in newest.tasks if row.task_id == answer.task_id]
        return max([answer, *rows], key=lambda task: len(task.assets))

    def _listing(self, family: str) -> Listing:
        memory = self.ledger.sweep_memory(account=self.account, family=family)
        return Listing(
            lambda number: self.client.list_page(
                family, page=number, size=PAGE_ROWS, priority=Priority.VERIFY
            ),
            oldest_first=memory.oldest_first,
            last_page=memory.last_page,
        )

    def _families_of(self, lease: Lease) -> list[str]:
        """Where to ask: the settled family; else the hint alone at first, because it is nearly always right and
        a forged id should cost one call; then, as the hint may be wrong, every configured family."""
        if lease.family is not None:
            return [lease.family]
        fitting = families_fitting(lease.result_arrays, self.families)
        if lease.family_hint is None:
            return fitting
        others = [family for family in fitting if family != lease.family_hint]
        return [lease.family_hint] if lease.asked == 0 else [lease.family_hint, *others]

    def _not_found(self, lease: Lease) -> State:
        state = self.ledger.not_found(lease, rand=self.rand())
        self.metrics.verifications_total.labels(result="unknown").inc()
        if state is State.UNKNOWN and lease.state is not State.UNKNOWN:
            log.get().warning("task.not_found", task_id=lease.task_id, family=lease.family_hint)
        return state

    def match(self) -> int:
        """Answer for all waiting ids that list pages show, where that is cheaper than asking; how many.

        Never raises Failure: a family whose list cannot be read is asked for singly.
        """
        waiting = self.ledger.waiting(account=self.account, most=WAITING_MOST)
        fresh = sum(waiting.by_family.values())
        if fresh == 0 or fresh + waiting.singly < MATCH_LEAST:
            return 0
        began = self.now()
        matched = 0
        unplaced = waiting.by_family.get(None, 0)
        for family in self._families_waiting(waiting.by_family):
            if self.ledger.is_held(account=self.account, stage=Stage.VERIFY, family=family):
                continue
            matched += self._match_family(family, count=waiting.by_family.get(family, 0) + unplaced)
            self.ledger.ask_singly(account=self.account, family=family, due_before=began)
        if unplaced:
            self.ledger.ask_singly(account=self.account, family=None, due_before=began)
        return matched

    def _families_waiting(self, by_family: Mapping[str | None, int]) -> list[str]:
        named = [family for family in by_family if family is not None]
        return named if None not in by_family else list(dict.fromkeys([*named, *self.families]))

    def _match_family(self, family: str, *, count: int) -> int:
        """Read pages while they still show what waits, at most twice as many as the ids would fill."""
        listing = self._listing(family)
        matched = 0
        try:
            for number, page in enumerate(listing.pages(), start=1):
                recorded = self.ledger.record(
                    page.tasks, account=self.account, by=Discovery.SWEEP, rand=self.rand()
                )
                say_recorded(page.tasks, recorded, metrics=self.metrics)
                matched += sum(one.was_waiting for one in recorded)
                news = any(one.was_waiting or one.outcome is Outcome.NEW for one in recorded)
                if not news or matched >= count or number > 2 * math.ceil(count / PAGE_ROWS):
                    break
        except Failure as error:
            self._say_unlisted(family, error)
        return matched

    def _say_unlisted(self, family: str, error: Failure) -> None:
        """The list cannot be read: what concerns everybody becomes a hold, the rest is asked for singly."""
        self.metrics.failures_total.labels(stage=Stage.VERIFY, reason=error.reason).inc()
        if error.disposition is Disposition.HOLD:
            if self.ledger.set_hold(error, account=self.account, stage=Stage.VERIFY):
                say_hold(error, account=self.account, stage=Stage.VERIFY)
        else:
            log.get().warning("list.unreadable", family=family, reason=error.reason, message=str(error))


def _may_lack_watermarks(task: Task) -> bool:
    """Whether watermarks were asked for and the answer names no watermarked file."""
    info = task.document.get("watermark_info")
    wanted = isinstance(info, Mapping) and info.get("enabled") is True
    succeeded = task.status is Status.SUCCEEDED
    return succeeded and wanted and not any(asset.watermarked for asset in task.assets)


def say_recorded(tasks: Sequence[Task], recorded: Sequence[Recorded], *, metrics: Metrics) -> None:
    """Count and log what the API's word has moved; what it only repeated is no news."""
    by_id = {task.task_id: task for task in tasks}
    for one in recorded:
        task = by_id[one.task_id]
        if one.outcome in (Outcome.NEW, Outcome.MOVED):
            metrics.verifications_total.labels(result=task.status).inc()
            log.get().info(
                "task.verified",
                task_id=task.task_id,
                family=task.family,
                state=one.state,
                assets=len(task.assets),
            )
            if task.unknown_fields:
                log.get().warning("field.unknown", task_id=task.task_id, fields=list(task.unknown_fields))
            if one.state is State.BURIED:
                log.get().error(
                    "task.buried", task_id=task.task_id, family=task.family, reason="results_missing"
                )
        if one.family_contradicted is not None:
            log.get().warning(
                "family.contradicted", task_id=task.task_id, family=task.family, said=one.family_contradicted
            )
