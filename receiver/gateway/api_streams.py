"""The sockets below the HTTP library, for two questions that it does not ask, and one habit that it has.

1. Does a connection hold anything behind the answer that was read? It would pass for the next client's answer.
2. Does Kling answer before it has the whole request, and then read no more of it? The library writes until the end
   before it reads: the refusal of a large create would wait for a write that never ends, or be lost with the reset.
3. It writes the head of a request and its body apart. The head waits here for what follows, which saves both sides a
   system call and a turn of the event loop.
"""

import asyncio
import re

import httpcore2

from archiver.store.inspected_streams import InspectedStream

UNWATCHED_BYTES = 64 * 1024
"""This much of a request fits into the socket. While it is sent, nothing looks for an early answer: that would need two
tasks for each write."""
EARLY_BYTES_MAX = 256 * 1024
"""How much of an early answer is read before the library reads it."""

_INTERIM = b"HTTP/1.1 1"
_FINAL_BEHIND = re.compile(rb"\n\r?\nHTTP/1\.[01] [2-9]")


class ApiStream(InspectedStream):
    """A connection. One event loop."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, *, below: InspectedStream | None = None) -> None:
        """`below`: the connection that this one is the TLS of."""
        super().__init__(stream, below=below)
        self._sent_bytes = 0
        """Since the last read."""
        self._head: bytes | None = None
        """Of a request, while it waits for the body."""
        self._answer: asyncio.Task[bytes] | None = None
        """Reads while a large request is sent."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- httpcore2's
        """As every stream does, but may return more than `max_bytes` of an early answer."""
        if self._head is not None:
            await self.write(b"", timeout)
        self._sent_bytes = 0
        if self._answer is not None:
            answer, self._answer = self._answer, None
            return await answer
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore2's
        """Raises WriteError, after which the library reads, once an answer has begun before the end of the request."""
        if self._head is None and self._sent_bytes == 0:
            self._head = buffer
            return
        if self._head is not None:
            buffer, self._head = self._head + buffer, None
        if not buffer:
            return
        self._sent_bytes += len(buffer)
        if self._sent_bytes <= UNWATCHED_BYTES:
            await self._stream.write(buffer, timeout)
            return
        if self._answer is None:
            self._answer = asyncio.create_task(self._begun_answer())
            self._answer.add_done_callback(lambda task: task.cancelled() or task.exception())
        writing = asyncio.create_task(self._stream.write(buffer, timeout))
        try:
            await asyncio.wait({writing, self._answer}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                raise httpcore2.WriteError("an answer came before the whole request was sent")
            await writing
        finally:
            writing.cancel()
            await asyncio.wait({writing})

    async def _begun_answer(self) -> bytes:
        """The beginning of the final answer, or all that came before the connection ended. Interim answers (1xx) before
        it are included."""
        begun = b""
        while len(begun) < EARLY_BYTES_MAX:
            more = await self._stream.read(EARLY_BYTES_MAX)
            begun += more
            is_interim = begun[: len(_INTERIM)] == _INTERIM[: len(begun)]
            if not more or not is_interim or _FINAL_BEHIND.search(begun):
                break
        return begun

    async def aclose(self) -> None:
        """As every stream does."""
        if self._answer is not None:
            self._answer.cancel()
            self._answer = None
        await super().aclose()
