"""Creating a task so that it is paid for once and never lost: registered first, then created, then recorded.

Two rules:

1. The external id is ours before the API hears of it: the ledger has it as a registration while the create is on its
   way. `kill -9` at any moment therefore loses nothing: the daemon asks for that id, and what was created is
   found, archived, and merged into one row with whatever a callback told meanwhile.
2. A create whose outcome is unknown is never repeated. The API is asked for the external id, and what it says is told:
   created, not created, or not known yet. A repeat by a person under the same external id is safe as well: the
   API refuses a second one (400/1201, archiver/kling/API.md 7) at no cost, and `Submitter` looks before it sends.

A definite refusal takes the registration back, so that nothing is left of a task that never was.
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
"""Halved at most by the jitter: never less than the second that the error table asks for."""
LOOKUP_SECONDS = (0.0, 2.0, 4.0, 8.0)
"""Before each question for a task whose create was not answered. Nobody has ever seen a created task missing from a
query (archiver/kling/API.md 5.3), but it is no promise, and a create may still be on its way."""


class CreateOutcome(enum.StrEnum):
    """What became of a create."""

    CREATED = "created"
    EXISTING = "existing"
    """An earlier try of the same request has created it already; nothing was created or paid now."""
    REFUSED = "refused"
    """Nothing was created, and nothing is registered."""
    UNKNOWN = "unknown"
    """It may exist; it stays registered, so if it does it will be archived."""


@dataclasses.dataclass(frozen=True, slots=True)
class Submission:
    """One task to create."""

    family: str
    body: Mapping[str, object]
    """As it is sent, `external_task_id` included."""
    external_id: str
    has_own_id: bool
    """Whether the external id is a fresh random one: a task that has it can then only be this one."""
    request: Mapping[str, object]
    """What of it is kept (`request.request_of`)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission."""

    verdict: CreateOutcome
    task_id: str | None = None
    failure: Failure | None = None
    """Why it was refused or is unknown; of a created task, why the ledger could not be told its id."""
    is_absent: bool = False
    """Of an unknown one: the API was asked, and knows no such task so far."""


@dataclasses.dataclass(frozen=True)
class Submitter:
    """One account's creates. `pause(failure, seconds)` waits that long and shows why; `rand` is in [0, 1)."""

    account: str
    client: KlingClient
    ledger: Ledger
    pause: Callable[[Failure, float], None]
    rand: Callable[[], float]

    def submit(self, one: Submission) -> Submitted:
        """Create the task, or say why not; waits for free slots as long as it takes.

        Raises LedgerUnavailable before anything was sent; whatever `pause` raises, with nothing registered while
        it waits for slots.
        """
        known = self.ledger.known(one.external_id, account=self.account)
        if known is None:
            return self._create(one, is_ours=one.has_own_id)
        is_ours = _is_same(one, known)
        told = self._judged(one, known) or self._looked_up(one, is_ours=is_ours)
        return told or self._create(one, is_ours=is_ours)

    def _judged(self, one: Submission, known: ExistingTask) -> Submitted | None:
        """What the ledger alone can say; None where the API must be asked."""
        same = _is_same(one, known)
        if known.is_confirmed and same:
            return Submitted(CreateOutcome.EXISTING, known.task_id)
        if known.is_confirmed or not (same or known.request is None):
            return Submitted(CreateOutcome.REFUSED, failure=_taken(one, f"task {known.task_id}"))
        return None

    def _looked_up(self, one: Submission, *, is_ours: bool) -> Submitted | None:
        """Somebody has registered this external id: what came of it, or None when the API knows of nothing."""
        try:
            task = self._find(one)
        except TaskNotFound:
            return None
        except ExternalIdTaken as error:
            return Submitted(CreateOutcome.REFUSED, failure=error)
        except Failure as error:
            return Submitted(CreateOutcome.UNKNOWN, failure=error)
        if is_ours:
            return self._took(one, task, CreateOutcome.EXISTING)
        return Submitted(CreateOutcome.REFUSED, failure=_taken(one, f"task {task.task_id}"))

    def _create(self, one: Submission, *, is_ours: bool) -> Submitted:
        """`is_ours` says that a task of this external id can only be the one we want."""
        for attempt in itertools.count(1):
            is_new = self._register(one)
            try:
                return self._took(one, self.client.create(one.family, one.body), CreateOutcome.CREATED)
            except CreateOutcomeUnknown as error:
                return self._settled(one, error)
            except ApiBadParameter as error:
                return self._refused_or_there(one, error, is_new=is_new, is_ours=is_ours)
            except Failure as error:
                if is_new:
                    self._withdraw(one)
                if not isinstance(error, ApiRateLimited):
                    return Submitted(CreateOutcome.REFUSED, failure=error)
                self.pause(error, self._busy_seconds(attempt))
        raise AssertionError("unreachable: the loop above has no end")

    def _register(self, one: Submission) -> bool:
        """Due at once for the daemon, which asks again at growing intervals for ten minutes: more than a create takes.
        A crash from here on leaves the registration, and with it the task."""
        return self.ledger.register(
            one.external_id,
            account=self.account,
            family=one.family,
            external_task_id=one.external_id,
            request=one.request,
        )

    def _withdraw(self, one: Submission) -> None:
        # A registration that cannot be deleted now becomes an `unknown` id, which costs a question a day.
        with contextlib.suppress(LedgerUnavailable):
            self.ledger.withdraw(one.external_id, account=self.account)

    def _took(self, one: Submission, task: Task, verdict: CreateOutcome) -> Submitted:
        """The API has named the task: its id takes the place of the external id in the ledger. Where that cannot be
        written now, the registration stays, and the daemon does the same with its first answer."""
        try:
            self.ledger.record(
                [task],
                account=self.account,
                by=DiscoveredBy.REGISTRATION,
                rand=self.rand(),
                asked_as=one.external_id,
            )
        except LedgerUnavailable as error:
            return Submitted(verdict, task.task_id, failure=error)
        return Submitted(verdict, task.task_id)

    def _settled(self, one: Submission, error: CreateOutcomeUnknown) -> Submitted:
        """After a create without an answer: what the API says of the external id, asked a few times."""
        answer: Failure = error
        for seconds in LOOKUP_SECONDS:
            self.pause(error, seconds)
            try:
                return self._took(one, self._find(one), CreateOutcome.CREATED)
            except Failure as failure:
                answer = failure
        return Submitted(CreateOutcome.UNKNOWN, failure=error, is_absent=isinstance(answer, TaskNotFound))

    def _refused_or_there(
        self, one: Submission, error: ApiBadParameter, *, is_new: bool, is_ours: bool
    ) -> Submitted:
        """1201 is a bad parameter, and also what a repeated external id is refused with: something on the way may have
        sent our create twice, and then the first one has created the task."""
        try:
            task = self._find(one)
            if is_ours:
                return self._took(
                    one, task, CreateOutcome.CREATED if one.has_own_id else CreateOutcome.EXISTING
                )
            refusal: Failure = _taken(one, f"task {task.task_id}")
        except TaskNotFound:
            refusal = error
        except ExternalIdTaken as taken:
            refusal = taken
        except Failure:
            return Submitted(CreateOutcome.UNKNOWN, failure=error)
        if is_new:
            self._withdraw(one)
        return Submitted(CreateOutcome.REFUSED, failure=refusal)

    def _find(self, one: Submission) -> Task:
        """The task of the external id. Raises Failure: TaskNotFound, and ExternalIdTaken where it is the very id of
        some other task, which may stand in the same place."""
        task = self.client.query(one.family, one.external_id, priority=Priority.VERIFY)
        if task.task_id == one.external_id:
            raise _taken(one, "another task as its own id")
        return task

    def _busy_seconds(self, attempt: int) -> float:
        milliseconds = backoff_ms(
            attempt, rand=self.rand(), first_seconds=BUSY_FIRST_SECONDS, most_seconds=BUSY_SECONDS_MAX
        )
        return milliseconds / 1000


def _is_same(one: Submission, known: ExistingTask) -> bool:
    return (known.family, known.request) == (one.family, one.request)


def _taken(one: Submission, owner: str) -> ExternalIdTaken:
    return ExternalIdTaken(
        f"The external id {one.external_id} belongs to {owner}, which is not of this request."
    )
