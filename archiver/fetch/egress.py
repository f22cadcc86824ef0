"""One request for a vetted URL: a GET for a file, or a POST to an application. Two rules:

1. A connection that may go to a private address never serves a host that may not (`Peer.listed`).
2. The request target is sent byte for byte, because signatures cover it. Hence no httpx2 client: it would normalise
   the target, log every URL, signature included, and keep a cookie jar.

A crash here loses nothing: the only state is open sockets.
"""

import contextlib
import ssl
from collections.abc import Iterator, Sequence

import httpcore2

from archiver.fetch.connecting import BoundedStream, PinnedBackend, Resolver, resolve
from archiver.fetch.connections import HttpExchange, IdleConnections, Peer, SplitStream
from archiver.fetch.heads import HEAD_BYTES_MAX, HeadRefused
from archiver.fetch.pace import Allowance, Timeout
from archiver.fetch.proxy import Proxy
from archiver.fetch.urls import VettedUrl
from archiver.version import USER_AGENT

VETTING_SECONDS = 1.0
"""For the addresses of a host behind a proxy: without DNS for names outside, the proxy is to have most of the time."""


ANSWER_SECONDS = 1.0
"""How long to wait for the answer of a server that does not read the request."""

_GET_HEADERS = ((b"Accept", b"*/*"), (b"Accept-Encoding", b"identity"))
_CONTENT_PIECE_BYTES = 16 * 1024
"""The allowance is checked again before each piece."""


class _PostStream(SplitStream):
    """A connection for a POST. A server may answer before it has read the request, and then read no more of it. The
    library reads the answer after a failed write, but not after a write that timed out."""

    def write(self, buffer: bytes, timeout: Timeout = None) -> None:
        try:
            super().write(buffer, timeout)
        except httpcore2.TimeoutException as error:
            raise httpcore2.WriteError("the request was not read in time") from error


class EgressTransport:
    """Sends requests for vetted URLs: GET over kept-alive HTTP/1.1 connections. Thread-safe."""

    def __init__(
        self,
        *,
        resolver: Resolver = resolve,
        ssl_context: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._context = ssl_context or httpcore2.default_ssl_context()
        self._context.set_alpn_protocols(["http/1.1"])
        self._backends = {
            listed: PinnedBackend(resolver=resolver, private_allowed=listed) for listed in (False, True)
        }
        self._proxy = proxy
        # The operator has named the proxy, so it may have any address; `resolver` is for hosts of URLs.
        self._way_to_proxy = PinnedBackend(resolver=resolve, private_allowed=True)
        self._idle = IdleConnections()

    @contextlib.contextmanager
    def get(
        self, vetted: VettedUrl, *, connect_seconds: float, transfer: Allowance
    ) -> Iterator[HttpExchange]:
        """The response with its body unread.

        `connect_seconds` is for resolving, connecting and TLS together.

        Raises PolicyRefusal, and httpcore2's exceptions, also while the body is read.
        """
        peer = Peer(vetted.origin, vetted.listed)
        exchange = self._send_over_idle(peer, vetted, transfer)
        if exchange is None:
            exchange = _send(vetted, self._connect(peer, transfer.within(connect_seconds)), transfer)
        try:
            yield exchange
            is_reusable = exchange.finish()
        except BaseException:
            exchange.stream.close()
            raise
        if is_reusable:
            self._idle.put(peer, exchange.stream)
        else:
            exchange.stream.close()

    def post(
        self,
        vetted: VettedUrl,
        *,
        headers: Sequence[tuple[bytes, bytes]],
        content: bytes,
        connect_seconds: float,
        transfer: Allowance,
        head_bytes_max: int,
    ) -> int:
        """The status of the answer, of which only the head is read, at most `head_bytes_max`.

        Sent over a new connection: on a kept-alive one that the server has just closed, it would be unknown whether the
        request arrived.

        Raises PolicyRefusal, and httpcore2's exceptions.
        """
        stream: SplitStream = self._connect(
            Peer(vetted.origin, vetted.listed), transfer.within(connect_seconds), head_bytes_max, _PostStream
        )
        length = (b"Content-Length", str(len(content)).encode("ascii"))
        try:
            closing = (*headers, length, (b"Connection", b"close"))
            write = transfer.within(transfer.seconds() - min(ANSWER_SECONDS, transfer.seconds() / 2))
            return _send(
                vetted, stream, transfer, write=write, method=b"POST", headers=closing, content=content
            ).status
        except HeadRefused as error:
            if error.status is None:
                raise
            return error.status  # the status came in time, and only it counts
        finally:
            stream.close()

    def _send_over_idle(self, peer: Peer, vetted: VettedUrl, transfer: Allowance) -> HttpExchange | None:
        """The response over an idle connection. None if there is none, or if its server has just closed it; the caller
        then sends the request over a new one, because GET is idempotent."""
        stream = self._idle.take(peer)
        if stream is None:
            return None
        try:
            return _send(vetted, stream, transfer)
        except (httpcore2.RemoteProtocolError, httpcore2.NetworkError):
            return None

    def _connect(
        self,
        peer: Peer,
        connect: Allowance,
        head_bytes_max: int = HEAD_BYTES_MAX,
        kind: type[SplitStream] = SplitStream,
    ) -> SplitStream:
        origin = peer.origin
        if self._proxy is not None and self._proxy.serves(origin):
            stream = self._tunnel(self._proxy, peer, connect)
        else:
            stream = self._backends[peer.listed].connect_tcp(origin.host, origin.port, timeout=connect)
        if origin.scheme == "https":
            stream = stream.start_tls(self._context, server_hostname=origin.host, timeout=connect)
        return kind(stream, head_bytes_max=head_bytes_max)

    def _tunnel(self, proxy: Proxy, peer: Peer, connect: Allowance) -> BoundedStream:
        """A tunnel through the proxy. If this machine can resolve the host, its addresses are judged first."""
        origin = peer.origin
        with contextlib.suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
            self._backends[peer.listed].vet(origin.host, origin.port, connect.within(VETTING_SECONDS))
        try:
            stream = self._way_to_proxy.connect_tcp(proxy.origin.host, proxy.origin.port, timeout=connect)
            if proxy.origin.scheme == "https":
                stream = stream.start_tls(self._context, server_hostname=proxy.origin.host, timeout=connect)
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
            raise httpcore2.ProxyError(f"the proxy cannot be reached: {str(error)[:200]}") from error
        try:
            proxy.open_tunnel(stream, origin, connect)
        except BaseException:
            stream.close()
            raise
        return stream

    def close(self) -> None:
        """No request may be under way."""
        self._idle.close()


def _send(
    vetted: VettedUrl,
    stream: SplitStream,
    transfer: Allowance,
    *,
    write: Allowance | None = None,
    method: bytes = b"GET",
    headers: Sequence[tuple[bytes, bytes]] = _GET_HEADERS,
    content: bytes = b"",
) -> HttpExchange:
    """Sends the request and reads the head of the response. Closes the connection on failure."""
    origin = vetted.origin
    url = httpcore2.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=vetted.target)
    request = httpcore2.Request(
        method=method,
        url=url,
        headers=[
            (b"Host", origin.host_header),
            (b"User-Agent", USER_AGENT.encode("ascii")),
            *headers,
        ],
        content=_pieces(content),
        extensions={"timeout": {"read": transfer, "write": write or transfer}},
    )
    connection = httpcore2.HTTP11Connection(origin=url.origin, stream=stream)
    stream.begin_head()
    try:
        response = connection.handle_request(request)
    except BaseException:
        stream.close()
        raise
    stream.end_head()
    return HttpExchange(response, stream, transfer=transfer)


def _pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), _CONTENT_PIECE_BYTES):
        yield content[start : start + _CONTENT_PIECE_BYTES]
