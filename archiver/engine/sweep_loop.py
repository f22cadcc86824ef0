"""When which family is swept. A sweep has no row in the ledger that waits, so this loop keeps the times itself.

Three rules:

1. A failed sweep does not delay the next family.
2. Sweeps under way take turns, page by page: one family's full sweep of a thousand pages does not delay the others.
3. A failure of the account (refused keys, arrears) holds all of its sweeps but one probe every `HOLD_PROBE_SECONDS`,
   however short the interval and however many the families. Only a list that answers ends that, and it goes on itself.

A restart sweeps every family at once, which costs a few list calls.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from archiver import log
from archiver.engine.failure_handling import log_hold
from archiver.engine.looks.outage import Outage, Outages
from archiver.engine.process_holds import ProcessHolds
from archiver.failures import (
    HOLD_PROBE_SECONDS,
    ApiAnswerUnreadable,
    ApiPageUnreadable,
    Disposition,
    Failure,
    LedgerUnavailable,
    NotOffered,
    Outside,
    Stopped,
)
from archiver.ledger import Ledger
from archiver.model import Stage
from archiver.sweep.counts import SweepCounts, SweepEnd
from archiver.sweep.dry_run import RequestedDryRuns
from archiver.sweep.requested import RequestedSweeps
from archiver.sweep.stage import FamilySweep, Sweeper
from archiver.sweep.unswept import UnsweptFamilies

RETRY_SECONDS = 30.0
"""After a failed sweep, or one that another sweeper was in the way of; at most the interval. Doubles with each failure
in a row: an API that is down must not be asked more often than one that is up."""
LIST_RETRY_SECONDS = 10.0
"""After the first failure of a list that may be an outage: it is to be known within a minute."""
API_FAILURES_MAX = 2
"""After this many failures in a row the family is held. Each failure is a page that was asked for `PAGE_TRIES` times,
or a list whose rows cannot be read."""
DOUBLINGS_MAX = 20
WAIT_SECONDS_MAX = 0.5
_LISTS = "lists"
"""Stands for a task: failures of all lists count as one task's."""


class SweepLoop:
    """Sweeps the families of one account in turn. `step` belongs to one thread, `resume` to any."""

    name = "sweep-loop"

    def __init__(
        self,
        *,
        sweeper: Sweeper,
        families: tuple[str, ...],
        ledger: Ledger,
        interval_seconds: float,
        stop: threading.Event,
        on_swept: Callable[[str], None],
        outages: Outages | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        process_holds: ProcessHolds | None = None,
        unswept: UnsweptFamilies | None = None,
    ) -> None:
        """`on_swept(family)` is called after each finished sweep; `outages` are those of the account."""
        self._sweeper = sweeper
        self._process_holds = process_holds
        self._unswept = unswept
        self._ledger = ledger
        self._outages = outages or Outages(monotonic=monotonic)
        self._lists = Outage(monotonic=monotonic)
        """The outage of the lists: a gateway may refuse lists alone."""
        self._api_failures = dict.fromkeys(families, 0)
        """Failures of the API in a row: one list may fail alone."""
        self._interval_seconds = interval_seconds
        self._stop = stop
        self._on_swept = on_swept
        self._monotonic = monotonic
        self._due_at = dict.fromkeys(families, monotonic())
        self._begun_at = dict.fromkeys(families, float("-inf"))
        self._failed_in_a_row = dict.fromkeys(families, 0)
        self._refused: set[str] = set()
        """Families whose last sweep set a hold."""
        self._held_until = float("-inf")
        self._is_held = False
        """Whether the account's lists are refused, by the result of the last sweep."""
        self._under_way: dict[str, FamilySweep] = {}
        self._resumed = threading.Event()
        self._requested = RequestedSweeps(ledger, account=sweeper.account)
        self._dry_runs = RequestedDryRuns(sweeper, ledger)

    def resume(self) -> None:
        """The hold has ended: begin the sweeps that it delayed."""
        self._resumed.set()

    def begin(self) -> None:
        """Sweep every family now, as after a start."""
        self._drop_holds_of_others()
        self._due_at = dict.fromkeys(self._due_at, self._monotonic())
        self._begun_at = dict.fromkeys(self._begun_at, float("-inf"))
        self._failed_in_a_row = dict.fromkeys(self._failed_in_a_row, 0)
        self._refused.clear()
        self._is_held, self._held_until = False, float("-inf")
        if self._unswept is not None:
            self._unswept.begin()
        self._forget_requests()

    def _drop_holds_of_others(self) -> None:
        """End the holds of lists that are no longer swept: no sweep would ever end them."""
        with contextlib.suppress(LedgerUnavailable):
            for hold in self._ledger.holds.all():
                is_other = hold.family is not None and hold.family not in self._due_at
                if hold.account == self._sweeper.account and hold.stage is Stage.SWEEP and is_other:
                    self._ledger.holds.release(
                        account=hold.account, stages=(hold.stage,), family=hold.family, reasons=(hold.reason,)
                    )
                    log.get().info(
                        "hold.released",
                        account=hold.account,
                        stage=hold.stage,
                        family=hold.family,
                        reason=hold.reason,
                        message="the family is not swept any more",
                    )

    def end(self) -> None:
        """Give up running sweeps: another process continues them."""
        self._leave(*self._under_way)
        if self._unswept is not None:
            self._unswept.end()
        self._forget_requests()

    def _forget_requests(self) -> None:
        self._requested.forget()
        self._dry_runs.forget()

    def step(self) -> None:
        """Sweep what is due, in turns, then wait a little. Raises Stopped."""
        try:
            self._begin_due()
            while (self._under_way or self._requested.dry_runs) and not self._stop.is_set():
                for family in tuple(self._under_way):
                    if not self._stop.is_set() and family in self._under_way:
                        self._read_page(family)
                self._dry_runs.step(self._requested.dry_runs)
                self._begin_due()
        finally:
            if self._stop.is_set():
                self._leave(*self._under_way)
        if self._unswept is not None and not self._is_held and not self._stop.is_set():
            self._unswept.step()
        soonest = min(map(self._due, self._due_at), default=self._monotonic() + WAIT_SECONDS_MAX)
        self._stop.wait(min(max(0.05, soonest - self._monotonic()), WAIT_SECONDS_MAX))

    def _due(self, family: str) -> float:
        if family in self._requested:  # an operator wants to see whether it works now
            return self._due_at[family]
        return max(self._due_at[family], self._held_until)

    def _begin_due(self) -> None:
        """Begin what is due; while the account is held, one sweep: the one that has waited longest."""
        if self._resumed.is_set():
            self._resumed.clear()
            self._is_held, self._held_until = False, float("-inf")
            self._due_at |= dict.fromkeys(self._refused, self._monotonic())
            self._refused.clear()
        busy = frozenset(self._under_way)
        for family in self._requested.take(frozenset(self._due_at), busy=busy):
            self._due_at[family] = self._monotonic()
        for family in sorted(self._due_at, key=self._begun_at.__getitem__):
            if self._stop.is_set():
                return
            if self._is_held and self._under_way and family not in self._requested:
                continue
            if family not in self._under_way and self._due(family) <= self._monotonic():
                self._begin(family)

    def _begin(self, family: str) -> None:
        failed = min(self._failed_in_a_row[family], DOUBLINGS_MAX)
        self._begun_at[family] = self._monotonic()
        self._due_at[family] = self._monotonic() + min(RETRY_SECONDS * 2**failed, self._interval_seconds)
        self._failed_in_a_row[family] += 1  # until the sweep has succeeded
        with self._handled(family):
            if family not in self._requested and self._sweeper.is_unavailable(family):
                self._due_at[family] = self._monotonic() + self._interval_seconds
                return
            full = self._requested.is_full(family) or self._sweeper.is_full_due(family)
            self._under_way[family] = self._sweeper.begin(family, full=full)

    def _read_page(self, family: str) -> None:
        under_way = self._under_way.pop(family)
        with self._handled(family, under_way.counts):
            if under_way.step():
                self._under_way[family] = under_way
                self._is_held = False
                self._lists.worked()
                self._requested.advance(under_way.counts)
                return
            self._lists.worked()
            self._refused.discard(family)
            self._failed_in_a_row[family] = 0
            self._api_failures[family] = 0
            if under_way.counts.end is SweepEnd.FINISHED:
                self._due_at[family] = self._monotonic() + self._interval_seconds
                self._requested.end(under_way.counts)
                self._on_swept(family)

    @contextlib.contextmanager
    def _handled(self, family: str, counts: SweepCounts | None = None) -> Iterator[None]:
        """Failures are this family's own. Raises Stopped."""
        try:
            yield
        except Stopped:
            raise
        except Failure as error:
            self._failed(family, error)
            if not isinstance(error, LedgerUnavailable):
                self._requested.end(counts or SweepCounts(family, full=False), error)
        except Exception as error:  # noqa: BLE001 -- the other families go on; logged with its traceback
            log.get().exception("worker.crashed", loop="sweep-loop", family=family)
            self._requested.end(counts or SweepCounts(family, full=False), error)

    def _failed(self, family: str, error: Failure) -> None:
        account = self._sweeper.account
        if isinstance(error, NotOffered):
            self._outages.of(Outside.API).suspect()
        if error.outside is Outside.API:
            is_alone = self._fails_alone(family, error)
            if self._is_outage(error, account):
                error.as_hold()
            elif is_alone:
                error.family = family  # the other lists may answer
                error.as_hold()
        if not self._sweeper.note_failure(family, error) or error.disposition is not Disposition.HOLD:
            return
        probe_at = self._monotonic() + HOLD_PROBE_SECONDS
        self._refused.add(family)
        self._due_at[family] = max(self._due_at[family], probe_at)
        if error.family is None:
            self._is_held, self._held_until = True, probe_at
            self._leave(*(other for other, sweep in self._under_way.items() if not sweep.counts.pages))
        if self._process_holds is not None and self._process_holds.takes(
            error, account=account, stage=Stage.SWEEP
        ):
            return
        if self._ledger.holds.set(error, account=account, stage=Stage.SWEEP):
            log_hold(error, account=account, stage=Stage.SWEEP)

    def _fails_alone(self, family: str, error: Failure) -> bool:
        """Count a failure of the API for one list; whether they are enough to hold the family. Until then it is asked
        again soon. Answers that cannot be read may say that this API offers no such list."""
        if isinstance(error, ApiAnswerUnreadable) and not isinstance(error, ApiPageUnreadable):
            return False
        self._api_failures[family] += 1
        if self._api_failures[family] >= API_FAILURES_MAX:
            return True
        self._due_at[family] = min(self._due_at[family], self._monotonic() + LIST_RETRY_SECONDS)
        return False

    def _is_outage(self, error: Failure, account: str) -> bool:
        """Whether all lists are refused. Answers that cannot be read may say that this API offers no such list: looks
        tell. Rows that cannot be read say nothing of other lists."""
        if isinstance(error, ApiPageUnreadable):
            return False
        is_outage = self._outages.of(Outside.API).failed(error, task_id=_LISTS)
        if not isinstance(error, ApiAnswerUnreadable):
            is_outage |= self._lists.failed(error)
        return is_outage or self._ledger.holds.is_stopped(account=account, stage=Stage.SWEEP)

    def _leave(self, *families: str) -> None:
        """Give up sweeps between two pages. Where the ledger is away, their leases end by themselves."""
        for family in families:
            with contextlib.suppress(LedgerUnavailable):
                self._under_way.pop(family).leave()
            self._failed_in_a_row[family] -= 1
            self._due_at[family] = self._begun_at[family]
