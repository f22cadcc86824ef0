"""The outermost ASGI layer: logs every request, complains, dates every answer, and lets faults have their way.

It sits outside Starlette because faults break HTTP on purpose (half a body, a false length), which no framework
lets through: they write to the connection itself. After such a write the layer waits for the connection to end, so
that uvicorn never sees an application that returned without answering.
"""

import asyncio
import re
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tests.simulator.account import Account
from tests.simulator.families import LEGACY
from tests.simulator.faults import Answer, Faults, reset_on_close
from tests.simulator.request_log import Kind, LoggedRequest, RequestLog

TRANSPORT = "simulator.transport"
PRIVATE_HEADERS = ("authorization", "referer", "cookie")
"""None of these may ever reach the CDN."""
NEW_CREATE = re.compile(r"/text-to-video/[^/]+")


class TransportProtocol(HttpToolsProtocol):
    """uvicorn's protocol, showing the application the connection it speaks on."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: {"transport": self.transport}}


class Edge:
    """`prefix` is the gateway path before `/v1`, or empty."""

    def __init__(
        self, app: ASGIApp, *, account: Account, log: RequestLog, faults: Faults, prefix: str
    ) -> None:
        self._app = app
        self._account = account
        self._log = log
        self._faults = faults
        self._prefix = prefix
        self.on_request: Callable[[LoggedRequest], object] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            self._log.complain(f"not HTTP: {scope['type']}")
            return
        request = self._logged(scope)
        self._complain_of(request, scope)
        if self.on_request is not None:
            await asyncio.to_thread(self.on_request, request)
        exchange = _Exchange(self._app, scope, receive, send, request, self._date())
        fault = self._faults.take(request)
        if fault is None:
            await exchange.pass_through()
        else:
            await fault.answer(exchange)

    def _logged(self, scope: Scope) -> LoggedRequest:
        path = scope["raw_path"].decode("ascii", "replace")
        request = LoggedRequest(
            kind=kind_of(scope["method"], path, self._prefix),
            method=scope["method"],
            path=path,
            query=scope["query_string"].decode("ascii", "replace"),
            at=self._account.now(),
        )
        self._log.note(request)
        return request

    def _complain_of(self, request: LoggedRequest, scope: Scope) -> None:
        if request.kind == "unknown":
            self._log.complain(f"unknown path: {request.method} {request.path}")
        if request.kind == "cdn":
            sent = {name.decode("latin-1") for name, _ in scope["headers"]}
            for name in sent.intersection(PRIVATE_HEADERS):
                self._log.complain(f"{name} sent to the CDN: {request.path}")

    def _date(self) -> list[tuple[bytes, bytes]]:
        dated = self._account.switches.answers_dated
        return [(b"date", formatdate(self._account.now(), usegmt=True).encode())] if dated else []


def kind_of(method: str, path: str, prefix: str) -> Kind:
    """Which endpoint a request is for, by its path alone."""
    if path.startswith("/cdn/"):
        return "cdn"
    if path == f"{prefix}/tasks":
        return "tasks"
    if path == f"{prefix}/solutions":
        return "solutions"
    rest = path.removeprefix(f"{prefix}/v1/")
    if rest in LEGACY and rest != path:
        return "create" if method == "POST" else "list"
    if method == "POST" and NEW_CREATE.fullmatch(path.removeprefix(prefix)):
        return "create"
    parent = rest.rpartition("/")[0]
    return "query" if parent in LEGACY and rest != path else "unknown"


class _Exchange:
    """One request as faults see it; see `faults.Exchange`."""

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope,
        receive: Receive,
        send: Send,
        request: LoggedRequest,
        date: list[tuple[bytes, bytes]],
    ) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request = request
        self._date = date
        self._transport: asyncio.Transport = scope["extensions"][TRANSPORT]["transport"]

    async def pass_through(self) -> None:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._request.status = message["status"]
                message["headers"] = [*self._date, *message["headers"]]
            await self._send(message)

        await self._app(self._scope, self._receive, dated)

    async def normal(self) -> Answer:
        heads: list[Message] = []
        pieces: list[bytes] = []

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                heads.append(message)
            else:
                pieces.append(message.get("body", b""))

        await self._app(self._scope, self._receive, keep)
        return Answer(heads[0]["status"], list(heads[0]["headers"]), b"".join(pieces))

    async def send(self, answer: Answer) -> None:
        self._request.status = answer.status
        headers = [*self._date, *answer.headers]
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": answer.body})

    async def send_head(self, answer: Answer, *, length: int | None) -> None:
        self._request.status = answer.status
        headers = [*self._date, (b"connection", b"close")]
        headers += [pair for pair in answer.headers if pair[0] != b"content-length"]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        status = HTTPStatus(answer.status)
        lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
        lines += [name + b": " + value for name, value in headers]
        self._transport.write(b"\r\n".join(lines) + b"\r\n\r\n")

    async def send_piece(self, piece: bytes) -> None:
        self._transport.write(piece)

    async def close(self, *, reset: bool = False) -> None:
        if reset:
            reset_on_close(self._transport.get_extra_info("socket"))
        self._transport.close()
        await self.disconnected()

    async def disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
