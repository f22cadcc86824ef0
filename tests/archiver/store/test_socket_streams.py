"""Connections that read no more than they are asked for, plain and by TLS, to real sockets."""

import asyncio
import contextlib
import errno
import os
import pathlib
import select
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import httpcore2
import pytest

from archiver.failures import StoreUnreachable
from archiver.store.object_streams import ObjectStreams
from archiver.store.socket_streams import SocketStreams
from tests.harness.half_records import HalfRecords

SECONDS_MAX = 60
BODY = bytes(range(256)) * 8000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Act = Callable[[httpcore2.AsyncNetworkStream, Line], Awaitable[None]]


@pytest.fixture(params=["plain", "TLS"])
def trust(request: pytest.FixtureRequest, certificate: pathlib.Path) -> pathlib.Path | None:
    """The certificate of a peer that speaks TLS."""
    return None if request.param == "plain" else certificate


def _server_context(certificate: pathlib.Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate)
    return made


@contextlib.asynccontextmanager
async def peer(certificate: pathlib.Path | None) -> AsyncIterator[tuple[int, asyncio.Queue[Line]]]:
    """Its port, and its ends of the connections."""
    lines = asyncio.Queue[Line]()
    context = None if certificate is None else _server_context(certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.put_nowait((reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1], lines
        while not lines.empty():
            lines.get_nowait()[1].transport.abort()


def beside(certificate: pathlib.Path | None, act: Act) -> None:
    """Run `act` with both ends of a connection."""

    async def run() -> None:
        async with peer(certificate) as (port, lines):
            stream: httpcore2.AsyncNetworkStream = await SocketStreams().connect_tcp("127.0.0.1", port, 3)
            if certificate is not None:
                context = ssl.create_default_context(cafile=str(certificate))
                stream = await stream.start_tls(context, "127.0.0.1", 3)
            line = await lines.get()
            try:
                await act(stream, line)
            finally:
                await stream.aclose()
                await stream.aclose()
                line[1].transport.abort()

    asyncio.run(asyncio.wait_for(run(), SECONDS_MAX))


def test_what_is_written_comes_and_what_is_answered_is_read_in_pieces_of_the_wanted_size(
    trust: pathlib.Path | None,
) -> None:
    async def act(stream: httpcore2.AsyncNetworkStream, line: Line) -> None:
        reader, writer = line
        await stream.write(b"")
        await stream.write(b"a question")
        assert await reader.readexactly(10) == b"a question"
        writer.write(BODY)
        sizes, got = [], b""
        while len(got) < len(BODY):
            piece = await stream.read(100_000, 3)
            sizes.append(len(piece))
            got += piece
        assert got == BODY
        assert max(sizes) <= 100_000

    beside(trust, act)


def test_more_than_the_kernel_takes_is_written_as_the_peer_takes_it(trust: pathlib.Path | None) -> None:
    async def act(stream: httpcore2.AsyncNetworkStream, line: Line) -> None:
        writing = asyncio.create_task(stream.write(BODY * 20, 3))
        assert await line[0].readexactly(20 * len(BODY)) == BODY * 20
        await writing

    beside(trust, act)


def test_a_peer_that_says_nothing_or_takes_nothing_is_waited_for_as_long_as_was_said(
    trust: pathlib.Path | None,
) -> None:
    async def act(stream: httpcore2.AsyncNetworkStream, line: Line) -> None:
        with pytest.raises(httpcore2.ReadTimeout):
            await stream.read(10, 0.01)
        line[1].transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads
        with pytest.raises(httpcore2.WriteTimeout):
            await stream.write(bytes(64 * 2**20), 0.01)

    beside(trust, act)


def test_an_end_is_read_as_nothing_and_a_reset_is_an_error(trust: pathlib.Path | None) -> None:
    async def act(stream: httpcore2.AsyncNetworkStream, line: Line) -> None:
        line[1].write(b"last")
        line[1].close()
        got = b""
        while piece := await stream.read(10, 3):
            got += piece
        assert got == b"last"

    async def reset(stream: httpcore2.AsyncNetworkStream, line: Line) -> None:
        _reset(line)
        with pytest.raises(httpcore2.ReadError):
            await stream.read(10, 3)
        with pytest.raises(httpcore2.WriteError):
            await stream.write(b"more", 3)

    beside(trust, act)
    beside(trust, reset)


def _reset(line: Line) -> None:
    """End the connection without a word, whatever has not been sent."""
    connected: socket.socket = line[1].get_extra_info("socket")
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    line[1].transport.abort()


def _wait_readable(stream: httpcore2.AsyncNetworkStream) -> None:
    select.select([stream.get_extra_info("socket")], [], [], 3)


def test_a_connection_is_readable_once_something_has_come_or_it_has_ended(trust: pathlib.Path | None) -> None:
    async def act(stream: httpcore2.AsyncNetworkStream, line: Line) -> None:
        with contextlib.suppress(httpcore2.ReadTimeout):
            await stream.read(1, 0.01)  # the tickets of TLS
        assert not stream.get_extra_info("is_readable")
        line[1].write(b"x")
        await asyncio.get_running_loop().run_in_executor(None, _wait_readable, stream)
        assert await stream.read(10, 3) == b"x"
        await stream.aclose()
        assert stream.get_extra_info("is_readable")

    beside(trust, act)


def test_whoever_waits_for_a_connection_that_is_closed_is_told(trust: pathlib.Path | None) -> None:
    async def act(stream: httpcore2.AsyncNetworkStream, _: Line) -> None:
        reading = asyncio.create_task(stream.read(10))
        await asyncio.sleep(0)
        await stream.aclose()
        with pytest.raises(httpcore2.ReadError):
            await reading

    beside(trust, act)


def test_a_reader_and_a_writer_who_wait_are_both_told_that_the_connection_is_closed(
    trust: pathlib.Path | None,
) -> None:
    async def act(stream: httpcore2.AsyncNetworkStream, line: Line) -> None:
        line[1].transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads
        reading = asyncio.create_task(stream.read(10))
        writing = asyncio.create_task(stream.write(bytes(64 * 2**20)))
        await asyncio.sleep(0)
        await stream.aclose()
        with pytest.raises(httpcore2.ReadError):
            await reading
        with pytest.raises(httpcore2.WriteError):
            await writing

    beside(trust, act)


def test_a_process_without_a_free_descriptor_does_not_reach_the_store_and_closes_what_it_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    async def run() -> None:
        async with peer(None) as (port, lines):
            monkeypatch.setattr(os, "dup", fail)
            with pytest.raises(StoreUnreachable, match="ConnectError"):
                await _read_object(f"http://127.0.0.1:{port}/o")
            reader, writer = await lines.get()
            assert await reader.read() == b""
            writer.close()

    asyncio.run(asyncio.wait_for(run(), SECONDS_MAX))


def test_one_who_gives_up_while_the_connection_is_copied_leaves_none_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = os.dup
    connecting: asyncio.Task[object]

    def give_up(descriptor: int) -> int:
        connecting.cancel()
        return copy(descriptor)

    async def run() -> None:
        nonlocal connecting
        async with peer(None) as (port, lines):
            monkeypatch.setattr(os, "dup", give_up)
            connecting = asyncio.create_task(SocketStreams().connect_tcp("127.0.0.1", port, 3))
            with pytest.raises(asyncio.CancelledError) as kept:  # its traceback keeps what is not closed
                await connecting
            reader, writer = await lines.get()
            assert await reader.read() == b""
            writer.close()
            assert kept.value is not None

    asyncio.run(asyncio.wait_for(run(), SECONDS_MAX))


async def _read_object(url: str, certificate: pathlib.Path | None = None) -> bytes:
    streams = ObjectStreams(connections_max=1, ca_bundle=None if certificate is None else str(certificate))
    try:
        async with streams.open(url, first=0, count=len(BODY), size=len(BODY)) as pieces:
            return b"".join([piece async for piece in pieces])
    finally:
        await streams.close()


def test_an_object_is_read_by_tls_from_a_store_whose_certificate_is_trusted_and_from_no_other(
    certificate: pathlib.Path,
) -> None:
    async def run() -> None:
        async with peer(certificate) as (port, lines):
            url = f"https://127.0.0.1:{port}/o"
            reading = asyncio.create_task(_read_object(url, certificate))
            reader, writer = await lines.get()
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD + BODY)
            assert await reading == BODY
            with pytest.raises(StoreUnreachable, match="ConnectError"):
                await _read_object(url)

    asyncio.run(asyncio.wait_for(run(), SECONDS_MAX))


@pytest.mark.parametrize("ends", [True, False], ids=["that ends", "that says nothing"])
def test_a_peer_without_tls_is_not_reached(ends: bool, certificate: pathlib.Path) -> None:
    async def run() -> None:
        async with peer(None) as (port, lines):
            stream = await SocketStreams().connect_tcp("127.0.0.1", port, 3)
            context = ssl.create_default_context(cafile=str(certificate))
            beginning = asyncio.create_task(stream.start_tls(context, "127.0.0.1", 3 if ends else 0.05))
            _, writer = await lines.get()
            if ends:
                writer.close()
            with pytest.raises(httpcore2.ConnectError if ends else httpcore2.ConnectTimeout):
                await beginning
            writer.transport.abort()

    asyncio.run(asyncio.wait_for(run(), SECONDS_MAX))


SHORT_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"


@pytest.mark.parametrize(
    ("sent_bytes", "opened"),
    [(0, 1), (3, 2), (5, 2), (20, 2)],
    ids=["nothing", "half of its header", "its header", "half of it"],
)
def test_a_connection_on_which_a_record_has_come_in_part_serves_no_other_reader(
    sent_bytes: int, opened: int, certificate: pathlib.Path
) -> None:
    """What it holds would be the next reader's file."""
    first, second = SHORT_ANSWER + b"first file", SHORT_ANSWER + b"other file"
    store = HalfRecords(certificate, first=first, second=second, sent_bytes=sent_bytes)

    async def run() -> list[bytes]:
        streams = ObjectStreams(connections_max=1, ca_bundle=str(certificate))
        got = []
        async with store.serving() as port:
            for _ in range(2):
                async with streams.open(f"https://127.0.0.1:{port}/o", first=0, count=10, size=10) as pieces:
                    got.append(b"".join([piece async for piece in pieces]))
            await streams.close()
        return got

    got = asyncio.run(asyncio.wait_for(run(), SECONDS_MAX))

    assert store.opened == opened
    assert got == [b"first file", b"first file" if opened == 2 else b"other file"]
