"""Readers that are slow, but not too slow, keep their place."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.types import Message

from receiver.links import delivery
from receiver.links.readers import END_BYTES_PER_SECOND, Readers

PIECE = bytes(256 * 1024)


@pytest.mark.parametrize("factor", [1.3, 2, 3, 6])
def test_a_reader_that_takes_more_than_64_kib_in_30_seconds_is_not_cut_off(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    reader = Readers(lambda: now).enter("a")
    assert reader is not None
    monkeypatch.setattr(delivery, "FAST_SECONDS", -1.0)  # the event loop's clock does not go with this one

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield PIECE

    async def send(message: Message) -> None:
        nonlocal now
        now += len(message["body"]) / (factor * END_BYTES_PER_SECOND)
        assert now < reader.ends_at

    asyncio.run(delivery.send_pieces(pieces(), reader, send))
