"""uvicorn's HTTP protocol, with six holes closed: unbounded input, unbounded output, unbounded waiting, lost bodies,
work for clients that have left, and a refusal that no client of Kling's API can read.

uvicorn limits only the pause *after* a request. Here a connection is closed if it sends no request, half a request, no
body, or headers without end, and if it does not read its answer. `server.bodies` limits the time for a body that has
begun.
"""

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from collections.abc import Iterable

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from receiver.server import replies
from receiver.server.replies import Reply

IDLE_BYTES_MAX = 256 * 1024
UNSENT_BYTES_MAX = 128 * 1024
"""How much of an answer the kernel takes beyond what is on its way to the client; its default is 4 MB. 200 clients that
took nothing of a file occupied 1,340 MB of the kernel's memory, which counts in a container, and with this limit 210
MB."""
WAITING_BYTES_MAX = 16 * 1024
"""The sender of an answer waits while more of it than this is in the process. The default, 64 KB, would hold one more
piece of a file for each client."""
UNREAD_SECONDS_MAX = 30.0
UNREAD_BYTES_MIN = 64 * 1024
"""A client that reads less of a waiting answer in `UNREAD_SECONDS_MAX` is cut off."""
UNREAD_BYTES = "kling.unread_bytes"
"""A key in a request's scope: a function that counts what the client has not read of what was sent to it."""
BODY_HAS_OWN_LIMIT = "kling.body_has_own_limit"
"""A key in a request's scope: the endpoint itself limits the time of its body, which may be long."""
_NOT_HTTP = Reply(
    400, 1200, "This is no request of HTTP/1.1.", (replies.FROM_GATEWAY, (b"connection", b"close"))
)
"""The path is unknown, so the answer suits all: clients of the gateway read the envelope, others the status."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with five fixes.

    Input: uvicorn limits neither a request's headers nor what arrives after its response. `IDLE_BYTES_MAX` limits both.

    Output: the kernel would take 4 MB for each client that does not read, and the event loop 64 KB. `UNSENT_BYTES_MAX`
    and `WAITING_BYTES_MAX` limit that.

    Upgrades: when a client offers to switch protocols, uvicorn loses the body (github.com/Kludex/uvicorn/issues/2722).
    Java's own client offers `Upgrade: h2c` on every plain HTTP request, and Kling or a relay may use it.

    Pipelines: when a client leaves, uvicorn tells only the last of its requests, and works on the one in progress.

    Refusals: a request that is not HTTP gets an answer in Kling's envelope, as every other request does.
    """

    _idle_bytes = 0
    """Bytes received since a request was last in progress."""
    write_pauses = 0
    """How often an answer had to wait for the client."""
    _in_progress: RequestResponseCycle | None = None
    """`cycle` is the last request that was read: in a pipeline, one that waits behind this one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        transport.set_write_buffer_limits(WAITING_BYTES_MAX)
        _limit_unsent(transport.get_extra_info("socket"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[UNREAD_BYTES] = self.unread_bytes  # type: ignore[literal-required]  # a key of ours

    def unread_bytes(self) -> int:
        """How much of the answers still waits in the process or the kernel, or is on its way to the client.

        What waits in the process does not suffice: the kernel takes more of it only when the client has read 64 KB or
        twice as much.
        """
        in_process = self.transport.get_write_buffer_size()
        # The socket of a closed connection may have the number of another one.
        if self.transport.is_closing():
            return in_process
        return in_process + _unread_in_kernel(self.transport.get_extra_info("socket"))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._in_progress = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._in_progress is not None and not self._in_progress.response_complete:
            self._in_progress.disconnected = True
            self._in_progress.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self.write_pauses += 1
        super().pause_writing()

    def data_received(self, data: bytes) -> None:
        self._parse(data)
        if not _is_between_requests(self):
            self._idle_bytes = 0
            return
        self._idle_bytes += len(data)
        if self._idle_bytes > IDLE_BYTES_MAX:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        del msg
        self.transport.write(replies.written(_NOT_HTTP))
        self.transport.close()

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _decline(self, rest: bytes) -> None:
        """Read the body with a new parser that sees the framing headers only.

        The application's task has not run yet, so it never sees the body as complete. A pipelined request would be
        lost, so the connection closes after this one.
        """
        self.cycle.keep_alive = False
        self.cycle.more_body = True
        self.cycle.message_event.clear()
        self.parser = httptools.HttpRequestParser(_BodyOnly(self))
        framing = (b"content-length", b"transfer-encoding")
        head = [name + b": " + value + b"\r\n" for name, value in self.headers if name in framing]
        self._parse(b"".join([b"POST / HTTP/1.1\r\n", *head, b"\r\n", rest]))


class _BodyOnly:
    """Passes on a parser's body events and no others."""

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete


class StallWatch:
    """Closes connections that wait too long for their client."""

    def __init__(self) -> None:
        self._waiting: dict[HttpToolsProtocol, tuple[RequestResponseCycle | None, float]] = {}
        """Connection → the request in which it waits for the client, and since when."""
        self._unread: dict[BoundedProtocol, tuple[int, int, float]] = {}
        """Connection → the pause in which its answer waits, the bytes that waited, and since when."""

    def close_stalled(self, connections: Iterable[object], *, now: float, seconds_max: float) -> None:
        """Close each connection that has waited `seconds_max` for one request or body."""
        waiting: dict[HttpToolsProtocol, tuple[RequestResponseCycle | None, float]] = {}
        for connection in connections:
            if not isinstance(connection, HttpToolsProtocol) or not _awaits_client(connection):
                continue
            cycle, since = self._waiting.get(connection, (None, now))
            waiting[connection] = (connection.cycle, since if cycle is connection.cycle else now)
            if now - waiting[connection][1] >= seconds_max:
                connection.transport.close()
        self._waiting = waiting

    def cut_off_unread(self, connections: Iterable[object], *, now: float) -> None:
        """Drop each connection that has an answer waiting and does not read it."""
        unread: dict[BoundedProtocol, tuple[int, int, float]] = {}
        for connection in connections:
            if not isinstance(connection, BoundedProtocol) or not connection.flow.write_paused:
                continue
            left = connection.unread_bytes()
            pause, waited, since = self._unread.get(connection, (-1, 0, now))
            if pause != connection.write_pauses or left + UNREAD_BYTES_MIN <= waited:
                unread[connection] = (connection.write_pauses, left, now)
            elif now - since < UNREAD_SECONDS_MAX:
                unread[connection] = (pause, waited, since)
            else:
                _reset(connection)
        self._unread = unread


def _limit_unsent(line: socket.socket) -> None:
    """Where the platform can: Linux can; Windows, and Python of some versions on macOS, cannot."""
    option: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is None:
        return
    with contextlib.suppress(OSError):  # the client may have gone
        line.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES_MAX)


def _unread_in_kernel(line: socket.socket) -> int:
    """0 where the kernel does not tell, as on macOS."""
    try:
        (unread,) = struct.unpack("i", fcntl.ioctl(line.fileno(), termios.TIOCOUTQ, bytes(4)))
    except OSError:
        return 0
    return int(unread)


def _reset(connection: BoundedProtocol) -> None:
    """Reset the connection: closing would wait for the unread bytes, and so would the kernel unless lingering is
    switched off."""
    at_once = struct.pack("ii", 1, 0)
    with contextlib.suppress(OSError):
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    connection.transport.abort()


def _is_between_requests(connection: HttpToolsProtocol) -> bool:
    cycle: RequestResponseCycle | None = connection.cycle  # None before the first, despite its type
    return cycle is None or cycle.response_complete


def _awaits_client(connection: HttpToolsProtocol) -> bool:
    """The client must finish a body, or send a request for which uvicorn runs no timer."""
    if _is_between_requests(connection):
        return connection.timeout_keep_alive_task is None
    cycle: RequestResponseCycle = connection.cycle
    return cycle.more_body and not cycle.scope.get(BODY_HAS_OWN_LIMIT, False)
