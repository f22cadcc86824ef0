"""Group commit for creates: everything that waits at one moment becomes one transaction, because an fsync costs the
same for one row as for many.

While one batch commits, the next gathers. A create that no longer waits is left out.
"""

import asyncio
import dataclasses
import functools
from collections.abc import Callable, Sequence

from archiver.failures import LedgerUnavailable
from archiver.ledger.gateway_creates.creates import GatewayCreates
from archiver.ledger.gateway_creates.registering import CreatedTask, GatewayCreate
from receiver.gateway.blocking import BlockingCalls

BATCH_MAX = 200
BATCH_SECONDS_MAX = 10.0
"""After this time a hanging batch is given up, and the next one tried."""


@dataclasses.dataclass(frozen=True, slots=True)
class RefusedCreate:
    """A create that Kling has refused: it has created nothing."""

    reference: str


@dataclasses.dataclass(frozen=True, slots=True)
class FailedCreate:
    """A create that Kling has answered with an error of its own: it may have created a task."""

    reference: str


_Change = GatewayCreate | CreatedTask | RefusedCreate | FailedCreate
_Waiting = tuple[_Change, asyncio.Future[bool]]


class GroupCommit:
    """Commits batches. For one event loop. `on_registered(account)` runs after each commit, in another thread."""

    def __init__(
        self, ledger: GatewayCreates, calls: BlockingCalls, *, on_registered: Callable[[str], None]
    ) -> None:
        self._ledger = ledger
        self._calls = calls
        self._on_registered = on_registered
        self._waiting: list[_Waiting] = []
        self._committing: asyncio.Task[None] | None = None

    async def put(self, change: _Change, *, seconds: float) -> bool:
        """Commit a create that begins, its task, or its end. Returns whether the id of a task is new.

        Raises LedgerUnavailable, or TimeoutError: then it may be committed all the same.
        """
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, waiter))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all())
        async with asyncio.timeout(seconds):
            return await waiter

    def _write(self, changes: Sequence[_Change]) -> list[bool]:
        begun = [change for change in changes if isinstance(change, GatewayCreate)]
        created = [change for change in changes if isinstance(change, CreatedTask)]
        refused = [change.reference for change in changes if isinstance(change, RefusedCreate)]
        answered = [change.reference for change in changes if isinstance(change, FailedCreate)]
        are_new = iter(self._ledger.commit(begun=begun, created=created, refused=refused, answered=answered))
        for account in {task.create.account for task in created}:
            self._on_registered(account)
        return [isinstance(change, CreatedTask) and next(are_new) for change in changes]

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
                await self._commit([waiting for waiting in batch if not waiting[1].done()])
        finally:
            self._committing = None

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        """A failed batch is tried one by one: a bad change must not fail its neighbours."""
        if not batch:
            return
        write = functools.partial(self._write, [change for change, _ in batch])
        try:
            results = await self._calls.run(write, seconds=BATCH_SECONDS_MAX)
        except (LedgerUnavailable, TimeoutError) as error:
            for _, waiter in batch:
                _fail(waiter, error)
        except Exception as error:  # noqa: BLE001 -- the coroutine that waits raises it
            if len(batch) == 1:
                _fail(batch[0][1], error)
                return
            for waiting in batch:
                await self._commit([waiting])
        else:
            for (_, waiter), result in zip(batch, results, strict=True):
                if not waiter.done():
                    waiter.set_result(result)


def _fail(waiter: asyncio.Future[bool], error: Exception) -> None:
    if not waiter.done():
        waiter.set_exception(error)
