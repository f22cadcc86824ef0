"""Reads bodies of objects without the HTTP parser, which costs more than the transfer itself.

httpcore2 reads the head of the answer. After it, large bodies are read as the network delivers them, up to 256 KiB at
once: its parser would copy each body three times, in pieces of 64 KiB. Such connections are closed afterwards. This
halves the processor time of reading, from 1.25 to 0.65 ms a MB (`stream` in `make bench`).
"""

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpcore2

from archiver.store.inspected_streams import InspectedStream

_END_OF_HEAD = re.compile(rb"\n\r?\n")
"""Where h11, which httpcore2 parses with, takes a head to end."""
_OVERLAP_BYTES = 2
"""Of an end of a head that two reads share."""


class BodyStream(InspectedStream):
    """A connection that gives its reader the head of an answer, and holds back the rest until it is asked for."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, *, below: InspectedStream | None = None) -> None:
        """`below`: the connection that this one is the TLS of."""
        super().__init__(stream, below=below)
        self._left: int | None = None
        """Bytes of a body of known length that the parser has yet to get."""
        self._held = b""
        self._tail = b""
        self._is_head_awaited = False
        self._is_at_body = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- httpcore2's
        """As every stream does; a read ends where the head of an answer does."""
        self._is_at_body = False
        data, self._held = self._held, b""
        if not data and self._left != 0:
            data = await self._stream.read(max_bytes, timeout)
        if self._is_head_awaited:
            return self._head_of(data)
        count = max_bytes if self._left is None else min(max_bytes, self._left)
        data, self._held = data[:count], data[count:]
        if self._left is not None:
            self._left -= len(data)
        return data

    def _head_of(self, data: bytes) -> bytes:
        end = _END_OF_HEAD.search(self._tail + data)
        if end is None:
            self._tail = (self._tail + data)[-_OVERLAP_BYTES:]
            return data
        count = end.end() - len(self._tail)
        self._is_head_awaited, self._is_at_body = False, True
        self._held = data[count:]
        return data[:count]

    @property
    def is_at_body(self) -> bool:
        """Whether the last read has ended a head, so that all that comes is body. Not after an interim answer."""
        return self._is_at_body

    def expect(self, count: int) -> None:
        """The parser is to read a body of so many bytes, and gets none behind it. Only where `is_at_body`.

        Then the connection can serve again, if nothing more has come.
        """
        self._left = count

    def holds_more(self) -> bool:
        """As every inspected stream does."""
        return bool(self._held) or super().holds_more()

    async def body(
        self, count: int, *, read_seconds: float, piece_bytes: Callable[[], int]
    ) -> AsyncIterator[bytes]:
        """At most `count` bytes of it, in pieces of at most `piece_bytes()`: fewer when the connection ends.

        `read_seconds` for each piece. Raises what httpcore2 raises. The connection can be used for nothing else
        afterwards.
        """
        self._is_at_body = False
        piece, self._held = self._held, b""
        while count > 0:
            if not piece:
                piece = await self._stream.read(piece_bytes(), read_seconds)
                if not piece:
                    return
            yield piece[:count] if len(piece) > count else piece
            count -= len(piece)
            piece = b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore2's
        """As every stream does."""
        self._is_head_awaited, self._tail, self._left = True, b"", None
        await self._stream.write(buffer, timeout)

    def get_extra_info(self, info: str) -> Any:
        """As every stream does. httpcore2's pool closes an idle connection that `is_readable`."""
        if info == "is_readable" and (self._left != 0 or self.holds_more()):
            return True
        return super().get_extra_info(info)
