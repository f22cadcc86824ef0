"""Runs the stages: claim loops, bounded thread pools, lease renewal, stop.

Rules:

1. All waiting is data. A loop asks the ledger what is due, and when nothing is, it sleeps until a wake-up or
   `IDLE_SECONDS`. There is no timer that a crash could lose; the only ones here renew leases, pace rounds, sweep and
   stop.
2. A loop never takes more than its pool has room for, so what this process holds is bounded and a stop is quick.
3. An exception that nobody expected ends one piece of work, never the loop; if a loop itself dies all the same, the
   process is told to stop (`on_death`). Never half alive.

Threads cannot be cancelled, so everything they wait for has a timeout, and every loop looks at the stop event.

One worker works for one account, with loops, threads and leases of its own: an account whose API hangs, refuses or
throttles keeps nobody else's questions waiting. What accounts share are ledger, bucket and transfer `TransferSlots`.
"""

import concurrent.futures
import dataclasses
import functools
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from archiver import log
from archiver.engine.host_watch import HostWatch
from archiver.engine.pools import PrestartedPool
from archiver.engine.stages import Stages
from archiver.engine.sweep_loop import SweepLoop
from archiver.engine.transfer_slots import TransferSlots
from archiver.engine.upkeep import Upkeep
from archiver.failures import Failure, LeaseLost, LedgerUnavailable, Stopped
from archiver.kling.new_standard import NewStandardTask
from archiver.kling.new_standard_calls import IDS_MAX
from archiver.leases import RENEW_SECONDS
from archiver.model import Lease, Stage
from archiver.verify.matching import MatchResult

IDLE_SECONDS = 0.5
MATCH_SECONDS = 0.1
"""Between two rounds of verification. Every commit of callbacks wakes it, and to look at what waits a hundred times a
second would take from the door more than the API, at its few questions a second, could use."""
VERIFY_THREADS = 4
UPKEEP_SECONDS = 5.0

_Item = TypeVar("_Item")


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How much at a time, and how often the sweep runs."""

    transfer_concurrency: int
    sweep_interval_seconds: float
    accounts: int = 1
    """How many share the transfers: what one failing host may take of them is shared out as well."""


class Threads:
    """What the loops run on and wait by: real threads, real time.

    A seam, and the only one: with other threads, events and pools than these the same loops are stepped by a clock that
    jumps (`tests/deadlines`), which takes a daemon through months of outages in seconds. Stepping them from outside, a
    call at a time, would need every loop written a second time, and the second is what would be tested.
    """

    def thread(self, run: Callable[[], None], *, name: str) -> threading.Thread:
        """A thread that has not started."""
        return threading.Thread(target=run, name=name, daemon=True)

    def event(self) -> threading.Event:
        """What a loop waits for."""
        return threading.Event()

    def pool(self, size: int, *, name: str, begin: Callable[[], object]) -> concurrent.futures.Executor:
        """Threads for work that is waited for, each of which calls `begin` first."""
        return PrestartedPool(size, name=name, begin=begin)


class Worker:
    """The engine of one account. `start` once, `stop` once."""

    def __init__(
        self,
        stages: Stages,
        limits: WorkerLimits,
        *,
        upkeep: Upkeep | None = None,
        stop: threading.Event,
        on_death: Callable[[], None],
        slots: TransferSlots | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        renew_seconds: float = RENEW_SECONDS,
        threads: Threads | None = None,
    ) -> None:
        """`slots` are those of the process; without, this worker has as many as its limits say to itself."""
        threads = threads or Threads()
        self._account = stages.account.name
        self._renew_seconds = renew_seconds
        self._stages = stages
        self._limits = limits
        self._stop = stop
        self._on_death = on_death
        self._monotonic = monotonic
        self._wakes = {stage: threads.event() for stage in (Stage.VERIFY, Stage.ARCHIVE)}
        self._matched_at = -math.inf
        self._backlogged = False
        """The last claim got as much as it asked for: there is more, most likely, and no need to look first."""
        self._hosts = HostWatch(slots=max(1, limits.transfer_concurrency // limits.accounts))
        self._slots = slots or TransferSlots(limits.transfer_concurrency)
        self._slots.join(self._account, wake=self._wakes[Stage.ARCHIVE].set)
        bind = functools.partial(log.bind, account=self._account)
        self._verifying = _Pool(
            threads.pool(VERIFY_THREADS, name="verify", begin=bind),
            VERIFY_THREADS,
            on_free=self._wakes[Stage.VERIFY].set,
        )
        self._archiving = _Pool(
            threads.pool(limits.transfer_concurrency, name="archive", begin=bind),
            limits.transfer_concurrency,
            on_free=self._freed,
        )
        self._sweeps = SweepLoop(
            sweeper=stages.sweeper,
            families=stages.swept_families,
            ledger=stages.ledger,
            metrics=stages.metrics,
            interval_seconds=limits.sweep_interval_seconds,
            stop=stop,
            on_swept=self._swept,
            monotonic=monotonic,
        )
        steps: list[tuple[str, Callable[[], None]]] = [
            ("verify-loop", self._verify_step),
            ("archive-loop", self._archive_step),
            ("sweep-loop", self._sweeps.step),
        ]
        if upkeep is not None:
            steps.append(("upkeep-loop", functools.partial(self._upkeep_step, upkeep)))
        self._threads = [
            threads.thread(functools.partial(self._guard, name, step), name=name) for name, step in steps
        ]
        # Renewal outlives the stop event: what still runs must keep its lease until it has ended.
        self._renewing_ends = threads.event()
        self._renewer = threads.thread(self._renew, name="lease-renewal")

    def start(self) -> None:
        """Start every loop."""
        self._renewer.start()
        for thread in self._threads:
            thread.start()

    def wake(self, stage: Stage) -> None:
        """There is something new for `stage`; cheap, from any thread."""
        self._wakes[stage].set()

    def stop(self, *, seconds: float) -> bool:
        """Stop claiming, let running work finish for at most `seconds`, give the rest back.

        False when some of it goes on: a thread cannot be told to end. Its lease is gone from the keeper before it is
        given back, so it puts nothing more; but it keeps Python from exiting until whatever it waits for is over.
        """
        deadline = self._monotonic() + seconds
        self._stop.set()
        for wake in self._wakes.values():
            wake.set()
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._monotonic()))
        ended = [
            pool.close(seconds=max(0.0, deadline - self._monotonic()))
            for pool in (self._archiving, self._verifying)
        ]
        for lease in self._stages.keeper.held():
            self._stages.keeper.drop(lease)
            self._give_back(lease)
        self._renewing_ends.set()
        self._renewer.join(1.0)
        return all(ended)

    # --- loops ----------------------------------------------------------------------------------------------

    def _guard(self, name: str, step: Callable[[], None]) -> None:
        """Run `step` until the stop; nothing it raises ends the loop, and its end before that ends the process."""
        log.bind(account=self._account)
        try:
            while not self._stop.is_set():
                self._try(name, step)
        finally:
            if not self._stop.is_set():
                log.get().critical("worker.crashed", loop=name)
                self._on_death()

    def _try(self, name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except Stopped:
            self._stop.wait(IDLE_SECONDS)
        except LedgerUnavailable as error:
            log.get().error("ledger.unavailable", loop=name, message=str(error))
            self._stop.wait(1.0)
        except Exception:  # noqa: BLE001 -- a loop outlives what nobody expected; it is logged with its traceback
            log.get().exception("worker.crashed", loop=name)
            self._stop.wait(1.0)

    def _verify_step(self) -> None:
        stages, wake = self._stages, self._wakes[Stage.VERIFY]
        wake.clear()
        if not stages.ledger.work_due(Stage.VERIFY, account=self._account):
            wake.wait(IDLE_SECONDS)
            return
        self._stop.wait(max(0.0, self._matched_at + MATCH_SECONDS - self._monotonic()))
        due_before = self._match()
        self._matched_at = self._monotonic()
        many = stages.batch_query.is_offered()
        crowd = self._claim_crowd(due_before) if many and self._verifying.free() else []
        free = self._verifying.free()
        asked_at = stages.keeper.asking()
        leases = (
            stages.ledger.claim_verify(
                count=free,
                offset=self._verifying.started,
                due_before=due_before,
                own_paths_only=many,
                account=self._account,
            )
            if free
            else []
        )
        self._hand_over(
            leases, asked_at=asked_at, start=lambda lease: self._verifying.run(self._verify, lease)
        )
        if not leases and not crowd:
            wake.wait(IDLE_SECONDS)

    def _claim_crowd(self, due_before: int | None) -> list[Lease]:
        """Lease ids that one question may answer together, and ask it in one thread: how many calls it will be is not
        known before, so no second crowd is taken before a thread is free for it."""
        stages = self._stages
        asked_at = stages.keeper.asking()
        crowd = stages.ledger.claim_batch(count=IDS_MAX, due_before=due_before, account=self._account)
        if crowd:
            stages.keeper.keep(crowd, asked_at=asked_at)
            try:
                self._verifying.run(self._verify_crowd, crowd)
            except Exception:
                self._let_go(crowd)
                raise
        return crowd

    def _match(self) -> int | None:
        """Let list pages answer for what waits; what was due before (Unix ms) and still is, is asked for singly.

        A list that nobody expected must not keep anybody from being asked for: None then, which is all that is due.
        """
        matched: list[MatchResult] = []
        self._try("list-matching", lambda: matched.append(self._stages.verifier.match()))
        if any(one.count for one in matched):
            self._wakes[Stage.ARCHIVE].set()
        return matched[0].began if matched else None

    def _verify(self, lease: Lease) -> None:
        if self._work(lease, lambda: self._stages.verifier.ask(lease)):
            self._wakes[Stage.ARCHIVE].set()

    def _verify_crowd(self, crowd: list[Lease]) -> None:
        shown: Mapping[str, NewStandardTask | Failure] | None = None
        trouble: Exception | None = None
        try:
            shown = self._stages.batch_query.ask(crowd)
        except Exception as error:  # noqa: BLE001 -- it is each lease's own failure, and settled as such below
            trouble = error

        def answer(lease: Lease) -> None:
            if trouble is not None:
                raise trouble
            self._stages.verifier.ask(lease, shown)

        for lease in crowd:
            if self._work(lease, functools.partial(answer, lease)):
                self._wakes[Stage.ARCHIVE].set()

    def _archive_step(self) -> None:
        stages, wake = self._stages, self._wakes[Stage.ARCHIVE]
        wake.clear()
        if not self._archiving.free():  # every transfer that ends wakes this loop
            wake.wait(IDLE_SECONDS)
            return
        if not self._backlogged and not stages.ledger.work_due(Stage.ARCHIVE, account=self._account):
            self._slots.content(self._account)
            wake.wait(IDLE_SECONDS)
            return
        free = self._slots.take(self._account, self._hosts.room())
        leases = list[Lease]()
        self._backlogged = False
        if free:
            asked_at = stages.keeper.asking()
            leases = self._claim_archive(free)
            self._backlogged = len(leases) >= free
            started = self._archiving.started
            try:
                self._hand_over(leases, asked_at=asked_at, start=self._start_archiving)
            finally:  # no thread to be had: a slot that nobody fills must not count as taken for ever
                self._slots.give_back(self._account, len(leases) - (self._archiving.started - started))
        if not leases:
            wake.wait(IDLE_SECONDS)

    def _claim_archive(self, count: int) -> list[Lease]:
        """Tasks for so many slots, and the slots that there is nothing for given back."""
        leases = list[Lease]()
        try:
            leases = self._stages.ledger.claim_archive(
                count=count,
                offset=self._archiving.started,
                hosts_avoided=self._hosts.avoided(),
                account=self._account,
            )
        finally:
            if len(leases) < count:
                self._slots.content(self._account)
                self._slots.give_back(self._account, count - len(leases))
        return leases

    def _freed(self) -> None:
        """A transfer has ended: its slot is for whoever has the fewest."""
        self._slots.give_back(self._account)
        self._wakes[Stage.ARCHIVE].set()

    def _start_archiving(self, lease: Lease) -> None:
        self._hosts.began(lease.asset_host)
        self._archiving.run(self._archive, lease)

    def _hand_over(self, leases: list[Lease], *, asked_at: float, start: Callable[[Lease], None]) -> None:
        """Each lease to a thread. Where none can be had (memory, a limit of the system) the rest is given back: kept,
        it would be renewed for as long as the process lives, and nobody would work on it.

        The lease at which it failed may lie in the pool's queue all the same: whoever takes it there finds it over.
        """
        self._stages.keeper.keep(leases, asked_at=asked_at)
        for place, lease in enumerate(leases):
            try:
                start(lease)
            except Exception:
                self._let_go(leases[place:])
                raise

    def _let_go(self, leases: Sequence[Lease]) -> None:
        """Nobody works on these."""
        for lease in leases:
            self._stages.keeper.drop(lease)
            self._give_back(lease)

    def _archive(self, lease: Lease) -> None:
        try:
            self._work(lease, lambda: self._stages.archiver.archive(lease))
        finally:
            self._hosts.ended(lease.asset_host)

    def _work(self, lease: Lease, work: Callable[[], object]) -> bool:
        """One piece of work on one lease, and whatever comes of it; True when it succeeded."""
        stages = self._stages
        try:
            work()
        except LeaseLost:
            log.get().warning("lease.lost", task_id=lease.task_id, stage=lease.stage)
            return False
        except Stopped:
            self._give_back(lease)
            return False
        except Exception as error:  # noqa: BLE001 -- written down by `FailureHandler`, with its traceback where nobody listed it
            self._try("setback", functools.partial(self._settle, lease, error))
            return False
        finally:
            stages.keeper.drop(lease)
        if lease.stage is Stage.ARCHIVE:
            self._hosts.succeeded(lease.asset_host)
        self._try("release", lambda: self._release(lease))
        return True

    def _settle(self, lease: Lease, error: Exception) -> None:
        judged = self._hosts.judged(lease, error)
        self._stages.failure_handler.handle(lease, judged)

    def _release(self, lease: Lease) -> None:
        """Something succeeded: what was held for its account, family or host goes on at once."""
        stages = (Stage.ARCHIVE,) if lease.stage is Stage.ARCHIVE else (Stage.VERIFY, Stage.SWEEP)
        family = lease.family or lease.family_hint
        self._lift(stages, account=lease.account, family=family, host=lease.asset_host)

    def _swept(self, family: str) -> None:
        """A sweep came to its end: the API answers, and there may be new work."""
        self._lift((Stage.VERIFY, Stage.SWEEP), account=self._stages.sweeper.account, family=family)
        for stage in self._wakes:
            self.wake(stage)

    def _lift(
        self, stages: tuple[Stage, ...], *, account: str, family: str | None, host: str | None = None
    ) -> None:
        ledger = self._stages.ledger
        if not ledger.has_holds():
            return
        gone = ledger.release_holds(account=account, stages=stages, family=family, host=host)
        for reason in gone:
            log.get().info("hold.released", account=account, stage=stages[0], family=family, reason=reason)
        if gone:
            self._wakes[stages[0]].set()
            if Stage.SWEEP in stages:
                self._sweeps.resume()

    def _upkeep_step(self, upkeep: Upkeep) -> None:
        upkeep.run_once()
        self._stop.wait(UPKEEP_SECONDS)

    def _renew(self) -> None:
        log.bind(account=self._account)
        try:
            while not self._renewing_ends.wait(self._renew_seconds):
                self._try("lease-renewal", self._stages.keeper.renew)
        finally:
            if not self._renewing_ends.is_set():
                log.get().critical("worker.crashed", loop="lease-renewal")
                self._on_death()

    def _give_back(self, lease: Lease) -> None:
        """Work that did not come to its end: due again at once, its attempt not counted."""
        try:
            self._stages.ledger.give_back(lease)
        except LeaseLost:
            return  # it ended after all
        except LedgerUnavailable as error:  # the lease's own end brings it back
            log.get().warning("ledger.unavailable", message=str(error))


class _Pool:
    """A thread pool that knows how many of its threads are free."""

    def __init__(
        self, executor: concurrent.futures.Executor, size: int, *, on_free: Callable[[], None]
    ) -> None:
        self._executor = executor
        self._size = size
        self._on_free = on_free
        self._lock = threading.Lock()
        self._running: set[concurrent.futures.Future[None]] = set()
        self.started = 0
        """How many pieces of work were ever started: the number of the next slot."""

    def free(self) -> int:
        """Free threads. Probes come on top of what was asked for, so there may be more work than threads."""
        with self._lock:
            return max(0, self._size - len(self._running))

    def run(self, work: Callable[[_Item], None], item: _Item) -> None:
        future = self._executor.submit(work, item)
        with self._lock:
            self.started += 1
            self._running.add(future)
        future.add_done_callback(self._ended)

    def _ended(self, future: concurrent.futures.Future[None]) -> None:
        with self._lock:
            self._running.discard(future)
        if not future.cancelled() and future.exception() is not None:
            log.get().critical("worker.crashed", loop="pool", exc_info=future.exception())
        self._on_free()

    def close(self, *, seconds: float) -> bool:
        """Wait for what runs, at most so long; nothing new starts. Whether all has ended."""
        with self._lock:
            running = set(self._running)
        going_on = concurrent.futures.wait(running, timeout=seconds).not_done
        self._executor.shutdown(wait=False, cancel_futures=True)
        return all(future.cancelled() for future in going_on)
