"""Serves Kling's own paths: checks credentials and request, lets a handler answer, and counts the answer.

The order is the guarantee: credentials before anything else is read, then the path, the framing, and the body. Every
case ends in one answer in Kling's envelope and one count. A client's mistake or a silent Kling is one log line.

It is plain ASGI, because Starlette's routing and middleware cost too much. Every answer says where it comes from.
"""

import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from archiver import log
from archiver.kling.client_credentials import ClientCredentials, CredentialProblem
from archiver.metrics import GatewayKind, Metrics
from receiver.gateway.exchange import (
    AnswerUndecodable,
    Client,
    GatewayAnswer,
    GatewayRequest,
    Handler,
    Headers,
    NoAnswer,
    NotReached,
    RequestBody,
    refusal,
)
from receiver.gateway.front.bodies import BodyReader, SpoolUnusable
from receiver.gateway.front.paths import KlingPath, is_klings, read_path
from receiver.server import replies
from receiver.server.bodies import BodyProblem
from receiver.server.protocol import BODY_HAS_OWN_LIMIT
from receiver.server.replies import Reply
from receiver.server.turns import LoopTurns

REQUESTS_MAX = 256
"""Requests under way at once: each may hold a megabyte of body and a megabyte of answer."""
YIELD_SECONDS = 0.02
"""The pause between two requests that begin while callbacks are being committed."""
SOURCE = b"kling-archiver-source"

_log = log.get()


def _reply(status: int, code: int, message: str, *, retry_after: bool = False) -> Reply:
    extra = (replies.FROM_GATEWAY, replies.RETRY_AFTER) if retry_after else (replies.FROM_GATEWAY,)
    return Reply(status, code, message, extra)


_UNAUTHORIZED: Final[Mapping[CredentialProblem, Reply]] = {
    CredentialProblem.MISSING: _reply(401, 1001, "The gateway got no Authorization header."),
    CredentialProblem.UNKNOWN: _reply(401, 1000, "The gateway does not accept these credentials."),
}
_NOT_PASSED_ON: Final = frozenset({"CONNECT", "TRACE"})
"""CONNECT would open a tunnel, and the answer to TRACE would show the account's own credentials."""
_METHOD_REFUSED = Reply(
    405,
    1202,
    "The gateway does not pass on this method.",
    (replies.FROM_GATEWAY, (b"allow", b"GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE")),
)
_PATH_REFUSED = _reply(400, 1200, "The gateway does not pass on this path or query.")
_AMBIGUOUS = _reply(
    400, 1200, "The gateway does not pass on a request whose headers can be read in two ways."
)
_ENCODED = _reply(415, 1200, "The gateway takes bodies without a Content-Encoding only.")
_TOO_LARGE = _reply(413, 1200, "The gateway takes bodies of at most 100 MiB.")
_TOO_SLOW = _reply(408, 1200, "The gateway did not get the whole body in time.")
_BUSY = _reply(503, 5001, "The gateway has too many requests under way.", retry_after=True)
_NO_ROOM = _reply(503, 5001, "The gateway has no room for the body now.", retry_after=True)
_FAILED = _reply(500, 5000, "An internal error of the gateway; it has been logged.")
_BODY_PROBLEMS: Final[Mapping[BodyProblem, Reply]] = {
    BodyProblem.TOO_LARGE: _TOO_LARGE,
    BodyProblem.TOO_SLOW: _TOO_SLOW,
}
_SINGLE = frozenset(
    {b"authorization", b"content-type", b"content-length", b"transfer-encoding", b"content-encoding"}
)


@dataclasses.dataclass(frozen=True, slots=True)
class Handlers:
    """The handler of each kind of request."""

    creates: Handler
    queries: Handler
    """Single queries and lists."""
    others: Handler

    def of(self, kind: GatewayKind) -> Handler:
        if kind is GatewayKind.CREATE:
            return self.creates
        return self.others if kind is GatewayKind.OTHER else self.queries


class GatewayEndpoint:
    """The ASGI application for all paths that `is_klings`."""

    def __init__(
        self,
        credentials: ClientCredentials,
        handlers: Handlers,
        bodies: BodyReader,
        metrics: Metrics,
        *,
        requests_max: int = REQUESTS_MAX,
        is_door_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_door_busy`: whether callbacks are being committed, which go first."""
        self._credentials = credentials
        self._handlers = handlers
        self._bodies = bodies
        self._metrics = metrics
        self._requests_max = requests_max
        self._turns = LoopTurns(is_door_busy, yield_seconds=YIELD_SECONDS)
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. Every answer names its source."""
        has_begun = False

        async def noting_send(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._serve(scope, receive, noting_send)
        except Exception:
            if has_begun:
                raise
            _log.exception("request.failed", method=scope["method"])
            self._count(GatewayKind.OTHER, _FAILED.status)
            await replies.send_early(_FAILED, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = scope["headers"]
        path = read_path(scope["method"], _raw_path(scope), scope["query_string"])
        kind = GatewayKind.OTHER if path is None else path.kind
        known = self._credentials.recognise(headers)
        if isinstance(known, CredentialProblem):
            return await self._refuse(_UNAUTHORIZED[known], known, kind, None, receive, send)
        account = known.account
        if scope["method"] in _NOT_PASSED_ON:
            return await self._refuse(_METHOD_REFUSED, "method_refused", kind, account, receive, send)
        if path is None:
            return await self._refuse(_PATH_REFUSED, "path_refused", kind, account, receive, send)
        if self._under_way >= self._requests_max:
            return await self._refuse(_BUSY, "too_many_requests", kind, account, receive, send)
        unfit = _unfit(scope["http_version"], headers)
        if unfit is not None:
            return await self._refuse(unfit, "headers_refused", kind, account, receive, send)
        client = Client(account, _authorization(headers) if known.goes_on else None)
        self._under_way += 1
        try:
            await self._exchange(scope, path, client, receive, send)
        finally:
            self._under_way -= 1

    async def _exchange(
        self, scope: Scope, path: KlingPath, client: Client, receive: Receive, send: Send
    ) -> None:
        scope[BODY_HAS_OWN_LIMIT] = True
        try:
            body = await self._bodies.read(receive, scope["headers"])
        except SpoolUnusable as error:
            _log.warning("gateway.spool_unusable", cause=str(error))
            return await self._refuse(_NO_ROOM, "no_room", path.kind, client.account, receive, send)
        if body is BodyProblem.DISCONNECTED:
            return None
        if isinstance(body, BodyProblem):
            return await self._refuse(_BODY_PROBLEMS[body], body, path.kind, client.account, receive, send)
        with contextlib.closing(body):
            await self._answer(_request(scope, path, client, body), send)
        return None

    async def _answer(self, request: GatewayRequest, send: Send) -> None:
        began = time.perf_counter()
        await self._turns.take()
        answer = await self._answer_of(request)
        self._metrics.gateway_overhead_seconds.observe(
            max(0.0, time.perf_counter() - began - request.waited.seconds)
        )
        self._count(request.kind, answer.status)
        await _send(answer, send, has_body=request.method != "HEAD")

    async def _answer_of(self, request: GatewayRequest) -> GatewayAnswer:
        try:
            return await self._handlers.of(request.kind).handle(request)
        except NotReached as error:
            self._log_unanswered(request, error)
            return refusal(503, 5001, "The gateway could not reach Kling.", retry_after_seconds=5)
        except AnswerUndecodable as error:
            self._log_unanswered(request, error)
            return refusal(502, 5001, "The gateway could not decode the answer of Kling.")
        except NoAnswer as error:
            self._log_unanswered(request, error)
            return refusal(
                504, 5002, "The gateway got no whole answer from Kling; the request may have been acted on."
            )
        except Exception:  # noqa: BLE001 -- counted under its kind, with its traceback in the log
            _log.exception("request.failed", method=request.method)
            return refusal(500, 5000, "An internal error of the gateway; it has been logged.")

    def _log_unanswered(self, request: GatewayRequest, error: Exception) -> None:
        _log.warning(
            "gateway.unanswered",
            account=request.client.account,
            kind=request.kind,
            family=request.family,
            cause=f"{type(error).__name__}: {error}",
        )

    async def _refuse(
        self, reply: Reply, reason: str, kind: GatewayKind, account: str | None, receive: Receive, send: Send
    ) -> None:
        self._count(kind, reply.status)
        _log.warning("gateway.refused", reason=reason, account=account, kind=kind)
        await replies.send_early(reply, receive, send)

    def _count(self, kind: GatewayKind, status: int) -> None:
        self._metrics.gateway_requests_total.labels(kind=kind, code=str(status)).inc()


def is_for_gateway(scope: Scope) -> bool:
    """Whether a request is the gateway's to answer."""
    return scope["type"] == "http" and is_klings(_raw_path(scope))


def _raw_path(scope: Scope) -> bytes:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw


def _authorization(headers: Headers) -> bytes:
    return next(value for name, value in headers if name == b"authorization")


def _unfit(http_version: str, headers: Headers) -> Reply | None:
    """The refusal of headers that servers read differently, and of encoded bodies; None if all is well."""
    if http_version not in {"1.0", "1.1"}:
        return _AMBIGUOUS
    given = [(name, value.strip().lower()) for name, value in headers if name in _SINGLE]
    names = [name for name, _ in given]
    if len(set(names)) < len(names):
        return _AMBIGUOUS
    values = dict(given)
    if b"transfer-encoding" in values:
        is_plain = values[b"transfer-encoding"] == b"chunked" and b"content-length" not in values
        if not is_plain or http_version == "1.0":
            return _AMBIGUOUS
    return _ENCODED if values.get(b"content-encoding", b"identity") not in {b"identity", b""} else None


def _request(scope: Scope, path: KlingPath, client: Client, body: RequestBody) -> GatewayRequest:
    return GatewayRequest(
        scope["method"],
        path.path,
        scope["query_string"],
        scope["headers"],
        body,
        client,
        path.kind,
        path.family,
        path.identifier,
    )


async def _send(answer: GatewayAnswer, send: Send, *, has_body: bool) -> None:
    """Send an answer. HEAD gets no length, because the length for GET is not known."""
    headers = [*answer.headers, (SOURCE, answer.source.encode())]
    length = len(answer.body) if isinstance(answer.body, bytes) else answer.bytes_count
    if has_body and length is not None and answer.status not in {204, 304}:
        headers.append((b"content-length", b"%d" % length))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if isinstance(answer.body, bytes):
        await send({"type": "http.response.body", "body": answer.body})
    else:
        await _send_pieces(answer.body, send)


async def _send_pieces(pieces: AsyncIterator[bytes], send: Send) -> None:
    """An answer that is cut on its way stays without its end, so that the client does not take it for whole."""
    try:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except NoAnswer as error:
        _log.warning("gateway.answer_cut", cause=str(error))
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()  # or the connection to Kling would stay open until it is collected
