"""Decides when failures of the API or the store become a hold.

A time-out or a 500 may be one task's bad luck. `FAILURES_MAX` within `WINDOW_SECONDS`, without a success in between,
are an outage. The first of them calls for looks (`loop`), so that a quiet account has three within a minute as well.

Two rules keep one bad task from looking like an outage:

1. Failed queries about one task count once: lists show the task too, and looks read lists.
2. A look that succeeds takes back only failures that looks have counted. A store may answer every look and refuse every
   put: only a stored task proves that tasks can be stored.

All of it is in memory: a process that has just started looks before it decides anything.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from archiver.failures import Failure, Outside
from archiver.model import Stage

FAILURES_MAX = 3
WINDOW_SECONDS = 60.0
SUSPICION_SECONDS = 30.0
"""Forged ids may cause suspicions without end; within this time they cost only the two queries of one look."""
SLOW_SECONDS = 20.0
"""Work that lasts longer without any success calls for a look: a put takes minutes to fail at a store that hangs."""

STAGES: Mapping[Outside, tuple[Stage, ...]] = {
    Outside.API: (Stage.VERIFY, Stage.SWEEP),
    Outside.STORE: (Stage.ARCHIVE,),
}
"""The stages that stop if all of it fails."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Counted:
    at: float
    error: Failure
    task_id: str | None
    is_look: bool


class Outage:
    """Failures in a row of the API or the store, as one account meets them. Thread-safe."""

    def __init__(
        self, *, counts_task_once: bool = False, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._counts_task_once = counts_task_once
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._counted: list[_Counted] = []
        self._is_outage = False
        self._begun: list[float] = []
        """When each running piece of work began."""
        self._suspected_at = float("-inf")
        self.worked_at = float("-inf")
        """When work last succeeded."""
        self.on_doubt: Callable[[], None] = lambda: None
        """Called at the first failure in a row, and at a suspicion."""

    def failed(self, error: Failure, *, task_id: str | None = None, is_look: bool = False) -> bool:
        """Count a failure; whether it is an outage. One exception counts once, however many tasks it answers."""
        with self._lock:
            self._forget_old()
            is_first = not self._counted
            if not self._has_counted(error, task_id):
                self._counted.append(_Counted(self._monotonic(), error, task_id, is_look))
            self._is_outage = self._is_outage or len(self._counted) >= FAILURES_MAX
            is_outage = self._is_outage
        if is_first and not is_look:
            self.on_doubt()
        return is_outage

    def believe(self) -> None:
        """Count it as an outage at once: the look at start has failed."""
        with self._lock:
            self._is_outage = True

    def worked(self) -> None:
        """Work has succeeded: there is no outage."""
        with self._lock:
            self.worked_at = self._monotonic()
            self._counted.clear()
            self._is_outage = False

    def looked_well(self) -> None:
        """A look has succeeded."""
        with self._lock:
            self._counted = [counted for counted in self._counted if not counted.is_look]
            self._is_outage = len(self._counted) >= FAILURES_MAX

    def suspect(self) -> None:
        """An answer may come from another server. That is not a failure, but it calls for a look at most every
        `SUSPICION_SECONDS`."""
        with self._lock:
            now = self._monotonic()
            if now < self._suspected_at + SUSPICION_SECONDS:
                return
            self._suspected_at = now
        self.on_doubt()

    @property
    def is_doubtful(self) -> bool:
        """Whether anything has failed within the window, and nothing has succeeded since."""
        with self._lock:
            self._forget_old()
            return bool(self._counted)

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Around work that may hang."""
        begun = self._monotonic()
        with self._lock:
            self._begun.append(begun)
        try:
            yield
        finally:
            with self._lock:
                self._begun.remove(begun)

    @property
    def is_slow(self) -> bool:
        """Whether work goes on for `SLOW_SECONDS`, and none has succeeded in that time."""
        with self._lock:
            since = max(min(self._begun, default=float("inf")), self.worked_at)
            return self._monotonic() - since >= SLOW_SECONDS

    def _has_counted(self, error: Failure, task_id: str | None) -> bool:
        return any(
            counted.error is error
            or (self._counts_task_once and task_id is not None and counted.task_id == task_id)
            for counted in self._counted
        )

    def _forget_old(self) -> None:
        """An outage ends by a success only; failures that are few and far between never become one."""
        oldest = self._monotonic() - WINDOW_SECONDS
        self._counted = [counted for counted in self._counted if counted.at >= oldest]


class Outages:
    """The outages of API and store, for one account."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._of = {
            Outside.API: Outage(counts_task_once=True, monotonic=monotonic),
            Outside.STORE: Outage(monotonic=monotonic),
        }

    def of(self, outside: Outside) -> Outage:
        return self._of[outside]

    def at(self, stage: Stage) -> Outage:
        """The outage of the part that the stage depends on."""
        return self._of[next(outside for outside, stages in STAGES.items() if stage in stages)]
