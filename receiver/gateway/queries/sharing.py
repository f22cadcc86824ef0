"""Lets equal queries of one client share one answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable

from receiver.gateway.exchange import GatewayAnswer

SECONDS = 1.0
ENTRIES_MAX = 1024
BYTES_MAX = 64 * 1024
"""A longer answer goes to the waiting clients, and is not kept."""


class SharedAnswers:
    """Answers in flight, and good answers until a second after their query. For one event loop."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._entries: dict[Hashable, tuple[float, asyncio.Task[GatewayAnswer]]] = {}

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[GatewayAnswer]]) -> GatewayAnswer:
        """The answer of an equal question, else of `ask`, which goes on although its client may leave. Raises what it
        raises."""
        self._drop_old()
        entry = self._entries.get(key)
        task = entry[1] if entry is not None else self._begin(key, ask)
        answer = await asyncio.shield(task)
        if entry is not None and not isinstance(answer.body, bytes):  # it can be read once only
            return await ask()
        return GatewayAnswer(answer.status, answer.headers, answer.body, answer.source, answer.bytes_count)

    def _begin(
        self, key: Hashable, ask: Callable[[], Awaitable[GatewayAnswer]]
    ) -> asyncio.Task[GatewayAnswer]:
        async def asked() -> GatewayAnswer:
            return await ask()

        task = asyncio.create_task(asked())
        if len(self._entries) < ENTRIES_MAX:
            self._entries[key] = (self._monotonic(), task)
        task.add_done_callback(lambda done: self._ended(key, done))
        return task

    def _ended(self, key: Hashable, task: asyncio.Task[GatewayAnswer]) -> None:
        """What was not found may be there a moment later, and what failed may succeed."""
        if not task.cancelled() and task.exception() is None and _is_worth_keeping(task.result()):
            return
        entry = self._entries.get(key)
        if entry is not None and entry[1] is task:
            del self._entries[key]

    def _drop_old(self) -> None:
        """Drop old answers, which are in the order of their beginning."""
        until = self._monotonic() - SECONDS
        while self._entries:
            key = next(iter(self._entries))
            if self._entries[key][0] > until:
                return
            del self._entries[key]


def _is_worth_keeping(answer: GatewayAnswer) -> bool:
    return answer.status == 200 and isinstance(answer.body, bytes) and len(answer.body) <= BYTES_MAX
