"""Clients of Kling's API that others have published: the requests that they send, byte for byte, and what they read.

`tests/samples/clients` has what each sent to a server that recorded it, and which version sent it. In the bytes stand
`<host>`, `<token>` and `<task-id>` for what differs from run to run; all three are in the head only.
"""

import dataclasses
import functools
import http.client
import json
import pathlib
import socket
import time
from typing import Any

import jwt

from tests.harness.repository import SAMPLES
from tests.simulator.server import ACCESS_KEY, API_KEY, SECRET_KEY

SECONDS_MAX = 30.0


@dataclasses.dataclass(frozen=True)
class Key:
    """How a client is known: by a pair, of which it makes tokens, or by a text that it sends as it is."""

    name: str
    secret: str
    access: str | None = None

    def token(self) -> str:
        """As the recorded clients make it, all alike but for `iat`, which one of them adds."""
        if self.access is None:
            return self.secret
        now = int(time.time())
        claims = {"iss": self.access, "exp": now + 1800, "nbf": now - 5}
        return jwt.encode(claims, self.secret, algorithm="HS256")


def keys_of(kind: str, *, application: str, gateway_key: str) -> tuple[Key, Key]:
    """Kling's own key and one of the gateway, for a client that knows keys of this kind."""
    if kind == "api key":
        return Key("API Key", API_KEY), Key("gateway key", gateway_key)
    return Key("pair", SECRET_KEY, ACCESS_KEY), Key("gateway key as a pair", gateway_key, application)


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    source: str | None
    """Kling-Archiver-Source."""
    body: bytes

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """What every client reads. Raises AssertionError for an answer that it would take for an error."""
        content = self._content
        assert (self.status, content["code"], content["message"]) == (200, 0, "SUCCEED"), self.body
        data = content["data"]
        assert isinstance(data, dict)
        return data

    @property
    def request_id(self) -> str:
        """What is another in every answer that is not shared."""
        return str(self._content["request_id"])

    @property
    def _content(self) -> Any:
        return json.loads(self.body)

    @property
    def urls(self) -> list[str]:
        """Of all results."""
        return _urls(self.data)

    def urls_of_row(self, task_id: str) -> list[str]:
        """Of one task in a list."""
        (row,) = (row for row in self._content["data"] if row["task_id"] == task_id)
        return _urls(row)


def _urls(task: dict[str, Any]) -> list[str]:
    result = task["task_result"]
    return [item["url"] for item in result.get("images") or result["videos"]]


class PublicClient:
    """One client with one key, and the task that it has created."""

    def __init__(self, recorded: dict[str, Any], key: Key, *, port: int) -> None:
        self.name = f"{recorded['client']}, {key.name}"
        self.task_id = ""
        self._recorded = recorded
        self._key = key
        self._port = port

    @property
    def has_a_first_request(self) -> bool:
        return "first" in self._recorded

    @property
    def reads_lists(self) -> bool:
        return "list" in self._recorded

    def try_key(self) -> Answer:
        """What the client asks before anything else."""
        return self._send("first")

    def create(self) -> None:
        self.task_id = self._send("create").data["task_id"]

    def query(self) -> Answer:
        return self._send("query")

    def list(self) -> Answer:
        """The newest tasks of the family."""
        return self._send("list")

    def _send(self, request: str) -> Answer:
        text: str = self._recorded[request]
        text = text.replace("<host>", f"127.0.0.1:{self._port}").replace("<token>", self._key.token())
        with socket.create_connection(("127.0.0.1", self._port), timeout=SECONDS_MAX) as connection:
            connection.sendall(text.replace("<task-id>", self.task_id).encode())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return Answer(answer.status, answer.getheader("Kling-Archiver-Source"), answer.read())


def recorded_clients() -> list[dict[str, Any]]:
    """What `tests/samples/clients` has."""
    files: list[pathlib.Path] = sorted((SAMPLES / "clients").glob("*.json"))
    return [json.loads(file.read_text()) for file in files]
