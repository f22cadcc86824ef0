"""Reads an answer of Kling: what of it goes on to the client, and whether all of it has come."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Final

import httpcore2

from receiver.gateway.connections import ApiAnswer
from receiver.gateway.exchange import AnswerUndecodable, NoAnswer, NotReached

PIECE_SECONDS = 10.0
"""The limit for the next piece of an answer that is passed on while it arrives."""
REST_SECONDS_MAX = 600.0
"""The limit for the rest of an answer that is passed on while it arrives."""
JUDGED_BYTES_MAX = 256 * 1024
"""A JSON answer of more is not read to see whether it is whole: its framing has to say so."""
_COME_BACK = frozenset({b"content-type", b"retry-after", b"request_id", b"request-id", b"x-request-id"})
_STATUSES: Final = range(200, 600)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_SENT = (
    httpcore2.ConnectError,
    httpcore2.ConnectTimeout,
    httpcore2.ProxyError,
    httpcore2.LocalProtocolError,
)
"""Exceptions after which no request was sent."""


def passed_on(answer: ApiAnswer) -> list[tuple[bytes, bytes]]:
    """The headers that go on. One with control characters is left out: no server could send it on, and the client needs
    the answer more. Raises AnswerUndecodable for a status that HTTP does not have."""
    if answer.status not in _STATUSES:
        raise AnswerUndecodable("its status is none of HTTP")
    return [
        (name, value) for name, value in answer.headers if name in _COME_BACK and not _CONTROL.search(value)
    ]


async def read_at_most(pieces: AsyncIterator[bytes], bytes_max: int) -> tuple[bool, bytes]:
    """(whether that is all, what was read)"""
    begun = bytearray()
    async for piece in pieces:
        begun += piece
        if len(begun) > bytes_max:
            return False, bytes(begun)
    return True, bytes(begun)


async def rest_of(answer: ApiAnswer, begun: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What was read of an answer, then what follows as it comes."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + REST_SECONDS_MAX
    try:
        yield begun
        while True:
            with translated():
                async with asyncio.timeout_at(min(ends_at, loop.time() + PIECE_SECONDS)):
                    piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece
    finally:
        await answer.close()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Exceptions of the HTTP client → ours. Not chained: they hold the request with its credentials."""
    try:
        yield
    except _NOT_SENT as error:
        raise NotReached(type(error).__name__) from None
    except TimeoutError:
        raise NoAnswer("it took too long") from None
    except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        raise NoAnswer(type(error).__name__) from None


def require_whole_json(content: bytes, answer: ApiAnswer) -> None:
    """Raises NoAnswer for half a JSON text: a proxy may have framed what it got as if it were all.

    A text that is broken only inside, such as a message that is cut within an emoji, passes: the answer is whole.
    """
    if len(content) > JUDGED_BYTES_MAX or content[:1] not in {b"{", b"["}:
        return
    if "json" not in answer.header(b"content-type").lower():
        return
    with contextlib.suppress(RecursionError):
        try:
            json.loads(content.decode(errors="replace"), strict=False, parse_int=str)
        except ValueError:
            raise NoAnswer("the answer is half a JSON text") from None


def announced(answer: ApiAnswer) -> int | None:
    written = answer.header(b"content-length")
    return int(written) if written.isdigit() else None
