"""Writes to the ledger that must still be done although the client has its answer already."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from archiver import log
from archiver.failures import LedgerUnavailable

FIRST_SECONDS, SECONDS_MAX = 1.0, 30.0
DEFECT_TRIES_MAX = 5
WAITING_MAX = 10_000
"""An outage of the ledger must not fill the memory: beyond this number, a task is found by its reference."""

_log = log.get()


class Later:
    """Repeats a write until it succeeds or the process ends. If the process ends first, the reference of the create is
    still in the ledger."""

    def __init__(self, *, waiting_max: int = WAITING_MAX) -> None:
        self._waiting_max = waiting_max
        self._tasks: set[asyncio.Task[None]] = set()

    def do(self, write: Callable[[], Awaitable[object]], *, what: str, account: str) -> None:
        """`write` raises LedgerUnavailable or TimeoutError while the ledger is away. Any other exception is a defect:
        then `write` gets only a few tries. It may run again after a try that only seemed to fail."""
        if len(self._tasks) >= self._waiting_max:
            _log.error("create.write_dropped", write=what, account=account)
            return
        task = asyncio.create_task(self._try(write, what=what, account=account))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _try(self, write: Callable[[], Awaitable[object]], *, what: str, account: str) -> None:
        pause, tries = FIRST_SECONDS, 0
        while True:
            tries += 1
            try:
                await write()
            except Exception as error:  # noqa: BLE001 -- it is in the log, and the reference is in the ledger
                is_away = isinstance(error, LedgerUnavailable | TimeoutError)
                if not is_away and tries == DEFECT_TRIES_MAX:
                    _log.exception("create.write_dropped", write=what, account=account)
                    return
                _log.error("create.write_delayed", write=what, account=account, tries=tries, cause=str(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, SECONDS_MAX)
            else:
                return

    async def close(self, *, seconds: float) -> None:
        """Give waiting writes a last moment."""
        if self._tasks:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait(self._tasks, timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
