"""Clients that read an answer slowly, over real sockets with small receive buffers. Time is counted."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from receiver.links.delivery import send_pieces
from receiver.links.readers import Reader, Readers
from receiver.server.protocol import (
    UNREAD_BYTES,
    UNREAD_BYTES_MIN,
    UNREAD_SECONDS_MAX,
    BoundedProtocol,
    StallWatch,
)

PIECE = bytes(256 * 1024)
PIECES = 1024
FAST_BYTES = 1 << 20
"""Read at once, so that kernel and process keep as much as they ever do when the client turns slow."""
LEAST_BYTES_PER_SECOND = UNREAD_BYTES_MIN / UNREAD_SECONDS_MAX
SECONDS = 150
PATIENCE_SECONDS = 60


class SlowClient:
    """A connection, and the server's end of it, which sends a file as links do."""

    def __init__(self, *, receive_buffer_bytes: int = 4096) -> None:
        self.now = 1000.0
        self._receive_buffer_bytes = receive_buffer_bytes
        self.reader: Reader
        self._protocol: BoundedProtocol
        self._stalls = StallWatch()
        self._line = socket.socket()
        self._begun = asyncio.Event()
        self._sent_bytes = 0
        self._read_bytes = 0

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        reader = Readers(lambda: self.now).enter("key", scope[UNREAD_BYTES])
        assert reader is not None
        self.reader = reader
        headers = [(b"content-length", b"%d" % (PIECES * len(PIECE)))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._begun.set()
        await send_pieces(self._pieces(), reader, send)

    async def _pieces(self) -> AsyncIterator[bytes]:
        for _ in range(PIECES):
            self._sent_bytes += len(PIECE)
            yield PIECE

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """The answer has begun."""
        config = uvicorn.Config(self, lifespan="off", log_config=None)
        config.load()
        state, loop = ServerState(), asyncio.get_running_loop()

        def make() -> BoundedProtocol:
            self._protocol = BoundedProtocol(config, state, {})
            return self._protocol

        server = await loop.create_server(make, "127.0.0.1", 0)
        try:
            with self._line as line:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer_bytes)
                line.setblocking(False)
                await loop.sock_connect(line, server.sockets[0].getsockname())
                await loop.sock_sendall(line, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._begun.wait()
                yield
        finally:  # uvloop ends only when nothing is open
            server.close()
            for connection in list(state.connections):
                connection.transport.abort()
            await asyncio.gather(*state.tasks)

    async def read(self, count: int) -> None:
        """Return when the server's kernel knows that the client's has so many bytes more."""
        left = count
        self._read_bytes += count
        async with asyncio.timeout(PATIENCE_SECONDS):
            while left:
                piece = await asyncio.get_running_loop().sock_recv(self._line, left)
                assert piece, "the server has closed the connection"
                left -= len(piece)
            while self._sent_bytes - self._protocol.unread_bytes() < self._read_bytes - 1000:  # noqa: ASYNC110 -- no event tells when an acknowledgement arrives
                await asyncio.sleep(0.001)

    def let_a_second_pass(self) -> None:
        """The server does what it does every second."""
        self.now += 1
        self.reader.look()
        self._stalls.cut_off_unread([self._protocol], now=self.now)

    @property
    def is_cut_off(self) -> bool:
        """By the server, or for the limit of readers."""
        return self._protocol.transport.is_closing() or self.now >= self.reader.ends_at


async def seconds_until_cut_off(client: SlowClient, *, factor: float) -> int:
    """After it was fast, at so many times the least rate."""
    async with client.connected():
        await client.read(FAST_BYTES)
        client.reader.look()
        for second in range(SECONDS):
            client.let_a_second_pass()
            if client.is_cut_off:
                return second
            await client.read(int(factor * LEAST_BYTES_PER_SECOND))
    return SECONDS


@pytest.mark.parametrize(("receive_buffer_bytes", "factor"), [(4096, 1.1), (4096, 3), (65536, 2.5)])
def test_a_fast_client_that_turns_slow_is_not_cut_off_while_it_takes_64_kib_in_30_seconds(
    receive_buffer_bytes: int, factor: float
) -> None:
    """With the larger buffer the client's kernel takes as much at once as the server's does."""
    client = SlowClient(receive_buffer_bytes=receive_buffer_bytes)

    assert uvloop.run(seconds_until_cut_off(client, factor=factor)) == SECONDS


def test_a_fast_client_that_turns_too_slow_is_cut_off() -> None:
    assert uvloop.run(seconds_until_cut_off(SlowClient(), factor=0.8)) < SECONDS
