"""Which connections to Kling are used again, and that none is left behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import httpcore2
import pytest

from archiver.fetch.urls import Origin
from receiver.gateway import connections
from receiver.gateway.connections import ApiConnections

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Two: a\r\nx-two: b\r\n\r\nok"
SECONDS_MAX = 10


class Kling:
    """Says `OK` to every request, or what `answer` is."""

    def __init__(self) -> None:
        self.answer = OK
        self.opened = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.ended = asyncio.Queue[None]()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self.answer)
        writer.close()
        self.ended.put_nowait(None)


async def ask(api: ApiConnections) -> bytes:
    answer = await api.send("GET", b"/x", [], None)
    try:
        return b"".join([piece async for piece in answer.pieces()])
    finally:
        await answer.close()
        await answer.close()


def beside(act: Callable[[Kling, ApiConnections], Awaitable[None]], *, connections_max: int = 8) -> None:
    """Run `act`; at its end no connection is open."""

    async def run() -> None:
        kling = Kling()
        async with await asyncio.start_server(kling.serve, "127.0.0.1", 0) as server:
            origin = Origin("http", "127.0.0.1", server.sockets[0].getsockname()[1])
            api = ApiConnections(origin, connections_max=connections_max, connect_seconds=3, proxy=None)
            await act(kling, api)
            await api.close()
            for _ in range(kling.opened):
                await kling.ended.get()

    asyncio.run(asyncio.wait_for(run(), SECONDS_MAX))


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


def test_those_idle_for_long_are_not_used_and_closed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(kling: Kling, api: ApiConnections) -> None:
        monkeypatch.setattr(connections, "KEPT_SECONDS", -1)
        assert await asyncio.gather(*(ask(api) for _ in range(3))) == [b"ok"] * 3
        for _ in range(3):
            await kling.ended.get()
            kling.ended.put_nowait(None)
        assert await ask(api) == b"ok"
        assert kling.opened == 4

    beside(act)


def test_one_whose_answer_is_left_cut_or_late_is_not_used() -> None:
    async def act(kling: Kling, api: ApiConnections) -> None:
        kling.answer = OK[:-1]
        left = await api.send("GET", b"/x", [], None)
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
            await api.send("POST", b"/x", [(b"content-length", b"8")], broken())
        assert await ask(api) == b"ok"
        assert kling.opened == 2

    beside(act, connections_max=1)


def test_headers_of_one_name_are_read_as_a_list() -> None:
    async def act(kling: Kling, api: ApiConnections) -> None:
        answer = await api.send("GET", b"/x", [], None)
        assert (answer.status, answer.header(b"x-two"), answer.header(b"x-none")) == (200, "a, b", "")
        await answer.close()
        assert kling.opened == 1

    beside(act)
