"""The headers that every answer below `/files` has, and how an answer without a file is sent."""

from collections.abc import Sequence

from starlette.types import Send

from receiver.server import replies
from receiver.server.replies import Reply

Headers = Sequence[tuple[bytes, bytes]]

ALLOWED = b"GET, HEAD, OPTIONS"
ALWAYS: Headers = (
    (b"referrer-policy", b"no-referrer"),
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"Accept-Ranges, Content-Length, Content-Range, ETag"),
)
"""A link is a secret: no page that it is opened from may pass it on. The file itself may be used on any page."""
NO_STORE = (b"cache-control", b"no-store")

NOT_FOUND = replies.NOT_FOUND
GONE = Reply(410, 1203, "The file could not be saved, and nothing is tried any more.", has_request_id=False)
NOT_NOW = Reply(503, 5001, "The file is not here yet; please try again.", (replies.RETRY_AFTER,))
MISSING = Reply(503, 5001, "The file is missing in the bucket; it may be put back.", (replies.RETRY_AFTER,))
BUSY = Reply(503, 5001, "Too many files are being read; please try again.", (replies.RETRY_AFTER,))
WRONG_METHOD = Reply(405, 1202, "Links are for GET and HEAD.", ((b"allow", ALLOWED),))


async def send_reply(reply: Reply, send: Send) -> None:
    """Send a refusal, which no cache may store."""
    body = reply.body()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send_whole(send, reply.status, [*headers, *reply.headers, NO_STORE], body)


async def send_redirect(send: Send, location: str, *more: tuple[bytes, bytes]) -> None:
    """302 to a URL in ASCII."""
    headers = [(b"location", location.encode("ascii")), (b"content-length", b"0"), *more]
    await send_whole(send, 302, headers)


async def send_options(send: Send) -> None:
    """What a browser asks before a request with a range from another origin."""
    headers = [
        (b"allow", ALLOWED),
        (b"access-control-allow-methods", ALLOWED),
        (b"access-control-allow-headers", b"Range, If-Range, If-None-Match"),
        (b"access-control-max-age", b"86400"),
        NO_STORE,
    ]
    await send_whole(send, 204, headers)


async def send_whole(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    """One answer."""
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *ALWAYS]})
    await send({"type": "http.response.body", "body": body})
