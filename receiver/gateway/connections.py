"""Kept-alive connections to one account's API. The connection that was used last is used next.

1. One that holds anything behind the answer that was read is closed: those bytes would be the next client's answer.
   So is one whose server may send more by mistake: after HEAD, 204, 304, and an answer that says its length twice.
2. Kling may close an idle connection at any moment. What changes nothing is then sent once more, over a fresh one.
   A create is never sent twice, so it goes only over a connection that was idle for less than a second. To connect
   costs it one or two round trips; to meet a closing connection costs its client the answer, and perhaps a second
   task. Under load most creates find one that was just used.

The library's own pool checks each of its connections for every request and every answer, with a system call for each
idle one. Another library's client on top of it does much that a relay does not need. Measured with 64 clients at 50
requests/s: the event loop works 1.8 ms for a relayed request with both, and 1.4 ms without.
"""

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Callable

import httpcore2

from archiver.fetch.proxy import Proxy
from archiver.fetch.urls import Origin
from archiver.store.inspected_streams import InspectedStreams
from archiver.store.socket_streams import SocketStreams
from receiver.gateway.api_streams import ApiStream

KEPT_SECONDS = 5.0
"""An idle connection is closed after that."""
KEPT_FOR_CREATES_SECONDS = 1.0
SWEEP_SECONDS_MIN = 1.0
_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})

Headers = list[tuple[bytes, bytes]]
Content = Callable[[], AsyncIterator[bytes]]
"""Gives a body, from its beginning each time."""


class ApiAnswer:
    """An answer whose head has been read. It must be closed in any case."""

    def __init__(
        self,
        begun: httpcore2.Response,
        *,
        to: str,
        by: httpcore2.AsyncConnectionInterface,
        of: "ApiConnections",
    ) -> None:
        """`to`: the method of the request."""
        self._begun = begun
        self._connection = by
        self._connections = of
        self._is_closed = False
        self.status = begun.status
        self.headers = [(name.lower(), value) for name, value in begun.headers]
        self._may_have_stray_body = to == "HEAD" or begun.status in {204, 304} or self._has_two_lengths()

    def header(self, wanted: bytes) -> str:
        """The header's value; several headers of one name are joined by commas."""
        return ", ".join(value.decode("latin-1") for name, value in self.headers if name == wanted)

    def pieces(self) -> AsyncIterator[bytes]:
        """The body. Raises exceptions of httpcore2."""
        return self._begun.aiter_stream()

    async def close(self) -> None:
        """Close the answer. If it was read to its end, its connection is used again."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            with contextlib.suppress(httpcore2.NetworkError, httpcore2.ProtocolError):
                await self._begun.aclose()
        finally:
            await self._connections.give_back(self._connection, is_drained=self._is_drained())

    def _has_two_lengths(self) -> bool:
        return sum(name in _LENGTHS for name, _ in self.headers) > 1

    def _is_drained(self) -> bool:
        stream = self._begun.extensions.get("network_stream")
        return (
            not self._may_have_stray_body
            and isinstance(stream, ApiStream)
            and not stream.holds_more()
            and not _parser_holds_more(self._connection)
        )


class ApiConnections:
    """The connections. For one event loop."""

    def __init__(
        self, origin: Origin, *, connections_max: int, connect_seconds: float, proxy: Proxy | None
    ) -> None:
        self._origin = httpcore2.Origin(origin.scheme.encode(), origin.host.encode(), origin.port)
        self._host = (b"host", origin.host_header)
        self._extensions = {"timeout": {"connect": connect_seconds}}
        self._factory = _factory(origin, proxy)
        self._free = asyncio.Semaphore(connections_max)
        self._idle: collections.deque[tuple[float, httpcore2.AsyncConnectionInterface]] = collections.deque()
        """(since when, connection): the one that was used last is at the right."""
        self._sweep: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def send(
        self, method: str, target: bytes, headers: Headers, content: Content | None, *, is_repeatable: bool
    ) -> ApiAnswer:
        """Send a request, with a `Host`: once, or if it `is_repeatable` once more over a fresh connection where a kept
        one has ended. Raises exceptions of httpcore2."""
        await self._free.acquire()
        connection = None
        try:
            connection = await self._take(KEPT_SECONDS if is_repeatable else KEPT_FOR_CREATES_SECONDS)
            is_kept = connection is not None
            connection = connection or self._fresh()
            try:
                begun = await connection.handle_async_request(self._request(method, target, headers, content))
            except (httpcore2.RemoteProtocolError, httpcore2.NetworkError):
                if not (is_kept and is_repeatable):
                    raise
                await connection.aclose()
                connection = self._fresh()
                begun = await connection.handle_async_request(self._request(method, target, headers, content))
        except BaseException:
            await self.give_back(connection, is_drained=False)
            raise
        return ApiAnswer(begun, to=method, by=connection, of=self)

    def _request(
        self, method: str, target: bytes, headers: Headers, content: Content | None
    ) -> httpcore2.Request:
        at = self._origin
        return httpcore2.Request(
            method,
            httpcore2.URL(scheme=at.scheme, host=at.host, port=at.port, target=target),
            headers=[self._host, *headers],
            content=None if content is None else content(),
            extensions=self._extensions,
        )

    async def give_back(
        self, connection: httpcore2.AsyncConnectionInterface | None, *, is_drained: bool
    ) -> None:
        """Take a connection back, or close it if it cannot be used again."""
        self._free.release()
        if connection is None:
            return
        if is_drained and connection.is_available():
            self._idle.append((asyncio.get_running_loop().time(), connection))
            self._sweep_later()
        else:
            await connection.aclose()

    async def close(self) -> None:
        """When the last answer is closed."""
        if self._sweep is not None:
            self._sweep.cancel()
        while self._idle:
            await self._idle.pop()[1].aclose()

    async def _take(self, idle_seconds_max: float) -> httpcore2.AsyncConnectionInterface | None:
        idle_since_min = asyncio.get_running_loop().time() - idle_seconds_max
        while self._idle and self._idle[-1][0] >= idle_since_min:
            _, connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    def _fresh(self) -> httpcore2.AsyncConnectionInterface:
        return self._factory.create_connection(self._origin)

    def _sweep_later(self) -> None:
        """Close idle connections when the oldest has been idle for too long: without a next request, nothing else
        would."""
        if self._sweep is None and self._idle:
            loop = asyncio.get_running_loop()
            seconds = self._idle[0][0] + KEPT_SECONDS - loop.time()
            self._sweep = loop.call_later(max(seconds, SWEEP_SECONDS_MIN), self._begin_sweep)

    def _begin_sweep(self) -> None:
        self._sweep = None
        self._sweeping = asyncio.create_task(self._close_old())

    async def _close_old(self) -> None:
        idle_since_min = asyncio.get_running_loop().time() - KEPT_SECONDS
        while self._idle and self._idle[0][0] <= idle_since_min:
            await self._idle.popleft()[1].aclose()
        self._sweep_later()


def _parser_holds_more(connection: object) -> bool:
    """Whether the HTTP parser holds bytes behind the answer that it has read.

    The library does not say it, so this looks at its attributes; where they are missing, nothing is used again.
    """
    while (inner := getattr(connection, "_connection", None)) is not None:
        connection = inner
    parser = getattr(connection, "_h11_state", None)
    return parser is None or parser.trailing_data != (b"", False)


def _factory(origin: Origin, proxy: Proxy | None) -> httpcore2.AsyncConnectionPool:
    """It makes connections, and keeps none."""
    context = httpcore2.default_ssl_context() if origin.scheme == "https" else None
    through = None
    if proxy is not None and proxy.serves(origin):
        at = proxy.origin
        headers = [("Proxy-Authorization", proxy.authorization)] if proxy.authorization else []
        through = httpcore2.Proxy(f"{at.scheme}://{at.host_header.decode()}", headers=headers)
    network = InspectedStreams(SocketStreams(), ApiStream)
    return httpcore2.AsyncConnectionPool(ssl_context=context, proxy=through, network_backend=network)
