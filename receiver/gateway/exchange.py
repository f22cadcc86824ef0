"""The types that the gateway's parts share: requests of clients, answers to them, and Kling in between.

`endpoint` turns what a client sent into a `GatewayRequest`. `creates`, `queries` or the relay of `upstream` turn it
into a `GatewayAnswer`, with the help of an `Upstream`, which is Kling.
"""

import dataclasses
import enum
import functools
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from archiver.fetch.spool import Reservation
from archiver.metrics import GatewayKind
from receiver.gateway.blocking import BlockingCalls

Headers = Sequence[tuple[bytes, bytes]]
"""Headers, their names in lower case."""

BLOCK_BYTES = 256 * 1024
"""The size of one read of a spooled body."""
SPOOL_SECONDS_MAX = 30.0
"""The limit of one read or write of the spool: a hanging disk must not block a client."""


class Source(enum.StrEnum):
    """The origin of an answer: the header `Kling-Archiver-Source`."""

    KLING = "kling"
    MANIFEST = "manifest"
    """At least one row of the answer was made from the archive."""
    GATEWAY = "gateway"


class NotReached(Exception):
    """Kling cannot have seen the request: there was no connection."""


class NoAnswer(Exception):
    """Kling may have acted on the request, and its answer is missing, late, cut or unreadable."""


class AnswerUndecodable(NoAnswer):
    """The answer came in an encoding that cannot be undone, or grows beyond the limit."""


@dataclasses.dataclass(frozen=True, slots=True)
class Client:
    """The client, as its credentials identify it."""

    account: str
    authorization: bytes | None = dataclasses.field(repr=False)
    """The Authorization header that goes on as it came; None for a gateway key, which is replaced by the account's own
    credentials."""


class RequestBody:
    """The whole body of a request: in memory, or a file of the spool. The endpoint that made it closes it. Work that
    goes on longer than the endpoint waits keeps it until its own end."""

    def __init__(self, content: bytes | Reservation, files: BlockingCalls) -> None:
        """`files` reads the spool."""
        self._content = content
        self._files = files
        self._users = 1
        self.bytes_count = len(content) if isinstance(content, bytes) else content.bytes_written

    @property
    def is_in_memory(self) -> bool:
        """False for a body of more than 1 MiB: `read` then takes as much memory."""
        return isinstance(self._content, bytes)

    async def read(self) -> bytes:
        """All of it. Raises TimeoutError, OSError when the spool cannot be read."""
        if isinstance(self._content, bytes):
            return self._content
        return b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """From the beginning, as often as wanted, by one reader at a time. Raises as `read` does."""
        if isinstance(self._content, bytes):
            yield self._content
            return
        file, offset = self._content.file, 0

        def block(start: int) -> bytes:
            file.seek(start)
            return file.read(BLOCK_BYTES)

        while offset < self.bytes_count:
            data = await self._files.run(functools.partial(block, offset), seconds=SPOOL_SECONDS_MAX)
            if not data:
                raise OSError("the spool's file is shorter than what was written")
            offset += len(data)
            yield data

    def keep(self) -> None:
        """Keep the body until it is closed once more."""
        self._users += 1

    def close(self) -> None:
        """Free the room in the spool, unless other code keeps the body."""
        self._users -= 1
        if self._users == 0 and not isinstance(self._content, bytes):
            self._content.close()


@dataclasses.dataclass(slots=True)
class Waiting:
    """How long a request has waited for others; the rest is the gateway's own time."""

    seconds: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class GatewayRequest:
    """A request of a client whose credentials have been checked.

    `path` is Kling's own, raw, without `/kling` and with one `/v1`. It begins with `/` and has one to five segments.
    """

    method: str
    path: bytes
    raw_query: bytes
    headers: Headers
    """The headers as they came, in their order. The upstream decides which of them it passes on."""
    body: RequestBody
    client: Client
    kind: GatewayKind
    family: str | None = None
    """The family of a create, a single query or a list below `/v1/`, known to us or not: `images/generations`."""
    identifier: str | None = None
    """The id in `GET /v1/<family>/{id}`, decoded: a task's id or an external one."""
    waited: Waiting = dataclasses.field(default_factory=Waiting)
    """For Kling's answers. The upstream adds to it, and so does a request that shares the answer to another one."""


@dataclasses.dataclass(slots=True)
class GatewayAnswer:
    """The client's answer. `headers` contain neither `content-length` nor any header of the connection."""

    status: int
    headers: Headers
    body: bytes | AsyncIterator[bytes]
    """Bytes when the whole answer has come. An iterator only for answers of more than `Upstream.buffered_bytes_max`: it
    raises NoAnswer when the rest does not come, and must be read to its end or closed (`aclose`)."""
    source: Source
    bytes_count: int | None = None
    """The length of a body that comes by iterator, if Kling announces it."""


class Upstream(Protocol):
    """Kling, as the gateway sees it."""

    @property
    def buffered_bytes_max(self) -> int:
        """Answers up to this many bytes are whole before `send` returns."""

    async def send(
        self,
        request: GatewayRequest,
        *,
        answer_seconds: float,
        body: bytes | None = None,
        buffered_bytes_max: int | None = None,
    ) -> GatewayAnswer:
        """Send the request once, with its own body or with `body` in its place.

        `answer_seconds` count from the body's last byte to the last byte of a buffered answer. An answer may have any
        status; what Kling says is not judged here.

        Raises:
            NotReached: nothing was sent.
            NoAnswer: the request may have been acted on.
        """


class Handler(Protocol):
    """Answers requests: `Creates`, `Queries` and `Relay`."""

    async def handle(self, request: GatewayRequest) -> GatewayAnswer:
        """Raises NotReached, NoAnswer as `Upstream.send`; the endpoint answers for them."""


def refusal(status: int, code: int, message: str, *, retry_after_seconds: int | None = None) -> GatewayAnswer:
    """An answer of the gateway's own, in Kling's envelope; `message` says that it was the gateway."""
    content = {"code": code, "message": message, "request_id": str(uuid.uuid4())}
    headers = [(b"content-type", b"application/json")]
    if retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % retry_after_seconds))
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return GatewayAnswer(status, headers, body, Source.GATEWAY)
