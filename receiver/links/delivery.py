"""How a stored file reaches the client: a redirect to the store or to a URL of the operator's, or its bytes from here.

What is cached may be used for a sixth of the time that a presigned URL is good, so that one taken from a cache still
lasts. A redirect of HEAD is cached by nobody: its URL would be refused for GET.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Protocol
from urllib.parse import quote

from starlette.types import Receive, Send

from archiver import log
from archiver.failures import Failure
from archiver.store.object_streams import ObjectStreams
from receiver.links import answers
from receiver.links.answers import Headers, send_redirect, send_reply, send_whole
from receiver.links.finder import File, Found, Wanted, download_name
from receiver.links.paths import LinkedFile
from receiver.links.ranges import ByteRange, NotSatisfiable, has_it, wanted_range

STREAMS_MAX = 256
"""Readers at once; each has a connection to the store, and 1 MB of buffers (200 readers took 200 MB)."""
PIECES_MAX = 4
"""Pieces taken from the store at once, by all readers together: callbacks wait behind them in the event loop, with 200
readers for 200 pieces, which is 20 ms each time."""
SEND_SECONDS_MAX = 60.0
"""For a client to take the next 64 KiB."""
_KEY_CHARACTERS = "/!$&'()*+,;=:@~"
"""Which stand for themselves in a path."""

_log = log.get()


@dataclasses.dataclass(frozen=True, slots=True)
class LinkRequest:
    """A request for a file, with a genuine link."""

    method: str
    """GET or HEAD."""
    headers: Headers
    link: LinkedFile
    is_download: bool


class Delivery(Protocol):
    """One of the three ways."""

    def wanted(self, request: LinkRequest) -> Wanted | None:
        """The URL of the store's that this way needs."""

    async def deliver(self, request: LinkRequest, found: Found, receive: Receive, send: Send) -> None:
        """Answer. The URL of `found` is the one that was wanted."""


class Redirect:
    """302 to the store, by a URL that is presigned for the method."""

    def wanted(self, request: LinkRequest) -> Wanted | None:
        return Wanted("HEAD" if request.method == "HEAD" else "GET", request.is_download)

    async def deliver(self, request: LinkRequest, found: Found, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- as in `Delivery`
        if found.presigned is None:
            raise AssertionError("no URL was presigned")
        caching = _caching(request, found.presigned.seconds)
        await send_redirect(send, found.presigned.url, caching)


class PrefixRedirect:
    """302 to `<prefix><key>`."""

    def __init__(self, prefix: str) -> None:
        """`prefix` ends in a slash."""
        self._prefix = prefix

    def wanted(self, request: LinkRequest) -> Wanted | None:  # noqa: ARG002 -- as in `Delivery`
        return None

    async def deliver(self, request: LinkRequest, found: Found, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- as in `Delivery`
        url = self._prefix + quote(found.file.key, safe=_KEY_CHARACTERS)
        await send_redirect(send, url, _caching(request, found.file.seconds))


class Stream:
    """The bytes, or a range of them. HEAD and conditions are answered without the store."""

    def __init__(self, streams: ObjectStreams) -> None:
        self._streams = streams
        self._reading = 0
        self._pieces = asyncio.Semaphore(PIECES_MAX)

    def wanted(self, request: LinkRequest) -> Wanted | None:
        return Wanted("GET") if request.method == "GET" else None

    async def deliver(self, request: LinkRequest, found: Found, receive: Receive, send: Send) -> None:
        file = found.file
        etag = None if file.sha256 is None else f'"{file.sha256}"'
        headers = _headers(file, etag)
        if has_it(request.headers, etag=etag):
            return await send_whole(send, 304, headers)
        if found.presigned is None:
            length = (b"content-length", b"%d" % file.bytes)
            return await send_whole(send, 200, [*headers, *_description(request, file), length])
        try:
            part = wanted_range(request.headers, size=file.bytes, etag=etag)
        except NotSatisfiable:
            refused = [(b"content-range", b"bytes */%d" % file.bytes), (b"content-length", b"0")]
            return await send_whole(send, 416, [*refused, answers.NO_STORE])
        if self._reading >= STREAMS_MAX:
            return await send_reply(answers.BUSY, send)
        self._reading += 1
        try:
            return await self._stream(request, found, part, headers, receive, send)
        finally:
            self._reading -= 1

    async def _stream(
        self,
        request: LinkRequest,
        found: Found,
        part: ByteRange | None,
        headers: Headers,
        receive: Receive,
        send: Send,
    ) -> None:
        file, url = found.file, found.presigned.url if found.presigned else ""
        whole = ByteRange(0, file.bytes)
        first, count = dataclasses.astuple(part or whole)
        has_begun = False
        try:
            async with self._streams.open(url, first=first, count=count, size=file.bytes) as pieces:
                sent = [*headers, *_description(request, file), (b"content-length", b"%d" % count)]
                if part is not None:
                    sent.append((b"content-range", part.content_range(file.bytes).encode()))
                status = 200 if part is None else 206
                has_begun = True
                await send(
                    {
                        "type": "http.response.start",
                        "status": status,
                        "headers": [*sent, *answers.ALWAYS],
                    }
                )
                await _send_pieces(_in_turn(pieces, self._pieces), receive, send)
        except (Failure, TimeoutError) as error:
            # Once it has begun, the server closes the connection: the client sees that bytes are missing.
            _log.warning(
                "link.failed",
                account=request.link.account,
                task_id=request.link.task_id,
                stem=request.link.stem,
                message=str(error) or f"the client took nothing for {SEND_SECONDS_MAX:.0f} s",
            )
            if not has_begun:
                await send_reply(answers.NOT_NOW, send)


async def _in_turn(pieces: AsyncIterator[bytes], turns: asyncio.Semaphore) -> AsyncIterator[bytes]:
    """The same pieces, each taken while one of the turns is free."""
    while True:
        async with turns:
            piece = await anext(pieces, None)
        if piece is None:
            return
        yield piece


async def _send_pieces(pieces: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    """Each piece waits for the client to take the one before. Ends without an error when the client leaves.

    Raises TimeoutError when the client takes nothing, and what the iterator raises.
    """
    left = asyncio.create_task(_has_left(receive))
    try:
        async for piece in pieces:
            if left.done():
                return
            async with asyncio.timeout(SEND_SECONDS_MAX):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        left.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await left


async def _has_left(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _caching(request: LinkRequest, seconds: int) -> tuple[bytes, bytes]:
    if request.method == "HEAD":
        return answers.NO_STORE
    return b"cache-control", b"private, max-age=%d" % (seconds // 6)


def _headers(file: File, etag: str | None) -> Headers:
    """Of every answer about the file, 304 too."""
    tag = [] if etag is None else [(b"etag", etag.encode())]
    return [*tag, (b"cache-control", b"private, max-age=%d" % (file.seconds // 6))]


def _description(request: LinkRequest, file: File) -> Headers:
    """A browser shows the file as what we have found it to be, runs nothing in it, and lets other pages embed it."""
    name = download_name(request.link, file)
    disposition = [(b"content-disposition", f'attachment; filename="{name}"'.encode())]
    return [
        (b"content-type", file.content_type.encode()),
        (b"accept-ranges", b"bytes"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"sandbox; default-src 'none'"),
        (b"cross-origin-resource-policy", b"cross-origin"),
        *(disposition if request.is_download else []),
    ]
