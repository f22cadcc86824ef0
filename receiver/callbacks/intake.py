"""Group commit: all callbacks that wait at one moment become one ledger transaction.

1. `put` returns only after the commit, so a 200 is never ahead of the disk. After a crash before that, the sender
   repeats, or the sweep finds the task.
2. `put` ends within `seconds_max`, even if the ledger hangs. The commit may still succeed later; a repeat is then a
   duplicate.
3. A bad callback does not fail its neighbours: a failed batch is split until the bad one is alone. Only
   `LedgerUnavailable` fails the whole batch.

While one batch commits, the next gathers. An fsync costs the same for one row as for five hundred, so throughput grows
with load, and a callback waits for at most two commits.

The committing thread is a daemon thread: if a commit hangs (a dead network file system), the process can still exit,
and the database rolls back.
"""

import asyncio
import collections
import dataclasses
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Self

from archiver import log
from archiver.failures import LedgerUnavailable
from archiver.model import Callback, CallbackOutcome

BATCH_MAX = 500
WAIT_SECONDS_MAX = 9.0
"""The sender gets an answer within 10 s."""

_log = log.get()


class IntakeUnavailable(Exception):
    """The callback is not known to be recorded. `reason` is a slug."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_Result = CallbackOutcome | IntakeUnavailable


@dataclasses.dataclass(slots=True, eq=False)
class _Batch:
    """The callbacks of one transaction."""

    alarm: asyncio.TimerHandle
    callbacks: list[Callback] = dataclasses.field(default_factory=list)
    waiters: list[asyncio.Future[CallbackOutcome]] = dataclasses.field(default_factory=list)


class Intake:
    """Use as `async with`; call `put` from that event loop only."""

    def __init__(
        self,
        record: Callable[[Sequence[Callback]], Sequence[CallbackOutcome]],
        *,
        waiting_max: int,
        seconds_max: float = WAIT_SECONDS_MAX,
    ) -> None:
        """`record` commits all of its callbacks or raises; it runs in one thread, never twice at once."""
        self._record = record
        self._waiting_max = waiting_max
        self._seconds_max = seconds_max
        self._waiting = 0
        self._gathering: collections.deque[_Batch] = collections.deque()
        self._committing: _Batch | None = None
        self._stuck = False
        self._sparing = log.Sparing()
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._work: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._commit_batches, name="intake", daemon=True).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Refuse new callbacks, and wait until the others are committed or given up."""
        self._closing = True
        await self._idle.wait()
        self._work.put(None)

    @property
    def is_open(self) -> bool:
        """Whether a new callback would be admitted."""
        return not self._closing and not self._stuck

    @property
    def is_busy(self) -> bool:
        """Whether callbacks wait for their commit."""
        return not self._idle.is_set()

    async def put(self, callback: Callback) -> CallbackOutcome:
        """Commit the callback. Raises IntakeUnavailable."""
        if self._closing:
            raise IntakeUnavailable("shutting_down")
        if self._stuck:
            raise IntakeUnavailable("ledger_stuck")
        if self._waiting >= self._waiting_max:
            raise IntakeUnavailable("too_many_waiting")
        self._waiting += 1
        try:
            return await self._enqueue(callback)
        finally:
            self._waiting -= 1

    def _enqueue(self, callback: Callback) -> asyncio.Future[CallbackOutcome]:
        if not self._gathering or len(self._gathering[-1].callbacks) >= BATCH_MAX:
            self._open_batch()
        batch = self._gathering[-1]
        waiter: asyncio.Future[CallbackOutcome] = self._loop.create_future()
        batch.callbacks.append(callback)
        batch.waiters.append(waiter)
        return waiter

    def _open_batch(self) -> None:
        """Dispatched at the end of this loop iteration, so that requests read in one iteration share a batch."""
        if self._committing is None and not self._gathering:
            self._loop.call_soon(self._dispatch)
        self._idle.clear()
        batch: _Batch = _Batch(alarm=self._loop.call_later(self._seconds_max, lambda: self._give_up(batch)))
        self._gathering.append(batch)

    def _dispatch(self) -> None:
        if self._gathering:
            self._committing = self._gathering.popleft()
            self._work.put(self._committing)
        else:
            self._committing = None
            self._idle.set()

    def _resolve(self, batch: _Batch, results: Sequence[_Result]) -> None:
        batch.alarm.cancel()
        self._stuck = False
        for waiter, result in zip(batch.waiters, results, strict=True):
            if waiter.done():  # given up, or cancelled with its request
                continue
            if isinstance(result, IntakeUnavailable):
                waiter.set_exception(result)
            else:
                waiter.set_result(result)
        self._dispatch()

    def _give_up(self, batch: _Batch) -> None:
        """Drop a batch that is too old. If it is being committed, it may still succeed."""
        if batch is self._committing:
            self._stuck = True
        else:
            self._gathering.remove(batch)
        if self._stuck and not self._gathering:
            self._idle.set()
        for waiter in batch.waiters:
            if not waiter.done():
                waiter.set_exception(IntakeUnavailable("ledger_slow"))

    def _commit_batches(self) -> None:
        while (batch := self._work.get()) is not None:
            results = self._commit(batch.callbacks)
            try:
                self._loop.call_soon_threadsafe(self._resolve, batch, results)
            except RuntimeError:  # the loop has closed: no request waits
                return

    def _commit(self, callbacks: Sequence[Callback]) -> list[_Result]:
        try:
            recorded = zip(callbacks, self._record(callbacks), strict=True)
            return [outcome for _, outcome in recorded]
        except LedgerUnavailable as failure:
            fields = self._sparing.fields()
            if fields is not None:
                _log.error(
                    "ledger.unavailable",
                    message=str(failure),
                    what_to_do=failure.what_to_do,
                    callbacks=len(callbacks),
                    **fields,
                )
            return [IntakeUnavailable(failure.reason) for _ in callbacks]
        except Exception as error:  # noqa: BLE001  # one bad row must not end the thread
            return self._commit_apart(callbacks, error)

    def _commit_apart(self, callbacks: Sequence[Callback], error: Exception) -> list[_Result]:
        if len(callbacks) == 1:
            _log.error("intake.failed", task_id=callbacks[0].task_id, exc_info=error)
            return [IntakeUnavailable("record_failed")]
        middle = len(callbacks) // 2
        return self._commit(callbacks[:middle]) + self._commit(callbacks[middle:])
