"""A receiver on a real socket, with a record function of the test."""

import contextlib
import dataclasses
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx2
from starlette.routing import BaseRoute
from starlette.testclient import TestClient

from archiver.create.callback_tokens import gateway_token
from archiver.metrics import Metrics
from archiver.model import Callback, CallbackOutcome
from receiver.app import AppParts, Door, build_app
from receiver.callbacks.endpoint import CallbackEndpoint
from receiver.callbacks.intake import Intake
from receiver.callbacks.signatures import Signatures
from receiver.console.parts import ConsoleParts
from receiver.gateway.gateway import Gateway
from receiver.links.service import LinkService
from receiver.server.server import HttpServer
from tests.project.secret_watch import WATCH

TOKEN = "0123456789abcdef0123456789abcdef"
OTHER_TOKEN = "fedcba9876543210-other-token-0123"
BODY_BYTES_MAX = 4096
SECONDS_MAX = 60.0
"""Only what is broken takes so long, on any machine."""

READY = {"ready": True, "draining": False, "committing": True, "degraded": []}
"""What `/readyz` says when all is well."""

Record = Callable[[Sequence[Callback]], Sequence[CallbackOutcome]]


def legacy_body(task_id: object = "task-1", status: object = "succeed", **more: object) -> bytes:
    return json.dumps({"task_id": task_id, "task_status": status, **more}).encode()


def client(parts: AppParts, **changes: object) -> TestClient:
    """A client of the application made of `parts`, some of them replaced. Use as `with`."""
    return TestClient(build_app(dataclasses.replace(parts, **changes)))  # type: ignore[arg-type]  # by name


class Journal:
    """A ledger of one list: what was recorded, in order."""

    def __init__(self) -> None:
        self.callbacks: list[Callback] = []

    def record(self, callbacks: Sequence[Callback]) -> list[CallbackOutcome]:
        known = {callback.task_id for callback in self.callbacks}
        self.callbacks.extend(callbacks)
        return [
            CallbackOutcome.DUPLICATE if callback.task_id in known else CallbackOutcome.ACCEPTED
            for callback in callbacks
        ]


class Edge:
    """The running receiver: its parts, and ways to talk to it. Use as `with`."""

    def __init__(
        self,
        record: Record | None = None,
        *,
        signatures: Signatures | None = None,
        accounts: Mapping[str, str] | None = None,
        waiting_max: int = 1000,
        seconds_max: float = SECONDS_MAX,
        body_seconds_max: float = SECONDS_MAX,
        drain_seconds: float = 0.0,
        shutdown_seconds: float = SECONDS_MAX,
        routes: Sequence[BaseRoute] = (),
        gateway: Gateway | None = None,
        metrics: Metrics | None = None,
        links: LinkService | None = None,
        console: ConsoleParts | None = None,
        port: int = 0,
        metrics_port: int | None = None,
        **server: Any,
    ) -> None:
        self.journal = Journal()
        self.metrics = metrics or Metrics()
        self.draining = threading.Event()
        self.intake = Intake(record or self.journal.record, waiting_max=waiting_max, seconds_max=seconds_max)
        accounts = accounts or {TOKEN: "default", OTHER_TOKEN: "default"}
        self.tokens = tuple(accounts)
        unsigned = signatures or Signatures([], required=False)
        self.callbacks = CallbackEndpoint(
            intake=self.intake,
            tokens=accounts,
            gateway_tokens={gateway_token(token): account for token, account in accounts.items()},
            signatures=dict.fromkeys(accounts.values(), unsigned),
            families=["images/generations", "images/editing/expand"],
            body_bytes_max=BODY_BYTES_MAX,
            body_seconds_max=body_seconds_max,
            metrics=self.metrics,
        )
        self.parts = AppParts(
            door=Door(self.callbacks, self.intake),
            metrics=self.metrics,
            draining=self.draining.is_set,
            probe=lambda: None,
            degraded=list,
            stalled=list,
            refresh_metrics=lambda: None,
            routes=routes,
            gateway=gateway,
            links=links,
            console=console,
            metrics_port=metrics_port,
        )
        self.server = HttpServer(
            build_app(self.parts),
            host="127.0.0.1",
            port=port,
            metrics_port=metrics_port,
            drain_seconds=drain_seconds,
            shutdown_seconds=shutdown_seconds,
            on_draining=self.draining.set,
            on_closing=lambda: None,
            **server,
        )
        self._thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> Self:
        self._thread.start()
        for token in self.tokens:
            WATCH.secret("a callback token", token)
        WATCH.door(self.server.url)
        self.client = httpx2.Client(base_url=self.server.url, timeout=SECONDS_MAX, trust_env=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        self.server.stop()
        self.server.stop()
        self._thread.join()
        WATCH.close_door(self.server.url)

    def post(self, path: str, body: bytes, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, content=body, headers=named)

    def post_callback(self, body: bytes, **headers: str) -> httpx2.Response:
        return self.post(f"/callbacks/{TOKEN}/images/generations", body, **headers)

    def count(self, result: str) -> float:
        """`kling_callbacks_total` of this result."""
        value = self.metrics.registry.get_sample_value("kling_callbacks_total", {"result": result})
        assert value is not None
        return value

    @contextlib.contextmanager
    def connection(self) -> Iterator[socket.socket]:
        host, port = self.server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=SECONDS_MAX) as connected:
            yield connected

    def raw(self, *parts: bytes) -> bytes:
        """All that comes back for these bytes, up to the end of the connection."""
        with self.connection() as connected:
            for part in parts:
                connected.sendall(part)
            return read_to_end(connected)


def read_to_end(connected: socket.socket) -> bytes:
    received = b""
    while chunk := connected.recv(65536):
        received += chunk
    WATCH.said("raw answer", received.decode(errors="replace"))
    return received
