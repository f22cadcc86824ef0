"""Alerts: told when a problem has lasted five minutes and when it ends, whatever consumer and ledger do meanwhile."""

import contextlib
import dataclasses
import http.server
import threading
from collections.abc import Callable
from typing import Any

import pytest
import structlog.testing

from archiver.alerts.loop import AlertLoop
from archiver.alerts.sender import AlertSender
from archiver.failures import BucketMissing, LedgerUnavailable
from archiver.ledger.status.alerts import Alerts
from archiver.model import Stage, rfc3339
from archiver.problems import Expected
from archiver.webhooks.sender import WebhookSender
from tests.harness.consumer import SECRET, Consumer, answering
from tests.harness.engine import Died
from tests.harness.ledgers import ACCOUNT, HOUR, MINUTE, SECOND, START, Desk

TRY_SECONDS = 1.0


class Alerting:
    """A daemon's alerts, round by round."""

    def __init__(self, desk: Desk, url: str) -> None:
        self.desk = desk
        self.url = url
        self.loop = self.started()

    def started(self) -> AlertLoop:
        """A process has started."""
        sender = AlertSender(self.url, WebhookSender(try_seconds=TRY_SECONDS), secrets=[SECRET])
        expected = Expected({ACCOUNT: ()}, 5 * MINUTE)
        ledger, clock = self.desk.ledger, self.desk.clock
        return AlertLoop(ledger, expected, sender, now=clock, stop=threading.Event())

    def round(self, *, after: int = 0) -> None:
        """The daemon lives, time passes, and the loop has a turn."""
        self.desk.clock.advance(after)
        with contextlib.suppress(LedgerUnavailable):
            self.desk.ledger.daemons.beat("d1", version="1", started_at=START, accounts=[ACCOUNT])
        self.loop.run_once()

    def hold(self) -> None:
        self.desk.ledger.holds.set(BucketMissing("gone"), account=ACCOUNT, stage=Stage.ARCHIVE)

    def release(self) -> None:
        self.desk.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=None)

    def last(self) -> None:
        """A hold has lasted for five minutes."""
        self.hold()
        self.round()
        self.round(after=5 * MINUTE)


@pytest.fixture
def alerting(desk: Desk, hook: Consumer) -> Alerting:
    return Alerting(desk, hook.url)


def kinds(hook: Consumer) -> list[str]:
    return [body["type"] for body in hook.taken]


def test_a_problem_is_sent_after_five_minutes_and_again_when_it_ends(
    alerting: Alerting, hook: Consumer
) -> None:
    alerting.hold()
    alerting.round()
    alerting.round(after=5 * MINUTE - 1)
    assert hook.requests == []
    alerting.round(after=1)
    alerting.round(after=MINUTE)
    alerting.release()
    alerting.round()
    alerting.round(after=HOUR)

    began, ended = hook.taken
    assert began == {
        "type": "problem.began",
        "timestamp": rfc3339(START + 5 * MINUTE),
        "data": {
            "code": "hold",
            "message": "archive is held: bucket_missing: gone",
            "what_to_do": BucketMissing.what_to_do,
            "account": ACCOUNT,
            "since": rfc3339(START),
        },
        "text": f"kling-archiver ({ACCOUNT}): archive is held: bucket_missing: gone. {BucketMissing.what_to_do}",
    }
    assert (ended["type"], ended["data"]) == ("problem.ended", began["data"])
    assert ended["timestamp"] == rfc3339(START + 6 * MINUTE)


def test_a_problem_that_ends_within_five_minutes_is_not_sent(alerting: Alerting, hook: Consumer) -> None:
    alerting.hold()
    alerting.round()
    alerting.round(after=4 * MINUTE)
    alerting.release()
    alerting.round()
    alerting.hold()
    alerting.round(after=4 * MINUTE)

    assert hook.requests == []


def test_without_a_secret_nothing_is_signed(hook: Consumer) -> None:
    AlertSender(hook.url, WebhookSender()).send("alrt_1", "{}")

    ((headers, _),) = hook.requests
    assert "webhook-signature" not in headers
    assert headers["content-type"] == "application/json"


def drip(request: http.server.BaseHTTPRequestHandler) -> None:
    """A head that never ends, a byte at a time: each read succeeds in time."""
    never = threading.Event()
    with contextlib.suppress(OSError):
        for _ in range(200):
            request.wfile.write(b"H")
            never.wait(0.05)


def hang(request: http.server.BaseHTTPRequestHandler) -> None:
    with contextlib.suppress(OSError):
        request.connection.settimeout(5)
        request.connection.recv(1)


def close(request: http.server.BaseHTTPRequestHandler) -> None:
    request.close_connection = True


TAKEN = answering(200)
NOT_TAKEN: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {
    "500": answering(500),
    "404": answering(404),
    "a redirect": answering(307, Location="/elsewhere"),
    "no answer": hang,
    "an answer that drips": drip,
    "a connection that closes": close,
}


@pytest.mark.parametrize("fault", NOT_TAKEN)
def test_a_refused_message_is_sent_again_with_the_same_id_until_the_receiver_accepts_it(
    alerting: Alerting, hook: Consumer, fault: str
) -> None:
    hook.answer = NOT_TAKEN[fault]
    with structlog.testing.capture_logs() as lines:
        alerting.last()
    hook.answer = answering(204)
    alerting.round(after=SECOND)
    assert len(hook.requests) == 1  # not before two seconds
    alerting.round(after=SECOND)
    alerting.round(after=HOUR)

    assert set(hook.paths) == {"/hook?key=a-part-of-the-secret"}
    assert len({headers["webhook-id"] for headers, _ in hook.requests}) == 1
    assert (len(hook.requests), kinds(hook)) == (2, ["problem.began"])
    assert [line["event"] for line in lines].count("alert.refused") == 1
    assert "a-part-of-the-secret" not in str(lines)


def test_a_message_is_dropped_after_an_hour_and_that_is_logged(alerting: Alerting, hook: Consumer) -> None:
    hook.answer = answering(500)
    with structlog.testing.capture_logs() as lines:
        alerting.last()
        for _ in range(14):
            alerting.round(after=5 * MINUTE)
    tried = len(hook.requests)
    alerting.round(after=5 * MINUTE)

    assert [line["event"] for line in lines].count("alert.dropped") == 1
    assert 12 <= tried == len(hook.requests) <= 14


def test_the_end_of_a_problem_never_comes_before_its_beginning(alerting: Alerting, hook: Consumer) -> None:
    hook.answer = answering(500)
    alerting.last()
    alerting.release()
    alerting.round(after=SECOND)
    hook.answer = answering(200)
    for _ in range(3):
        alerting.round(after=MINUTE)

    assert kinds(hook) == ["problem.began", "problem.ended"]


def test_a_url_without_a_listener_crashes_nothing(desk: Desk) -> None:
    alerting = Alerting(desk, "http://127.0.0.1:9/hook")
    with structlog.testing.capture_logs() as lines:
        alerting.last()

    assert [line["message"] for line in lines if line["event"] == "alert.refused"] == ["ConnectError"]


# --- every step fails, fails but happens, or is the last -----------------------------------------------------------


@dataclasses.dataclass
class Mishap:
    """The `occurrence`-th call raises `error`, after it was done if it `happens`."""

    occurrence: int
    happens: bool
    error: BaseException

    def around(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.occurrence -= 1
            if self.occurrence:
                return act(*arguments)
            if self.happens:
                act(*arguments)
            raise self.error

        return call


@pytest.mark.parametrize(
    ("step", "occurrence"),
    [*(("save", number) for number in range(1, 7)), *(("send", number) for number in (1, 2))],
)
@pytest.mark.parametrize("happens", [False, True])
@pytest.mark.parametrize("killed", [False, True])
def test_beginning_and_end_are_sent_once_each_whatever_step_fails(
    alerting: Alerting,
    hook: Consumer,
    monkeypatch: pytest.MonkeyPatch,
    *,
    step: str,
    happens: bool,
    killed: bool,
    occurrence: int,
) -> None:
    hook.answer = TAKEN
    mishap = Mishap(occurrence, happens, Died() if killed else LedgerUnavailable("simulated"))
    kind: type = Alerts if step == "save" else AlertSender
    if step == "send" and not killed:
        hook.answer = _answers(occurrence, happens=happens)
    else:
        original = getattr(kind, step)
        monkeypatch.setattr(kind, step, mishap.around(original))

    def rounds(*pauses: int) -> None:
        for pause in pauses:
            try:
                alerting.round(after=pause)
            except Died:
                alerting.loop = alerting.started()

    alerting.hold()
    rounds(0, 5 * MINUTE, 3 * SECOND, 5 * MINUTE)
    alerting.release()
    rounds(0, 3 * SECOND, 3 * SECOND)

    assert kinds(hook) == ["problem.began", "problem.ended"]
    assert alerting.desk.ledger.alerts.load() == ([], [])
    assert hook.answer is not TAKEN or mishap.occurrence <= 0  # it came about


def _answers(occurrence: int, *, happens: bool) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    """Taken, but for one answer, which is a 500 or never comes."""
    count = iter(range(1, 1000))

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        if next(count) != occurrence:
            answering(200)(request)
        elif happens:
            close(request)
        else:
            answering(500)(request)

    return answer


def test_an_alert_is_sent_although_the_ledger_cannot_be_written(
    alerting: Alerting, hook: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerting.round()

    def full(**_: object) -> None:
        raise LedgerUnavailable("the disk is full")

    monkeypatch.setattr(alerting.desk.ledger.database, "write", full)
    for _ in range(2):
        alerting.round(after=5 * MINUTE)
    closed = {body["data"]["code"] for body in hook.taken}
    monkeypatch.undo()
    alerting.round()

    assert "door_closed" in closed
    assert kinds(hook).count("problem.ended") == len(closed)
    assert alerting.desk.ledger.alerts.load() == ([], [])
