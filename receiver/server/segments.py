"""The head of an answer and its body leave together.

uvicorn hands the two to the transport one after the other, and uvloop writes each at once: two calls into the kernel,
two segments, and a caller that is woken twice, for every callback. Here the head waits for what follows it before the
event loop's next turn; whatever does not follow by then, it does not wait for.

A crash in between loses an answer to what is on the disk already, as a crash right before it would.
"""

import asyncio
from typing import Any


class OneSegment:
    """A transport that joins the head of an answer to the first piece of its body. Else it is the one given to it."""

    def __init__(self, transport: asyncio.Transport, *, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        """Now, but for a head."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.endswith(b"\r\n\r\n"):
            self._head = data
            self._loop.call_soon(self.flush)
            return
        self._transport.write(data)

    def flush(self) -> None:
        """A head that waits goes out now."""
        head, self._head = self._head, b""
        if head:
            self._transport.write(head)

    def close(self) -> None:
        """Once everything is written."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
