"""Reads the body of a client's request as a whole, before anything is sent to Kling.

Up to `MEMORY_BYTES_MAX` it stays in memory, else it goes to the spool, where space is reserved before it is used, and
uploads leave half of the room to downloads (see `fetch/spool`). Size and time are bounded. A client may send slowly,
but after `GRACE_SECONDS` not more slowly than `BYTES_PER_SECOND_MIN`.
"""

import asyncio
import functools
from collections.abc import Iterable

from starlette.types import Message, Receive

from archiver.failures import SpoolFull, TooLarge
from archiver.fetch.spool import Reservation, Spool
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.exchange import SPOOL_SECONDS_MAX, RequestBody
from receiver.server.bodies import BodyProblem, announced_bytes

BODY_BYTES_MAX = 100 * 1024 * 1024
MEMORY_BYTES_MAX = 1024 * 1024
GRACE_SECONDS = 30.0
BYTES_PER_SECOND_MIN = 32 * 1024
WRITE_BYTES = 1024 * 1024
"""The size of one write to the spool: each write takes a thread for a moment."""


class SpoolUnusable(Exception):
    """The spool has no space for the body."""


class BodyReader:
    """Reads bodies into memory or into `spool`."""

    def __init__(
        self,
        spool: Spool,
        files: BlockingCalls,
        *,
        bytes_max: int = BODY_BYTES_MAX,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._spool = spool
        self._files = files
        self._bytes_max = bytes_max
        self._grace_seconds = grace_seconds

    async def read(
        self, receive: Receive, headers: Iterable[tuple[bytes, bytes]]
    ) -> RequestBody | BodyProblem:
        """The whole body. Raises SpoolUnusable."""
        announced = announced_bytes(headers)
        if announced > self._bytes_max:
            return BodyProblem.TOO_LARGE
        first = await receive()
        if first["type"] == "http.request" and not first.get("more_body", False):
            return RequestBody(first.get("body", b""), self._files)
        incoming = _Incoming(self._spool, self._files, announced=int(announced))
        try:
            body = await self._gather(incoming, first, receive)
        except BaseException:
            incoming.close()
            raise
        if isinstance(body, BodyProblem):
            incoming.close()
        return body

    async def _gather(
        self, incoming: "_Incoming", first: Message, receive: Receive
    ) -> RequestBody | BodyProblem:
        began, message = asyncio.get_running_loop().time(), first
        try:
            async with asyncio.timeout_at(began + self._grace_seconds) as limit:
                while message["type"] != "http.disconnect":
                    await incoming.take(message.get("body", b""))
                    if incoming.bytes_count > self._bytes_max:
                        return BodyProblem.TOO_LARGE
                    if not message.get("more_body", False):
                        return await incoming.finish()
                    seconds = self._grace_seconds + incoming.bytes_count / BYTES_PER_SECOND_MIN
                    limit.reschedule(began + seconds)
                    message = await receive()
        except TimeoutError:
            return BodyProblem.TOO_SLOW
        return BodyProblem.DISCONNECTED


class _Incoming:
    """The part of a body that has arrived."""

    def __init__(self, spool: Spool, files: BlockingCalls, *, announced: int) -> None:
        self._spool = spool
        self._files = files
        self._announced = announced
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._spooled: Reservation | None = None
        self.bytes_count = 0

    async def take(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._pieces_bytes += len(piece)
        self.bytes_count += len(piece)
        if self.bytes_count > MEMORY_BYTES_MAX and self._pieces_bytes >= WRITE_BYTES:
            await self._spool_pieces()

    async def finish(self) -> RequestBody:
        if self.bytes_count <= MEMORY_BYTES_MAX:
            return RequestBody(b"".join(self._pieces), self._files)
        await self._spool_pieces()
        assert self._spooled is not None  # noqa: S101 -- what has been written is there
        return RequestBody(self._spooled, self._files)

    async def _spool_pieces(self) -> None:
        data = b"".join(self._pieces)
        self._pieces, self._pieces_bytes = [], 0
        try:
            await self._files.run(functools.partial(self._write, data), seconds=SPOOL_SECONDS_MAX)
        except (SpoolFull, TooLarge) as error:
            raise SpoolUnusable(str(error)) from error
        except TimeoutError:
            raise SpoolUnusable("the spool's disk does not answer") from None

    def _write(self, data: bytes) -> None:
        if self._spooled is None:
            self._spooled = self._spool.reserve(max(self._announced, len(data)), is_upload=True)
        self._spooled.write(data)

    def close(self) -> None:
        if self._spooled is not None:
            self._spooled.close()
