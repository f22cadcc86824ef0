"""Creates of a client on a real ledger, with Kling scripted."""

import asyncio
import contextlib
import itertools
import json
import pathlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from archiver.create.callback_tokens import gateway_token
from archiver.fetch.urls import ConsumerPolicy
from archiver.ledger import Ledger
from archiver.metrics import CreateResult, Metrics
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.creates.handler import Creates
from receiver.gateway.creates.reading import CallbackAddress
from receiver.gateway.creates.refused_urls import RefusedUrls
from receiver.gateway.exchange import (
    Client,
    GatewayAnswer,
    GatewayRequest,
    RequestBody,
    Source,
)

ACCOUNT = "default"
TOKEN = gateway_token("a-callback-token-of-24-chars")
PUBLIC = "https://kling.example.com"
GENERATIONS = "/v1/images/generations"
NEW = "/text-to-video/kling-3.0-turbo"
CLIENT = "https://app.example.com/cb?job=1"

PATIENCE_SECONDS = 60.0

_Result = TypeVar("_Result")


def said(code: int = 0, data: object = None, *, status: int = 200, message: str = "SUCCEED") -> GatewayAnswer:
    body = {"code": code, "message": message, "request_id": "r", "data": data}
    return GatewayAnswer(status, [], json.dumps(body).encode(), Source.KLING)


def created(task_id: str = "t-1", **more: object) -> GatewayAnswer:
    return said(data={"task_id": task_id, "task_status": "submitted", **more})


Answer = GatewayAnswer | Exception | Callable[[bytes], GatewayAnswer]


class Kling:
    """An upstream with a script: what it got, and what it says; by default, that it has created a task."""

    buffered_bytes_max = 1 << 20

    def __init__(self, *answers: Answer) -> None:
        self.bodies: list[bytes] = []
        self.lengths: list[int] = []
        self.answers = list(answers)
        self.begun = asyncio.Event()
        self.may_answer: asyncio.Event | None = None
        self.numbers = itertools.count(1)

    async def send(
        self,
        request: GatewayRequest,
        *,
        answer_seconds: float,
        body: bytes | None = None,
        buffered_bytes_max: int | None = None,
    ) -> GatewayAnswer:
        del answer_seconds, body, buffered_bytes_max
        self.bodies.append(b"".join([chunk async for chunk in request.body.chunks()]))
        self.lengths.append(request.body.bytes_count)
        self.begun.set()
        if self.may_answer is not None:
            await self.may_answer.wait()
        answer = self.answers.pop(0) if self.answers else created(f"t-{next(self.numbers)}")
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, GatewayAnswer) else answer(self.bodies[-1])

    @property
    def last(self) -> dict[str, Any]:
        assert self.lengths[-1] == len(self.bodies[-1])
        read: dict[str, Any] = json.loads(self.bodies[-1])
        return read


class Gate:
    """Creates on a real ledger, with Kling scripted."""

    def __init__(
        self,
        folder: pathlib.Path,
        *answers: Answer,
        hosts: Sequence[str] = (),
        commit_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.folder = folder
        self.ledger = Ledger.open(f"sqlite:///{folder / 'ledger.db'}", daemon=False, create=True)
        self.metrics = Metrics()
        self.kling = Kling(*answers)
        self.calls = BlockingCalls(4, name="test")
        self.woken: list[str] = []
        self.seconds = 0.0
        self.creates = Creates(
            self.kling,
            self.ledger.gateway_creates,
            self.calls,
            self.calls,
            addresses={ACCOUNT: CallbackAddress(PUBLIC, TOKEN)},
            policy=ConsumerPolicy.parse(hosts),
            metrics=self.metrics,
            on_registered=self.woken.append,
            refused_urls=RefusedUrls(
                self.ledger.gateway_creates.refused_callbacks(), monotonic=lambda: self.seconds
            ),
            commit_seconds=commit_seconds,
        )

    async def post(self, body: object, path: str = GENERATIONS) -> GatewayAnswer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.creates.handle(self.request(RequestBody(raw, self.calls), path))

    def request(self, body: RequestBody, path: str = GENERATIONS) -> GatewayRequest:
        client = Client(ACCOUNT, b"Bearer x")
        kind: Any = "create"
        return GatewayRequest("POST", path.encode(), b"", [], body, client, kind)

    def count(self, result: CreateResult) -> float:
        value = self.metrics.registry.get_sample_value("kling_gateway_creates_total", {"result": result})
        assert value is not None
        return value

    def told(self, task_id: str = "t-1") -> tuple[str | None, object]:
        with self.ledger.database.read() as connection:
            row = connection.exec_driver_sql(
                "SELECT client_callback_url, request FROM tasks WHERE task_id = ?", (task_id,)
            ).one()
        return row[0], json.loads(row[1]) if row[1] else None

    def open_references(self) -> list[str | None]:
        with self.ledger.database.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT client_callback_url FROM gateway_creates WHERE state = 'open'"
            )
            return [row[0] for row in rows]

    async def settle(self) -> None:
        """Let what is written later be written."""
        await self.creates.close(seconds=PATIENCE_SECONDS)


Opened = Callable[..., contextlib.AbstractAsyncContextManager[Gate]]


def run(story: Awaitable[_Result]) -> _Result:
    async def within() -> _Result:
        async with asyncio.timeout(3 * PATIENCE_SECONDS):
            return await story

    return asyncio.run(within())


def token_segment(url: str) -> str:
    assert url.startswith(f"{PUBLIC}/callbacks/")
    return url.removeprefix(f"{PUBLIC}/callbacks/").partition("/")[0]
