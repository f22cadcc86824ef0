"""The application around the callbacks: health, metrics, errors; and the order in which the server leaves."""

import contextlib
import dataclasses
import logging
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence

import httpx2
import pytest
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from archiver.failures import LedgerUnavailable
from archiver.model import Callback, CallbackOutcome
from receiver import app as app_module
from receiver.app import AppParts, build_app
from receiver.server.server import CannotListen, HttpServer
from tests.harness.edge import SECONDS_MAX, TOKEN, Edge, legacy_body, read_to_end

READY = {"ready": True, "draining": False, "committing": True, "degraded": []}


@pytest.fixture
def parts() -> Iterator[AppParts]:
    edge = Edge()
    yield edge.parts
    edge.server.close()


def client(parts: AppParts, **changes: object) -> TestClient:
    return TestClient(build_app(dataclasses.replace(parts, **changes)))  # type: ignore[arg-type]  # by name


def refuse() -> None:
    raise LedgerUnavailable("locked")


def test_healthz_is_fine_whatever_else_is_not(parts: AppParts) -> None:
    with client(parts, probe=refuse, draining=lambda: True) as running:
        assert running.get("/healthz").status_code == 200
        assert running.head("/healthz").status_code == 200


def test_readyz_is_200_while_callbacks_can_be_committed(parts: AppParts) -> None:
    with client(parts) as running:
        answer = running.get("/readyz")

    assert (answer.status_code, answer.json()) == (200, READY)


def test_what_is_degraded_is_told_and_closes_no_door(parts: AppParts) -> None:
    holds = [{"stage": "archive", "reason": "bucket_missing"}]
    with client(parts, degraded=lambda: holds) as running:
        answer = running.get("/readyz")

    assert (answer.status_code, answer.json()) == (200, READY | {"degraded": holds})


def test_readyz_is_503_when_the_ledger_cannot_commit(parts: AppParts) -> None:
    with client(parts, probe=refuse, degraded=refuse) as running:
        answer = running.get("/readyz")

    assert answer.status_code == 503
    assert answer.json() == READY | {
        "ready": False,
        "committing": False,
        "degraded": ["ledger_unavailable"],
    }


def test_readyz_is_503_while_draining(parts: AppParts) -> None:
    with client(parts, draining=lambda: True) as running:
        answer = running.get("/readyz")

    assert (answer.status_code, answer.json()) == (503, READY | {"ready": False, "draining": True})


def test_a_probe_that_hangs_is_503_and_is_not_started_twice(
    parts: AppParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "PEEK_SECONDS", 0.05)
    gate, probes = threading.Event(), []

    def hang() -> None:
        probes.append(1)
        assert gate.wait(SECONDS_MAX)

    with client(parts, probe=hang) as running:
        answers = [running.get("/readyz").status_code for _ in range(3)]
        gate.set()

    assert answers == [503, 503, 503]
    assert len(probes) == 1


def test_metrics_are_refreshed_before_they_are_read(parts: AppParts) -> None:
    def refresh() -> None:
        parts.metrics.tasks.labels(state="lost").set(7)

    with client(parts, refresh_metrics=refresh) as running:
        answer = running.get("/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == parts.metrics.render()[1]
    assert 'kling_tasks{state="lost"} 7.0' in answer.text


def test_metrics_are_served_when_they_cannot_be_refreshed(parts: AppParts) -> None:
    with client(parts, refresh_metrics=refuse) as running:
        answer = running.get("/metrics")

    assert answer.status_code == 200
    assert "kling_build_info" in answer.text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_health_paths_take_get_and_head_only(parts: AppParts, path: str) -> None:
    with client(parts) as running:
        answer = running.post(path)

    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert answer.json()["code"] == 1202


@pytest.mark.parametrize("path", ["/", "/console", "/api/tasks", "/healthz/", "/docs"])
def test_every_other_path_is_404(parts: AppParts, path: str) -> None:
    with client(parts) as running:
        answer = running.get(path, follow_redirects=False)

    assert (answer.status_code, answer.json()["code"]) == (404, 1203)


def test_an_error_of_ours_is_a_500_without_a_traceback_and_a_log_line_with_one(parts: AppParts) -> None:
    async def broken(_: Request) -> Response:
        raise ZeroDivisionError("secret detail")

    with (
        structlog.testing.capture_logs() as lines,
        client(parts, routes=[Route("/broken", broken)]) as running,
    ):
        answer = running.get("/broken")

    assert (answer.status_code, answer.json()["code"]) == (500, 5000)
    assert "detail" not in answer.text
    assert [(line["event"], line["exc_info"]) for line in lines] == [("request.failed", True)]


def test_an_error_of_ours_in_the_callback_endpoint_is_answered_the_same_way(parts: AppParts) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    with client(parts, callbacks=broken) as running:
        answer = running.post("/callbacks/x")

    assert (answer.status_code, answer.json()["code"]) == (500, 5000)
    assert "detail" not in answer.text


def test_another_refusal_is_json_and_keeps_its_headers(parts: AppParts) -> None:
    async def closed(_: Request) -> Response:
        raise HTTPException(401, headers={"www-authenticate": "Bearer"})

    with client(parts, routes=[Route("/closed", closed)]) as running:
        answer = running.get("/closed")

    assert (answer.status_code, answer.json()["message"]) == (401, "Unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_port_in_use_is_said_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"^cannot listen on 127\.0\.0\.1:{port}: "):
            server(port=port)


@pytest.mark.parametrize("port", [-1, 65536, 10**30])
def test_a_port_that_is_none_is_said_in_a_sentence(port: int) -> None:
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


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_caller_that_has_nothing_more_to_say_still_gets_its_answer(method: str) -> None:
    with Edge() as edge:
        for _ in range(20):
            with edge.connection() as connection:
                connection.sendall(f"{method} /healthz HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                connection.shutdown(socket.SHUT_WR)

                assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_connection_without_a_request_is_closed() -> None:
    with Edge(stall_seconds=1) as edge, edge.connection() as silent, edge.connection() as halfway:
        halfway.sendall(b"POST /callbacks/x HTTP/1.1\r\nHost:")

        assert silent.recv(1) == b""
        assert halfway.recv(1) == b""


def test_a_connection_whose_body_never_begins_is_closed() -> None:
    with Edge(stall_seconds=1) as edge, edge.connection() as promising:
        promising.sendall(
            f"POST /callbacks/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode()
        )

        assert promising.recv(1) == b""


HALF_OPEN = [
    b"",
    b"P",
    b"POST /callbacks/x HTTP/1.1\r\nHost: x\r\nX-",
    f"POST /callbacks/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode(),
    f"POST /callbacks/{TOKEN} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n".encode(),
]
"""Beginnings of requests whose ends never come."""


@contextlib.contextmanager
def half_open(edge: Edge, count: int) -> Iterator[list[socket.socket]]:
    """So many connections that have been accepted, each with one of the beginnings."""
    with contextlib.ExitStack() as opened:
        connected = [opened.enter_context(edge.connection()) for _ in range(count)]
        for number, one in enumerate(connected):
            one.sendall(HALF_OPEN[number % len(HALF_OPEN)])
        yield connected


def test_half_open_connections_keep_no_callback_from_its_200() -> None:
    with Edge(connections_max=300, stall_seconds=3600) as edge, half_open(edge, 250):
        answers = [edge.post_callback(legacy_body(f"t{number}")).status_code for number in range(20)]

    assert answers == [200] * 20


def test_a_crowd_of_half_open_connections_gives_way_to_a_callback() -> None:
    with Edge(connections_max=50, stall_seconds=3600) as edge, half_open(edge, 200) as connected:
        assert edge.post_callback(legacy_body()).status_code == 503
        for one in connected:
            with contextlib.suppress(ConnectionError):
                read_to_end(one)  # each is closed, or this times out

        assert edge.post_callback(legacy_body()).status_code == 200


def is_closed_after(connected: socket.socket, data: bytes) -> bool:
    """Send it, and wait a moment for the end of the connection."""
    try:
        connected.sendall(data)
        return connected.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_a_caller_who_drips_a_request_is_cut_off_like_one_who_is_silent() -> None:
    with Edge(stall_seconds=1) as edge, edge.connection() as dripping:
        dripping.sendall(b"POST /callbacks/x HTTP/1.1\r\nX-Drip: ")
        dripping.settimeout(0.1)

        assert any(is_closed_after(dripping, b"x") for _ in range(int(SECONDS_MAX / 0.1)))


def send_for_ever(connected: socket.socket, line: bytes) -> None:
    """Up to a gigabyte, that is: the test must be able to fail."""
    for _ in range(100_000):
        connected.sendall(line)


@pytest.mark.parametrize(
    "start", [b"POST /callbacks/x HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"]
)
def test_headers_without_end_and_a_refused_body_without_end_are_cut_off(start: bytes) -> None:
    with Edge() as edge, edge.connection() as connected:
        connected.sendall(start)
        with pytest.raises(ConnectionError):
            send_for_ever(connected, b"X-Endless: " + b"x" * 10_000 + b"\r\n")


def test_a_connection_that_waits_for_an_answer_is_not_stalled() -> None:
    entered, gate = threading.Semaphore(0), threading.Event()

    def record(callbacks: Sequence[Callback]) -> list[CallbackOutcome]:
        entered.release()
        assert gate.wait(SECONDS_MAX)
        return [CallbackOutcome.ACCEPTED for _ in callbacks]

    with Edge(record, stall_seconds=1) as edge, edge.connection() as waiting:
        body = legacy_body()
        head = f"POST /callbacks/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        waiting.sendall(head.encode() + body)
        assert entered.acquire(timeout=SECONDS_MAX)
        with edge.connection() as silent:
            assert silent.recv(1) == b""
        gate.set()

        assert waiting.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_crowd_is_answered_503_and_the_health_checks_are_not() -> None:
    with Edge(connections_max=1) as edge, edge.connection():
        answer = edge.post_callback(legacy_body())
        again = edge.client.get("/healthz")

    assert answer.status_code == 503
    assert answer.headers["connection"] == "close"
    assert int(answer.headers["retry-after"]) > 0
    assert again.status_code == 200


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
def test_a_signal_makes_it_unready_before_it_refuses_anyone(
    start: Callable[[float], Daemon], number: signal.Signals
) -> None:
    daemon = start(2.0)
    daemon.process.send_signal(number)
    daemon.until_unready()

    assert daemon.client.post(f"/callbacks/{TOKEN}", content=legacy_body()).status_code == 200
    assert daemon.client.get("/healthz").status_code == 200

    _, said = daemon.process.communicate(timeout=30)

    assert daemon.process.returncode == 0
    assert "daemon.draining" in said
    assert "daemon.stopped" in said
    assert "Traceback" not in said
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(daemon.client.base_url.join("/healthz"), trust_env=False)


def test_a_second_signal_skips_the_drain(start: Callable[[float], Daemon]) -> None:
    daemon = start(1000.0)
    daemon.process.send_signal(signal.SIGTERM)
    daemon.until_unready()
    daemon.process.send_signal(signal.SIGTERM)

    assert daemon.process.wait(timeout=30) == 0


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
    assert daemon.process.wait(timeout=30) == 0


def until_refused(url: httpx2.URL) -> None:
    while True:
        try:
            socket.create_connection((url.host, url.port or 0), timeout=SECONDS_MAX).close()
        except ConnectionError:
            return
