"""Objects read on the event loop: the same bytes however the store's answer comes in pieces.

The network is a list of pieces, since a real one decides itself where they end. `tests/receiver/links` has real stores.
"""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import httpcore2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.failures import ObjectUnexpected, StoreError, StoreUnreachable
from archiver.store import object_streams
from archiver.store.object_streams import ObjectStreams

BODY = bytes(range(256)) * 4 + b"\r\n\r\n" + b"end"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
LINES_OF_UNIX = HEAD.replace(b"\r\n", b"\n")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(pieces: Sequence[bytes], *, first: int = 0, count: int | None = None) -> bytes:
    """What a reader of these bytes of the body gets."""

    async def taken() -> bytes:
        streams = ObjectStreams(connections_max=1, network=httpcore2.AsyncMockBackend(list(pieces)))
        asked = len(BODY) - first if count is None else count
        async with streams.open("http://store.test/o", first=first, count=asked, size=len(BODY)) as body:
            return b"".join([piece async for piece in body])

    return asyncio.run(taken())


def cut(text: bytes, ends: Sequence[int]) -> list[bytes]:
    """`text` in pieces that end there."""
    marks = sorted({0, len(text), *(end for end in ends if end < len(text))})
    return [text[start:end] for start, end in itertools.pairwise(marks)]


@pytest.fixture(autouse=True)
def _every_body_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_streams, "PARSED_BYTES_MAX", 100)


@pytest.mark.parametrize("head", [HEAD, INTERIM + HEAD, LINES_OF_UNIX], ids=["plain", "interim", "bare LF"])
@given(ends=st.lists(st.integers(0, len(INTERIM + HEAD + BODY)), max_size=12))
def test_a_body_is_the_same_wherever_the_pieces_of_the_answer_end(head: bytes, ends: list[int]) -> None:
    assert read(cut(head + BODY, ends)) == BODY


@given(ends=st.lists(st.integers(0, 100), max_size=6))
def test_a_chunked_body_is_read_by_the_parser(ends: list[int]) -> None:
    half = len(BODY) // 2
    chunks = (
        b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:half], BODY[half:])) + b"0\r\n\r\n"
    )

    assert read(cut(CHUNKED + chunks, ends)) == BODY


def test_what_a_store_sends_beyond_the_body_is_not_part_of_it() -> None:
    assert read([HEAD + BODY + b"HTTP/1.1 200 OK\r\n\r\n"]) == BODY


def test_a_whole_answer_to_a_range_is_cut_to_the_range() -> None:
    assert read([HEAD + BODY], first=300, count=200) == BODY[300:500]


def test_a_body_that_ends_early_is_an_error_after_its_last_byte() -> None:
    with pytest.raises(StoreError, match="ended 10 bytes early"):
        read([HEAD, BODY[:-10], b""])


def test_a_store_that_ends_within_the_head_is_not_reached() -> None:
    with pytest.raises(StoreUnreachable, match="RemoteProtocolError"):
        read([HEAD[:20], b""])


def chunked(*parts: bytes) -> bytes:
    return CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


def part(first: int, count: int) -> bytes:
    head = b"HTTP/1.1 206 P\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n"
    return head % (count, first, first + count - 1, len(BODY)) + BODY[first : first + count]


@pytest.mark.parametrize(
    ("answer", "first", "count", "opened"),
    [
        (HEAD + BODY, 0, len(BODY), 1),
        (part(5, 9), 5, 9, 1),
        (HEAD + BODY + HEAD + BODY, 0, len(BODY), 3),
        (part(5, 9) + b"\n", 5, 9, 3),
        (chunked(BODY), 0, len(BODY), 3),
        (HEAD + BODY, 5, 9, 3),
        (INTERIM + HEAD + BODY, 0, len(BODY), 3),
    ],
    ids=["whole", "range", "twice", "a byte more", "chunked", "cut to the range", "interim"],
)
def test_the_connection_of_a_short_body_serves_the_next_reader_if_nothing_came_behind(
    answer: bytes, first: int, count: int, opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_streams, "PARSED_BYTES_MAX", len(BODY))
    network = NotedNetwork([answer] * 3)

    async def taken() -> None:
        streams = ObjectStreams(connections_max=1, network=network)
        for _ in range(3):
            url = "http://store.test/o"
            async with streams.open(url, first=first, count=count, size=len(BODY)) as body:
                assert b"".join([piece async for piece in body]) == BODY[first : first + count]

    asyncio.run(taken())

    assert len(network.connected) == opened


def test_a_store_that_has_just_closed_a_kept_connection_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(object_streams, "PARSED_BYTES_MAX", len(BODY))
    network = NotedNetwork([HEAD + BODY, b""])

    async def taken() -> None:
        streams = ObjectStreams(connections_max=1, network=network)
        for _ in range(2):
            url = "http://store.test/o"
            async with streams.open(url, first=0, count=len(BODY), size=len(BODY)) as body:
                assert b"".join([piece async for piece in body]) == BODY

    asyncio.run(taken())

    assert len(network.connected) == 2


def test_a_range_of_a_body_that_does_not_say_its_length_is_refused() -> None:
    with pytest.raises(StoreError, match="does not say how much"):
        read([chunked(BODY[:500])], first=100, count=100)


def test_the_last_piece_of_a_longer_body_that_does_not_say_its_length_does_not_go_out() -> None:
    got = []

    async def taken() -> None:
        network = httpcore2.AsyncMockBackend([chunked(BODY[:500], BODY[500:], b"more")])
        streams = ObjectStreams(connections_max=1, network=network)
        async with streams.open("http://store.test/o", first=0, count=len(BODY), size=len(BODY)) as body:
            async for piece in body:
                got.append(piece)  # noqa: PERF401 -- it raises

    with pytest.raises(ObjectUnexpected, match="another size"):
        asyncio.run(taken())
    assert b"".join(got) == BODY[:500]


class NotedNetwork(httpcore2.AsyncMockBackend):
    """Knows where a connection was to go."""

    def __init__(self, pieces: Sequence[bytes] = (HEAD + BODY,)) -> None:
        super().__init__(list(pieces))
        self.connected: list[tuple[str, int]] = []

    async def connect_tcp(self, host: str, port: int, *arguments: Any, **named: Any) -> Any:
        self.connected.append((host, port))
        return await super().connect_tcp(host, port, *arguments, **named)


@pytest.mark.parametrize(
    ("bypassed", "expected"), [("", ("proxy.test", 3128)), ("store.test", ("store.test", 80))]
)
def test_objects_are_read_through_the_proxy_that_boto3_goes_through(
    bypassed: str, expected: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://user:word@proxy.test:3128")
    monkeypatch.setenv("no_proxy", bypassed)
    network = NotedNetwork()

    async def taken() -> None:
        streams = ObjectStreams(connections_max=1, network=network)
        async with streams.open("http://store.test/o", first=0, count=len(BODY), size=len(BODY)):
            pass

    asyncio.run(taken())

    assert network.connected == [expected]


class WrittenNetwork(httpcore2.AsyncMockBackend):
    """Knows what was sent, and which connections were closed."""

    def __init__(self, pieces: Sequence[bytes] = (HEAD + BODY,)) -> None:
        super().__init__(list(pieces))
        self.written = b""
        self.closed = 0

    async def connect_tcp(self, *arguments: Any, **named: Any) -> Any:
        stream = await super().connect_tcp(*arguments, **named)
        write, close = stream.write, stream.aclose

        async def noted_write(buffer: bytes, *rest: Any, **more: Any) -> None:
            self.written += buffer
            await write(buffer, *rest, **more)

        async def noted_close() -> None:
            self.closed += 1
            await close()

        stream.write, stream.aclose = noted_write, noted_close  # type: ignore[method-assign]  # in a mock
        return stream


@pytest.mark.parametrize("parsed_bytes_max", [100, len(BODY)], ids=["large", "short"])
@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://store.test/o", b"store.test"),
        ("http://store.test:80/o", b"store.test"),
        ("http://store.test:443/o", b"store.test:443"),
        ("https://store.test:443/o", b"store.test"),
        ("http://[::1]:9000/o", b"[::1]:9000"),
    ],
)
def test_the_store_is_named_as_it_was_signed(
    url: str, host: bytes, parsed_bytes_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_streams, "PARSED_BYTES_MAX", parsed_bytes_max)
    network = WrittenNetwork()

    async def taken() -> None:
        streams = ObjectStreams(connections_max=1, network=network)
        async with streams.open(url, first=0, count=len(BODY), size=len(BODY)):
            pass

    asyncio.run(taken())

    assert b"\r\nHost: %s\r\n" % host in network.written


@pytest.mark.parametrize("taken_pieces", [0, 1, 9])
def test_the_connection_of_a_large_body_is_closed_when_its_reader_has_left(taken_pieces: int) -> None:
    network = WrittenNetwork([HEAD, BODY[:500], BODY[500:]])

    async def taken() -> None:
        streams = ObjectStreams(connections_max=1, network=network)
        async with streams.open("http://store.test/o", first=0, count=len(BODY), size=len(BODY)) as body:
            for _ in range(taken_pieces):
                await anext(body, b"")

    asyncio.run(taken())

    assert network.closed > 0
