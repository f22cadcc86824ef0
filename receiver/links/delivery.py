"""How a stored file reaches the client: a redirect to the store or to a URL of the operator's, or the bytes themselves.

A cached redirect may be used for a sixth of the time that its presigned URL is valid, so that a URL from a cache is
still valid long enough. A redirect of HEAD is never cached: its URL would be refused for GET.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Protocol
from urllib.parse import quote

from starlette.types import Receive, Send

from archiver import log
from archiver.failures import Failure, ObjectUnexpected
from archiver.metrics import LinkResult
from archiver.store.object_streams import ObjectStreams
from receiver.links import answers
from receiver.links.answers import Headers, send_redirect, send_reply, send_whole
from receiver.links.finder import File, Found, Wanted, download_name
from receiver.links.paths import LinkedFile
from receiver.links.ranges import ByteRange, NotSatisfiable, has_it, wanted_range
from receiver.links.readers import PATIENCE_SECONDS, Reader, Readers
from receiver.server.replies import Reply
from receiver.server.turns import LoopTurns

YIELD_SECONDS = 0.004
"""Between two requests that begin, of all readers together, while callbacks are being committed."""
YIELD_BYTES = 128 * 1024
"""The pieces of files that yield as long as one request: 30 MB/s. Without these pauses callbacks wait in the event loop
behind a piece of each reader; with 200 readers that is 20 ms each time."""
_KEY_CHARACTERS = "/!$&'()*+,;=:@~"
"""Characters of keys that need no escaping in a path."""

_NOTHING = {"type": "http.response.body", "body": b"", "more_body": True}
"""The server lets this wait until the client has taken what was sent before, all but a few KB."""

_log = log.get()


@dataclasses.dataclass(frozen=True, slots=True)
class LinkRequest:
    """A request for a file, with a genuine link."""

    method: str
    """GET or HEAD."""
    headers: Headers
    link: LinkedFile
    is_download: bool
    unread_bytes: Callable[[], int]
    """Counts what the client has not read of the answer."""


class Delivery(Protocol):
    """One of the three ways to deliver a file."""

    async def may_begin(self) -> None:
        """Return when the file of a genuine link may be looked up."""

    def wanted(self, request: LinkRequest) -> Wanted | None:
        """The URL of the store's that this way needs."""

    async def deliver(self, request: LinkRequest, found: Found, receive: Receive, send: Send) -> LinkResult:
        """Answer: STORED, or REFUSED. The URL of `found` is the one that was wanted."""


class Redirect:
    """302 to the store, with a URL that is presigned for the method."""

    async def may_begin(self) -> None:
        """At once."""

    def wanted(self, request: LinkRequest) -> Wanted | None:
        return Wanted("HEAD" if request.method == "HEAD" else "GET", request.is_download)

    async def deliver(
        self,
        request: LinkRequest,
        found: Found,
        receive: Receive,  # noqa: ARG002 -- as in `Delivery`
        send: Send,
    ) -> LinkResult:
        if found.presigned is None:
            raise AssertionError("no URL was presigned")
        caching = _caching(request, found.presigned.seconds)
        await send_redirect(send, found.presigned.url, caching)
        return LinkResult.STORED


class PrefixRedirect:
    """302 to `<prefix><key>`."""

    def __init__(self, prefix: str) -> None:
        """`prefix` ends in a slash."""
        self._prefix = prefix

    async def may_begin(self) -> None:
        """At once."""

    def wanted(self, request: LinkRequest) -> Wanted | None:  # noqa: ARG002 -- as in `Delivery`
        return None

    async def deliver(
        self,
        request: LinkRequest,
        found: Found,
        receive: Receive,  # noqa: ARG002 -- as in `Delivery`
        send: Send,
    ) -> LinkResult:
        url = self._prefix + quote(found.file.key, safe=_KEY_CHARACTERS)
        await send_redirect(send, url, _caching(request, found.file.seconds))
        return LinkResult.STORED


class Stream:
    """The bytes, or a range of them. HEAD asks the store too, so that its answer equals that of GET; conditions do
    not."""

    def __init__(self, streams: ObjectStreams, *, is_door_busy: Callable[[], bool]) -> None:
        """`is_door_busy`: whether callbacks are being committed, which go first."""
        self._streams = streams
        self._readers = Readers()
        self._turns = LoopTurns(is_door_busy, yield_seconds=YIELD_SECONDS)

    async def may_begin(self) -> None:
        """In its turn: to look a file up, and to presign its URL on another thread, costs the event loop 1 ms or 2."""
        await self._turns.take()

    def wanted(self, request: LinkRequest) -> Wanted | None:
        return Wanted("HEAD" if request.method == "HEAD" else "GET")

    async def deliver(self, request: LinkRequest, found: Found, receive: Receive, send: Send) -> LinkResult:
        file = found.file
        etag = None if file.sha256 is None else f'"{file.sha256}"'
        headers = _headers(file, etag)
        if has_it(request.headers, etag=etag):
            await send_whole(send, 304, headers)
            return LinkResult.STORED
        try:
            part = _wanted_part(request, file, etag)
        except NotSatisfiable:
            refused = [(b"content-range", b"bytes */%d" % file.bytes), (b"content-length", b"0")]
            await send_whole(send, 416, [*refused, answers.NO_STORE])
            return LinkResult.REFUSED
        await self._turns.take()
        reader = self._readers.enter(file.key, request.unread_bytes)
        if reader is None:
            await send_reply(answers.BUSY, send)
            return LinkResult.REFUSED
        try:
            return await self._read(request, found, part, headers, reader, receive, send)
        finally:
            self._readers.leave(reader)

    async def _read(
        self,
        request: LinkRequest,
        found: Found,
        part: ByteRange | None,
        headers: Headers,
        reader: Reader,
        receive: Receive,
        send: Send,
    ) -> LinkResult:
        file, url = found.file, found.presigned.url if found.presigned else ""
        wanted = part or ByteRange(0, file.bytes)
        sent = [*headers, *_description(request, file), (b"content-length", b"%d" % wanted.count)]
        if part is not None:
            sent.append((b"content-range", part.content_range(file.bytes).encode()))
        start = {
            "type": "http.response.start",
            "status": 200 if part is None else 206,
            "headers": [*sent, *answers.ALWAYS],
        }
        has_begun = False
        try:
            async with (
                reader.limited(),
                _watched(reader, receive) as watching,
                self._streams.open(
                    url, method=request.method, first=wanted.first, count=wanted.count, size=file.bytes
                ) as pieces,
            ):
                has_begun = True
                await send(start)
                if request.method == "HEAD":
                    await send({"type": "http.response.body", "body": b""})
                else:
                    await send_pieces(self._in_turn(pieces), reader, send)
                watching.cancel()
        except (Failure, TimeoutError) as error:
            # Once it has begun, the server closes the connection: the client sees that bytes are missing.
            if not reader.has_left:
                _log_failed(request.link, file, error, reader)
            if not has_begun:
                await send_reply(_reply_to(error, reader), send)
                return LinkResult.REFUSED
        return LinkResult.STORED

    async def _in_turn(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same pieces, each in its turn. A piece takes its turn only after the store has sent it, because the store
        may be slow."""
        async for piece in pieces:
            await self._turns.take(len(piece) / YIELD_BYTES)
            yield piece


async def send_pieces(pieces: AsyncIterator[bytes], reader: Reader, send: Send) -> None:
    """The next piece is read when the client has taken the one before: until then the kernel and the store keep it.

    Raises what the iterator raises.
    """
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        reader.sent(len(piece))
        await send(_NOTHING)
        reader.look()
    await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def _watched(reader: Reader, receive: Receive) -> AsyncIterator[asyncio.Task[None]]:
    """When the client goes, the reader ends, though the store lets it wait. The task is to be cancelled at the end."""
    watching = asyncio.create_task(_watch(reader, receive))
    try:
        yield watching
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _watch(reader: Reader, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reader.client_left()


def _wanted_part(request: LinkRequest, file: File, etag: str | None) -> ByteRange | None:
    """None for the whole file; a range is for GET alone. Raises NotSatisfiable."""
    if request.method == "HEAD":
        return None
    return wanted_range(request.headers, size=file.bytes, etag=etag)


def _reply_to(error: Failure | TimeoutError, reader: Reader) -> Reply:
    if isinstance(error, ObjectUnexpected):
        return answers.MISSING
    return answers.BUSY if reader.is_displaced else answers.NOT_NOW


def _log_failed(link: LinkedFile, file: File, error: Failure | TimeoutError, reader: Reader) -> None:
    named = {"account": link.account, "task_id": link.task_id, "stem": link.stem}
    if isinstance(error, ObjectUnexpected):
        _log.error("object.missing", **named, key=file.key, what_to_do=error.what_to_do)
        return
    slow = f"less than 64 KiB passed in {PATIENCE_SECONDS:.0f} s"
    _log.warning(
        "link.failed",
        **named,
        message=str(error) or ("a slow reader left its place to another" if reader.is_displaced else slow),
    )


def _caching(request: LinkRequest, seconds: int) -> tuple[bytes, bytes]:
    if request.method == "HEAD":
        return answers.NO_STORE
    return b"cache-control", b"private, max-age=%d" % (seconds // 6)


def _headers(file: File, etag: str | None) -> Headers:
    """The headers of every answer about the file, including 304."""
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
