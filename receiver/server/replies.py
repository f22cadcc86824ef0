"""Everything this program says to a caller that is not data: one table, and how an answer is sent.

Two rules:

1. An answer is chosen from the table, never composed from what the caller wrote. Only a malformed callback
   gets a sentence of its own, and that sentence is ours too.
2. A caller that is refused before it has finished sending still gets to read why. Closing a socket with
   unread bytes in it makes the kernel send a reset that can overtake the answer, so `send_early` answers
   first and then listens a while, throwing away what comes.

`code` is Kling's own number for the case (archiver/kling/API.md 3), so that whoever reads its documentation
reads ours.
"""

import asyncio
import dataclasses
import random

from starlette.types import Receive, Send

LINGER_BYTES_MAX = 4 * 1024 * 1024
LINGER_SECONDS_MAX = 5.0
RETRY_AFTER = (b"retry-after", b"5")


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """A status, and the JSON body `{"code":…,"message":…,"request_id":…}`."""

    status: int
    code: int
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    named: bool = True
    """Whether it carries a request id. A 404 does not: a wrong token and a path that does not exist must be
    the same answer to the last byte."""

    def body(self) -> bytes:
        """The JSON text. `message` holds neither quotes nor backslashes: it is always ours."""
        name = f',"request_id":"{_request_id()}"' if self.named else ""
        return f'{{"code":{self.code},"message":"{self.message}"{name}}}'.encode()


_NUMBERS = random.Random()  # noqa: S311 -- a request id proves nothing
"""Of its own, since every caller sees them: what else this process leaves to chance cannot be told from them."""


def _request_id() -> str:
    """A version 4 UUID, as Kling's own are (archiver/kling/API.md 7). It proves nothing to anybody, so it need not
    ask the kernel for its bits, as `uuid.uuid4` does: that took longer than reading the callback. Whoever collects some
    can tell the next ones."""
    digits = f"{_NUMBERS.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


OK = Reply(200, 0, "ok")
MALFORMED = Reply(400, 1200, "The body is not a callback.")
BAD_SIGNATURE = Reply(401, 1000, "The signature is missing, incomplete or wrong.")
NOT_FOUND = Reply(404, 1203, "There is nothing here.", named=False)
NOT_POST = Reply(405, 1202, "Callbacks are sent with POST.", ((b"allow", b"POST"),))
TOO_SLOW = Reply(408, 1200, "The body did not arrive in time.")
TOO_LARGE = Reply(413, 1200, "The body is too large.")
UNEXPECTED = Reply(500, 5000, "An error of ours; it has been logged.", (RETRY_AFTER,))
UNAVAILABLE = Reply(
    503, 5001, "The callback could not be recorded now; please send it again.", (RETRY_AFTER,)
)


async def send(reply: Reply, send_message: Send, *, more_follows: bool = False) -> None:
    """Send the whole answer; with `more_follows` the exchange stays open although the caller has it all."""
    body = reply.body()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *reply.headers,
    ]
    await send_message({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send_message({"type": "http.response.body", "body": body, "more_body": more_follows})


async def send_early(reply: Reply, receive: Receive, send_message: Send) -> None:
    """Reply a request whose body has not been read, then throw that body away, within limits.

    Past the limits the server closes or reuses the connection as it sees fit.
    """
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
