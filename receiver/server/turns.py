"""Decides when a request of the gateway may begin, or the next piece of a file may follow, so that callbacks never wait
behind many.

1. In each round of the event loop one of them gets a turn. Clients that poll as fast as they can would otherwise fill
   every round, and a callback takes several rounds.
2. While callbacks are being committed, one gets a turn only every `yield_seconds`, or a share of that after one that
   does less: the committing threads contend with the event loop for the GIL.

A turn is only a permission to begin: the work may wait afterwards as long as it needs.

Measured with 64 clients that poll in a closed loop beside 200 callbacks/s, on 2 busy cores: callbacks took 1,000 ms at
the median without these rules, 250 ms with the first, and 20 ms with both.
"""

import asyncio
import collections
from collections.abc import Callable

_LOOK_SECONDS = 0.001


class LoopTurns:
    """Gives turns: first come, first served. For one event loop."""

    def __init__(self, is_door_busy: Callable[[], bool], *, yield_seconds: float) -> None:
        """`is_door_busy`: whether callbacks are being committed."""
        self._is_door_busy = is_door_busy
        self._yield_seconds = yield_seconds
        self._waiting: collections.deque[tuple[asyncio.Future[None], float]] = collections.deque()
        """Each with its share."""
        self._is_scheduled = False
        self._yields_until = float("-inf")

    async def take(self, share: float = 1.0) -> None:
        """Return when it is this caller's turn. The next turn yields for this `share` of `yield_seconds`."""
        loop = asyncio.get_running_loop()
        if not self._is_scheduled and not self._must_yield(loop.time()):
            self._give(loop, share)
            return
        turn = loop.create_future()
        self._waiting.append((turn, share))
        self._schedule(loop)
        await turn

    def _must_yield(self, now: float) -> bool:
        return self._is_door_busy() and now < self._yields_until

    def _give(self, loop: asyncio.AbstractEventLoop, share: float) -> None:
        self._yields_until = loop.time() + share * self._yield_seconds
        self._schedule(loop)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._next_round)

    def _next_round(self) -> None:
        loop = asyncio.get_running_loop()
        if self._waiting and self._must_yield(loop.time()):
            loop.call_later(_LOOK_SECONDS, self._next_round)
            return
        self._is_scheduled = False
        while self._waiting and not self._is_scheduled:
            turn, share = self._waiting.popleft()
            if not turn.done():  # its caller may have been cancelled
                turn.set_result(None)
                self._give(loop, share)
