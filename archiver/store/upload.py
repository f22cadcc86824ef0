"""A file on its way to the store, in pieces that the line takes.

urllib3 asks for 16 KiB at a time, sends whatever it gets and never looks at how much that was. Each piece is a call
into the kernel and a turn of all threads at the interpreter, a hundred of them for an image: pieces should be large.
But one that is not in the kernel's buffer within `sending.CONNECT_SECONDS` ends the put, and a line may be slow and
shared by sixteen of them (whole bodies were tried: on such a line none got through): pieces should be small.

So they begin small, and grow while what went before went quickly. The kernel's buffer is quick too, whatever the line
behind it. Where that has misled, all goes in small pieces: when boto3 sends the body a second time, and with every put
that asks for leave, among them the next one after any that failed and each later attempt at the same task. (Large
bodies ask for leave too.)
"""

import io
import time
from collections.abc import Callable
from typing import BinaryIO

PIECE_BYTES = 64 * 1024
PIECE_BYTES_MAX = 1024 * 1024
QUICK_SECONDS = 0.1
"""A small part of what a piece may take: one of twice the size has time enough."""


class Body(io.RawIOBase):
    """A file for botocore, with the digest that its signature is to cover. Closing it leaves the file open.

    Only ever read piece by piece or all at once: the other ways that a raw file has of being read expect bytes.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        sha256: str,
        asks_leave: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = file
        self.sha256 = sha256
        self.asks_leave = asks_leave
        self._monotonic = monotonic
        self._grows = not asks_leave
        self._asked_at: float | None = None
        """When the last piece was asked for; None before the first."""
        self._quick_bytes = 0
        """How much went quickly, since the last piece that did not."""
        self._lent: memoryview | None = None
        """The last piece, where it is memory of the file itself."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self._asked_at is not None:
            self._grows = False  # it is sent again, so something has gone wrong
        self._take_back()
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        """Nobody sends any more. What was lent is taken back: a put that failed is remembered by its exception, that
        by its traceback, and the piece by that, for as long as the garbage collector likes; and with it would be all
        of the file, which cannot be closed meanwhile."""
        self._take_back()
        super().close()

    def read(self, size: int = -1) -> bytes | memoryview:
        """The next piece, however much is asked for; all that is left when no size is. Whoever sends it comes for the
        next one when it has gone, and must not look at it again."""
        self._take_back()
        if size < 0:
            return self._file.read()
        now = self._monotonic()
        if not self._grows or self._asked_at is None or now - self._asked_at > QUICK_SECONDS:
            self._quick_bytes = 0
        piece = self._next(min(max(self._quick_bytes, PIECE_BYTES), PIECE_BYTES_MAX))
        self._asked_at = now
        self._quick_bytes += len(piece)
        return piece

    def _next(self, size: int) -> bytes | memoryview:
        """Lent from memory, where it can be."""
        if not isinstance(self._file, io.BytesIO):
            return self._file.read(size)
        begin = self._file.tell()
        self._lent = self._file.getbuffer()[begin : begin + size]
        self._file.seek(begin + len(self._lent))
        return self._lent

    def _take_back(self) -> None:
        if self._lent is not None:
            self._lent.release()
            self._lent = None
