"""Claims ids that wait for the API's word: list pages first, then questions for many, then one by one."""

import functools
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from archiver.engine.leased_work import LeasedWork
from archiver.engine.pools import WorkPool
from archiver.engine.stages import Stages
from archiver.engine.threads import IDLE_SECONDS, Guard
from archiver.failures import Failure
from archiver.kling.new_standard import NewStandardTask
from archiver.kling.new_standard_calls import IDS_MAX
from archiver.model import Lease, Stage
from archiver.verify.matching import MatchResult

MATCH_SECONDS = 0.1
"""Between two rounds. Each commit of callbacks wakes the loop; a hundred looks a second would slow the door by more
than the API, with its few answers a second, could win back."""


class VerifyLoop:
    """The verify stage of one account. `step` belongs to one thread."""

    name = "verify-loop"

    def __init__(
        self,
        stages: Stages,
        work: LeasedWork,
        pool: WorkPool,
        guard: Guard,
        *,
        wake: threading.Event,
        on_verified: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_verified` is called when a task may have become due for archiving."""
        self._stages = stages
        self._account = stages.account.name
        self._work = work
        self.pool = pool
        self._guard = guard
        self._wake = wake
        self._on_verified = on_verified
        self._monotonic = monotonic
        self._matched_at = -math.inf
        self._batches = self._singles = 0
        """Started so far. Two counters: with one, single queries might always miss the slots of unconfirmed ids."""
        self._refreshing = threading.Event()
        """Set while a thread asks for fresh URLs."""

    def begin(self) -> None:
        """Read from the ledger what the API offers: another process may have found out more."""
        self._stages.availability.forget()
        self._matched_at = -math.inf

    def end(self) -> None:
        """Nothing to end: running queries are answered, and their leases end with them."""

    def step(self) -> None:
        """Claim what is due and hand it to threads; wait a little where nothing is."""
        self._wake.clear()
        holds = self._stages.process_holds
        if holds is not None and holds.stops(self._account, Stage.VERIFY):
            self._wake.wait(IDLE_SECONDS)
            return
        if not self._stages.asking.claims.any_due(Stage.VERIFY, account=self._account):
            if not self._start_restore():
                self._wake.wait(IDLE_SECONDS)
            return
        self._guard.stop.wait(max(0.0, self._matched_at + MATCH_SECONDS - self._monotonic()))
        due_before = self._match()
        self._matched_at = self._monotonic()
        asks_many = self._stages.batch_query.is_offered()
        batch = self._start_batch(due_before) if asks_many and self.pool.free() else []
        fresh = self._start_fresh() or self._start_restore()
        leases = self._start_singles(due_before, own_paths_only=asks_many)
        if not leases and not batch and not fresh:
            self._wake.wait(IDLE_SECONDS)

    def _match(self) -> int | None:
        """Answer waiting ids by list pages. Ids that were due before the returned time (Unix ms) and still wait are
        queried individually. None if matching failed: then all due ids are, because a broken list must not stop
        individual queries.
        """
        matched: list[MatchResult] = []
        self._guard.attempt("list-matching", lambda: matched.append(self._stages.list_matcher.match()))
        if any(result.count for result in matched):
            self._on_verified()
        return matched[0].began if matched else None

    def _start_batch(self, due_before: int | None) -> Sequence[Lease]:
        """Lease ids that one question may answer together, for one thread. It may take several calls, so the next batch
        waits for a free thread."""
        asked_at = self._stages.keeper.asking()
        batch = self._stages.asking.claims.batch(
            count=IDS_MAX, offset=self._batches, due_before=due_before, account=self._account
        )
        if batch:
            self._batches += 1
            self._work.hand_over_together(
                batch, asked_at=asked_at, start=lambda: self.pool.run(self._verify_batch, batch)
            )
        return batch

    def _start_fresh(self) -> Sequence[Lease]:
        """Lease a task that needs fresh URLs, one at a time: they wait for a quarter of the query rate, and a crowd of
        them must not take the threads of verification."""
        if self._refreshing.is_set() or not self.pool.free():
            return []
        asked_at = self._stages.keeper.asking()
        leases = self._stages.asking.claims.fresh(account=self._account, count=1)
        self._work.hand_over(leases, asked_at=asked_at, start=self._start_refresh)
        return leases

    def _start_restore(self) -> Sequence[Lease]:
        """Lease a task with missing objects, one at a time. Tasks that were never archived come first."""
        if self._refreshing.is_set() or not self.pool.free():
            return []
        questions = self._stages.restore_questions
        lease = questions.claim()
        if lease is None:
            return []
        self._refreshing.set()
        try:
            self.pool.run(self._ask_restore, lease)
        except BaseException:
            self._refreshing.clear()
            questions.let_go(lease)
            raise
        return [lease]

    def _ask_restore(self, lease: Lease) -> None:
        try:
            self._guard.attempt("restore-question", lambda: self._stages.restore_questions.answer(lease))
        finally:
            self._refreshing.clear()

    def _start_refresh(self, lease: Lease) -> None:
        self._refreshing.set()
        try:
            self.pool.run(self._refresh, lease)
        except BaseException:
            self._refreshing.clear()
            raise

    def _start_singles(self, due_before: int | None, *, own_paths_only: bool) -> Sequence[Lease]:
        free = self.pool.free()
        if not free:
            return []
        asked_at = self._stages.keeper.asking()
        leases = self._stages.asking.claims.verify(
            count=free,
            offset=self._singles,
            due_before=due_before,
            own_paths_only=own_paths_only,
            account=self._account,
        )
        self._singles += len(leases)
        self._work.hand_over(
            leases, asked_at=asked_at, start=lambda lease: self.pool.run(self._verify, lease)
        )
        return leases

    def _verify(self, lease: Lease) -> None:
        if self._work.run(lease, lambda: self._ask(lease)):
            self._on_verified()

    def _ask(self, lease: Lease, batch: Mapping[str, NewStandardTask | Failure] | None = None) -> bool:
        """Whether the answer shows that the API works."""
        asked = self._stages.verifier.ask(lease, batch)
        if not asked.is_proof:
            self._stages.outages.at(Stage.VERIFY).suspect()
        return asked.is_proof

    def _refresh(self, lease: Lease) -> None:
        try:
            self._work.run(lease, lambda: self._stages.verifier.refresh(lease))
        finally:
            self._refreshing.clear()
        self._on_verified()

    def _verify_batch(self, batch: Sequence[Lease]) -> None:
        shown: Mapping[str, NewStandardTask | Failure] | None = None
        failure: Exception | None = None
        try:
            shown = self._stages.batch_query.ask(batch)
        except Exception as error:  # noqa: BLE001 -- it is each lease's own failure, and handled as such below
            failure = error

        def answer(lease: Lease) -> bool:
            if failure is not None:
                raise failure
            return self._ask(lease, shown)

        for lease in batch:
            if self._work.run(lease, functools.partial(answer, lease)):
                self._on_verified()
