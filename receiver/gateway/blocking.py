"""Blocking calls that a coroutine awaits, with a time limit and on a limited number of threads."""

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any, TypeVar

from archiver.engine.pools import PrestartedPool

_Result = TypeVar("_Result")


class BlockingCalls:
    """A pool of threads, all started at once. A client waits for at most one of its calls."""

    def __init__(self, threads: int, *, name: str) -> None:
        """Raises ThreadsRefused."""
        self._pool = PrestartedPool(threads, name=name)
        self._under_way: set[concurrent.futures.Future[Any]] = set()

    async def run(self, call: Callable[[], _Result], *, seconds: float) -> _Result:
        """What `call` returns or raises.

        Raises TimeoutError after `seconds`. A call that had begun by then goes on and may still succeed; one that was
        waiting for a thread never begins.
        """
        future = self._pool.submit(call)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return await asyncio.wait_for(asyncio.wrap_future(future), seconds)

    def close(self) -> None:
        """Start nothing more; what runs goes on."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def wait_closed(self, *, seconds: float) -> None:
        """Wait for running calls, so that none of them finds its ledger closed."""
        if under_way := list(self._under_way):
            await asyncio.wait({asyncio.wrap_future(future) for future in under_way}, timeout=seconds)
