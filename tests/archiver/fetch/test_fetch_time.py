"""Every fetch ends in time, however a server or a name delays it."""

import socket
import threading
from collections.abc import Sequence

import pytest

from archiver.failures import (
    FetchTimeout,
)
from archiver.fetch.spool import Spool
from tests.harness.server import MIB, Handler, Serve, answer, fetch, fetcher_for, png, redirect


def dripping(start: bytes, drop: bytes, gap_seconds: float = 0.02) -> Handler:
    """Sends `start` and then `drop` now and then until the peer hangs up."""

    def drip(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(start)
        stopped = threading.Event()
        while not stopped.wait(gap_seconds):
            connection.sendall(drop)

    return drip


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (answer(png()[:30], length=10_000), b"x"),
        (answer(b"", length=None), b"x"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"", b"H"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=", b"y"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"T: x\r\n"),
    ],
)
def test_a_server_that_drips_does_not_get_past_the_deadline(
    start: bytes, drop: bytes, serve: Serve, spool: Spool
) -> None:
    with pytest.raises(FetchTimeout) as raised:
        fetch(serve(dripping(start, drop)), spool, seconds_max=0.4)

    assert raised.value.host == "127.0.0.1"


def test_a_fast_body_without_end_does_not_get_past_the_deadline(serve: Serve, spool: Spool) -> None:
    def endless(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"1\r\nx\r\n" * 1000)

    with pytest.raises(FetchTimeout):
        fetch(serve(endless), spool, seconds_max=0.3)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", answer(png()[:40], length=1000)])
def test_a_silent_server_is_left_after_the_idle_time(start: bytes, serve: Serve, spool: Spool) -> None:
    def silent(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(start)
        connection.recv(1)

    with pytest.raises(FetchTimeout) as raised:
        fetch(serve(silent), spool, idle_seconds=0.1)

    assert raised.value.host == "127.0.0.1"


def test_redirects_do_not_start_the_time_anew(serve: Serve, spool: Spool) -> None:
    server = serve(redirect("/next"), redirect("/next"), dripping(b"", b"H"))

    with pytest.raises(FetchTimeout):
        fetch(server, spool, seconds_max=0.3)


def test_a_name_that_takes_for_ever_to_resolve_is_a_timeout(spool: Spool) -> None:
    over = threading.Event()

    def resolver(_host: str, _port: int) -> Sequence[str]:
        over.wait(30)
        return ["127.0.0.1"]

    with (
        fetcher_for("klingai.com", spool=spool, resolver=resolver) as fetcher,
        pytest.raises(FetchTimeout) as raised,
    ):
        fetcher.fetch("https://cdn.klingai.com/a", bytes_max=MIB, seconds_max=0.1)
    over.set()

    assert raised.value.host == "cdn.klingai.com"
