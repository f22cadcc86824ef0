"""Kept-alive connections whose bodies bypass the HTTP library. This module exists for speed.

httpcore2 copies a body four times, in pieces of 16 KiB over TLS, and the threads contend for the GIL at each piece. So
if the length is announced, httpcore2 reads the head only, and the body goes from the socket into the caller's buffer.
The price: httpcore2's pool takes back only connections whose body it has read. `HttpExchange.finish` decides that here.

What it saves (2026-11-26, 2 shared cores, 1.5 MB images, 16 threads, alternating with httpcore2's pool): a third of
the CPU time of a fetch over TLS (5.2 instead of 7.7 ms), a quarter over plain HTTP. Of `make bench`, which uses plain
HTTP: 4 to 12 % of "CPU ms per image" in three runs, 8 % in the middle (9.0 instead of 9.9 ms in the last). Any gain in
images/s was below the noise.
"""

import dataclasses
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpcore2

from archiver.fetch.connecting import BoundedStream
from archiver.fetch.heads import (
    HEAD_BYTES_MAX,
    Head,
    HeadTooLong,
    is_about_trailers,
    read_head,
    says_close,
)
from archiver.fetch.pace import Allowance, Timeout, note_bytes, seconds_of
from archiver.fetch.urls import Origin

READ_BYTES = 128 * 1024
"""The library asks for 64 KiB at a time; fewer reads release the GIL less often."""
KEEPALIVE_SECONDS = 15.0
KEEPALIVE_CONNECTIONS_MAX = 64
"""The limit for all hosts together."""

_END_OF_HEAD = re.compile(rb"\n\r?\n")
"""Exactly h11's rule: no byte of the body may get into its buffer."""


class SplitStream(httpcore2.NetworkStream):
    """A connection that gives the library the framing of each response, and the caller the body."""

    def __init__(self, stream: BoundedStream, *, head_bytes_max: int = HEAD_BYTES_MAX) -> None:
        self._stream = stream
        self._head_bytes_max = head_bytes_max
        self._socket: socket.socket = stream.get_extra_info("socket")
        self._is_nested = isinstance(stream.get_extra_info("ssl_object"), ssl.SSLObject)
        """TLS within the TLS of an `https://` proxy: the socket is the proxy's, and only the library decrypts."""
        self.is_closed = False
        self.head = Head()
        """The last one that the library has read."""
        self._in_head = True
        self._ahead = b""
        """Bytes read from the socket that no caller has taken yet."""

    def begin_head(self) -> None:
        """Call before each request."""
        self._in_head = True

    def end_head(self) -> None:
        """Call when the library has read the head."""
        self._in_head = False

    @property
    def is_drained(self) -> bool:
        """No byte waits here or in the TLS layer: it would pass for the next response."""
        if self._is_nested:
            return False  # what it has decrypted cannot be seen
        decrypted = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0
        return not self._ahead and not decrypted

    def read(self, max_bytes: int, timeout: Timeout = None) -> bytes:
        """For the library."""
        if self._in_head:
            return self._read_head(max_bytes, timeout)
        data, self._ahead = self._ahead, b""
        return data or self._stream.read(max(max_bytes, READ_BYTES), timeout)

    def _read_head(self, max_bytes: int, timeout: Timeout) -> bytes:
        """Read one whole head; an interim response (1xx) has a head too. If the connection ends inside a head, return
        what has come."""
        head, self._ahead = self._ahead, b""
        while (end := _END_OF_HEAD.search(head)) is None:
            if len(head) > self._head_bytes_max:
                raise HeadTooLong(self._head_bytes_max).of(head)
            room = self._head_bytes_max + 1 - len(head)
            data = self._stream.read(min(max(max_bytes, READ_BYTES), room), timeout)
            if not data:
                return head
            head += data
        self._ahead = head[end.end() :]
        self.head, framing = read_head(head[: end.end()])
        return framing

    def read_into(self, view: memoryview, timeout: Timeout = None) -> int:
        """Returns the number of bytes, 0 at the end of the connection. May raise OSError."""
        if self._ahead:
            count = min(len(view), len(self._ahead))
            view[:count], self._ahead = self._ahead[:count], self._ahead[count:]
            return count
        if self._is_nested:
            data = self._stream.read(len(view), timeout)
            view[: len(data)] = data
            return len(data)
        self._socket.settimeout(seconds_of(timeout))
        count = self._socket.recv_into(view)
        note_bytes(timeout, count)
        return count

    def write(self, buffer: bytes, timeout: Timeout = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self.is_closed = True
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class HttpExchange:
    """A response whose head has been read. Read its body by `pieces` or, if its length is known, by `read_into`."""

    def __init__(self, response: httpcore2.Response, stream: SplitStream, *, transfer: Allowance) -> None:
        self.status = response.status
        self.head = stream.head
        self.stream = stream
        self._response = response
        self._transfer = transfer
        self._bytes_read = 0

    def pieces(self) -> Iterator[bytes]:
        """In any framing, read by the library.

        Trailers are lines as any other in a head: a malformed one costs nothing, since the last chunk has come.
        """
        try:
            yield from self._response.iter_stream()
        except httpcore2.RemoteProtocolError as error:
            if not is_about_trailers(error):
                raise
            self.stream.close()

    def read_into(self, view: memoryview) -> int:
        """Returns the number of bytes, 0 at the end of the connection. `view` must not reach beyond the
        length."""
        count = self.stream.read_into(view, self._transfer)
        self._bytes_read += count
        return count

    def finish(self) -> bool:
        """Ends the reading of the body. Returns whether the connection may serve another request."""
        if self._bytes_read == self.head.length and self._is_persistent():
            return self.stream.is_drained
        self._response.close()  # closes the stream unless the library has read the whole body
        return not self.stream.is_closed and self.stream.is_drained

    def _is_persistent(self) -> bool:
        return self._response.extensions["http_version"] == b"HTTP/1.1" and not says_close(self.head.headers)


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """The remote end of a connection."""

    origin: Origin
    listed: bool
    """The settings list the host, so it may have a private address."""


@dataclasses.dataclass(frozen=True, slots=True)
class _IdleConnection:
    peer: Peer
    stream: SplitStream
    expires_at: float


class IdleConnections:
    """A stack of idle connections: last in, first out. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_IdleConnection] = []

    def take(self, peer: Peer) -> SplitStream | None:
        """A live connection to `peer`, if any."""
        while (connection := self._pop(peer)) is not None:
            stream = connection.stream
            # Readable: the peer has closed it, or sent bytes that no request asked for.
            if time.monotonic() < connection.expires_at and not stream.get_extra_info("is_readable"):
                return stream
            stream.close()
        return None

    def _pop(self, peer: Peer) -> _IdleConnection | None:
        with self._lock:
            for position in range(len(self._idle) - 1, -1, -1):
                if self._idle[position].peer == peer:
                    return self._idle.pop(position)
        return None

    def put(self, peer: Peer, stream: SplitStream) -> None:
        """Keeps the connection, and closes those that have expired or are too many."""
        now = time.monotonic()
        with self._lock:
            self._idle.append(_IdleConnection(peer, stream, now + KEEPALIVE_SECONDS))
            expired = sum(1 for connection in self._idle if connection.expires_at <= now)
            surplus = max(expired, len(self._idle) - KEEPALIVE_CONNECTIONS_MAX)
            dropped, self._idle = self._idle[:surplus], self._idle[surplus:]
        for connection in dropped:
            connection.stream.close()

    def close(self) -> None:
        with self._lock:
            dropped, self._idle = self._idle, []
        for connection in dropped:
            connection.stream.close()
