"""The engine of one account: its loops, their threads, lease renewal, stop.

1. All waiting is data: a loop asks the ledger what is due. No timer can be lost in a crash; those here only renew
   leases, pace rounds and stop.
2. A loop never takes more than its pool has room for. So what a process holds is bounded, and a stop is quick.
3. An unexpected exception ends one piece of work, never the loop (`threads.Guard`).

Threads cannot be cancelled: everything they wait for has a timeout, and every loop looks at the stop event.

Each account has a worker of its own, so an API that hangs, refuses or throttles one account does not delay the others.
"""

import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Protocol

from archiver import log
from archiver.archive.folder_work import FolderWorkLoop
from archiver.engine.archive_loop import ArchiveLoop
from archiver.engine.duties.gate import AskingLoop, Gate
from archiver.engine.hold_release import HoldRelease
from archiver.engine.leased_work import LeasedWork
from archiver.engine.looks.look import ApiLook, Look, StoreLook
from archiver.engine.looks.loop import LookLoop
from archiver.engine.pools import WorkPool
from archiver.engine.slots.transfer_slots import TransferSlots
from archiver.engine.stages import Stages
from archiver.engine.sweep_loop import SweepLoop
from archiver.engine.threads import Guard, Threads
from archiver.engine.verify_loop import VerifyLoop
from archiver.failures import Outside
from archiver.leases import RENEW_SECONDS
from archiver.model import Stage
from archiver.pulses.watch import Pulses

VERIFY_THREADS = 4


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How much at a time, and how often the sweep runs."""

    transfer_concurrency: int
    sweep_interval_seconds: float


class Loop(Protocol):
    """Something that a thread does again and again."""

    name: str

    def step(self) -> None:
        """Do what is due, or wait a little."""


class Worker:
    """Runs the stages of one account. `start` once, `stop` once."""

    def __init__(
        self,
        stages: Stages,
        limits: WorkerLimits,
        *,
        stop: threading.Event,
        on_death: Callable[[], None],
        slots: TransferSlots | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        renew_seconds: float = RENEW_SECONDS,
        threads: Threads | None = None,
        may_ask: Callable[[], str | None] | None = None,
        pulses: Pulses | None = None,
    ) -> None:
        """`slots` are those of the process; without them this worker has its own. `may_ask` gives the token of the
        account's lease while this process may ask for it; without it, it always may."""
        threads = threads or Threads()
        account = stages.account.name
        self.guard = Guard(stop=stop, on_death=on_death, bound={"account": account}, pulses=pulses)
        self._stages = stages
        self._limits = limits
        self._monotonic = monotonic
        self._bind = functools.partial(log.bind, account=account)
        self._wakes = {stage: threads.event() for stage in (Stage.VERIFY, Stage.ARCHIVE)}
        self._holds = HoldRelease(
            stages.ledger,
            stages.outages,
            account=account,
            wake=self.wake,
            process_holds=stages.process_holds,
        )
        self._work = LeasedWork(stages, self.guard, on_success=self._holds.after_work)
        self._may_ask = may_ask
        self._gates = list[Gate]()
        self._sweep_loop = self._make_sweep_loop()
        verify_loop = self._make_verify_loop(threads)
        self._verifying = verify_loop.pool
        self.archive_loop = self._make_archive_loop(
            threads, slots or TransferSlots(limits.transfer_concurrency)
        )
        self._pools = (self.archive_loop.pool, verify_loop.pool)
        folder_work_loop = FolderWorkLoop(stages.folder_worker, stop=stop, on_stored=self._holds.after_work)
        self.loops: Sequence[Loop] = (
            self._gated(verify_loop),
            self.archive_loop,
            self._gated(self._sweep_loop),
            folder_work_loop,
        )
        self._look_wakes = list[threading.Event]()
        self.look_loops: Sequence[Loop] = [self._make_look_loop(look, threads) for look in self._looks()]
        every_loop: Sequence[Loop] = (*self.loops, *self.look_loops)
        self._threads = [self.guard.thread(threads, loop.name, loop.step) for loop in every_loop]
        # Renewal outlives the stop event: running work keeps its lease until it has ended.
        self._renewal_ends = threads.event()
        self._renew_seconds = renew_seconds
        self._renewer = self.guard.thread(
            threads, "lease-renewal", self._renew, goes_on=lambda: not self._renewal_ends.is_set()
        )

    def _gated(self, loop: AskingLoop) -> Loop:
        if self._may_ask is None:
            return loop
        self._gates.append(Gate(loop, self._may_ask, stop=self.guard.stop))
        return self._gates[-1]

    def _make_verify_loop(self, threads: Threads) -> VerifyLoop:
        wake = self._wakes[Stage.VERIFY]
        executor = threads.pool(VERIFY_THREADS, name="verify", begin=self._bind)
        return VerifyLoop(
            self._stages,
            self._work,
            WorkPool(
                executor,
                VERIFY_THREADS,
                on_free=wake.set,
                watched=functools.partial(self.guard.watched, "verify-work"),
            ),
            self.guard,
            wake=wake,
            on_verified=self._wakes[Stage.ARCHIVE].set,
            monotonic=self._monotonic,
        )

    def _make_archive_loop(self, threads: Threads, slots: TransferSlots) -> ArchiveLoop:
        concurrency = self._limits.transfer_concurrency
        return ArchiveLoop(
            self._stages,
            self._work,
            threads.pool(concurrency, name="archive", begin=self._bind),
            threads=concurrency,
            slots=slots,
            wake=self._wakes[Stage.ARCHIVE],
            on_recovered=self._end_holds_of_hosts,
            watched=functools.partial(self.guard.watched, "archive-work"),
        )

    def _make_sweep_loop(self) -> SweepLoop:
        return SweepLoop(
            sweeper=self._stages.sweeper,
            families=self._stages.swept_families,
            ledger=self._stages.asking,
            outages=self._stages.outages,
            interval_seconds=self._limits.sweep_interval_seconds,
            stop=self.guard.stop,
            on_swept=self._swept,
            monotonic=self._monotonic,
            process_holds=self._stages.process_holds,
            unswept=self._stages.unswept,
        )

    def _looks(self) -> Sequence[Look]:
        account = self._stages.account
        return [
            ApiLook(account.client, account.families),
            StoreLook(self._stages.store, account.prefix),
        ]

    def _make_look_loop(self, look: Look, threads: Threads) -> Loop:
        wake = threads.event()
        self._look_wakes.append(wake)
        asks = look.outside is Outside.API
        loop = LookLoop(
            look,
            self._stages.outages.of(look.outside),
            account=self._stages.account.name,
            ledger=self._stages.asking if asks else self._stages.ledger,
            metrics=self._stages.metrics,
            wake=wake,
            wake_stage=self.wake,
            monotonic=self._monotonic,
            process_holds=self._stages.process_holds,
        )
        return self._gated(loop) if asks else loop

    def start(self) -> None:
        """Start every loop."""
        self._renewer.start()
        for thread in self._threads:
            thread.start()

    def wake(self, stage: Stage) -> None:
        """Wake the loops of `stage`. Cheap; callable from any thread."""
        if stage is Stage.SWEEP:
            self._sweep_loop.resume()
        else:
            self._wakes[stage].set()

    def stop(self, *, seconds: float) -> bool:
        """Stop claiming, let running work finish for at most `seconds`, give the rest back.

        False when some work goes on, which keeps Python from exiting. Its lease is dropped before it is given back, so
        it puts nothing more.
        """
        deadline = self._monotonic() + seconds
        self.guard.stop.set()
        for wake in (*self._wakes.values(), *self._look_wakes):
            wake.set()
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._monotonic()))
        ended = [pool.close(seconds=max(0.0, deadline - self._monotonic())) for pool in self._pools]
        self._work.let_go(self._stages.keeper.held())
        self._stages.folder_worker.let_go(self._stages.folder_worker.keeper.held())
        self._renewal_ends.set()
        self._renewer.join(1.0)
        return all(ended)

    def is_asking(self) -> bool:
        """Whether questions are under way, in a process that has a lease to ask."""
        return any(gate.is_open for gate in self._gates) or self._verifying.free() < VERIFY_THREADS

    def leases(self) -> int:
        """The number of leases on tasks that the worker holds."""
        stages = self._stages
        return len(stages.keeper.held()) + len(stages.folder_worker.keeper.held())

    def _end_holds_of_hosts(self, recovered: Mapping[str, Set[str]]) -> None:
        """End the holds of these hosts. If the ledger cannot be written now, the next file from the host ends its
        hold."""
        self.guard.attempt("hold-release", functools.partial(self._holds.after_files, recovered))

    def _swept(self, family: str) -> None:
        """A sweep came to its end, and may have found new work."""
        self._holds.after_sweep(family)
        for stage in self._wakes:
            self.wake(stage)

    def _renew(self) -> None:
        if not self._renewal_ends.wait(self._renew_seconds):
            self._stages.keeper.renew()
            self._stages.folder_worker.keeper.renew()
