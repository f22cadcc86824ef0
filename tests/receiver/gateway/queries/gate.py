"""Queries of a client over a simulated account: a real upstream, a real ledger, real links."""

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any, Self

from archiver.failures import LedgerUnavailable
from archiver.kling.credentials import ApiKey
from archiver.model import State
from archiver.record import Recorder
from archiver.store.links import LinkSigner
from receiver.gateway.blocking import BlockingCalls
from receiver.gateway.exchange import (
    Client,
    GatewayAnswer,
    GatewayRequest,
    RequestBody,
)
from receiver.gateway.front.paths import read_path
from receiver.gateway.queries.account_tasks import AccountTasks
from receiver.gateway.queries.archived_tasks import ArchivedTasks
from receiver.gateway.queries.handler import Queries
from receiver.gateway.queries.recorder import AnswerRecorder
from receiver.gateway.upstream import KlingAccess, KlingUpstream
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.harness.passing_loop import PassingLoop
from tests.simulator import KlingSimulator
from tests.simulator.server import API_KEY

PUBLIC = "https://kling.example.com"
SIGNER = LinkSigner(["a-link-secret-of-32-characters-or-more"], public_url=PUBLIC)
OTHER = "other"
EXPAND = "images/editing/expand"
SERIES = "images/omni-image"
TRY_ON = "solutions/virtual_try_on"
CLIENTS_URL = "https://app.example.com/cb?a=b"
PATIENCE_SECONDS = 60.0
"""Only what is broken takes so long, on any machine."""


class Gate:
    """Queries of one process over a simulated account."""

    def __init__(
        self,
        sim: KlingSimulator,
        engine: Engine,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        record_seconds: float = PATIENCE_SECONDS,
        families: tuple[str, ...] = (FAMILY,),
    ) -> None:
        self.sim, self.engine = sim, engine
        self.seconds = 0.0
        self.loop = PassingLoop()
        self._runner = asyncio.Runner(loop_factory=lambda: self.loop)
        self._calls = [BlockingCalls(2, name=f"test-{number}") for number in range(4)]
        self.upstream = KlingUpstream(
            {name: KlingAccess(sim.base_url, ApiKey(API_KEY)) for name in (ACCOUNT, OTHER)},
            connections_max=64,
            decoder=self._calls[0],
        )
        accounts = {
            name: AccountTasks(
                Recorder(name, engine.ledger, engine.metrics, lambda: 0.5), families, SIGNER, PUBLIC
            )
            for name in (ACCOUNT, OTHER)
        }
        archived = ArchivedTasks(
            engine.ledger.views,
            engine.store,
            signers={name: account.signer for name, account in accounts.items()},
            ledger_calls=self._calls[1],
            store_calls=self._calls[2],
            ledger_seconds=PATIENCE_SECONDS,
            store_seconds=PATIENCE_SECONDS,
        )
        self.recorder = AnswerRecorder(accounts, engine.ledger.views, engine.ledger.registrations)
        self.queries = Queries(
            self.upstream,
            self.recorder,
            archived,
            engine.metrics,
            reads=self._calls[1],
            writes=self._calls[3],
            patience_seconds=patience_seconds,
            record_seconds=record_seconds,
            monotonic=lambda: self.seconds,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self.upstream.close())
        self._runner.close()
        for calls in self._calls:
            calls.close()

    def ask(self, *targets: str, account: str = ACCOUNT, method: str = "GET", body: bytes = b"") -> Any:
        """The answers to questions asked at once; of one question, its answer."""
        requests = [
            request(target, self._calls[0], account=account, method=method, body=body) for target in targets
        ]

        async def all_of_them() -> Sequence[GatewayAnswer]:
            return await asyncio.gather(*map(self.queries.handle, requests))

        answers = self._runner.run(all_of_them())
        return answers[0] if len(answers) == 1 else answers

    def read(self, target: str) -> tuple[GatewayAnswer, bytes]:
        """An answer that comes in pieces, and all of them."""

        async def all_of_it() -> tuple[GatewayAnswer, bytes]:
            asked = request(target, self._calls[0], account=ACCOUNT, method="GET", body=b"")
            answer = await self.queries.handle(asked)
            assert not isinstance(answer.body, bytes)
            return answer, b"".join([piece async for piece in answer.body])

        return self._runner.run(all_of_it())

    def unlinked(self, kind: str = "query") -> float | None:
        return self.engine.metrics.registry.get_sample_value("kling_gateway_unlinked_total", {"kind": kind})

    def state(self, task_id: str) -> State | None:
        return self.engine.ledger.records.states(account=ACCOUNT, task_ids=[task_id]).get(task_id)

    def archived(self, **task: Any) -> str:
        task_id = self.engine.succeeded(**task)
        assert self.engine.attempt() is None
        return task_id


def request(
    target: str,
    files: BlockingCalls,
    *,
    account: str,
    method: str,
    body: bytes,
    authorization: bytes | None = None,
) -> GatewayRequest:
    path, _, query = target.partition("?")
    read = read_path(method, path.encode(), query.encode())
    assert read is not None
    headers = [(b"content-type", b"application/json")]
    return GatewayRequest(
        method,
        read.path,
        query.encode(),
        headers,
        RequestBody(body, files),
        Client(account, authorization),
        read.kind,
        read.family,
        read.identifier,
    )


def said(answer: GatewayAnswer) -> Any:
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


def urls_of(row: Any) -> list[str]:
    """Every URL in it, in order."""
    return re.findall(r"https?://[^\"]+", json.dumps(row))


def never(*_: object, **__: object) -> Any:
    raise LedgerUnavailable("full")


def folder_of(engine: Engine, task_id: str, family: str = FAMILY) -> str:
    return engine.folder(task_id, family).removeprefix("kling/").rstrip("/")


def link(engine: Engine, task_id: str, stem: str, *, family: str = FAMILY, extension: str = "png") -> str:
    return SIGNER.url(
        account=ACCOUNT, folder=folder_of(engine, task_id, family), stem=stem, extension=extension
    )
