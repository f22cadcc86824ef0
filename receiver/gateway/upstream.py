"""Sends a client's request to Kling, once, and passes the answer on.

1. The client's part is passed on as it came: method, raw path, query, body, `Content-Type`, `Accept`, `User-Agent`, and
   its own credentials if they are Kling's. Framing and connection are ours, so nothing can be smuggled through.
2. Of the answer, status, bytes, `Content-Type`, `Retry-After` and the id of the request go back. A short answer is
   complete before the client gets any of it: a truncated one is no answer.
3. Every wait ends: for a connection, for the body to be sent, for the answer.
"""

import asyncio
import dataclasses
import functools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from archiver.fetch.proxy import Proxy
from archiver.fetch.urls import vet_own
from archiver.kling.credentials import Bearer, Credential
from archiver.metrics import GatewayKind
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.connections import ApiAnswer, ApiConnections, Content
from receiver.gateway.decoding import DECODED_BYTES_MAX, Undecodable, decode, is_encoded
from receiver.gateway.exchange import (
    AnswerUndecodable,
    GatewayAnswer,
    GatewayRequest,
    Source,
    Upstream,
)
from receiver.gateway.received import (
    announced,
    passed_on,
    read_at_most,
    require_whole_json,
    rest_of,
    translated,
)

CONNECT_SECONDS = 3.0
SEND_SECONDS_MIN = 30.0
SEND_BYTES_PER_SECOND_MIN = 64 * 1024
QUERY_SECONDS = 10.0
CREATE_SECONDS = 120.0
"""The API looks at the images of a create before it answers."""
BUFFERED_BYTES_MAX = 1024 * 1024
DECODE_SECONDS_MAX = 10.0

_GO_ON = frozenset({b"content-type", b"accept", b"user-agent"})
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclasses.dataclass(frozen=True, slots=True)
class KlingAccess:
    """The URL of an account's API, and its own credentials."""

    base_url: str
    credential: Credential = dataclasses.field(repr=False)


class KlingUpstream:
    """The APIs of all accounts. For one event loop."""

    def __init__(
        self,
        accounts: Mapping[str, KlingAccess],
        *,
        connections_max: int,
        decoder: BlockingCalls,
        proxy: Proxy | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`proxy`: the one of the environment."""
        self._apis = {
            name: _Api(
                access,
                ApiConnections(
                    vet_own(access.base_url).origin,
                    connections_max=connections_max,
                    connect_seconds=CONNECT_SECONDS,
                    proxy=proxy,
                ),
                now=now,
            )
            for name, access in accounts.items()
        }
        self._decoder = decoder

    @property
    def buffered_bytes_max(self) -> int:
        return BUFFERED_BYTES_MAX

    async def send(
        self,
        request: GatewayRequest,
        *,
        answer_seconds: float,
        body: bytes | None = None,
        buffered_bytes_max: int | None = None,
    ) -> GatewayAnswer:
        """See `Upstream`."""
        began = time.perf_counter()
        try:
            return await self._send(request, answer_seconds, body, buffered_bytes_max or BUFFERED_BYTES_MAX)
        finally:
            request.waited.seconds += time.perf_counter() - began

    async def _send(
        self, request: GatewayRequest, answer_seconds: float, body: bytes | None, buffered_bytes_max: int
    ) -> GatewayAnswer:
        api = self._apis[request.client.account]
        own = request.client.authorization is None
        authorization = request.client.authorization or api.authorization()
        answer = await self._ask(api, request, authorization, answer_seconds, body, buffered_bytes_max)
        is_renewed = own and answer.status == 401 and api.renew(authorization)
        if is_renewed and changes_nothing(request):
            answer = await self._ask(
                api, request, api.authorization(), answer_seconds, body, buffered_bytes_max
            )
        return answer

    async def _ask(
        self,
        api: "_Api",
        request: GatewayRequest,
        authorization: bytes,
        answer_seconds: float,
        body: bytes | None,
        buffered_bytes_max: int,
    ) -> GatewayAnswer:
        bytes_count = request.body.bytes_count if body is None else len(body)
        loop = asyncio.get_running_loop()
        with translated():
            async with asyncio.timeout(None) as limit:

                def sent() -> None:
                    if not limit.expired():
                        limit.reschedule(loop.time() + answer_seconds)

                sending = (
                    SEND_SECONDS_MIN + bytes_count / SEND_BYTES_PER_SECOND_MIN
                    if bytes_count
                    else answer_seconds
                )
                limit.reschedule(loop.time() + CONNECT_SECONDS + sending)
                content = functools.partial(_content, request, body, sent) if bytes_count else None
                answer = await api.open(request, authorization, content, bytes_count)
                try:
                    return await self._read(answer, buffered_bytes_max)
                except BaseException:
                    await answer.close()
                    raise

    async def _read(self, answer: ApiAnswer, buffered_bytes_max: int) -> GatewayAnswer:
        encoding = answer.header(b"content-encoding")
        if is_encoded(encoding):
            buffered_bytes_max = DECODED_BYTES_MAX
        headers = passed_on(answer)
        pieces = answer.pieces()
        whole, begun = await read_at_most(pieces, buffered_bytes_max)
        if whole:
            await answer.close()
            content = await self._decoded(begun, encoding)
            require_whole_json(content, answer)
            return GatewayAnswer(answer.status, headers, content, Source.KLING)
        if is_encoded(encoding):
            raise AnswerUndecodable("an encoded answer is too large")
        rest = rest_of(answer, begun, pieces)
        return GatewayAnswer(answer.status, headers, rest, Source.KLING, announced(answer))

    async def _decoded(self, content: bytes, encoding: str) -> bytes:
        if not is_encoded(encoding) or not content:
            return content
        try:
            return await self._decoder.run(lambda: decode(content, encoding), seconds=DECODE_SECONDS_MAX)
        except Undecodable as error:
            raise AnswerUndecodable(str(error)) from None

    async def close(self) -> None:
        for api in self._apis.values():
            await api.close()


class _Api:
    """One account's API, with its connections."""

    def __init__(self, access: KlingAccess, connections: ApiConnections, *, now: Callable[[], float]) -> None:
        self._prefix = vet_own(access.base_url).target.rstrip(b"/")
        self._bearer = Bearer(access.credential, now=now)
        self._connections = connections

    def authorization(self) -> bytes:
        return f"Bearer {self._bearer.current()}".encode("ascii")

    def renew(self, refused: bytes) -> bool:
        """Whether a fresh token can be signed in place of one that was refused."""
        return self._bearer.drop(refused.decode("ascii").removeprefix("Bearer "))

    async def open(
        self,
        request: GatewayRequest,
        authorization: bytes,
        content: Content | None,
        bytes_count: int,
    ) -> ApiAnswer:
        headers = [(name, value) for name, value in request.headers if name in _GO_ON]
        headers += [(b"authorization", authorization), (b"accept-encoding", b"identity")]
        if content is not None or request.method in {"POST", "PUT", "PATCH"}:
            headers.append((b"content-length", b"%d" % bytes_count))
        query = b"?" + request.raw_query if request.raw_query else b""
        return await self._connections.send(
            request.method,
            self._prefix + request.path + query,
            headers,
            content,
            is_repeatable=changes_nothing(request),
        )

    async def close(self) -> None:
        await self._connections.close()


async def _content(
    request: GatewayRequest, body: bytes | None, sent: Callable[[], None]
) -> AsyncIterator[bytes]:
    try:
        if body is not None:
            yield body
        else:
            async for chunk in request.body.chunks():
                yield chunk
    finally:  # also where Kling answers before it has read all
        sent()


def changes_nothing(request: GatewayRequest) -> bool:
    """A path that this version does not know may create something."""
    return request.method in _READING or request.kind in {GatewayKind.QUERY, GatewayKind.LIST}


def answer_seconds_of(request: GatewayRequest) -> float:
    """Kling takes longer to answer a request that may create something."""
    return QUERY_SECONDS if changes_nothing(request) else CREATE_SECONDS


class Relay:
    """Passes on, unchanged, requests that neither create nor ask for results. See `Handler`."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def handle(self, request: GatewayRequest) -> GatewayAnswer:
        return await self._upstream.send(request, answer_seconds=answer_seconds_of(request))
