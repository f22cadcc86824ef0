"""The threads that pages run on: few, and each wait has a limit. The ledger blocks, and callbacks must not wait for it.

A page that takes too long is answered 503. Its thread becomes free only when the reading ends, so a hanging ledger
blocks at most `READINGS_MAX` threads.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

READINGS_MAX = 4
READING_SECONDS_MAX = 10.0

_Result = TypeVar("_Result")


class TooSlow(Exception):
    """No thread was free, or the reading took too long; it may still end."""


class Readings:
    """Runs pages in threads of the event loop's default executor, `READINGS_MAX` at a time."""

    def __init__(self, *, seconds_max: float = READING_SECONDS_MAX) -> None:
        self._seconds_max = seconds_max
        self._free = asyncio.Semaphore(READINGS_MAX)

    async def run(self, read: Callable[[], _Result]) -> _Result:
        """Raises TooSlow, and what `read` raises."""
        try:
            async with asyncio.timeout(self._seconds_max):
                await self._free.acquire()
        except TimeoutError:
            raise TooSlow from None
        running = asyncio.create_task(asyncio.to_thread(read))
        running.add_done_callback(self._ended)
        finished, _ = await asyncio.wait({running}, timeout=self._seconds_max)
        if not finished:
            raise TooSlow
        return running.result()

    def _ended(self, running: asyncio.Task[_Result]) -> None:
        self._free.release()
        if not running.cancelled():
            running.exception()  # mark it as retrieved, although no request waits any more
