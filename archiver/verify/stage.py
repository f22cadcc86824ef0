"""Queries the API for one leased id, and records the answer.

The answer comes from `/tasks` (`BatchQuery`) or from a family's own path (`places`).
"""

import dataclasses
import functools
import itertools
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
    TaskNotShown,
)
from archiver.families import collection_of, is_provisional
from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.kling.new_standard import NewStandardTask, guess_family, own_paths, roles_of
from archiver.kling.results import read_task
from archiver.ledger import Ledger
from archiver.metrics import Metrics
from archiver.model import Lease, Problem, Stage, State, Status, Task
from archiver.record import Recorder
from archiver.verify.lists import FamilyLists
from archiver.verify.own_paths import OwnPaths
from archiver.verify.places import NotThere, ends_search, is_known, places, verdict
from archiver.verify.unknown_ids import UnknownIdAlarm

DELAY_ATTEMPTS_MAX = 3
"""A list that may name watermarked files, or a family's own path, can fail this many attempts. Later attempts go on
without it."""

WATERMARK_PAGES_MAX = 10
"""5,000 tasks back. Each page costs a question of the budget that fresh tasks need, too."""

ANSWERED_WELL_MS_MAX = 10 * 60 * 1000
"""How long a good answer of a family proves that its path works. Not longer than the grace of an id: otherwise an id
that is first denied when a bad hour begins could become unknown by an answer from before."""

_CONCERNS_ALL = (ApiTimeout, ApiUnreachable, ApiRateLimited, LedgerUnavailable)
"""Failures that another family's path would only repeat."""

_CHECK_KEYS = (
    "Check that KLING_ACCESS_KEY (or KLING_API_KEY) belongs to the account that creates the tasks, and that "
    "KLING_BASE_URL is its region."
)
_CHECK_ACCOUNT = f"Ten ids that callbacks named are unknown to the API and none was known. {_CHECK_KEYS}"


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """The result of a query for one id."""

    state: State
    """The task's state now."""
    is_proof: bool = True
    """Whether the answer shows that the API works. "No such task" in other words than documented may come from any
    web server."""


@dataclasses.dataclass(frozen=True)
class Verifier:
    """`now` gives Unix ms, `random` numbers in [0, 1)."""

    account: str
    families: tuple[str, ...]
    client: KlingClient
    ledger: Ledger
    lists: FamilyLists
    own_paths: OwnPaths
    recorder: Recorder
    alarm: UnknownIdAlarm
    metrics: Metrics
    now: Callable[[], int]
    random: Callable[[], float]

    def ask(self, lease: Lease, batch: Mapping[str, NewStandardTask | Failure] | None = None) -> Asked:
        """Ask for one leased id and record the answer.

        `batch` is the answer of `BatchQuery`; None where it was not asked. Raises Failure; the caller ends the lease.
        """
        try:
            found = self._find(lease, batch)
        except NotOffered as error:
            raise self._judged(error) from None
        except ApiAnswerUnreadable as error:
            if _shows(error, lease):
                self.alarm.confirmed(now=self.now())
            raise
        if isinstance(found, NotThere):
            failure = verdict(lease, found, has_api_key=self.client.has_api_key)
            if failure is not None:
                raise self._judged(failure)
            return self._not_found(lease, found)
        if (lease.confirmed or lease.named_by_create) and found.task_id != lease.task_id:
            # Another task has our id as its external id.
            raise ApiAnswerUnreadable(f"The API answered for {lease.task_id} with another task.")
        task = self._with_watermarks(lease, found)
        (recorded,) = self.recorder.record([task], discovered_by=lease.discovered_by, asked_as=lease.task_id)
        self.alarm.confirmed(now=self.now())
        return Asked(recorded.state or lease.state)

    def problems(self) -> Sequence[Problem]:
        """A problem if the API knows none of the ids that callbacks name."""
        if not self.alarm.is_raised:
            return ()
        message = "ten ids that callbacks named are unknown to the API, and it has known none since"
        return (
            Problem("settings", message, _CHECK_KEYS, self.account, stage="verify", reason="ids_unconfirmed"),
        )

    def refresh(self, lease: Lease) -> None:
        """Ask for working URLs of a task that the archive stage has handed back, and end its lease.

        Raises Failure if no answer was about the task; the caller ends the lease.
        """
        self.ledger.outcomes.refreshed(lease, got_urls=self._refresh(lease))

    def _refresh(self, lease: Lease) -> bool:
        """Whether the API named files. A crash after they are recorded costs one more question."""
        task = self.fresh_task(lease)
        if task is not None:
            self.ledger.records.refresh_assets(lease, task)
        return task is not None

    def fresh_task(self, lease: Lease) -> Task | None:
        """The task with the URLs that the API names now; None if it names none. Raises Failure if no answer was about
        the task."""
        try:
            task = self.client.query(lease.family or "", lease.task_id, priority=Priority.FRESH)
        except TaskNotFound:
            return None
        except Failure as error:
            if error.disposition is Disposition.BURY:
                return None
            raise
        # Our id may be another task's external id: once our task is purged, the API answers with that one.
        if task.status is not Status.SUCCEEDED or task.task_id != lease.task_id or not task.assets:
            return None
        return task

    def _find(self, lease: Lease, batch: Mapping[str, NewStandardTask | Failure] | None) -> Task | NotThere:
        shown = None if batch is None else batch.get(lease.task_id)
        if isinstance(shown, Failure):
            raise shown
        if shown is not None:
            return self._read_shown(lease, shown)
        return self._first_answer(lease, places(lease, self.families, omitted_by_batch=batch is not None))

    def _read_shown(self, lease: Lease, shown: NewStandardTask) -> Task:
        """A task that `/tasks` or `/solutions` shows, preferably as its family's own path answers.

        `/tasks` names no family; the outputs tell it, and a running task has none.
        """
        task = read_task(shown.document, family=guess_family(shown, [lease.family_hint, *self.families]))
        if lease.family is not None and not is_provisional(lease.family, lease.state):
            return dataclasses.replace(task, family=lease.family)
        if task.status is Status.RUNNING:
            return dataclasses.replace(task, family=lease.family or task.family)
        roles = roles_of(shown.document)
        may_have_it = own_paths(lease.family_hint, self.families, roles)
        asked = self.own_paths.to_ask(lease, task, may_have_it, roles)
        found = self._first_answer(lease, asked, denied=functools.partial(self.own_paths.denied, lease))
        if isinstance(found, Task):
            self.own_paths.found(lease, found.family, roles)
            return found
        if found.refusal is not None and _delays_shown_task(found.refusal, lease):
            raise found.refusal
        if asked and found == NotThere():
            self.own_paths.denied_by_all(lease, roles)
        return task

    def _first_answer(
        self, lease: Lease, families: Sequence[str], *, denied: Callable[[str], None] = lambda _family: None
    ) -> Task | NotThere:
        """The first answer. `denied` gets each family that does not know the id. Raises Failure.

        A wrong family's path may answer anything: a refusal counts only if no other family has the task, that of a
        made-up family never.
        """
        priority = Priority.VERIFY if lease.confirmed else Priority.BACKGROUND
        refusal: Failure | None = None
        not_shown: list[str] = []
        for family in families:
            try:
                return self.client.query(family, lease.task_id, priority=priority)
            except TaskNotFound:
                denied(family)
                if ends_search(lease, family, self.families):
                    return NotThere(searched_all=False)
            except TaskNotShown:
                if family == lease.family:
                    raise
                not_shown += [family] if is_known(family, self.families) else []
            except Failure as error:
                if family == lease.family or isinstance(error, _CONCERNS_ALL) or _shows(error, lease):
                    raise
                if is_known(family, self.families) or isinstance(error, NeedsApiKey):
                    refusal = refusal or error
        return NotThere(refusal, tuple(not_shown))

    def _is_certain(self, found: NotThere) -> bool:
        """Whether the API has denied the id: as documented, or in other words while it answered well otherwise. A
        family that shows or denies other tasks just now is not having a bad hour."""
        times = [self.client.answered_well_at.get(family, 0.0) for family in found.not_shown]
        return all(0 <= self.now() - at * 1000 <= ANSWERED_WELL_MS_MAX for at in times)

    def _with_watermarks(self, lease: Lease, task: Task) -> Task:
        """The task, or its row of the list where that names more files. Raises Failure.

        Individual answers of some families (images/editing/expand) never name the watermarked files, and the manifest
        is final. What is missed here is amended when a sweep's row names it.
        """
        if not _may_lack_watermarks(task) or collection_of(task.family) is not None:
            return task
        if self.lists.availability.is_unavailable(task.family):
            return task
        try:
            row = self._listed_row(task)
        except Failure as error:
            if _is_worth_a_delay(error, lease):
                raise
            self.lists.log_unreadable(task.family, error)
            return task
        return max([task, *filter(None, [row])], key=lambda candidate: len(candidate.assets))

    def _listed_row(self, task: Task) -> Task | None:
        """The task's row on the newest list page, or further back while the order of the list says that it must be
        older than all rows so far."""
        listing = self.lists.open(task.family, Priority.VERIFY)
        for page in itertools.islice(listing.pages(), WATERMARK_PAGES_MAX):
            for row in page.tasks:
                if row.task_id == task.task_id:
                    return row
            times = [row.created_at for row in page.tasks if row.created_at is not None]
            if not (
                listing.sorted and task.created_at is not None and times and task.created_at < min(times)
            ):
                return None
        return None

    def _judged(self, failure: Failure) -> Failure:
        """The failure, judged: a server that does not offer a path buries no task, unless it has answered another query
        as the API does."""
        if isinstance(failure, NotOffered) and not self.client.answered_well_at:
            return TaskNotShown(str(failure))
        return failure

    def _not_found(self, lease: Lease, found: NotThere) -> Asked:
        is_proof = not found.not_shown
        if not is_proof and self.ledger.holds.is_stopped(account=self.account, stage=Stage.VERIFY):
            raise TaskNotShown("What answers shows no task, and may be none of Kling's API.")
        state = self._record_not_found(lease, is_certain=self._is_certain(found))
        return Asked(state, is_proof=is_proof)

    def _record_not_found(self, lease: Lease, *, is_certain: bool) -> State:
        state = self.ledger.outcomes.not_found(lease, rand=self.random(), is_certain=is_certain)
        self.metrics.verifications_total.labels(result="unknown").inc()
        if lease.is_console_test:
            return state
        if state is State.UNKNOWN and lease.state is not State.UNKNOWN:
            log.get().warning("task.not_found", task_id=lease.task_id, family=lease.family_hint)
            if self.alarm.unknown(now=self.now()):
                log.get().error("ids.unconfirmed", account=self.account, what_to_do=_CHECK_ACCOUNT)
        return state


def _is_worth_a_delay(error: Failure, lease: Lease) -> bool:
    return error.disposition is Disposition.RETRY and lease.attempt <= DELAY_ATTEMPTS_MAX


def _shows(error: Failure, lease: Lease) -> bool:
    """Whether the answer is about the task, though it cannot be read."""
    shown = error.shown if isinstance(error, ApiAnswerUnreadable) else None
    return shown is not None and shown.task_id == lease.task_id


def _delays_shown_task(refusal: Failure, lease: Lease) -> bool:
    """Whether a task that `/tasks` shows waits for its own path: if the refusal concerns the account, or may pass."""
    concerns_account = refusal.disposition is Disposition.HOLD and refusal.family is None
    return concerns_account or _is_worth_a_delay(refusal, lease)


def _may_lack_watermarks(task: Task) -> bool:
    info = task.document.get("watermark_info")
    wanted = isinstance(info, Mapping) and info.get("enabled") is True
    succeeded = task.status is Status.SUCCEEDED
    return succeeded and wanted and not any(asset.watermarked for asset in task.assets)
