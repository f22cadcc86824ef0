"""uvicorn's HTTP protocol, with three holes closed: unbounded input, unbounded waiting, lost bodies.

Every connection must make progress. uvicorn limits only the pause *after* a request. Here a connection is closed
if it sends no request, half a request, no body, or headers without end. The endpoint limits the time for a body
that has begun (`server.bodies`).
"""

from collections.abc import Iterable

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

IDLE_BYTES_MAX = 256 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with input bounded and declined upgrades survived.

    Bytes: uvicorn limits neither a request's headers nor what arrives after its response. Here `IDLE_BYTES_MAX`
    limits both.

    Upgrades: when a client offers to switch protocols, the parser stops and the endpoint sees an empty body
    (github.com/Kludex/uvicorn/issues/2722). Java's own client offers `Upgrade: h2c` on every plain HTTP request,
    and a relay of Kling's callbacks, or Kling itself, may use that client.
    """

    _idle_bytes = 0
    """Bytes received since a request was last in progress."""

    def data_received(self, data: bytes) -> None:
        self._parse(data)
        if not _is_between_requests(self):
            self._idle_bytes = 0
            return
        self._idle_bytes += len(data)
        if self._idle_bytes > IDLE_BYTES_MAX:
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
        """Read the body with a new parser that sees the same framing headers and no upgrade.

        The application's task is scheduled but has not run, so it never sees the body as complete. The new parser
        would lose a pipelined request, so the connection closes after this one.
        """
        self.cycle.keep_alive = False
        self.cycle.more_body = True
        self.cycle.message_event.clear()
        self.parser = httptools.HttpRequestParser(_BodyOnly(self))
        framing = (b"content-length", b"transfer-encoding")
        head = [name + b": " + value + b"\r\n" for name, value in self.headers if name in framing]
        self._parse(b"".join([b"POST / HTTP/1.1\r\n", *head, b"\r\n", rest]))


class _BodyOnly:
    """Forwards only a parser's body events to the protocol."""

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete


class StallWatch:
    """Closes connections that have waited too long for their client."""

    def __init__(self) -> None:
        self._waiting: dict[HttpToolsProtocol, tuple[RequestResponseCycle | None, float]] = {}
        """Connections that wait for their client: for which request, and since when."""

    def close_stalled(self, connections: Iterable[object], *, now: float, seconds_max: float) -> None:
        """Close each connection that has waited `seconds_max` for the same request or body. Call it often."""
        waiting: dict[HttpToolsProtocol, tuple[RequestResponseCycle | None, float]] = {}
        for connection in connections:
            if not isinstance(connection, HttpToolsProtocol) or not _awaits_client(connection):
                continue
            cycle, since = self._waiting.get(connection, (None, now))
            waiting[connection] = (connection.cycle, since if cycle is connection.cycle else now)
            if now - waiting[connection][1] >= seconds_max:
                connection.transport.close()
        self._waiting = waiting


def _is_between_requests(connection: HttpToolsProtocol) -> bool:
    cycle: RequestResponseCycle | None = connection.cycle  # None before the first, despite its type
    return cycle is None or cycle.response_complete


def _awaits_client(connection: HttpToolsProtocol) -> bool:
    """Whether the client must finish a body, or send a request while uvicorn has no timer running."""
    if _is_between_requests(connection):
        return connection.timeout_keep_alive_task is None
    return connection.cycle.more_body
