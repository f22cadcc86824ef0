"""Objects read by presigned URLs, on the event loop: a reader who waits costs no thread, and 1 MB of buffers.

boto3 would need a thread for each reader, for as long as he reads. Here boto3 only signs.
"""

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator

import httpx2

from archiver.failures import Failure, ObjectUnexpected, StoreError, StoreUnreachable
from archiver.version import USER_AGENT

CONNECT_SECONDS = 3.0
READ_SECONDS = 20.0
"""For the store's next bytes, while a reader waits for them."""
POOL_SECONDS = 3.0


class ObjectStreams:
    """Connections to the store. Belongs to one event loop."""

    def __init__(self, *, connections_max: int, ca_bundle: str | None = None) -> None:
        """`ca_bundle` is a file of certificates in PEM, in place of the system's. Opens no connection.

        Raises OSError when it cannot be read.
        """
        self._client = httpx2.AsyncClient(
            headers={"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"},
            verify=True if ca_bundle is None else ssl.create_default_context(cafile=ca_bundle),
            timeout=httpx2.Timeout(
                connect=CONNECT_SECONDS, read=READ_SECONDS, write=CONNECT_SECONDS, pool=POOL_SECONDS
            ),
            limits=httpx2.Limits(max_connections=connections_max, max_keepalive_connections=16),
            follow_redirects=False,
        )

    @contextlib.asynccontextmanager
    async def open(
        self, url: str, *, method: str = "GET", first: int, count: int, size: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The `count` bytes from `first` of an object of `size` bytes, once the store has begun to answer.

        For HEAD, `url` is presigned for it, and there are none to take.

        Raises StoreUnreachable, ObjectUnexpected where the object is missing or another, StoreError; the iterator too.
        No message has the URL.
        """
        asked = {"Range": f"bytes={first}-{first + count - 1}"} if count < size else {}
        with _translated():
            async with self._client.stream(method, url, headers=asked) as answer:
                skipped = _bytes_before(answer, first=first, count=count, size=size)
                yield _cut(answer.aiter_raw(), skipped=skipped, count=count)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Failure:
        raise
    except httpx2.TransportError as error:
        raise StoreUnreachable(f"read an object: {type(error).__name__}") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
        raise StoreError(f"read an object: {type(error).__name__}") from error


def _bytes_before(answer: httpx2.Response, *, first: int, count: int, size: int) -> int:
    """How many bytes of the answer come before those that were asked for. Raises ObjectUnexpected, StoreError."""
    if answer.status_code == 404:
        raise ObjectUnexpected("read an object: no object is there")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise StoreError("read an object: the store answers in an encoding that was not asked for")
    if answer.status_code not in {200, 206}:
        raise StoreError(f"read an object: the store answered {answer.status_code}")
    part = answer.headers.get("content-range")
    if part is not None or answer.status_code == 206:  # rclone sends the part that was asked for with 200
        if part != f"bytes {first}-{first + count - 1}/{size}":
            raise StoreError("read an object: the store answers with another range")
        return 0
    if answer.headers.get("content-length", str(size)) != str(size):
        raise ObjectUnexpected("read an object: it has another size than the file")
    return first


async def _cut(chunks: AsyncIterator[bytes], *, skipped: int, count: int) -> AsyncIterator[bytes]:
    """`count` bytes after the first `skipped`. Raises StoreError when they end before."""
    left = count
    async for chunk in chunks:
        if skipped >= len(chunk):
            skipped -= len(chunk)
            continue
        piece = chunk[skipped : skipped + left] if skipped or len(chunk) > left else chunk
        skipped = 0
        left -= len(piece)
        yield piece
        if not left:
            return
    raise StoreError(f"read an object: it ended {left} bytes early")
