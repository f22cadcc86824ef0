"""What the supervisor hears, over a real datagram socket."""

import os
import pathlib
import socket
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest
from starlette.applications import Starlette

from receiver.server.notify import Supervisor
from receiver.server.server import HttpServer

SECONDS = 60.0
USEC = str(int(SECONDS * 1_000_000))


class Listener:
    """The supervisor's end."""

    def __init__(self, address: str) -> None:
        """`address` as in NOTIFY_SOCKET."""
        self.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": USEC, "WATCHDOG_PID": str(os.getpid())}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def close(self) -> None:
        self._socket.close()

    def heard(self) -> list[str]:
        """Everything that has come."""
        found: list[str] = []
        self._socket.setblocking(False)
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def next(self) -> str:
        """Waits for the next message."""
        self._socket.settimeout(20)
        return self._socket.recv(4096).decode()


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Listener]:
    listener = Listener(str(tmp_path / "notify") if request.param == "path" else f"@kling-{uuid.uuid4().hex}")
    yield listener
    listener.close()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_supervisor_hears_of_the_open_listener_and_of_the_drain_in_this_order(listener: Listener) -> None:
    server = HttpServer(
        Starlette(),
        host="127.0.0.1",
        port=0,
        drain_seconds=0.01,
        shutdown_seconds=1,
        on_draining=lambda: None,
        on_closing=lambda: None,
        supervisor=Supervisor(listener.environment),
    )
    assert listener.heard() == [], "bound, but nothing is answered yet"
    running = threading.Thread(target=server.run)
    running.start()
    try:
        first = [listener.next()]
        while "READY=1" not in first:
            first.append(listener.next())
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 404"
    finally:
        server.stop()
        running.join(20)

    assert set(first) <= {"READY=1", "WATCHDOG=1"}
    assert listener.heard()[-1] == "STOPPING=1"


def test_a_process_that_lives_says_so_four_times_in_the_time_that_the_supervisor_waits(
    listener: Listener,
) -> None:
    clock = Clock()
    supervisor = Supervisor(listener.environment, monotonic=clock)
    for _ in range(int(SECONDS)):
        supervisor.tick()
        clock.now += 1

    assert listener.heard() == ["WATCHDOG=1"] * 4


def test_a_process_with_a_thread_that_hangs_says_nothing_until_it_goes_on(listener: Listener) -> None:
    clock, stalled, looks = Clock(), ["verify-loop"], list[float]()
    supervisor = Supervisor(
        listener.environment, look=lambda: looks.append(clock()), stalled=lambda: stalled, monotonic=clock
    )
    for _ in range(int(SECONDS)):
        supervisor.tick()
        clock.now += 1
    assert listener.heard() == []
    assert len(looks) == SECONDS

    stalled.clear()
    supervisor.tick()
    assert listener.heard() == ["WATCHDOG=1"]


def test_threads_are_looked_at_every_second_where_there_is_no_supervisor() -> None:
    looks: list[None] = []
    supervisor = Supervisor({}, look=lambda: looks.append(None))
    supervisor.tick()
    supervisor.tick()

    assert len(looks) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "9" * 40},
        {"WATCHDOG_PID": "1"},
    ],
)
def test_a_supervisor_that_watches_nothing_or_another_process_gets_no_sign_of_life(
    listener: Listener, change: dict[str, str]
) -> None:
    supervisor = Supervisor({**listener.environment, **change})
    supervisor.tick()
    supervisor.ready()

    assert listener.heard() == ["READY=1"]


def _nothing_there(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "nothing")


def _full(tmp_path: pathlib.Path) -> str:
    address = str(tmp_path / "full")
    _OPEN.append(Listener(address))
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    with sender:
        for _ in range(100_000):
            try:
                sender.sendto(b"x", address)
            except BlockingIOError:
                break
    return address


_OPEN: list[Listener] = []


@pytest.mark.parametrize(
    "address",
    [lambda _: "", lambda _: "vsock:2:1234", _nothing_there, _full],
    ids=["none", "vsock", "gone", "full"],
)
def test_an_unreachable_supervisor_does_not_delay_the_process(
    address: Callable[[pathlib.Path], str], tmp_path: pathlib.Path
) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": address(tmp_path), "WATCHDOG_USEC": USEC})
    supervisor.ready()
    supervisor.tick()
    supervisor.stopping()
    while _OPEN:
        _OPEN.pop().close()
