"""Wake-ups between processes: on a real PostgreSQL, and what becomes of those that cannot be sent."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence

import pytest
import structlog

from archiver.engine import wakeups
from archiver.engine.wakeups import ReceiveLoop, SendLoop
from archiver.failures import LedgerUnavailable
from archiver.ledger.databases.notifications import Notifications
from archiver.model import Stage
from tests.postgres import PostgresServer, plain_engine


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.url("postgres")


@pytest.fixture
def channels(url: str) -> Iterator[tuple[Notifications, Notifications]]:
    """Of two processes; the second listens."""
    with contextlib.closing(Notifications(url)) as first, contextlib.closing(Notifications(url)) as second:
        assert second.receive(wakeups.STAGES, seconds=0) == []
        yield first, second


def test_a_wake_up_reaches_other_processes_and_not_its_sender(
    channels: tuple[Notifications, Notifications],
) -> None:
    first, second = channels
    first.receive(wakeups.STAGES, seconds=0)
    woken: list[object] = []
    sender = SendLoop(first, stop=threading.Event())
    receiver = ReceiveLoop(second, lambda *wake: woken.append(wake), stop=threading.Event())
    sender.tell(Stage.VERIFY, ["team-eu", "team-cn"])
    sender.step()
    first.send({Stage.ARCHIVE: [f"account-{number}" for number in range(1000)]})
    while len(woken) < 2:
        receiver.step()

    assert woken == [(Stage.VERIFY, ["team-cn", "team-eu"]), (Stage.ARCHIVE, None)], (
        "too many to be named: all"
    )
    assert first.receive(wakeups.STAGES, seconds=0) == []


def test_a_message_of_another_program_wakes_a_loop_or_does_nothing(
    channels: tuple[Notifications, Notifications], url: str
) -> None:
    engine = plain_engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql("NOTIFY kling_verify; NOTIFY another; NOTIFY kling_archive, 'x y'")
    engine.dispose()
    heard: list[object] = []
    while len(heard) < 2:
        heard += channels[1].receive(wakeups.STAGES, seconds=10)

    assert heard == [("verify", []), ("archive", ["y"])]


def test_a_connection_that_the_server_has_ended_is_made_anew(
    channels: tuple[Notifications, Notifications], url: str
) -> None:
    first, second = channels
    first.send({Stage.VERIFY: ["a"]})
    engine = plain_engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE query ~ 'pg_notify|LISTEN'"
            " AND pid <> pg_backend_pid()"
        )
    engine.dispose()
    for use in (
        lambda: first.send({Stage.VERIFY: ["b"]}),
        lambda: [second.receive(wakeups.STAGES, seconds=10) for _ in range(2)],
    ):
        with pytest.raises(LedgerUnavailable, match="no wake-ups"):
            use()
    assert second.receive(wakeups.STAGES, seconds=0) == []
    first.send({Stage.VERIFY: ["c"]})

    assert second.receive(wakeups.STAGES, seconds=10) == [("verify", ["c"])]


class Broken:
    """A channel that fails until it is told otherwise, and keeps what it sent."""

    def __init__(self) -> None:
        self.fails = True
        self.sent: list[Mapping[str, Sequence[str]]] = []

    def send(self, wakes: Mapping[str, Sequence[str]]) -> None:
        if self.fails:
            raise LedgerUnavailable("gone")
        self.sent.append(wakes)

    def receive(self, stages: Sequence[str], *, seconds: float) -> list[tuple[str, list[str]]]:
        assert stages
        assert seconds
        self.send({})
        return []


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """No loop pauses."""
    monkeypatch.setattr(wakeups, "FAILING_SECONDS_MAX", 0.0)
    event = threading.Event()
    event.set()
    return event


def test_wake_ups_between_two_messages_are_sent_as_one(stopped: threading.Event) -> None:
    channel = Broken()
    channel.fails = False
    loop = SendLoop(channel, stop=stopped)
    for number in range(1000):
        loop.tell(Stage.VERIFY, [f"account-{number % 2}"])
    loop.step()

    assert channel.sent == [{Stage.VERIFY: ["account-0", "account-1"]}]


def test_a_failing_channel_is_logged_once_and_is_a_problem_until_it_works_again(
    stopped: threading.Event,
) -> None:
    channel = Broken()
    sender = SendLoop(channel, stop=stopped)
    receiver = ReceiveLoop(channel, lambda *_: None, stop=stopped)
    sender.tell(Stage.VERIFY, ["a"])
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            sender.step()
            receiver.step()
    found = [problem.reason for loop in (sender, receiver) for problem in loop.problems()]
    channel.fails = False
    sender.step()
    receiver.step()

    assert [line["event"] for line in lines] == ["wakeups.failed"] * 2
    assert found == ["no_wakeups"] * 2
    assert [*sender.problems(), *receiver.problems()] == []
