"""Reads a request's body, within a limit of size and time."""

import asyncio
import enum
from collections.abc import Iterable

from starlette.types import Message, Receive


class BodyProblem(enum.StrEnum):
    """Why there is no body; also the `reason` in the log."""

    TOO_LARGE = "too_large"
    TOO_SLOW = "body_too_slow"
    DISCONNECTED = "disconnected"


def announced_bytes(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """`Content-Length`: 0 without one, infinite for 20 digits and more."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value) if len(value) < 20 else float("inf")
    return 0


async def read_body(receive: Receive, *, bytes_max: int, seconds_max: float) -> bytes | BodyProblem:
    """The whole body, counted as it arrives.

    Nearly every body arrives with its headers, and a timer would cost more than reading it. So only a body in several
    pieces gets one. If the body never begins, the server closes the connection (`server.protocol`).
    """
    first = await receive()
    if first["type"] == "http.request" and not first.get("more_body", False):
        body: bytes = first.get("body", b"")
        return body if len(body) <= bytes_max else BodyProblem.TOO_LARGE
    try:
        async with asyncio.timeout(seconds_max):
            return await _gather(first, receive, bytes_max=bytes_max)
    except TimeoutError:
        return BodyProblem.TOO_SLOW


async def _gather(first: Message, receive: Receive, *, bytes_max: int) -> bytes | BodyProblem:
    chunks: list[bytes] = []
    length, message = 0, first
    while message["type"] != "http.disconnect":
        chunks.append(message.get("body", b""))
        length += len(chunks[-1])
        if length > bytes_max:
            return BodyProblem.TOO_LARGE
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()
    return BodyProblem.DISCONNECTED
