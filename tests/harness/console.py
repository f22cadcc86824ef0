"""A receiver that serves the console, on a real ledger and a clock of the test's."""

import contextlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from httpx2 import Response
from playwright.sync_api import Page
from starlette.testclient import TestClient

from archiver.failures import BucketMissing
from archiver.model import Stage, State, Status
from archiver.problems import Expected
from receiver.console.console import build_console
from receiver.console.parts import ConsoleAccount, ConsoleParts
from tests.harness.edge import Edge
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR, MINUTE, SECOND, START, Desk, Place, answer
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


class HttpConsole:
    """The console without a socket: one browser that keeps cookies and follows no redirect, and no time that passes."""

    def __init__(self, desk: Desk, **parts: Any) -> None:
        self.desk = desk
        self.waited: list[float] = []
        """Seconds, for each answer that was slowed down."""
        self.parts = console_parts(desk, **parts)
        self.app = build_console(self.parts, sleep=self._sleep)
        self.client = self.browser()

    def browser(
        self, origin: str = "http://testserver", *, like: TestClient | None = None, raises: bool = True
    ) -> TestClient:
        """Another one, with the cookies of `like`; where it does not raise, a crash is a 500 as on a socket."""
        return TestClient(
            self.app,
            base_url=origin,
            raise_server_exceptions=raises,
            cookies=None if like is None else like.cookies,
            follow_redirects=False,
            client=("127.0.0.1", 50000),
        )

    async def _sleep(self, seconds: float) -> None:
        self.waited.append(seconds)

    def get(self, below: str = "") -> Response:
        return self.client.get(_path(below))

    def post(self, below: str, form: dict[str, str], **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(_path(below), data=form, headers=named)

    def log_in(self, token: str = ADMIN_TOKEN, *, target: str = "", **headers: str) -> Response:
        form = {"csrf": csrf_of(self.get("login")), "token": token, "next": target}
        return self.post("login", form, **headers)

    def is_in(self) -> bool:
        """Whether the browser sees pages."""
        return self.get().status_code == 200


def http_console(folder: pathlib.Path, **parts: Any) -> contextlib.AbstractContextManager[HttpConsole]:
    WATCH.secret("the admin token", ADMIN_TOKEN)
    return contextlib.nullcontext(HttpConsole(Desk(folder), **parts))


def csrf_of(answer: Response) -> str:
    """The CSRF token of the first form of a page."""
    found = re.search(r'name="csrf" value="([^"]+)"', answer.text)
    assert found is not None, answer.text
    return found[1]


def console_at(folder: pathlib.Path, **parts: Any) -> contextlib.AbstractContextManager[ConsoleDesk]:
    return ConsoleDesk(folder, **parts).running()


def _path(below: str) -> str:
    return f"/console/{below}" if below else "/console"


def fill(desk: Desk) -> None:
    """Some of everything that pages show: tasks in every state, three hours of throughput, a hold, a daemon, a sweep,
    and forwards in every state."""
    desk.ledger.forwards.set_operator(is_told=True)
    desk.bring(State.UNKNOWN, "unknown-1")
    desk.clock.advance(2 * DAY)
    for hour, count in enumerate((3, 7, 1)):
        desk.ledger.trends.note_hour()
        for number in range(count):
            desk.say(answer(f"archived-{hour}-{number}", created_at=desk.clock()))
            desk.archived(desk.claim(Stage.ARCHIVE))
        desk.clock.advance(HOUR if hour < 2 else MINUTE)
    desk.bring(State.FAILED, "failed-1")
    desk.bring(State.BURIED, "882000000000000042")
    for days in (1, 1, 4, 8, 24, 28):
        desk.say(
            answer(f"running-{days}-{desk.clock()}", Status.RUNNING, created_at=desk.clock() - days * DAY)
        )
        desk.clock.advance(1)
    desk.tell("reported-1")
    told, refused, *_ = desk.ledger.forwards.claim("", accounts=[ACCOUNT], count=10)
    desk.ledger.forwards.delivered(told, status=200)
    desk.ledger.forwards.dead(refused, status=500, reason="http_500", is_problem=True)
    token = desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
    assert token is not None
    desk.ledger.sweeps.end(token, succeeded_at=desk.clock(), full=True, oldest_first=False, last_page=None)
    desk.say(answer("lost-1", created_at=desk.clock() - 30 * DAY + SECOND))
    desk.clock.advance(MINUTE)
    desk.ledger.deadlines.expire()
    desk.say(answer("waiting-1", created_at=desk.clock()))
    desk.ledger.holds.set(BucketMissing("no such bucket"), account=ACCOUNT, stage=Stage.ARCHIVE)
    desk.clock.advance(4 * MINUTE)
    desk.ledger.daemons.beat("daemon-1", version="0.1.0", started_at=START, accounts=[ACCOUNT])
