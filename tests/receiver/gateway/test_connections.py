"""Which connections to Kling are used again, and that none is left behind."""

import asyncio
import contextlib
import pathlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import httpcore2
import pytest

from archiver.fetch.urls import Origin
from receiver.gateway import connections
from receiver.gateway.api_streams import ApiStream
from receiver.gateway.connections import ApiConnections, Content
from tests.harness.half_records import HalfRecords

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Two: a\r\nx-two: b\r\n\r\nok"
SECONDS_MAX = 60
ENDLESS_BYTES = 1 << 40


REFUSAL = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


class Kling:
    """Says `OK` to every request, or what `answer` is. Without one it closes the connection."""

    def __init__(self) -> None:
        self.answer: bytes | None = OK
        self.requests = 0
        self.opened = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.ended = asyncio.Queue[None]()
        self.is_over = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                if self.answer is None:
                    break
                writer.write(self.answer)
        writer.close()
        self.ended.put_nowait(None)

    async def refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the head of a request and reads no more of it."""
        self.opened += 1
        await reader.readuntil(b"\r\n\r\n")
        assert self.answer is not None
        writer.write(self.answer)
        await self.is_over.wait()
        writer.close()
        self.ended.put_nowait(None)


async def ask(api: ApiConnections, method: str = "GET", content: Content | None = None) -> bytes:
    length = [(b"content-length", b"%d" % ENDLESS_BYTES)] if content is not None else []
    answer = await api.send(method, b"/x", length, content, is_repeatable=method != "POST")
    try:
        return b"".join([piece async for piece in answer.pieces()])
    finally:
        await answer.close()
        await answer.close()


def beside(
    act: Callable[[Kling, ApiConnections], Awaitable[None]],
    *,
    connections_max: int = 8,
    refuses: bool = False,
    context: ssl.SSLContext | None = None,
) -> None:
    """Run `act`; at its end no connection is open."""

    async def run() -> None:
        kling = Kling()
        serve = kling.refuse if refuses else kling.serve
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
            scheme = "http" if context is None else "https"
            origin = Origin(scheme, "127.0.0.1", server.sockets[0].getsockname()[1])
            api = ApiConnections(origin, connections_max=connections_max, connect_seconds=30, proxy=None)
            await act(kling, api)
            await api.close()
            kling.is_over.set()
            for _ in range(kling.opened):
                await kling.ended.get()

    asyncio.run(asyncio.wait_for(run(), SECONDS_MAX))


@pytest.fixture(params=["plain", "TLS"])
def context(
    request: pytest.FixtureRequest, certificate: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext | None:
    """Of a Kling that speaks TLS, whose certificate is trusted."""
    if request.param == "plain":
        return None
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate)
    return made


def test_one_connection_after_another_request_serves_the_next() -> None:
    async def act(kling: Kling, api: ApiConnections) -> None:
        assert [await ask(api) for _ in range(3)] == [b"ok"] * 3
        assert kling.opened == 1
        assert await asyncio.gather(*(ask(api) for _ in range(4))) == [b"ok"] * 4
        assert kling.opened == 4
        assert await asyncio.gather(*(ask(api) for _ in range(4))) == [b"ok"] * 4
        assert kling.opened == 4

    beside(act)


def test_no_more_connections_are_opened_than_allowed_and_the_others_wait() -> None:
    async def act(kling: Kling, api: ApiConnections) -> None:
        assert await asyncio.gather(*(ask(api) for _ in range(9))) == [b"ok"] * 9
        assert kling.opened == 2

    beside(act, connections_max=2)


def test_one_that_kling_has_closed_meanwhile_is_not_used() -> None:
    async def act(kling: Kling, api: ApiConnections) -> None:
        await ask(api)
        kling.writers[0].close()
        await kling.writers[0].wait_closed()
        assert await ask(api) == b"ok"
        assert kling.opened == 2

    beside(act)


def test_those_idle_for_long_are_closed_without_a_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(kling: Kling, api: ApiConnections) -> None:
        monkeypatch.setattr(connections, "KEPT_SECONDS", 0)
        monkeypatch.setattr(connections, "SWEEP_SECONDS_MIN", 0)
        assert await asyncio.gather(*(ask(api) for _ in range(3))) == [b"ok"] * 3
        for _ in range(3):
            await kling.ended.get()
        for _ in range(3):
            kling.ended.put_nowait(None)

    beside(act)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GET", OK + STRAY),
        ("GET", OK + b"\n"),
        ("GET", CHUNKED + STRAY),
        ("GET", CHUNKED.replace(b"\r\n", b"\r\nContent-Length: 2\r\n", 1)),
        ("HEAD", OK),
        ("HEAD", OK[:-2]),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 43\r\n\r\n" + STRAY),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 43\r\n\r\n"),
    ],
    ids=[
        "twice",
        "a line end more",
        "behind the last chunk",
        "two lengths",
        "HEAD with a body",
        "HEAD",
        "204 with a body",
        "304",
    ],
)
def test_one_that_may_hold_bytes_behind_its_answer_is_not_used(method: str, answer: bytes) -> None:
    async def act(kling: Kling, api: ApiConnections) -> None:
        kling.answer = answer
        await ask(api, method)
        kling.answer = OK
        assert await ask(api) == b"ok"
        assert kling.opened == 2

    beside(act)


def test_one_whose_second_answer_is_not_yet_decrypted_is_not_used(context: ssl.SSLContext | None) -> None:
    record = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (16384 - 42)

    async def act(kling: Kling, api: ApiConnections) -> None:
        kling.answer = record + bytes(16384 - len(record)) + STRAY
        assert await ask(api) == bytes(16384 - 42)
        kling.answer = OK
        assert await ask(api) == b"ok"
        assert kling.opened == 2

    beside(act, context=context)


@pytest.mark.parametrize(
    ("sent_bytes", "opened"),
    [(0, 1), (3, 2), (5, 2), (20, 2)],
    ids=["nothing", "half of its header", "its header", "half of it"],
)
def test_one_on_which_a_record_has_come_in_part_is_not_used(
    sent_bytes: int, opened: int, certificate: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it holds would be the answer to another client's create."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    other = OK.replace(b"ok", b"no")
    kling = HalfRecords(certificate, first=OK, second=other, sent_bytes=sent_bytes)

    async def run() -> list[bytes]:
        async with kling.serving() as port:
            origin = Origin("https", "127.0.0.1", port)
            api = ApiConnections(origin, connections_max=8, connect_seconds=30, proxy=None)
            got = [await ask(api, "POST") for _ in range(2)]
            await api.close()
        return got

    got = asyncio.run(asyncio.wait_for(run(), SECONDS_MAX))

    assert kling.opened == opened
    assert got == [b"ok", b"ok" if opened == 2 else b"no"]


def test_one_after_a_chunked_answer_is_used_again() -> None:
    async def act(kling: Kling, api: ApiConnections) -> None:
        kling.answer = CHUNKED
        assert [await ask(api) for _ in range(2)] == [b"ok"] * 2
        assert kling.opened == 1

    beside(act)


def test_what_changes_nothing_is_sent_again_where_a_kept_connection_ends_and_a_create_never_is() -> None:
    async def act(kling: Kling, api: ApiConnections) -> None:
        for method, sent in (("GET", 3), ("POST", 2)):
            kling.answer, kling.requests = OK, 0
            await ask(api)
            kling.answer = None
            with pytest.raises(httpcore2.RemoteProtocolError):
                await ask(api, method)
            assert kling.requests == sent

    beside(act)


def test_a_create_takes_no_connection_that_was_idle_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(kling: Kling, api: ApiConnections) -> None:
        await ask(api)
        await ask(api, "POST")
        assert kling.opened == 1
        monkeypatch.setattr(connections, "KEPT_FOR_CREATES_SECONDS", -1)
        await ask(api, "POST")
        assert kling.opened == 2
        await ask(api)
        assert kling.opened == 2

    beside(act)


@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"])
def test_an_answer_that_comes_before_the_whole_request_is_read_at_once(
    interim: bytes, context: ssl.SSLContext | None
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(256 * 1024)

    async def act(kling: Kling, api: ApiConnections) -> None:
        kling.answer = interim + REFUSAL
        assert [await ask(api, "POST", endless) for _ in range(2)] == [b"no"] * 2
        assert kling.opened == 2

    beside(act, connections_max=1, refuses=True, context=context)


def test_one_whose_answer_is_left_cut_or_late_is_not_used() -> None:
    async def act(kling: Kling, api: ApiConnections) -> None:
        kling.answer = OK[:-1]
        left = await api.send("GET", b"/x", [], None, is_repeatable=True)
        await left.close()

        for broken in (b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n", b"no HTTP\r\n\r\n"):
            kling.answer = broken
            with pytest.raises(httpcore2.RemoteProtocolError):
                await ask(api)

        kling.answer = b""
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(api), 0.05)

        kling.answer = OK
        assert await ask(api) == b"ok"
        assert kling.opened == 5

    beside(act, connections_max=1)


def test_a_body_that_breaks_off_leaves_no_connection() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise OSError("the spool")

    async def act(kling: Kling, api: ApiConnections) -> None:
        with pytest.raises(OSError, match="the spool"):
            await api.send("POST", b"/x", [(b"content-length", b"8")], broken, is_repeatable=False)
        assert await ask(api) == b"ok"
        assert kling.opened == 2

    beside(act, connections_max=1)


def test_headers_of_one_name_are_read_as_a_list() -> None:
    async def act(kling: Kling, api: ApiConnections) -> None:
        answer = await api.send("GET", b"/x", [], None, is_repeatable=True)
        assert (answer.status, answer.header(b"x-two"), answer.header(b"x-none")) == (200, "a, b", "")
        await answer.close()
        assert kling.opened == 1

    beside(act)


class Written(httpcore2.AsyncNetworkStream):
    """A connection that keeps each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    async def write(self, buffer: bytes, _timeout: float | None = None) -> None:
        self.writes.append(buffer)

    async def read(self, _bytes_max: int, _timeout: float | None = None) -> bytes:
        return b"answer"


def test_the_head_of_a_request_is_sent_with_the_beginning_of_its_body_and_never_left_behind() -> None:
    async def sent(*parts: bytes) -> list[bytes]:
        below = Written()
        stream = ApiStream(below)
        for _ in range(2):  # the next request of a connection is no other
            for part in parts:
                await stream.write(part)
            assert await stream.read(1) == b"answer"
        assert below.writes[: len(below.writes) // 2] * 2 == below.writes
        return below.writes[: len(below.writes) // 2]

    async def run() -> None:
        assert await sent(b"head,", b"body", b"") == [b"head,body"]
        assert await sent(b"head,", b"body,", b"more", b"") == [b"head,body,", b"more"]
        assert await sent(b"head", b"") == [b"head"]
        assert await sent(b"head") == [b"head"]

    asyncio.run(run())
