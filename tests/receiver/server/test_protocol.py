"""Stalled connections are closed; slow but progressing ones are not."""

import contextlib
import pathlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from archiver.model import Callback, CallbackOutcome
from tests.harness.daemons import until
from tests.harness.edge import SECONDS_MAX, TOKEN, Edge, legacy_body, read_to_end


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
    """`count` accepted connections, each with one of the beginnings sent."""
    with contextlib.ExitStack() as opened:
        connected = [opened.enter_context(edge.connection()) for _ in range(count)]
        for number, connection in enumerate(connected):
            connection.sendall(HALF_OPEN[number % len(HALF_OPEN)])
        yield connected


def test_half_open_connections_keep_no_callback_from_its_200() -> None:
    with Edge(connections_max=300, stall_seconds=3600) as edge, half_open(edge, 250):
        answers = [edge.post_callback(legacy_body(f"t{number}")).status_code for number in range(20)]

    assert answers == [200] * 20


def test_too_many_half_open_connections_are_closed_in_favour_of_a_callback() -> None:
    with Edge(connections_max=50, stall_seconds=3600) as edge, half_open(edge, 200) as connected:
        assert edge.post_callback(legacy_body()).status_code == 503
        for connection in connected:
            with contextlib.suppress(ConnectionError):
                read_to_end(connection)  # each is closed, or this times out

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
    """Up to a gigabyte, so that the test can fail."""
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


def unsent_bytes(edge: Edge) -> int:
    """Of answers, in the kernel: also what is on its way."""
    port = int(edge.server.url.rpartition(":")[2])
    rows = [row.split() for row in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4].split(":")[0], 16) for row in rows if row[1].endswith(f":{port:04X}"))


@pytest.mark.skipif(not pathlib.Path("/proc/net/tcp").exists(), reason="Linux tells what its kernel keeps")
def test_the_kernel_keeps_little_of_an_answer_that_its_client_does_not_read() -> None:
    began = threading.Event()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(256):
            yield bytes(65536)
            began.set()

    async def long(_: Request) -> Response:
        return StreamingResponse(pieces())

    with Edge(routes=[Route("/long", long)]) as edge, edge.connection() as connection:
        connection.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        assert began.wait(SECONDS_MAX)
        until(lambda: unsent_bytes(edge), what="more than the client's side takes")
        kept, before = unsent_bytes(edge), -1
        while kept != before:
            time.sleep(0.1)
            kept, before = unsent_bytes(edge), kept

    assert 0 < kept < 2**20


def test_where_the_kernel_cannot_be_limited_callers_are_answered_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(socket, "TCP_NOTSENT_LOWAT")

    with Edge() as edge:
        assert edge.client.get("/healthz").status_code == 200


def test_a_client_that_leaves_is_told_to_the_request_in_progress_and_those_behind_it_never_begin() -> None:
    began, told = threading.Semaphore(0), threading.Semaphore(0)

    async def waiting(request: Request) -> Response:
        began.release()
        while (await request.receive())["type"] != "http.disconnect":
            pass
        told.release()
        return Response()

    with Edge(routes=[Route("/waiting", waiting)]) as edge:
        with edge.connection() as leaving:
            leaving.sendall(b"GET /waiting HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
            assert began.acquire(timeout=SECONDS_MAX)
        assert told.acquire(timeout=SECONDS_MAX)
        assert edge.client.get("/healthz").status_code == 200

        assert not began.acquire(blocking=False)
