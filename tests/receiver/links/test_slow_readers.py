"""Slow readers that are not too slow keep their place. `receiver/server/test_slow_clients.py` has real sockets."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.types import Message

from receiver.links import delivery
from receiver.links.readers import END_BYTES_PER_SECOND, LOOK_SECONDS, Reader, Readers

PIECE = bytes(256 * 1024)


class Client:
    """Takes the first pieces at once, and then is slow. Time is counted."""

    def __init__(self, *, bytes_per_second: float, fast_pieces: int) -> None:
        self.now = 1000.0
        self._unread_bytes = 0.0
        self._bytes_per_second = bytes_per_second
        self._fast_pieces = fast_pieces
        reader = Readers(lambda: self.now).enter("key", lambda: int(self._unread_bytes))
        assert reader is not None
        self.reader: Reader = reader

    async def pieces(self) -> AsyncIterator[bytes]:
        for number in range(8):
            self._is_fast = number < self._fast_pieces
            yield PIECE

    async def send(self, message: Message) -> None:
        """As the server does: what has no body waits until the client has taken the rest."""
        if message["body"]:
            self._unread_bytes += len(message["body"])
        elif self._is_fast:
            self._unread_bytes = 0
        while not message["body"] and self._unread_bytes > 0:
            self.now += LOOK_SECONDS
            self._unread_bytes = max(0, self._unread_bytes - LOOK_SECONDS * self._bytes_per_second)
            self.reader.look()
            assert self.now < self.reader.ends_at


@pytest.mark.parametrize("fast_pieces", [0, 1, 4])
@pytest.mark.parametrize("factor", [1.1, 2, 3, 6])
def test_a_reader_that_takes_more_than_64_kib_in_30_seconds_is_not_cut_off(
    factor: float, fast_pieces: int
) -> None:
    client = Client(bytes_per_second=factor * END_BYTES_PER_SECOND, fast_pieces=fast_pieces)

    asyncio.run(delivery.send_pieces(client.pieces(), client.reader, client.send))
