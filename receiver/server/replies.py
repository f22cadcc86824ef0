"""The table of replies that carry no data, and how to send one.

1. A reply never repeats what the client sent.
2. A client that is refused before it has sent its whole body can still read why. If a socket closes with unread bytes,
   the kernel sends a reset that can overtake the response. So `send_early` answers, then discards the rest.

`code` is Kling's own number for the case (archiver/kling/API.md 3).
"""

import asyncio
import dataclasses
import json
import uuid
from http import HTTPStatus

from starlette.types import Receive, Send

LINGER_BYTES_MAX = 4 * 1024 * 1024
LINGER_SECONDS_MAX = 5.0
RETRY_AFTER = (b"retry-after", b"5")
FROM_GATEWAY = (b"kling-archiver-source", b"gateway")
"""The header of answers that the gateway itself makes."""

_ENCODER = json.JSONEncoder(separators=(",", ":"))


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """A status, and the JSON body `{"code":…,"message":…,"request_id":…}`."""

    status: int
    code: int
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    has_request_id: bool = True
    """False for a 404: a wrong token and a wrong path must get the same bytes."""

    def body(self) -> bytes:
        content: dict[str, object] = {"code": self.code, "message": self.message}
        if self.has_request_id:
            content["request_id"] = str(uuid.uuid4())
        return _ENCODER.encode(content).encode()


def malformed(message: str) -> Reply:
    return Reply(400, 1200, message)


OK = Reply(200, 0, "ok")
BAD_SIGNATURE = Reply(401, 1000, "The signature is missing, incomplete or wrong.")
NOT_FOUND = Reply(404, 1203, "There is nothing here.", has_request_id=False)
NOT_POST = Reply(405, 1202, "Callbacks are sent with POST.", ((b"allow", b"POST"),))
TOO_SLOW = Reply(408, 1200, "The body did not arrive in time.")
TOO_LARGE = Reply(413, 1200, "The body is too large.")
UNEXPECTED = Reply(500, 5000, "An internal error; it has been logged.", (RETRY_AFTER,))
UNAVAILABLE = Reply(
    503, 5001, "The callback could not be recorded now; please send it again.", (RETRY_AFTER,)
)


def written(reply: Reply) -> bytes:
    """The reply as bytes of HTTP/1.1, for a request that reaches no application."""
    body = reply.body()
    lines = [b"HTTP/1.1 %d %b" % (reply.status, HTTPStatus(reply.status).phrase.encode("ascii"))]
    lines += [name + b": " + value for name, value in _headers(reply, body)]
    return b"\r\n".join([*lines, b"", body])


def _headers(reply: Reply, body: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *reply.headers,
    ]


async def send(reply: Reply, send_message: Send, *, more_follows: bool = False) -> None:
    """With `more_follows` the exchange stays open, although the client has the whole reply."""
    body = reply.body()
    headers = _headers(reply, body)
    await send_message({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send_message({"type": "http.response.body", "body": body, "more_body": more_follows})


async def send_early(reply: Reply, receive: Receive, send_message: Send) -> None:
    """Reply to a request whose body is unread, then discard the body, up to the `LINGER` limits."""
    await send(reply, send_message, more_follows=True)
    try:
        async with asyncio.timeout(LINGER_SECONDS_MAX):
            await _discard(receive)
    except TimeoutError:
        pass
    await send_message({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    discarded = 0
    more_follows = True
    while more_follows and discarded <= LINGER_BYTES_MAX:
        message = await receive()
        discarded += len(message.get("body", b""))
        more_follows = message.get("more_body", False)
