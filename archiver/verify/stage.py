"""From an id that somebody named to the API's word about it, in the ledger.

`Verifier.ask` asks for one leased id; `matching` answers for many at once.

With an API Key, `lookup` asks `/tasks` about many leased ids at once; what it shows comes in here as `shown`, and
decides which families' own paths are worth a question. An id that `/tasks` leaves out is not given up for that alone:
that it shows every legacy task is nowhere promised (archiver/kling/API.md 5.3).
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence

from archiver import log
from archiver.failures import (
    ApiAnswerUnreadable,
    ApiRateLimited,
    ApiTimeout,
    ApiUnreachable,
    Disposition,
    Failure,
    LedgerUnavailable,
    NeedsApiKey,
    NotOffered,
    TaskNotFound,
)
from archiver.families import OUTPUTS, collection_of, families_fitting, is_provisional
from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.kling.new_standard import NewStandardTask, guess_family, own_paths, roles_of
from archiver.kling.results import read_task
from archiver.ledger import Ledger
from archiver.metrics import Metrics
from archiver.model import Lease, State, Status, Task
from archiver.record import Recorder
from archiver.verify.availability import Availability
from archiver.verify.lists import FamilyLists
from archiver.verify.matching import ListMatcher, MatchResult
from archiver.verify.places import is_known
from archiver.verify.unknown_ids import UnknownIdAlarm

LIST_TRIES = 3
"""So often a task whose watermarked files only the list can name waits for a list that cannot be read."""
EVERY_FAMILY_EVERY = 3
"""Each so many-th time that `/tasks` leaves an id out, it is looked for under every family's own path as well. Not each
time, and not the first: a forged one then costs little, and a genuine one is nearly always shown by then."""

_CHECK_ACCOUNT = (
    "Ten ids that callbacks named are unknown to the API and none was known: check that KLING_ACCESS_KEY (or"
    " KLING_API_KEY) belongs to the account that creates the tasks, and that KLING_BASE_URL is its region."
)

_NOBODY_ANSWERS = (ApiTimeout, ApiUnreachable, ApiRateLimited, LedgerUnavailable)
"""Failures that another family's path would only meet again."""


@dataclasses.dataclass(frozen=True)
class Verifier:
    """One account's questions. `now` gives Unix ms, `rand` numbers in [0, 1)."""

    account: str
    families: tuple[str, ...]
    client: KlingClient
    ledger: Ledger
    offers: Availability
    metrics: Metrics
    now: Callable[[], int]
    rand: Callable[[], float]
    watch: UnknownIdAlarm = dataclasses.field(default_factory=UnknownIdAlarm)

    @property
    def _recorder(self) -> Recorder:
        return Recorder(self.account, self.ledger, self.metrics, self.rand)

    @property
    def _lists(self) -> FamilyLists:
        return FamilyLists(self.account, self.client, self.ledger, self.offers, self.metrics)

    def match(self) -> MatchResult:
        """As `ListMatcher.match`."""
        matcher = ListMatcher(
            account=self.account,
            families=self.families,
            ledger=self.ledger,
            lists=self._lists,
            availability=self.offers,
            recorder=self._recorder,
            alarm=self.watch,
            now=self.now,
        )
        return matcher.match()

    def ask(self, lease: Lease, shown: Mapping[str, NewStandardTask | Failure] | None = None) -> State:
        """Ask the API for one leased id and record its word; the state the task is in now.

        `shown` is what `/tasks` or `/solutions` has just said of it and others; None where they were not asked. Raises
        Failure; the lease is then still ours to settle.
        """
        try:
            task = self._query(lease, self._families_of(lease)) if shown is None else self._seen(lease, shown)
        except TaskNotFound:
            return self._not_found(lease)
        if lease.confirmed and task.task_id != lease.task_id:
            # Our id is somebody else's external id as well: this answer is about the other task.
            raise ApiAnswerUnreadable(f"The API answered for {lease.task_id} with another task.")
        if _may_lack_watermarks(task) and collection_of(task.family) is None:
            task = self._fullest(lease, task)
        recorded = self._recorder.record([task], discovered_by=lease.discovered_by, asked_as=lease.task_id)
        self.watch.confirmed()
        return recorded[0].state or lease.state

    def _seen(self, lease: Lease, shown: Mapping[str, NewStandardTask | Failure]) -> Task:
        """The answer for an id that was asked for among many. Raises TaskNotFound, Failure."""
        found = shown.get(lease.task_id)
        if isinstance(found, Failure):
            raise found
        if found is None:
            if lease.confirmed or (lease.asked + 1) % EVERY_FAMILY_EVERY:
                raise TaskNotFound(f"nothing is shown of {lease.task_id}")
            own = [family for family in self._families_of(lease) if collection_of(family) is None]
            return self._query(lease, own)
        hints = [lease.family_hint, *self.families]
        task = read_task(found.document, family=guess_family(found, hints))
        if lease.family is not None and not is_provisional(lease.family, lease.state):
            return dataclasses.replace(task, family=lease.family)
        if task.status is Status.RUNNING:
            # What it will have made tells which paths are worth a question: nothing is archived before.
            return dataclasses.replace(task, family=lease.family or task.family)
        own = own_paths(lease.family_hint, self.families, roles_of(found.document))
        with contextlib.suppress(TaskNotFound):
            return self._query_own(lease, own)
        return task

    def _query_own(self, lease: Lease, own: Sequence[str]) -> Task:
        """The answer of the family's own path, for a task that `/tasks` shows without its family. A path that refuses
        us for good, or again and again, has no say in a task that we have in our hands."""
        try:
            return self._query(lease, own)
        except _NOBODY_ANSWERS:
            raise
        except Failure as error:
            of_account = error.disposition is Disposition.HOLD and error.family is None
            again = error.disposition is Disposition.RETRY and lease.attempt <= LIST_TRIES
            if of_account or again:
                raise
            raise TaskNotFound(str(error)) from error

    def _query(self, lease: Lease, families: Sequence[str]) -> Task:
        """The answer of the first of these families that has one.

        The path of a wrong family may be answered with anything, so an unconfirmed id is looked for in the others
        first. What a family that we know has refused counts when none of them has the task; what a made-up path says
        never does.
        """
        priority = Priority.VERIFY if lease.confirmed else Priority.BACKGROUND
        unknown = TaskNotFound(f"no family knows {lease.task_id}")
        refused: Failure | None = None
        for family in families:
            try:
                return self.client.query(family, lease.task_id, priority=priority)
            except TaskNotFound as error:
                if self._is_enough(lease, family):
                    raise
                unknown = error
            except Failure as error:
                if family == lease.family or isinstance(error, _NOBODY_ANSWERS):
                    raise
                if is_known(family, self.families) or isinstance(error, NeedsApiKey):
                    refused = refused or error
        if isinstance(refused, NeedsApiKey | NotOffered) and lease.is_console_test:
            raise unknown
        of_new_standard = OUTPUTS in lease.result_arrays and not lease.confirmed
        if refused is None and of_new_standard and not self.client.has_api_key:
            raise NeedsApiKey(
                f"The callback of {lease.task_id} is of the new standard, and no family knows it."
            )
        raise refused or unknown

    def _fullest(self, lease: Lease, answer: Task) -> Task:
        """The answer, or its row on the list's newest page where that names more files: the single answers of some
        families (images/editing/expand) never name the watermarked ones. Asked before anything is archived, since a
        manifest is final; but a list that cannot be read must not for long keep the rest from its place.

        Raises Failure in the first tries.
        """
        if self.offers.is_unavailable(answer.family):
            return answer
        try:
            newest = next(self._lists.open(answer.family, Priority.VERIFY).pages(), None)
        except Failure as error:
            if error.disposition is Disposition.RETRY and lease.attempt <= LIST_TRIES:
                raise
            self._lists.log_unreadable(answer.family, error)
            return answer
        rows = [] if newest is None else [row for row in newest.tasks if row.task_id == answer.task_id]
        return max([answer, *rows], key=lambda task: len(task.assets))

    def _families_of(self, lease: Lease) -> list[str]:
        """Where to ask: the settled family; else the hint, and, as it may be wrong, every configured family."""
        if lease.family is not None:
            return [lease.family]
        fitting = families_fitting(lease.result_arrays, self.families)
        if lease.family_hint is None:
            return fitting
        return [lease.family_hint, *(family for family in fitting if family != lease.family_hint)]

    def _is_enough(self, lease: Lease, family: str) -> bool:
        """Whether "not found" in `family` is all we ask for this time: a hint that we know is nearly always right, so
        the first time a forged id costs one call, and a genuine one is only not there yet."""
        return lease.asked == 0 and family == lease.family_hint and is_known(family, self.families)

    def _not_found(self, lease: Lease) -> State:
        state = self.ledger.not_found(lease, rand=self.rand())
        self.metrics.verifications_total.labels(result="unknown").inc()
        if lease.is_console_test:
            return state
        if state is State.UNKNOWN and lease.state is not State.UNKNOWN:
            log.get().warning("task.not_found", task_id=lease.task_id, family=lease.family_hint)
            if self.watch.unknown(now=self.now()):
                log.get().error("ids.unconfirmed", account=self.account, what_to_do=_CHECK_ACCOUNT)
        return state


def _may_lack_watermarks(task: Task) -> bool:
    """Whether watermarks were asked for and the answer names no watermarked file."""
    info = task.document.get("watermark_info")
    wanted = isinstance(info, Mapping) and info.get("enabled") is True
    succeeded = task.status is Status.SUCCEEDED
    return succeeded and wanted and not any(asset.watermarked for asset in task.assets)
