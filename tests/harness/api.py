"""A receiver with `/api`, and the ledger behind it."""

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2

from archiver.failures import NeverMedia
from archiver.ledger import Ledger
from archiver.problems import Expected
from archiver.store.links import LinkSigner, links_of_shown
from receiver.api.tasks import Api
from tests.harness.blank_ledger import lay_blank_ledger
from tests.harness.command_line import api_task, archive, bury, record
from tests.harness.edge import Edge
from tests.harness.ledgers import Clock

ADMIN = "admin-token-0123456789"
FAMILY = "images/generations"
SIGNER = LinkSigner(["s" * 32], public_url="https://kling.example.com")
OTHER_FAMILY = "images/omni-image"


class ApiDesk:
    """A receiver with the API of some accounts, and the ledger behind it."""

    def __init__(self, folder: pathlib.Path, *accounts: str) -> None:
        self.clock = Clock()
        lay_blank_ledger(folder / "ledger.db")
        self.ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", daemon=True, now=self.clock)
        self.registered: list[str] = []
        api = Api(
            self.ledger,
            token=ADMIN,
            expected=Expected(dict.fromkeys(accounts, (FAMILY,)), 300_000),
            now=self.clock,
            on_wanted=self.registered.append,
            links=lambda task: links_of_shown(SIGNER, task),
        )
        self.edge = Edge(routes=api.routes())

    @contextlib.contextmanager
    def running(self) -> Iterator["ApiDesk"]:
        with contextlib.closing(self.ledger), self.edge:
            yield self

    def post(self, body: object, *, token: str | None = ADMIN) -> httpx2.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.edge.client.post("/api/tasks", content=content, headers=bearer(token))

    def get(self, path: str, *, token: str | None = ADMIN) -> httpx2.Response:
        return self.edge.client.get(path, headers=bearer(token))

    def said(self, body: object) -> str:
        """The sentence that comes with a 400."""
        answer = self.post(body)
        content = answer.json()
        assert (answer.status_code, content["code"], set(content)) == (
            400,
            1200,
            {"code", "message", "request_id"},
        )
        return str(content["message"])

    def shown(self, task_id: str, account: str = "default") -> dict[str, Any] | None:
        task = self.ledger.views.show(task_id, account=account)
        return None if task is None else task.as_json()


def bearer(token: str | None) -> Mapping[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def fill(ledger: Ledger) -> None:
    """Three tasks: `1` is archived, `2` buried, `3` reported."""
    ledger.registrations.register("1", account="default", family=FAMILY, request={"prompt": "a red fox"})
    record(ledger, api_task("1", external_task_id="order-1"))
    archive(ledger, "1")
    record(ledger, api_task("2"))
    bury(ledger, "2", NeverMedia("a web page"))
    ledger.registrations.register("3", account="default", family=OTHER_FAMILY)
