"""A server in place of the Kling API that says whatever a test makes it say, and clients of it."""

import contextlib
import dataclasses
import http.server
import json
import threading
from collections.abc import Callable
from typing import Any, cast

from archiver.kling.client import KlingClient
from archiver.kling.credentials import ApiKey, KeyPair
from archiver.kling.limiter import Priority, RateLimiter
from tests.harness.repository import SAMPLES

FAMILY = "images/generations"
TASK_ID = "828338674605228111"
KEYS = KeyPair("access-key-of-the-test", "secret-key-of-the-test-0123456789abcdef")
NOW = 1_765_600_000


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def envelope(data: object, *, code: object = 0, message: str = "SUCCEED") -> bytes:
    return json.dumps({"code": code, "message": message, "request_id": "r-1", "data": data}).encode()


def row(task_id: str = TASK_ID, **fields: object) -> dict[str, object]:
    return {"task_id": task_id, "task_status": "succeed", "task_result": {}, **fields}


@dataclasses.dataclass
class Reply:
    """What the server says to one request. `body` may write by hand, for answers that no server should give."""

    body: bytes | Callable[[http.server.BaseHTTPRequestHandler], None] = b""
    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Asked:
    path: str
    headers: dict[str, str]


class Api(http.server.ThreadingHTTPServer):
    """Says its replies in turn, the last one again and again, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply] = []
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def says(self, *replies: Reply | bytes) -> None:
        self.replies = [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # the name that http.server dispatches to
        api = cast("Api", self.server)
        api.asked.append(Asked(self.path, {name.lower(): value for name, value in self.headers.items()}))
        reply = api.replies.pop(0) if len(api.replies) > 1 else api.replies[0]
        if callable(reply.body):
            self.close_connection = True
            with contextlib.suppress(OSError):  # the client has had enough: that is what is tested
                reply.body(self)
            return
        self.send_response_only(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        """Silence."""


class Clients:
    """Makes clients of the server, and keeps what they observe."""

    def __init__(self, api: Api) -> None:
        self._url = api.url
        self._made: list[KlingClient] = []
        self.observed: list[tuple[str, str]] = []
        self.limiter = RateLimiter(1000.0, wait=lambda _seconds: False)
        self.now = float(NOW)

    def __call__(self, credential: KeyPair | ApiKey = KEYS, *, path: str = "", **limits: Any) -> KlingClient:
        client = KlingClient(
            self._url + path,
            credential,
            self.limiter,
            observe=lambda endpoint, code: self.observed.append((endpoint, code)),
            now=lambda: self.now,
            **limits,
        )
        self._made.append(client)
        return client

    def close(self) -> None:
        for client in self._made:
            client.close()


def query(client: KlingClient, identifier: str = TASK_ID, *, family: str = FAMILY) -> Any:
    return client.query(family, identifier, priority=Priority.VERIFY)


def list_page(client: KlingClient, **arguments: Any) -> Any:
    return client.list_page(FAMILY, page=1, priority=Priority.BACKGROUND, **arguments)
