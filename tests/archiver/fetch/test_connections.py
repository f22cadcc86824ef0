"""Kept-alive connections: where a head ends, who gets the bytes behind it, and which connection serves again."""

import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpcore2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.failures import BodyIncomplete, FetchFailed, FetchTimeout
from archiver.fetch.connecting import BoundedStream
from archiver.fetch.connections import (
    KEEPALIVE_CONNECTIONS_MAX,
    KEEPALIVE_SECONDS,
    IdleConnections,
    Peer,
    SplitStream,
)
from archiver.fetch.pace import Allowance
from archiver.fetch.spool import Spool
from archiver.fetch.urls import Origin
from tests.harness.server import MIB, Serve, answer, fetch, fetcher_for, png

ALLOWANCE = Allowance(until=float("inf"), idle_seconds=5.0, clock=lambda: 0.0)


@pytest.fixture(params=["in memory", "on disk"])
def spool(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Spool]:
    """Every test ends with nothing promised, on disk or in memory."""
    memory = 32 * MIB if request.param == "in memory" else 0
    spool = Spool(tmp_path / "spool", memory_bytes_max=memory)
    yield spool
    assert spool.promised_bytes == 0
    assert not memory or spool.reserve(4 * MIB).is_in_memory


class Wire(httpcore2.NetworkStream):
    """Gives the pieces in turn to the library and to the socket, and then the end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        assert timeout is not None, "every call has its limit"
        piece = self.pieces.pop(0) if self.pieces else b""
        assert len(piece) <= max_bytes
        return piece

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        assert not buffer or buffer.startswith(b"GET /")
        assert timeout is not None, "every call has its limit"

    def get_extra_info(self, info: str) -> Any:
        assert info in ("socket", "ssl_object")
        return cast("socket.socket", self) if info == "socket" else None

    def settimeout(self, seconds: float | None) -> None:
        assert seconds is not None, "every call has its limit"

    def recv_into(self, view: memoryview) -> int:
        piece = self.pieces.pop(0) if self.pieces else b""
        fits, rest = piece[: len(view)], piece[len(view) :]
        self.pieces[:0] = [rest] if rest else []
        view[: len(fits)] = fits
        return len(fits)


def cut(text: bytes, places: list[int]) -> list[bytes]:
    """`text` in pieces, none of them empty, cut at `places` (each taken modulo the length)."""
    ends = [*sorted({place % len(text) for place in places} - {0}), len(text)]
    return [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
HEADS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 12\n\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 12\n\r\n",
    INTERIM + b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
    INTERIM + INTERIM + b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
]
BODIES = [b"twelve bytes", b"\r\n\r\nand more", b"\n\n\n\n\n\n\n\n\n\n\n\n", b"a\n\r\nb\n\nc\r\n\r\n"]


@given(head=st.sampled_from(HEADS), body=st.sampled_from(BODIES), places=st.lists(st.integers(0, 200)))
def test_the_library_gets_the_head_and_the_caller_every_byte_behind_it(
    head: bytes, body: bytes, places: list[int]
) -> None:
    stream = SplitStream(BoundedStream(Wire(cut(head + body, places))))
    origin = httpcore2.Origin(b"http", b"a.example", 80)
    connection = httpcore2.HTTP11Connection(origin=origin, stream=stream)
    request = httpcore2.Request(
        "GET",
        "http://a.example/",
        headers={"Host": "a.example"},
        extensions={"timeout": {"read": ALLOWANCE, "write": ALLOWANCE}},
    )
    stream.begin_head()
    response = connection.handle_request(request)
    stream.end_head()
    room = bytearray(len(body) + 1)
    filled = 0
    while count := stream.read_into(memoryview(room)[filled:], ALLOWANCE):
        filled += count

    assert (response.status, bytes(room[:filled])) == (200, body)


@pytest.mark.parametrize(
    ("first", "connections"),
    [
        (answer(png()), 1),
        (answer(png(5 * MIB)), 1),
        (answer(png(), "Connection: keep-alive"), 1),
        (answer(png(), "Connection: Keep-Alive, CLOSE"), 2),
        (answer(png()).replace(b"HTTP/1.1", b"HTTP/1.0"), 2),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer(png()), 1),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
            % (len(png()), png()),
            1,
        ),
    ],
    ids=["announced", "large", "keep-alive", "close", "HTTP/1.0", "interim", "chunked"],
)
def test_a_connection_serves_again_where_its_answer_came_to_its_end_and_the_server_keeps_it(
    first: bytes, connections: int, serve: Serve, spool: Spool
) -> None:
    server = serve(first, answer(png(7)))
    with fetcher_for(server.origin, spool=spool) as fetcher:
        fetcher.fetch(server.origin + "/1", bytes_max=10 * MIB).close()
        with fetcher.fetch(server.origin + "/2", bytes_max=10 * MIB) as second:
            content = second.file.read()

    assert (server.connections, content) == (connections, png(7))


@pytest.mark.parametrize("more", [b"\0", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", answer(png(9))])
def test_unsolicited_bytes_are_never_taken_for_the_next_response(
    more: bytes, serve: Serve, spool: Spool
) -> None:
    server = serve(answer(png(1)) + more, answer(png(2)))
    with fetcher_for(server.origin, spool=spool) as fetcher:
        with fetcher.fetch(server.origin + "/1", bytes_max=MIB) as first:
            assert first.file.read() == png(1)
        with fetcher.fetch(server.origin + "/2", bytes_max=MIB) as second:
            assert second.file.read() == png(2)

    assert server.connections == 2


def test_unsolicited_bytes_in_the_tls_record_of_the_body_are_not_either(
    certificate: Path, trusting: ssl.SSLContext, serve: Serve, spool: Spool
) -> None:
    def in_two_records(connection: socket.socket, _head: bytes) -> None:
        head, _, body = answer(png(1)).partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        connection.sendall(body + answer(png(9)))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = serve(in_two_records, answer(png(2)), context=context)
    origin = f"https://cdn.example.test:{server.port}"
    with fetcher_for(origin, spool=spool, context=trusting) as fetcher:
        with fetcher.fetch(origin + "/1", bytes_max=MIB) as first:
            assert first.file.read() == png(1)
        with fetcher.fetch(origin + "/2", bytes_max=MIB) as second:
            assert second.file.read() == png(2)

    assert server.connections == 2


def test_a_tls_connection_serves_again(
    certificate: Path, trusting: ssl.SSLContext, serve: Serve, spool: Spool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = serve(answer(png(MIB)), context=context)
    origin = f"https://cdn.example.test:{server.port}"
    with fetcher_for(origin, spool=spool, context=trusting) as fetcher:
        for _ in range(3):
            fetcher.fetch(origin + "/1", bytes_max=2 * MIB).close()

    assert server.connections == 1


def test_an_idle_connection_that_the_server_has_closed_is_replaced(serve: Serve, spool: Spool) -> None:
    server = serve(answer(png()), closing=True)
    with fetcher_for(server.origin, spool=spool) as fetcher:
        for _ in range(3):
            fetcher.fetch(server.origin + "/a", bytes_max=MIB).close()

    assert server.connections == 3


def test_a_connection_that_the_server_closes_at_the_next_request_is_replaced_too(
    serve: Serve, spool: Spool
) -> None:
    def hang_up(connection: socket.socket, _head: bytes) -> None:
        connection.shutdown(socket.SHUT_RDWR)

    server = serve(answer(png(1)), hang_up, answer(png(2)))
    with fetcher_for(server.origin, spool=spool) as fetcher:
        fetcher.fetch(server.origin + "/1", bytes_max=MIB).close()
        with fetcher.fetch(server.origin + "/2", bytes_max=MIB) as second:
            assert second.file.read() == png(2)

    assert [request.split()[1] for request in server.requests] == [b"/1", b"/2", b"/2"]


def test_a_fresh_connection_that_the_server_closes_is_not_asked_again(serve: Serve, spool: Spool) -> None:
    server = serve(lambda connection, _head: connection.shutdown(socket.SHUT_RDWR))
    with pytest.raises(FetchFailed):
        fetch(server, spool)

    assert len(server.requests) == 1


def test_a_refused_answer_leaves_no_bytes_to_the_next(serve: Serve, spool: Spool) -> None:
    server = serve(answer(png(2 * MIB)), answer(png(3)))
    with fetcher_for(server.origin, spool=spool) as fetcher:
        with pytest.raises(Exception, match="are allowed"):
            fetcher.fetch(server.origin + "/1", bytes_max=MIB)
        with fetcher.fetch(server.origin + "/2", bytes_max=MIB) as second:
            assert second.file.read() == png(3)

    assert server.connections == 2


def test_a_connection_that_is_reset_in_the_middle_of_a_body_fails(serve: Serve, spool: Spool) -> None:
    def reset(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(answer(png(MIB))[:300_000])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with pytest.raises((FetchFailed, BodyIncomplete)):  # a reset may overtake what was sent before it
        fetch(serve(reset), spool)


def _drip(connection: socket.socket, _head: bytes) -> None:
    """One byte at a time, so that the body begins anywhere."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in answer(png()):
        connection.sendall(bytes([byte]))


def _in_two(connection: socket.socket, _head: bytes) -> None:
    whole = answer(png(3 * MIB))
    connection.sendall(whole[: MIB + 1])
    connection.sendall(whole[MIB + 1 :])


@pytest.mark.parametrize(("handler", "content"), [(_drip, png()), (_in_two, png(3 * MIB))])
def test_the_file_is_the_same_however_its_bytes_arrive(
    handler: Callable[[socket.socket, bytes], None], content: bytes, serve: Serve, spool: Spool
) -> None:
    with fetch(serve(handler), spool) as fetched:
        assert fetched.file.read() == content


@pytest.mark.parametrize("bytes_sent", [0, 1, 100, 300_000])
def test_a_body_that_stops_coming_is_a_timeout(bytes_sent: int, serve: Serve, spool: Spool) -> None:
    body = png(MIB)
    with pytest.raises(FetchTimeout):
        fetch(serve(answer(body[:bytes_sent], length=len(body))), spool, idle_seconds=0.2)


@pytest.mark.parametrize("bytes_sent", [0, 1, 100, 300_000])
def test_a_body_that_ends_before_its_length_is_incomplete(
    bytes_sent: int, serve: Serve, spool: Spool
) -> None:
    body = png(MIB)
    with pytest.raises(BodyIncomplete) as caught:
        fetch(serve(answer(body[:bytes_sent], length=len(body)), closing=True), spool)

    assert caught.value.sha256 is None


# --- idle connections ---------------------------------------------------------------------------------------


CDN = Peer(Origin("https", "a.example", 443), listed=False)


class Plain(httpcore2.NetworkStream):
    """A connected socket, as far as idle connections ask."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return bool(select.select([self._socket], [], [], 0)[0])
        assert info in ("socket", "ssl_object")
        return self._socket if info == "socket" else None

    def close(self) -> None:
        self._socket.close()


Pairs = Callable[[], tuple[SplitStream, socket.socket]]


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    """Makes connections: the stream on our end, the socket on the server's."""
    sockets: list[socket.socket] = []

    def make() -> tuple[SplitStream, socket.socket]:
        ours, theirs = socket.socketpair()
        sockets.extend((ours, theirs))
        return SplitStream(BoundedStream(Plain(ours))), theirs

    yield make
    for end in sockets:
        end.close()


def test_the_idle_connection_that_came_last_serves_first_and_each_serves_once(pairs: Pairs) -> None:
    idle = IdleConnections()
    (first, _), (second, _) = pairs(), pairs()
    idle.put(CDN, first)
    idle.put(CDN, second)

    assert [idle.take(CDN), idle.take(CDN), idle.take(CDN)] == [second, first, None]


@pytest.mark.parametrize(
    "other",
    [
        Peer(CDN.origin, listed=True),
        Peer(Origin("https", "b.example", 443), listed=False),
        Peer(Origin("https", "a.example", 8443), listed=False),
        Peer(Origin("http", "a.example", 443), listed=False),
    ],
)
def test_a_connection_serves_only_the_peer_that_it_was_opened_for(other: Peer, pairs: Pairs) -> None:
    """Above all: a connection that may go to a private address never serves a host that may not."""
    idle = IdleConnections()
    stream, _ = pairs()
    idle.put(other, stream)

    assert idle.take(CDN) is None
    assert idle.take(other) is stream


def test_an_idle_connection_with_bytes_to_read_is_closed_and_not_used(pairs: Pairs) -> None:
    idle = IdleConnections()
    stream, server = pairs()
    idle.put(CDN, stream)
    server.sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")

    assert idle.take(CDN) is None
    assert stream.is_closed


def test_an_expired_connection_is_closed_and_not_used(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = IdleConnections()
    stream, _ = pairs()
    idle.put(CDN, stream)
    now = time.monotonic() + KEEPALIVE_SECONDS
    monkeypatch.setattr("archiver.fetch.connections.time.monotonic", lambda: now)

    assert idle.take(CDN) is None
    assert stream.is_closed


def test_keeping_a_connection_closes_the_expired_ones(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = IdleConnections()
    (expired, _), (kept, _) = pairs(), pairs()
    idle.put(CDN, expired)
    now = time.monotonic() + KEEPALIVE_SECONDS
    monkeypatch.setattr("archiver.fetch.connections.time.monotonic", lambda: now)
    idle.put(CDN, kept)

    assert expired.is_closed
    assert idle.take(CDN) is kept


def test_when_idle_connections_are_too_many_the_oldest_are_closed(pairs: Pairs) -> None:
    idle = IdleConnections()
    streams = [pairs()[0] for _ in range(KEEPALIVE_CONNECTIONS_MAX + 2)]
    for stream in streams:
        idle.put(CDN, stream)

    assert [stream.is_closed for stream in streams] == [True, True] + [False] * KEEPALIVE_CONNECTIONS_MAX


def test_closing_closes_every_idle_connection(pairs: Pairs) -> None:
    idle = IdleConnections()
    streams = [pairs()[0] for _ in range(3)]
    for stream in streams:
        idle.put(CDN, stream)
    idle.close()

    assert all(stream.is_closed for stream in streams)
    assert idle.take(CDN) is None
