"""Names are resolved once, addresses judged before they are connected to, and every wait bounded."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence

import httpcore2
import pytest

from archiver.fetch.connecting import PinnedBackend
from archiver.fetch.pace import Allowance
from archiver.fetch.urls import PolicyRefusal, RefusalCause


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def _backend(*answers: str, private_allowed: bool = False) -> PinnedBackend:
    return PinnedBackend(resolver=lambda _host, _port: answers, private_allowed=private_allowed)


def _allowance(seconds: float) -> Allowance:
    return Allowance(until=time.monotonic() + seconds, idle_seconds=seconds, clock=time.monotonic)


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["8.8.8.8", "10.0.0.1"],
        ["8.8.8.8", "2606:4700::1111", "::ffff:169.254.169.254"],
        ["fe80::1%lo"],
        ["not an address"],
        ["2130706433"],
        ["0x7f.1"],
        ["127.000.000.001"],
        [""],
    ],
)
def test_one_answer_that_is_not_public_refuses_the_name(answers: list[str], listener: socket.socket) -> None:
    with pytest.raises(PolicyRefusal) as raised:
        _backend(*answers).connect_tcp("cdn.klingai.com", listener.getsockname()[1], timeout=5.0)

    assert raised.value.cause is RefusalCause.ADDRESS
    assert raised.value.host == "cdn.klingai.com"


def test_a_name_is_resolved_once_and_the_connection_goes_to_that_answer(listener: socket.socket) -> None:
    asked: list[str] = []

    def resolver(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"]

    backend = PinnedBackend(resolver=resolver, private_allowed=True)
    stream = backend.connect_tcp("name.that.exists.nowhere.example", listener.getsockname()[1], timeout=5.0)

    assert stream.get_extra_info("server_addr") == listener.getsockname()
    assert asked == ["name.that.exists.nowhere.example"]
    stream.close()


def test_an_address_that_refuses_gives_way_to_the_next(listener: socket.socket) -> None:
    port = listener.getsockname()[1]  # no listener there on ::1

    stream = _backend("::1", "127.0.0.1", private_allowed=True).connect_tcp("a.example", port, timeout=5.0)

    assert stream.get_extra_info("server_addr")[0] == "127.0.0.1"
    stream.close()


def test_a_name_without_an_address_cannot_be_connected_to() -> None:
    with pytest.raises(httpcore2.ConnectError, match="no address"):
        _backend().connect_tcp("a.example", 443, timeout=5.0)


@pytest.mark.parametrize(
    "error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")]
)
def test_a_name_that_cannot_be_resolved_is_a_connect_error(error: Exception) -> None:
    def resolver(_host: str, _port: int) -> Sequence[str]:
        raise error

    with pytest.raises(httpcore2.ConnectError, match="cannot be resolved"):
        PinnedBackend(resolver=resolver, private_allowed=False).connect_tcp("a.example", 443, timeout=5.0)


def test_a_resolver_that_never_answers_does_not_hold_the_caller() -> None:
    answer = threading.Event()

    def resolver(_host: str, _port: int) -> Sequence[str]:
        answer.wait(30)
        return []

    backend = PinnedBackend(resolver=resolver, private_allowed=False)
    with pytest.raises(httpcore2.TimeoutException):  # ConnectTimeout, unless this machine is slow
        backend.connect_tcp("a.example", 443, timeout=_allowance(0.05))
    answer.set()


def test_an_allowance_that_is_used_up_allows_no_call() -> None:
    used_up = Allowance(until=10.0, idle_seconds=5.0, clock=lambda: 10.0)

    with pytest.raises(httpcore2.TimeoutException):
        used_up.seconds()


def test_an_allowance_is_the_idle_time_until_the_deadline_is_nearer() -> None:
    now = 0.0
    allowance = Allowance(until=20.0, idle_seconds=15.0, clock=lambda: now)

    assert allowance.seconds() == 15.0
    now = 12.0
    assert allowance.seconds() == 8.0
