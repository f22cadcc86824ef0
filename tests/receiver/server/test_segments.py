"""Answers leave in one piece."""

import asyncio

from receiver.server.segments import OneSegment

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


class Written(asyncio.Transport):
    """Keeps what is written to it, and that it was closed."""

    def __init__(self) -> None:
        super().__init__({"peername": "somebody"})
        self.pieces: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    def close(self) -> None:
        self.pieces.append(b"closed")


def written(*pieces: bytes, close: bool = False, turns: int = 0) -> list[bytes]:
    """What reaches the transport of these pieces, after so many turns of the loop."""

    async def write() -> list[bytes]:
        transport = Written()
        segment = OneSegment(transport, loop=asyncio.get_running_loop())
        for piece in pieces:
            segment.write(piece)
        for _ in range(turns):
            await asyncio.sleep(0)
        if close:
            segment.close()
        return list(transport.pieces)

    return asyncio.run(write())


def test_head_and_body_leave_together() -> None:
    assert written(HEAD, b"body") == [HEAD + b"body"]


def test_each_of_several_answers_is_one_piece() -> None:
    assert written(HEAD, b"one.", HEAD, b"two.") == [HEAD + b"one.", HEAD + b"two."]


def test_a_body_in_pieces_goes_on_as_it_comes() -> None:
    assert written(HEAD, b"on", b"e.") == [HEAD + b"on", b"e."]


def test_a_head_that_nothing_follows_does_not_wait_for_it() -> None:
    assert written(HEAD) == []
    assert written(HEAD, turns=1) == [HEAD]


def test_a_head_is_not_sent_again_once_its_body_has_come() -> None:
    assert written(HEAD, b"body", turns=2) == [HEAD + b"body"]


def test_a_head_is_written_before_the_connection_is_closed() -> None:
    assert written(HEAD, close=True, turns=0) == [HEAD, b"closed"]


def test_everything_else_is_the_transports_own() -> None:
    async def peer() -> object:
        return OneSegment(Written(), loop=asyncio.get_running_loop()).get_extra_info("peername")

    assert asyncio.run(peer()) == "somebody"
