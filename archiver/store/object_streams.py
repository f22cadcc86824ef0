"""Reads objects by presigned URLs, on the event loop: a reader who waits costs no thread, and holds one piece.

boto3 would need a thread for each reader, for as long as it reads. Here boto3 only signs.
"""

import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from urllib.parse import unquote, urlsplit

import httpcore2
from botocore.utils import get_environ_proxies

from archiver.failures import Failure, ObjectUnexpected, StoreError, StoreUnreachable
from archiver.store.inspected_streams import InspectedStreams
from archiver.store.object_bodies import BodyStream
from archiver.store.socket_streams import SocketStreams
from archiver.version import USER_AGENT

CONNECT_SECONDS = 3.0
READ_SECONDS = 20.0
"""For the store's next bytes, while a reader waits for them."""
POOL_SECONDS = 3.0
KEPT_SECONDS = 2.0
"""An idle connection is not used after that: the store may close it at any moment."""
PARSED_BYTES_MAX = 512 * 1024
"""The HTTP parser reads answers up to this length, and keeps the connection for the next reader."""
PIECES_BYTES_MAX = 8 * 1024 * 1024
"""All readers together hold about this much, one piece each. They hold more if the first ones came alone, got large
pieces and take nothing."""
PIECE_BYTES_MIN, PIECE_BYTES_MAX = 64 * 1024, 256 * 1024
"""The more readers there are, the smaller is the piece of each. Small pieces cost processor time: with 32 readers 1.5
ms a MB in pieces of 64 KiB, 1.1 ms in pieces of 128 KiB, and 0.8 ms in pieces of 256 KiB."""

_HEADERS: dict[bytes | str, bytes | str] = {
    "User-Agent": USER_AGENT,
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}
_TRANSPORT_ERRORS = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.TimeoutException,
    httpcore2.UnsupportedProtocol,
)
_TIMEOUT = {"connect": CONNECT_SECONDS, "read": READ_SECONDS, "write": CONNECT_SECONDS, "pool": POOL_SECONDS}


class ObjectStreams:
    """Connections to the store. Belongs to one event loop."""

    def __init__(
        self,
        *,
        connections_max: int,
        ca_bundle: str | None = None,
        network: httpcore2.AsyncNetworkBackend | None = None,
    ) -> None:
        """`network` connects, by default to the internet. `ca_bundle` is a file of certificates in PEM, by default the
        system's. Opens no connection. Raises OSError if the file cannot be read."""
        self._connections_max = connections_max
        self._trust = _trust(ca_bundle)
        self._network = InspectedStreams(network or SocketStreams(), BodyStream)
        self._pools: dict[str | None, httpcore2.AsyncConnectionPool] = {}
        """By the proxy."""
        self._proxies: dict[tuple[str, str], str | None] = {}
        """By scheme and address of the store: to find one reads the whole environment, which takes 1 ms."""
        self._readers = 0

    @contextlib.asynccontextmanager
    async def open(
        self, url: str, *, method: str = "GET", first: int, count: int, size: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The `count` bytes from `first` of an object of `size` bytes, once the store has begun to answer.

        For HEAD, `url` must be presigned for HEAD, and no bytes come.

        Raises StoreUnreachable, ObjectUnexpected where the object is missing or another, StoreError; the iterator too.
        No message has the URL.
        """
        asked: dict[bytes | str, bytes | str] = (
            {"Range": f"bytes={first}-{first + count - 1}"} if count < size else {}
        )
        headers = {"Host": _host(url)} | _HEADERS | asked
        self._readers += 1
        try:
            with _translated():
                async with self._asked(method, url, headers, count=count) as answer:
                    skipped = _bytes_before(answer, first=first, count=count, size=size)
                    pieces = _pieces(answer, self._piece_bytes)
                    yield _asked_for(answer, pieces, skipped=skipped, count=count)
        finally:
            self._readers -= 1

    def _piece_bytes(self) -> int:
        """Of the next piece of each reader."""
        return max(PIECE_BYTES_MIN, min(PIECE_BYTES_MAX, PIECES_BYTES_MAX // self._readers))

    def _asked(
        self, method: str, url: str, headers: Mapping[bytes | str, bytes | str], *, count: int
    ) -> contextlib.AbstractAsyncContextManager[httpcore2.Response]:
        if method == "GET" and count > PARSED_BYTES_MAX:
            return self._asked_alone(method, url, headers)
        return self._asked_by_pool(method, url, headers)

    @contextlib.asynccontextmanager
    async def _asked_alone(
        self, method: str, url: str, headers: Mapping[bytes | str, bytes | str]
    ) -> AsyncIterator[httpcore2.Response]:
        """By a connection that serves no other reader. The pool would look at all of its connections twice for it:
        with 200 readers about 0.5 ms."""
        request = httpcore2.Request(method, url, headers=headers, extensions={"timeout": _TIMEOUT})
        connection = self._pool(url).create_connection(request.url.origin)
        async with contextlib.AsyncExitStack() as begun:
            begun.push_async_callback(connection.aclose)
            answer = await connection.handle_async_request(request)
            begun.push_async_callback(answer.aclose)
            yield answer

    @contextlib.asynccontextmanager
    async def _asked_by_pool(
        self, method: str, url: str, headers: Mapping[bytes | str, bytes | str]
    ) -> AsyncIterator[httpcore2.Response]:
        """Once more where the connection ends before the answer: the store may just have closed one that was kept."""
        async with contextlib.AsyncExitStack() as begun:
            ask = functools.partial(
                self._pool(url).stream, method, url, headers=headers, extensions={"timeout": _TIMEOUT}
            )
            try:
                answer = await begun.enter_async_context(ask())
            except (httpcore2.RemoteProtocolError, httpcore2.ReadError, httpcore2.WriteError):
                answer = await begun.enter_async_context(ask())
            yield answer

    def _pool(self, url: str) -> httpcore2.AsyncConnectionPool:
        """Through the proxy that boto3 goes through, by the environment."""
        parts = urlsplit(url)
        place = parts.scheme, parts.netloc
        if place not in self._proxies:
            self._proxies[place] = get_environ_proxies(url).get(parts.scheme)
        proxy = self._proxies[place]
        if proxy not in self._pools:
            self._pools[proxy] = httpcore2.AsyncConnectionPool(
                ssl_context=self._trust,
                proxy=None if proxy is None else _proxy(proxy),
                max_connections=self._connections_max,
                max_keepalive_connections=16,
                keepalive_expiry=KEPT_SECONDS,
                network_backend=self._network,
            )
        return self._pools[proxy]

    async def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()


def _host(url: str) -> str:
    """As boto3 has signed it: without the port that is its scheme's own. httpcore2 would leave out the brackets of an
    IPv6 address."""
    parts = urlsplit(url)
    return parts.netloc.removesuffix(":443" if parts.scheme == "https" else ":80")


@functools.cache
def _trust(ca_bundle: str | None) -> ssl.SSLContext:
    """Cached, because it takes a sixth of a second."""
    return (
        httpcore2.default_ssl_context() if ca_bundle is None else ssl.create_default_context(cafile=ca_bundle)
    )


def _proxy(address: str) -> httpcore2.Proxy:
    parts = urlsplit(address if "://" in address else f"http://{address}")
    user = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return httpcore2.Proxy(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), auth=user)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Failure:
        raise
    except _TRANSPORT_ERRORS as error:
        raise StoreUnreachable(f"read an object: {type(error).__name__}") from error


def _bytes_before(answer: httpcore2.Response, *, first: int, count: int, size: int) -> int:
    """How many bytes of the answer come before those that were asked for. Raises ObjectUnexpected, StoreError."""
    headers = _headers(answer)
    if answer.status == 404:
        raise ObjectUnexpected("read an object: no object is there")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise StoreError("read an object: the store answers in an encoding that was not asked for")
    if answer.status not in {200, 206}:
        raise StoreError(f"read an object: the store answered {answer.status}")
    part = headers.get(b"content-range")
    if part is not None or answer.status == 206:  # rclone sends the part that was asked for with 200
        if part != b"bytes %d-%d/%d" % (first, first + count - 1, size):
            raise StoreError("read an object: the store answers with another range")
        return 0
    length = headers.get(b"content-length")
    if length is None and count < size:
        raise StoreError(
            "read an object: the store answers a range with all of it, and does not say how much"
        )
    if length not in (None, b"%d" % size):
        raise ObjectUnexpected("read an object: it has another size than the file")
    return first


def _asked_for(
    answer: httpcore2.Response, pieces: AsyncIterator[bytes], *, skipped: int, count: int
) -> AsyncIterator[bytes]:
    """The `count` bytes after the first `skipped`. Raises StoreError when they end before."""
    length = _headers(answer).get(b"content-length")
    if length is None:
        return _whole(pieces, count=count)
    return _cut(pieces, skipped=skipped, count=count, ends=length == b"%d" % (skipped + count))


def _pieces(answer: httpcore2.Response, piece_bytes: Callable[[], int]) -> AsyncIterator[bytes]:
    """The body. It bypasses the parser if the answer gives a length of more than PARSED_BYTES_MAX."""
    headers = _headers(answer)
    stream = answer.extensions["network_stream"]
    length = headers.get(b"content-length", b"")
    is_told = length.isdigit() and b"transfer-encoding" not in headers
    if is_told and isinstance(stream, BodyStream) and stream.is_at_body:
        if int(length) > PARSED_BYTES_MAX:
            return stream.body(int(length), read_seconds=READ_SECONDS, piece_bytes=piece_bytes)
        stream.expect(int(length))
    return answer.aiter_stream()


def _headers(answer: httpcore2.Response) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in answer.headers}


async def _cut(chunks: AsyncIterator[bytes], *, skipped: int, count: int, ends: bool) -> AsyncIterator[bytes]:
    """`count` bytes after the first `skipped`. Raises StoreError when they end before.

    If the answer `ends` with them, it is read to its end, so that its connection serves the next reader.
    """
    left = count
    async for chunk in chunks:
        if skipped >= len(chunk):
            skipped -= len(chunk)
            continue
        piece = chunk[skipped : skipped + left] if skipped or len(chunk) > left else chunk
        skipped = 0
        left -= len(piece)
        yield piece
        if not left and not ends:
            return
    if left:
        raise StoreError(f"read an object: it ended {left} bytes early")


async def _whole(chunks: AsyncIterator[bytes], *, count: int) -> AsyncIterator[bytes]:
    """A body that does not say its length, if it has `count` bytes. Each piece waits for the next: the last one of a
    longer object does not go out. Raises ObjectUnexpected, StoreError."""
    left, waiting = count, b""
    async for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise ObjectUnexpected("read an object: it has another size than the file")
        if waiting:
            yield waiting
        waiting = chunk
    if left:
        raise StoreError(f"read an object: it ended {left} bytes early")
    yield waiting
