"""How a download gets there: connections to vetted addresses only, and one answer at a time over each. Three rules:

1. The address is judged at the moment of connecting (`PinnedBackend`), on every connection. Judging a name earlier and
   letting the library resolve it again would be a race that whoever owns the DNS answer wins.
2. A connection that was allowed to be private never serves a host that was not: idle ones are kept apart by that.
3. Where a body's length is announced, the library reads the head of the answer and nothing behind it; the body goes
   from the socket straight into the caller's buffer.

`EgressTransport` drives httpcore2's HTTP/1.1 connections itself, without an httpx2 client or httpcore2's pool. A client
would write every URL, signature included, to the log at level info, keep a cookie jar and normalise the request target;
signatures cover the target's bytes, so they are sent as they came. The pool takes back only what the library has read
to its end, and the library copies a body four times, in pieces of at most one TLS record (16 KiB): beside sixteen
threads that wait for the interpreter at every piece, that cost more than hashing. The price of rule 3 is that which
connection may be used again is decided here (`HttpExchange.is_over`).

A crash here loses nothing: there is no state but open sockets.
"""

import _thread
import contextlib
import dataclasses
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import httpcore2

from archiver.fetch.addresses import AddressClass, classify
from archiver.fetch.urls import Cause, Origin, Refused, VettedUrl
from archiver.version import USER_AGENT

READ_BYTES = 128 * 1024
KEEPALIVE_SECONDS = 15.0
KEEPALIVE_CONNECTIONS_MAX = 64
"""Idle connections kept, of all hosts together."""
RESOLUTIONS_MAX = 64
"""Name look-ups under way at once. getaddrinfo knows no timeout, so each runs in a thread that may outlive
the fetch that asked; while DNS is dead this is where they stop piling up."""

_END_OF_HEAD = re.compile(rb"\n\r?\n")
"""Where h11 takes a head to end, to the letter: what lies behind it must not get into its buffer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Allowance:
    """How long a single blocking call may take: `idle_seconds`, and never past `until`.

    It travels through httpcore2 in place of a number of seconds and is asked before each call, which is what
    keeps a server that drips one byte at a time, in headers or body, within the deadline.
    """

    until: float
    idle_seconds: float
    clock: Callable[[], float]

    def within(self, seconds: float) -> "Allowance":
        """What is allowed of this for something that may take so many seconds in all, from now on."""
        return Allowance(
            until=min(self.until, self.clock() + seconds), idle_seconds=seconds, clock=self.clock
        )

    def seconds(self) -> float:
        """More than 0. Raises httpcore2.TimeoutException when nothing is left."""
        left = min(self.idle_seconds, self.until - self.clock())
        if left <= 0:
            raise httpcore2.TimeoutException("the time allowed is used up")
        return left


Resolver = Callable[[str, int], Sequence[str]]
"""Host and port to addresses as text, most preferred first. May raise OSError or UnicodeError."""


def resolve(host: str, port: int) -> Sequence[str]:
    """The system's resolver. Blocks for as long as the system likes; raises OSError, UnicodeError."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class BoundedStream(httpcore2.NetworkStream):
    """A socket that asks the `Allowance` before every call, and hands out the head of an answer without its body."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream
        self._socket: socket.socket = stream.get_extra_info("socket")
        self._in_head = True
        self._seen = b""
        """The end of what was handed out of this head: its last line may end in one read and the next."""
        self._ahead = b""
        """Read, and not handed out yet."""

    def begin_head(self) -> None:
        """An answer is to come."""
        self._in_head, self._seen = True, b""

    def end_head(self) -> None:
        """The head has been read; what follows is body."""
        self._in_head = False

    @property
    def is_drained(self) -> bool:
        """Nothing lies here that was not handed out, nor in the TLS layer: what a server says behind its answer must
        not be taken for the next one."""
        decrypted = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0
        return not self._ahead and not decrypted

    def read(self, max_bytes: int, timeout: float | Allowance | None = None) -> bytes:
        """For the library. It asks for 64 KiB and takes more: each call hands the interpreter to another thread."""
        data, self._ahead = self._ahead, b""
        if not data:
            data = self._stream.read(max(max_bytes, READ_BYTES), timeout=_seconds(timeout))
        if self._in_head:
            data, self._ahead = self._split(data)
        return data

    def _split(self, data: bytes) -> tuple[bytes, bytes]:
        """What belongs to the head, and what comes after it. An interim answer (1xx) has a head of its own."""
        seen = self._seen + data
        end = _END_OF_HEAD.search(seen)
        if end is None:
            self._seen = seen[-2:]
            return data, b""
        length, self._seen = end.end() - len(self._seen), b""
        return data[:length], data[length:]

    def read_into(self, view: memoryview, timeout: float | Allowance | None = None) -> int:
        """Some of the body, into `view`; how many bytes, 0 when the peer has ended. Raises OSError too."""
        if self._ahead:
            count = min(len(view), len(self._ahead))
            view[:count], self._ahead = self._ahead[:count], self._ahead[count:]
            return count
        self._socket.settimeout(_seconds(timeout))
        return self._socket.recv_into(view)

    def write(self, buffer: bytes, timeout: float | Allowance | None = None) -> None:
        self._stream.write(buffer, timeout=_seconds(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | Allowance | None = None,
    ) -> "BoundedStream":
        try:
            seconds = _seconds(timeout)
        except httpcore2.TimeoutException:
            self.close()
            raise
        return BoundedStream(
            self._stream.start_tls(ssl_context, server_hostname=server_hostname, timeout=seconds)
        )

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _seconds(timeout: float | Allowance | None) -> float | None:
    return timeout.seconds() if isinstance(timeout, Allowance) else timeout


class PinnedBackend(httpcore2.NetworkBackend):
    """Opens connections to vetted addresses only: resolves once, judges every answer, connects to one.

    One bad answer refuses the name as a whole: a name that resolves to both a public and a private address is
    an attack or a mistake, and which of the two a connection takes would be chance.
    """

    def __init__(self, *, resolver: Resolver, private_allowed: bool) -> None:
        self._resolver = resolver
        self._private_allowed = private_allowed
        self._sockets = httpcore2.SyncBackend()
        self._resolutions = threading.BoundedSemaphore(RESOLUTIONS_MAX)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | Allowance | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> BoundedStream:
        """Tries the addresses in turn; each may take its share of the time that is left.

        Raises `Refused`, httpcore2.ConnectError, httpcore2.TimeoutException.
        """
        addresses = self._vetted_addresses(host, port, timeout)
        for untried in range(len(addresses), 0, -1):
            seconds = _seconds(timeout)
            try:
                stream = self._sockets.connect_tcp(
                    addresses[-untried],
                    port,
                    timeout=None if seconds is None else seconds / untried,
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if untried == 1:
                    raise
            else:
                return BoundedStream(stream)
        raise httpcore2.ConnectError(f"{host} has no address")

    def _vetted_addresses(self, host: str, port: int, timeout: float | Allowance | None) -> list[str]:
        addresses = []
        for answer in self._resolve(host, port, timeout):
            try:
                address = ipaddress.ip_address(answer)
            except ValueError:
                raise Refused(
                    Cause.ADDRESS, f"{host} resolves to something that is no address", host=host
                ) from None
            verdict = classify(address)
            if verdict is not AddressClass.PUBLIC and not self._private_allowed:
                raise Refused(Cause.ADDRESS, f"{host} resolves to {address}, which is {verdict}", host=host)
            addresses.append(str(address))
        return addresses

    def _resolve(self, host: str, port: int, timeout: float | Allowance | None) -> Sequence[str]:
        """In a daemon thread, because getaddrinfo can take minutes and cannot be interrupted."""
        if not self._resolutions.acquire(timeout=_seconds(timeout)):
            raise httpcore2.ConnectTimeout("too many name look-ups are waiting for an answer")
        resolution = _Resolution(self._resolver, host=host, port=port, finished=self._resolutions.release)
        try:
            resolution.start()
        except RuntimeError as error:
            self._resolutions.release()
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {error}") from error
        resolution.join(_seconds(timeout))
        return resolution.answer()


def _do_nothing() -> None:
    """Nothing is left to be said."""


class _Resolution:
    """One name look-up in a thread of its own. Not a `threading.Thread`: its `start` waits until the thread has begun,
    and one that finds no memory for its first steps never does."""

    def __init__(self, resolver: Resolver, *, host: str, port: int, finished: Callable[[], None]) -> None:
        self._resolver = resolver
        self._host = host
        self._port = port
        self._finished = finished
        self._lock = threading.Lock()
        self._began = False
        self._over = threading.Event()
        self._addresses: Sequence[str] | None = None
        self._error: OSError | UnicodeError | None = None

    def start(self) -> None:
        """Raises RuntimeError where there is no thread to be had."""
        _thread.start_new_thread(self._run, ())

    def join(self, seconds: float | None) -> None:
        """Return when it is over, or after so many seconds; one that has not begun by then does not count as under
        way any more."""
        if not self._over.wait(seconds) and not self._began:
            self._finish()

    def _finish(self) -> None:
        """Say so, once: a thread may begin after everybody has given it up for dead."""
        with self._lock:
            finished, self._finished = self._finished, _do_nothing
        finished()

    def _run(self) -> None:
        self._began = True
        try:
            self._addresses = list(self._resolver(self._host, self._port))
        except (OSError, UnicodeError) as error:
            self._error = error
        finally:
            self._finish()
            self._over.set()

    def answer(self) -> Sequence[str]:
        if self._error is not None:
            raise httpcore2.ConnectError(f"{self._host} cannot be resolved: {self._error}") from self._error
        if self._addresses is None:
            raise httpcore2.ConnectTimeout(f"resolving {self._host} took too long")
        return self._addresses


class HttpExchange:
    """An answer whose head has been read. Its body is taken in one of two ways: `pieces`, or, where `length` says how
    long it is, `read_into`."""

    def __init__(self, response: httpcore2.Response, stream: BoundedStream, *, transfer: Allowance) -> None:
        self.status = response.status
        self.headers = response.headers
        self.length = _length(response)
        """Bytes of the body as announced; None where only its end tells."""
        self._response = response
        self._stream = stream
        self._transfer = transfer
        self._read_bytes = 0

    def pieces(self) -> Iterator[bytes]:
        """The body, whatever its framing."""
        return self._response.iter_stream()

    def read_into(self, view: memoryview) -> int:
        """Some more of the body, into `view`; how many bytes, 0 when the peer has ended. Not beyond `length`."""
        count = self._stream.read_into(view, self._transfer)
        self._read_bytes += count
        return count

    def is_over(self) -> bool:
        """Whether the body was read into buffers to its end, and the peer will answer another request after it."""
        persistent = self._response.extensions["http_version"] == b"HTTP/1.1" and not _says_close(
            self.headers
        )
        return persistent and self._read_bytes == self.length and self._stream.is_drained


def _length(response: httpcore2.Response) -> int | None:
    """h11 has refused lengths that contradict each other; a chunked body has none, whatever else it says."""
    named = {name.lower(): value for name, value in response.headers}
    length = named.get(b"content-length", b"")
    return (
        int(length) if length.isdigit() and len(length) <= 20 and b"transfer-encoding" not in named else None
    )


def _says_close(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    tokens = b",".join(value for name, value in headers if name.lower() == b"connection").lower().split(b",")
    return b"close" in {token.strip() for token in tokens}


@dataclasses.dataclass(frozen=True, slots=True)
class _Peer:
    """Whom a connection leads to, and whether that may be a private address."""

    origin: Origin
    listed: bool


class _Idle:
    """Connections that wait for their next request; the one that came last goes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[_Peer, BoundedStream, float]] = []

    def take(self, peer: _Peer) -> BoundedStream | None:
        """One that leads there and still lives, if there is one."""
        while (found := self._pop(peer)) is not None:
            stream, until = found
            # Readable while nothing was asked: the peer has closed it, or says what nobody wants to hear.
            if time.monotonic() < until and not stream.get_extra_info("is_readable"):
                return stream
            stream.close()
        return None

    def _pop(self, peer: _Peer) -> tuple[BoundedStream, float] | None:
        with self._lock:
            for place in range(len(self._waiting) - 1, -1, -1):
                if self._waiting[place][0] == peer:
                    return self._waiting.pop(place)[1:]
        return None

    def put(self, peer: _Peer, stream: BoundedStream) -> None:
        """Keep a connection for a while, and let go of those that have waited too long or are too many."""
        now = time.monotonic()
        with self._lock:
            self._waiting.append((peer, stream, now + KEEPALIVE_SECONDS))
            expired = sum(1 for _, _, until in self._waiting if until <= now)
            over = max(expired, len(self._waiting) - KEEPALIVE_CONNECTIONS_MAX)
            dropped, self._waiting = self._waiting[:over], self._waiting[over:]
        for _, gone, _ in dropped:
            gone.close()

    def close(self) -> None:
        """Let go of all."""
        with self._lock:
            dropped, self._waiting = self._waiting, []
        for _, stream, _ in dropped:
            stream.close()


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """One exchange, its answer's head read."""

    answer: HttpExchange
    response: httpcore2.Response
    connection: httpcore2.HTTP11Connection
    stream: BoundedStream

    def is_free(self) -> bool:
        """Whether the connection may serve again; where the library was to read the body and has not read all of it,
        this closes it."""
        if self.answer.is_over():
            return True
        self.response.close()
        return self.connection.is_idle() and self.stream.is_drained


class EgressTransport:
    """Sends GET requests for vetted URLs over kept-alive HTTP/1.1 connections. Safe to share between threads."""

    def __init__(self, *, resolver: Resolver = resolve, ssl_context: ssl.SSLContext | None = None) -> None:
        self._context = ssl_context or httpcore2.default_ssl_context()
        self._context.set_alpn_protocols(["http/1.1"])
        self._backends = {
            listed: PinnedBackend(resolver=resolver, private_allowed=listed) for listed in (False, True)
        }
        self._idle = _Idle()

    @contextlib.contextmanager
    def get(
        self, vetted: VettedUrl, *, connect_seconds: float, transfer: Allowance
    ) -> Iterator[HttpExchange]:
        """The answer with its body unread; leaving the block keeps the connection for the next or closes it.

        `connect_seconds` are for resolving, connecting and TLS together, where no idle connection serves.

        Raises `Refused` and whatever httpcore2 raises, also while the body is being read.
        """
        peer = _Peer(vetted.origin, vetted.listed)
        asked = self._ask_over_idle(peer, vetted, transfer)
        if asked is None:
            connect = transfer.within(connect_seconds)
            asked = self._ask(vetted, self._connect(peer, connect), transfer)
        try:
            yield asked.answer
            is_free = asked.is_free()
        except BaseException:
            asked.stream.close()
            raise
        if is_free:
            self._idle.put(peer, asked.stream)
        else:
            asked.stream.close()

    def _ask_over_idle(self, peer: _Peer, vetted: VettedUrl, transfer: Allowance) -> "_Asked | None":
        """Over a connection that has served before; None where there is none, or its server had just closed it, which
        nobody can know before asking. A GET may be asked twice."""
        stream = self._idle.take(peer)
        if stream is None:
            return None
        try:
            return self._ask(vetted, stream, transfer)
        except (httpcore2.RemoteProtocolError, httpcore2.NetworkError):
            return None

    def _connect(self, peer: _Peer, connect: Allowance) -> BoundedStream:
        origin = peer.origin
        stream = self._backends[peer.listed].connect_tcp(origin.host, origin.port, timeout=connect)
        if origin.scheme == "https":
            stream = stream.start_tls(self._context, server_hostname=origin.host, timeout=connect)
        return stream

    def _ask(self, vetted: VettedUrl, stream: BoundedStream, transfer: Allowance) -> "_Asked":
        """Where it raises, the connection is closed."""
        origin = vetted.origin
        url = httpcore2.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=vetted.target)
        request = httpcore2.Request(
            method=b"GET",
            url=url,
            headers=[
                (b"Host", origin.host_header),
                (b"User-Agent", USER_AGENT.encode("ascii")),
                (b"Accept", b"*/*"),
                (b"Accept-Encoding", b"identity"),
            ],
            extensions={"timeout": {"read": transfer, "write": transfer}},
        )
        connection = httpcore2.HTTP11Connection(origin=url.origin, stream=stream)
        stream.begin_head()
        try:
            response = connection.handle_request(request)
        except BaseException:
            stream.close()
            raise
        stream.end_head()
        return _Asked(HttpExchange(response, stream, transfer=transfer), response, connection, stream)

    def close(self) -> None:
        """Closes every connection. No request may be under way."""
        self._idle.close()
