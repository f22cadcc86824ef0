"""Create a task so that it is paid for once and never lost: register first, then create, then record.

1. The ledger registers our external id before the create is sent. After a `kill -9` at any moment the daemon
   queries that id, archives what was created, and merges it into one row with any callback that came meanwhile.
2. A create whose outcome is unknown is never repeated: the API is queried for the external id instead. An operator may
   repeat the command under the same external id: `Submitter` looks before it sends, and the API refuses a second task
   at no cost (400/1201, archiver/kling/API.md 7).
3. A definite refusal withdraws the registration.
"""

import contextlib
import dataclasses
import enum
import itertools
from collections.abc import Callable, Mapping

from archiver.failures import (
    ApiBadParameter,
    ApiRateLimited,
    CreateOutcomeUnknown,
    ExternalIdTaken,
    Failure,
    LedgerUnavailable,
    TaskNotFound,
    backoff_ms,
)
from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.ledger import ExistingTask, Ledger
from archiver.model import DiscoveredBy, Task

BUSY_FIRST_SECONDS = 2.0
BUSY_SECONDS_MAX = 60.0
"""Jitter at most halves a wait, so it is never below the second that the error table asks for."""
LOOKUP_SECONDS = (0.0, 2.0, 4.0, 8.0)
"""Waits before the queries for a task whose create was not answered. A created task has never been missing from a query
(archiver/kling/API.md 5.3), but that is no promise, and the create may still be on its way."""


class CreateOutcome(enum.StrEnum):
    CREATED = "created"
    EXISTING = "existing"
    """An earlier try of the same request created the task; nothing was paid now."""
    REFUSED = "refused"
    """Nothing was created, and nothing is registered."""
    UNKNOWN = "unknown"
    """The registration stays, so the task is archived if it exists."""


@dataclasses.dataclass(frozen=True, slots=True)
class Submission:
    family: str
    body: Mapping[str, object]
    """As sent, `external_task_id` included."""
    external_id: str
    has_own_id: bool
    """A random external id of ours: a task that has it can only be this one."""
    request: Mapping[str, object]
    """The part of the body that we keep (`request.request_of`)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Submitted:
    outcome: CreateOutcome
    task_id: str | None = None
    failure: Failure | None = None
    """Why it was refused or is unknown; or why a created task's id could not be recorded."""
    is_absent: bool = False
    """The outcome is unknown, and the API knows no such task so far."""


@dataclasses.dataclass(frozen=True)
class Submitter:
    """One account's creates. `pause(failure, seconds)` waits and shows why; `rand()` is in [0, 1). `before_create()` is
    called before each create is sent: from then on the task may exist."""

    account: str
    client: KlingClient
    ledger: Ledger
    pause: Callable[[Failure, float], None]
    rand: Callable[[], float]
    before_create: Callable[[], object]

    def submit(self, submission: Submission) -> Submitted:
        """Waits for free slots without a limit; nothing is registered meanwhile.

        Raises LedgerUnavailable before anything was sent, and what `pause` raises.
        """
        known = self.ledger.registrations.known(submission.external_id, account=self.account)
        if known is None:
            return self._create(submission, is_ours=submission.has_own_id)
        is_ours = _is_same(submission, known)
        earlier = self._from_ledger(submission, known) or self._from_api(submission, is_ours=is_ours)
        return earlier or self._create(submission, is_ours=is_ours)

    def _from_ledger(self, submission: Submission, known: ExistingTask) -> Submitted | None:
        """An earlier try's outcome; None if the API must be asked."""
        is_same = _is_same(submission, known)
        if known.is_confirmed and is_same:
            return Submitted(CreateOutcome.EXISTING, known.task_id)
        if known.is_confirmed or not (is_same or known.request is None):
            return Submitted(CreateOutcome.REFUSED, failure=_taken(submission, f"task {known.task_id}"))
        return None

    def _from_api(self, submission: Submission, *, is_ours: bool) -> Submitted | None:
        """An earlier try's outcome; None if the API knows no such task."""
        try:
            task = self._find(submission)
        except TaskNotFound:
            return None
        except ExternalIdTaken as error:
            return Submitted(CreateOutcome.REFUSED, failure=error)
        except Failure as error:
            return Submitted(CreateOutcome.UNKNOWN, failure=error)
        if is_ours:
            return self._record(submission, task, CreateOutcome.EXISTING)
        return Submitted(CreateOutcome.REFUSED, failure=_taken(submission, f"task {task.task_id}"))

    def _create(self, submission: Submission, *, is_ours: bool) -> Submitted:
        """`is_ours`: a task with this external id can only be ours."""
        for attempt in itertools.count(1):
            is_new = self._register(submission)
            self.before_create()
            try:
                task = self.client.create(submission.family, submission.body)
            except CreateOutcomeUnknown as error:
                return self._look_for(submission, error)
            except ApiBadParameter as error:
                return self._refused_or_created(submission, error, is_new=is_new, is_ours=is_ours)
            except Failure as error:
                if is_new:
                    self._withdraw(submission)
                if not isinstance(error, ApiRateLimited):
                    return Submitted(CreateOutcome.REFUSED, failure=error)
                self.pause(error, self._busy_seconds(attempt))
            else:
                return self._record(submission, task, CreateOutcome.CREATED)
        raise AssertionError("unreachable: the loop above has no end")

    def _register(self, submission: Submission) -> bool:
        """Whether the external id is new. It is due at once: the daemon queries it, ever more rarely, for ten minutes,
        longer than a create takes."""
        return self.ledger.registrations.register(
            submission.external_id,
            account=self.account,
            family=submission.family,
            external_task_id=submission.external_id,
            request=submission.request,
        )

    def _withdraw(self, submission: Submission) -> None:
        # A registration that cannot be deleted now becomes an `unknown` id, which costs one query a day.
        with contextlib.suppress(LedgerUnavailable):
            self.ledger.registrations.withdraw(submission.external_id, account=self.account)

    def _record(self, submission: Submission, task: Task, outcome: CreateOutcome) -> Submitted:
        """Replace the external id by the task's own. If the ledger cannot be written, the daemon replaces it later."""
        try:
            self.ledger.records.record(
                [task],
                account=self.account,
                discovered_by=DiscoveredBy.REGISTRATION,
                rand=self.rand(),
                asked_as=submission.external_id,
            )
        except LedgerUnavailable as error:
            return Submitted(outcome, task.task_id, failure=error)
        return Submitted(outcome, task.task_id)

    def _look_for(self, submission: Submission, error: CreateOutcomeUnknown) -> Submitted:
        """Query the external id a few times after a create without an answer."""
        answer: Failure = error
        for seconds in LOOKUP_SECONDS:
            self.pause(error, seconds)
            try:
                task = self._find(submission)
            except Failure as failure:
                answer = failure
            else:
                return self._record(submission, task, CreateOutcome.CREATED)
        return Submitted(CreateOutcome.UNKNOWN, failure=error, is_absent=isinstance(answer, TaskNotFound))

    def _refused_or_created(
        self, submission: Submission, error: ApiBadParameter, *, is_new: bool, is_ours: bool
    ) -> Submitted:
        """1201 means a bad parameter, or an external id that exists: a proxy may have sent our create twice."""
        try:
            task = self._find(submission)
        except TaskNotFound:
            refusal: Failure = error
        except ExternalIdTaken as taken:
            refusal = taken
        except Failure:
            return Submitted(CreateOutcome.UNKNOWN, failure=error)
        else:
            if is_ours:
                outcome = CreateOutcome.CREATED if submission.has_own_id else CreateOutcome.EXISTING
                return self._record(submission, task, outcome)
            refusal = _taken(submission, f"task {task.task_id}")
        if is_new:
            self._withdraw(submission)
        return Submitted(CreateOutcome.REFUSED, failure=refusal)

    def _find(self, submission: Submission) -> Task:
        """Raises Failure: TaskNotFound, or ExternalIdTaken if it is another task's own id (the API takes both)."""
        task = self.client.query(submission.family, submission.external_id, priority=Priority.VERIFY)
        if task.task_id == submission.external_id:
            raise _taken(submission, "another task as its own id")
        return task

    def _busy_seconds(self, attempt: int) -> float:
        milliseconds = backoff_ms(
            attempt, rand=self.rand(), first_seconds=BUSY_FIRST_SECONDS, seconds_max=BUSY_SECONDS_MAX
        )
        return milliseconds / 1000


def _is_same(submission: Submission, known: ExistingTask) -> bool:
    return (known.family, known.request) == (submission.family, submission.request)


def _taken(submission: Submission, owner: str) -> ExternalIdTaken:
    return ExternalIdTaken(
        f"The external id {submission.external_id} belongs to {owner}, which was not created by this request."
    )
