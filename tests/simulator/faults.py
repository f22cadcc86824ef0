"""Ways to answer wrongly. A test arms them per endpoint; the edge asks `Faults.take` before every request.

A fault sees the request before the API does and decides whether the API still does its work: `ErrorCode`, `Hang`,
`Html`, `Empty`, `Json`, `Raw`, `Redirect` and `Drop` fail *instead of* it; `Cut`, `Truncate`, `LyingLength`,
`WrongType`, `Drip`, `Endless` and `Bomb` fail *after* it (a create that is cut has created the task: failed, but
happened), and `Happened` makes any of the first kind one of the second.
"""

import asyncio
import dataclasses
import json
import socket
import struct
import threading
import uuid
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

from tests.simulator.request_log import Kind, LoggedRequest

Headers = list[tuple[bytes, bytes]]


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    headers: Headers
    body: bytes


class Exchange(Protocol):
    """What a fault can do with one request."""

    async def normal(self) -> Answer:
        """Let the API do its work and keep what it would have said."""

    async def send(self, answer: Answer) -> None:
        """A well-formed response."""

    async def send_head(self, answer: Answer, *, length: int | None) -> None:
        """Status line and headers with any Content-Length, or none, for a body that ends with the connection."""

    async def send_piece(self, piece: bytes) -> None:
        """Bytes of the body after `send_head`."""

    async def close(self, *, reset: bool = False) -> None:
        """End the connection, with a TCP reset if asked."""

    async def disconnected(self) -> None:
        """Return once the client (or the simulator, when it stops) has closed the connection."""


class Fault(Protocol):
    """A wrong answer to one request."""

    async def answer(self, exchange: Exchange) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorCode:
    """The API's own envelope: HTTP `status`, `code`, `message`."""

    status: int
    code: int
    message: str = "simulated fault"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    async def answer(self, exchange: Exchange) -> None:
        body = {"code": self.code, "message": self.message, "request_id": str(uuid.uuid4())}
        await Json(body, status=self.status, headers=self.headers).answer(exchange)


def too_fast() -> ErrorCode:
    """429/1302."""
    return ErrorCode(429, 1302, "requests too fast")


def over_concurrency() -> ErrorCode:
    """429/1303."""
    return ErrorCode(429, 1303, "parallel task over resource pack limit")


def server_error() -> ErrorCode:
    """500/5000."""
    return ErrorCode(500, 5000, "server internal error")


@dataclasses.dataclass(frozen=True, slots=True)
class Raw:
    """Any status, headers and body."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    async def answer(self, exchange: Exchange) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        length = (b"content-length", str(len(self.body)).encode())
        await exchange.send(Answer(self.status, [*headers, length], self.body))


@dataclasses.dataclass(frozen=True, slots=True)
class Json:
    """Any JSON text; a `str` is sent as it is, whether it is JSON or not."""

    body: object
    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    async def answer(self, exchange: Exchange) -> None:
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        headers = {"content-type": "application/json", **self.headers}
        await Raw(self.status, text.encode("utf-8", "surrogatepass"), headers).answer(exchange)


@dataclasses.dataclass(frozen=True, slots=True)
class Html:
    """A gateway's page."""

    status: int = 200

    async def answer(self, exchange: Exchange) -> None:
        page = b"<!DOCTYPE html><html><body><h1>Bad gateway</h1></body></html>"
        await Raw(self.status, page, {"content-type": "text/html"}).answer(exchange)


@dataclasses.dataclass(frozen=True, slots=True)
class Empty:
    """No body at all."""

    status: int = 200

    async def answer(self, exchange: Exchange) -> None:
        await Raw(self.status).answer(exchange)


@dataclasses.dataclass(frozen=True, slots=True)
class Redirect:
    """To any URL."""

    location: str
    status: int = 302

    async def answer(self, exchange: Exchange) -> None:
        await Raw(self.status, headers={"location": self.location}).answer(exchange)


@dataclasses.dataclass(frozen=True, slots=True)
class Hang:
    """Never answers; ends when the client gives up or the simulator stops."""

    async def answer(self, exchange: Exchange) -> None:
        await exchange.disconnected()


@dataclasses.dataclass(frozen=True, slots=True)
class Drop:
    """The connection ends before anything was done, and without a byte."""

    reset: bool = False

    async def answer(self, exchange: Exchange) -> None:
        await exchange.close(reset=self.reset)


@dataclasses.dataclass(frozen=True, slots=True)
class Happened:
    """The API does its work, and then says whatever `said` says instead of what came of it."""

    said: Fault

    async def answer(self, exchange: Exchange) -> None:
        await exchange.normal()
        await self.said.answer(exchange)


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """The true answer with its true Content-Length, cut off after a share of the body.

    `kept` 0 closes the connection without a byte.
    """

    kept: float = 0.5
    reset: bool = False

    async def answer(self, exchange: Exchange) -> None:
        answer = await exchange.normal()
        if self.kept > 0:
            await exchange.send_head(answer, length=len(answer.body))
            await exchange.send_piece(answer.body[: int(len(answer.body) * self.kept)])
        await exchange.close(reset=self.reset)


@dataclasses.dataclass(frozen=True, slots=True)
class Truncate:
    """A share of the body, in a response that HTTP alone cannot tell from a whole one.

    Either Content-Length agrees with the short body, or there is none and the connection's end is the body's.
    """

    kept: float = 0.5
    with_length: bool = False

    async def answer(self, exchange: Exchange) -> None:
        answer = await exchange.normal()
        body = answer.body[: int(len(answer.body) * self.kept)]
        await exchange.send_head(answer, length=len(body) if self.with_length else None)
        await exchange.send_piece(body)
        await exchange.close()


@dataclasses.dataclass(frozen=True, slots=True)
class LyingLength:
    """The whole body under a Content-Length that is off by `delta` bytes; negative hides the end of the body."""

    delta: int

    async def answer(self, exchange: Exchange) -> None:
        answer = await exchange.normal()
        await exchange.send_head(answer, length=max(0, len(answer.body) + self.delta))
        await exchange.send_piece(answer.body)
        await exchange.close()


@dataclasses.dataclass(frozen=True, slots=True)
class WrongType:
    """The true bytes under another Content-Type; None sends no type at all."""

    content_type: str | None = "application/octet-stream"

    async def answer(self, exchange: Exchange) -> None:
        answer = await exchange.normal()
        headers = [pair for pair in answer.headers if pair[0] != b"content-type"]
        if self.content_type is not None:
            headers.append((b"content-type", self.content_type.encode()))
        await exchange.send(Answer(answer.status, headers, answer.body))


@dataclasses.dataclass(frozen=True, slots=True)
class Drip:
    """The true answer, `piece_bytes` at a time with `pause_seconds` between; stops when the client has gone."""

    piece_bytes: int = 100
    pause_seconds: float = 0.05

    async def answer(self, exchange: Exchange) -> None:
        answer = await exchange.normal()
        await exchange.send_head(answer, length=len(answer.body))
        gone = asyncio.ensure_future(exchange.disconnected())
        for at in range(0, len(answer.body), self.piece_bytes):
            await exchange.send_piece(answer.body[at : at + self.piece_bytes])
            await asyncio.wait([gone], timeout=self.pause_seconds)
            if gone.done():
                return
        await exchange.close()
        await gone


@dataclasses.dataclass(frozen=True, slots=True)
class Endless:
    """The true bytes and then noise for as long as anybody listens; no Content-Length tells."""

    async def answer(self, exchange: Exchange) -> None:
        answer = await exchange.normal()
        await exchange.send_head(answer, length=None)
        await exchange.send_piece(answer.body)
        gone = asyncio.ensure_future(exchange.disconnected())
        while not gone.done():
            await exchange.send_piece(bytes(65536))
            await asyncio.wait([gone], timeout=0)


@dataclasses.dataclass(frozen=True, slots=True)
class Bomb:
    """The true type, and a body that unfolds to `mebibytes` of zeros under a Content-Encoding that was not
    requested."""

    mebibytes: int = 1024

    async def answer(self, exchange: Exchange) -> None:
        answer = await exchange.normal()
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        packed = [packer.compress(bytes(1024 * 1024)) for _ in range(self.mebibytes)]
        headers = [*answer.headers, (b"content-encoding", b"gzip")]
        body = b"".join([*packed, packer.flush()])
        headers = [pair for pair in headers if pair[0] != b"content-length"]
        length = (b"content-length", str(len(body)).encode())
        await exchange.send(Answer(answer.status, [*headers, length], body))


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """Runs `before` (edit the account, set an event, wait for one) in a thread, then answers normally."""

    before: Callable[[], object]

    async def answer(self, exchange: Exchange) -> None:
        await asyncio.to_thread(self.before)
        await exchange.send(await exchange.normal())


@dataclasses.dataclass(slots=True)
class _Armed:
    kind: Kind | None
    fault: Fault
    left: int | None
    match: str


class Faults:
    """The armed faults. The oldest one that fits a request is taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []

    def arm(self, kind: Kind | None, fault: Fault, *, times: int | None = None, match: str = "") -> None:
        """For the next `times` requests (None: until cleared) of the endpoint (None: any) with `match` in
        their path and query."""
        with self._lock:
            self._armed.append(_Armed(kind, fault, times, match))

    def clear(self, kind: Kind | None = None) -> None:
        """Disarm those of one endpoint, or all."""
        with self._lock:
            self._armed = [armed for armed in self._armed if kind is not None and armed.kind != kind]

    def take(self, request: LoggedRequest) -> Fault | None:
        with self._lock:
            for armed in self._armed:
                target = f"{request.path}?{request.query}"
                if armed.kind in (None, request.kind) and armed.match in target:
                    if armed.left is not None:
                        armed.left -= 1
                        if armed.left == 0:
                            self._armed.remove(armed)
                    return armed.fault
        return None


def reset_on_close(connection: socket.socket) -> None:
    """Makes the close of this connection a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
