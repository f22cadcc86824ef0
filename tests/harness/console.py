"""A receiver that serves the console, on a real ledger and a clock of the test's."""

import contextlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import httpx2
from playwright.sync_api import Page

from archiver.problems import Expected
from receiver.console.parts import ConsoleAccount, ConsoleParts
from tests.harness.edge import Edge
from tests.harness.ledgers import ACCOUNT, FAMILY, Desk, Place
from tests.project.secret_watch import WATCH

ADMIN_TOKEN = "an-admin-token-0123456789abcdef"


def console_parts(desk: Desk, **changes: Any) -> ConsoleParts:
    account = ConsoleAccount(
        ACCOUNT, [FAMILY], base_url="https://api.example.com", credentials="API Key", prefix="kling/"
    )
    made: dict[str, Any] = {
        "token": ADMIN_TOKEN,
        "ledger": desk.ledger,
        "expected": Expected({ACCOUNT: [FAMILY]}, 300_000),
        "accounts": [account],
        "bucket": "my-results",
        "public_url": None,
        "operator_url": "https://app.example.com/kling",
        "trusted_proxies": ["127.0.0.1"],
        "wake": lambda _stage, _accounts: None,
    }
    return ConsoleParts(**made | changes)


class ConsoleDesk:
    """The receiver, its ledger, and a client that keeps cookies and follows no redirect."""

    def __init__(self, place: Place, **parts: Any) -> None:
        """`parts` change what the console is made of."""
        self.desk = Desk(place)
        self.edge = Edge(console=console_parts(self.desk, **parts))

    @contextlib.contextmanager
    def running(self) -> Iterator["ConsoleDesk"]:
        WATCH.secret("the admin token", ADMIN_TOKEN)
        with contextlib.closing(self.desk), self.edge:
            yield self

    @property
    def url(self) -> str:
        """Of the overview."""
        return f"{self.edge.server.url}/console"

    def enter(self, page: Page, below: str = "") -> Page:
        """Log in as an operator does, and go to a page below `/console`."""
        page.goto(f"{self.url}/login")
        page.get_by_label("Admin token").fill(ADMIN_TOKEN)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(self.url)
        if below:
            page.goto(f"{self.url}/{below}")
        return page

    def get(self, below: str = "", **headers: str) -> httpx2.Response:
        return self.edge.client.get(self._path(below), headers=_named(headers))

    def post(self, below: str, form: dict[str, str], **headers: str) -> httpx2.Response:
        return self.edge.client.post(self._path(below), data=form, headers=_named(headers))

    def log_in(self, token: str = ADMIN_TOKEN, **headers: str) -> httpx2.Response:
        """By HTTP alone."""
        return self.post("login", {"csrf": csrf_of(self.get("login")), "token": token, "next": ""}, **headers)

    @staticmethod
    def _path(below: str) -> str:
        return f"/console/{below}" if below else "/console"


def csrf_of(answer: httpx2.Response) -> str:
    """The CSRF token of the first form of a page."""
    found = re.search(r'name="csrf" value="([^"]+)"', answer.text)
    assert found is not None, answer.text
    return found[1]


def console_at(folder: pathlib.Path, **parts: Any) -> contextlib.AbstractContextManager[ConsoleDesk]:
    return ConsoleDesk(folder, **parts).running()


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
