"""The server: binding, overload, and the order in which it stops."""

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator

import httpx2
import pytest
from starlette.applications import Starlette

from receiver.server.server import CannotListen, HttpServer
from tests.harness.edge import READY, SECONDS_MAX, TOKEN, Edge, legacy_body


def test_a_port_in_use_is_an_error_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"^cannot listen on 127\.0\.0\.1:{port}: "):
            server(port=port)


@pytest.mark.parametrize("port", [-1, 65536, 10**30])
def test_an_invalid_port_is_an_error_in_a_sentence(port: int) -> None:
    with pytest.raises(CannotListen):
        server(port=port)


def test_port_0_takes_a_free_one_and_says_which() -> None:
    free = server(port=0)
    free.close()

    assert httpx2.URL(free.url).port not in (0, None)


def server(
    *, port: int, app: Starlette | None = None, on_closing: Callable[[], None] = lambda: None
) -> HttpServer:
    return HttpServer(
        app or Starlette(),
        host="127.0.0.1",
        port=port,
        drain_seconds=0,
        shutdown_seconds=SECONDS_MAX,
        on_draining=lambda: None,
        on_closing=on_closing,
    )


def test_a_server_stopped_before_it_runs_does_not_stay() -> None:
    closing: list[str] = []
    early = server(port=0, on_closing=lambda: closing.append("closing"))
    early.stop()

    assert early.run() == 0
    assert closing == ["closing"]


def test_an_application_that_cannot_start_is_exit_status_1(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Starlette) -> object:
        raise ZeroDivisionError

    with caplog.at_level(logging.CRITICAL):
        assert server(port=0, app=Starlette(lifespan=broken)).run() == 1  # type: ignore[arg-type]  # it breaks


def test_the_server_does_not_say_what_it_is() -> None:
    with Edge() as edge:
        assert "server" not in edge.client.get("/healthz").headers


def test_an_overloaded_server_answers_503_but_not_to_health_checks() -> None:
    with Edge(connections_max=1) as edge, edge.connection():
        answer = edge.post_callback(legacy_body())
        again = edge.client.get("/healthz")

    assert answer.status_code == 503
    assert answer.headers["connection"] == "close"
    assert int(answer.headers["retry-after"]) > 0
    assert again.status_code == 200


@pytest.mark.parametrize(("handler", "stops"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_a_hangup_stops_the_server_unless_it_is_ignored_as_under_nohup(
    handler: signal.Handlers, *, stops: bool
) -> None:
    closing: list[str] = []
    stopped: list[bool] = []

    @contextlib.asynccontextmanager
    async def hung_up(_: Starlette) -> AsyncIterator[None]:
        os.kill(os.getpid(), signal.SIGHUP)
        for _turn in range(20):  # of the event loop, which takes the signal in one of them
            await asyncio.sleep(0)
        stopped.append(bool(closing))
        started.stop()
        yield

    before = signal.signal(signal.SIGHUP, handler)
    started = server(port=0, app=Starlette(lifespan=hung_up), on_closing=lambda: closing.append("closing"))
    try:
        assert started.run() == 0
    finally:
        signal.signal(signal.SIGHUP, before)

    assert (stopped, closing) == ([stops], ["closing"])


DAEMON = textwrap.dedent("""
    import sys
    from archiver import log
    from tests.harness.edge import Edge

    log.configure(format="json", level="info")
    edge = Edge(drain_seconds=float(sys.argv[1]))
    print(edge.server.url, flush=True)
    sys.exit(edge.server.run())
""")


@dataclasses.dataclass
class Daemon:
    process: subprocess.Popen[str]
    client: httpx2.Client

    def until_unready(self) -> None:
        while self.client.get("/readyz").status_code == 200:
            pass


@pytest.fixture
def start() -> Iterator[Callable[[float], Daemon]]:
    daemons: list[Daemon] = []

    def start_one(drain_seconds: float) -> Daemon:
        command = [sys.executable, "-c", DAEMON, str(drain_seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        daemons.append(Daemon(process, httpx2.Client(base_url=url, timeout=SECONDS_MAX, trust_env=False)))
        assert daemons[-1].client.get("/readyz").json() == READY
        return daemons[-1]

    yield start_one
    for daemon in daemons:
        daemon.client.close()
        daemon.process.kill()
        daemon.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_makes_it_unready_before_it_refuses_a_connection(
    start: Callable[[float], Daemon], number: signal.Signals
) -> None:
    daemon = start(1000.0)
    daemon.process.send_signal(number)
    daemon.until_unready()

    assert daemon.client.post(f"/callbacks/{TOKEN}", content=legacy_body()).status_code == 200
    assert daemon.client.get("/healthz").status_code == 200


def test_it_leaves_after_the_drain_and_says_so(start: Callable[[float], Daemon]) -> None:
    daemon = start(0.2)
    daemon.process.send_signal(signal.SIGTERM)
    _, said = daemon.process.communicate(timeout=SECONDS_MAX)

    assert daemon.process.returncode == 0
    assert "daemon.draining" in said
    assert "daemon.stopped" in said
    assert "Traceback" not in said
    with pytest.raises(httpx2.ConnectError):
        daemon.client.get("/healthz")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_skips_the_drain(start: Callable[[float], Daemon], number: signal.Signals) -> None:
    daemon = start(1000.0)
    daemon.process.send_signal(number)
    daemon.until_unready()
    daemon.process.send_signal(number)

    assert daemon.process.wait(timeout=SECONDS_MAX) == 0


def test_a_request_in_progress_is_finished_before_it_leaves(start: Callable[[float], Daemon]) -> None:
    daemon = start(0.0)
    body = legacy_body()
    url = daemon.client.base_url
    with socket.create_connection((url.host, url.port or 0), timeout=SECONDS_MAX) as halfway:
        head = f"POST /callbacks/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        halfway.sendall(head.encode() + body[:5])
        assert daemon.client.get("/healthz").status_code == 200
        daemon.process.send_signal(signal.SIGTERM)
        until_refused(url)
        halfway.sendall(body[5:])

        assert halfway.recv(65536).startswith(b"HTTP/1.1 200")
    assert daemon.process.wait(timeout=SECONDS_MAX) == 0


def until_refused(url: httpx2.URL) -> None:
    while True:
        try:
            socket.create_connection((url.host, url.port or 0), timeout=SECONDS_MAX).close()
        except ConnectionError:
            return
