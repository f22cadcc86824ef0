"""Fetching from servers that misbehave: real sockets, one raw answer per connection."""

import hashlib
import itertools
import logging
import socket
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from archiver.failures import (
    AssetGone,
    BodyIncomplete,
    Failure,
    FetchFailed,
    FetchRefused,
    FileUnusable,
    HostVerdict,
    NotMedia,
    SpoolFull,
    TooLarge,
)
from archiver.fetch.fetcher import SUSPECT_INCOMPLETE
from archiver.fetch.spool import Space, Spool
from archiver.version import USER_AGENT
from tests.harness import media_samples
from tests.harness.server import MIB, Serve, answer, fetch, fetcher_for, png, redirect


def test_a_file_comes_with_its_digests_type_and_size(serve: Serve, spool: Spool) -> None:
    body = png()
    with fetch(serve(answer(body)), spool) as fetched:
        assert fetched.file.read() == body
        assert fetched.bytes == len(body)
        assert fetched.sha256 == hashlib.sha256(body).hexdigest()
        assert fetched.md5 == hashlib.md5(body, usedforsecurity=False).hexdigest()
        assert (fetched.media.extension, fetched.media.width, fetched.media.height) == ("png", 3, 2)
        assert fetched.suspect is None
        assert fetched.host == "127.0.0.1"


def test_closing_what_was_fetched_closes_the_file(serve: Serve, spool: Spool) -> None:
    with fetch(serve(answer(png())), spool) as fetched:
        file = fetched.file

    assert file.closed


def test_the_request_carries_the_targets_bytes_and_nothing_about_us(serve: Serve, spool: Spool) -> None:
    server = serve(answer(png()))
    path = "/a%2Fb/../c//d;e?ksSecret=%7e%7E&x=[]|'\"{}&y=a+b%20c&&="
    fetch(server, spool, path=path).close()

    assert server.requests == [
        (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUser-Agent: {USER_AGENT}\r\n"
            "Accept: */*\r\nAccept-Encoding: identity\r\n\r\n"
        ).encode()
    ]


def test_proxies_and_netrc_in_the_environment_are_ignored(
    serve: Serve, spool: Spool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("default login user password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = serve(answer(png()))
    fetch(server, spool).close()

    assert b"uthorization" not in server.requests[0]


def test_a_connection_is_kept_alive_and_no_cookie_is_sent_back(serve: Serve, spool: Spool) -> None:
    server = serve(answer(png(), "Set-Cookie: a=b; Path=/"))
    with fetcher_for(server.origin, spool=spool) as fetcher:
        for _ in range(3):
            fetcher.fetch(server.origin + "/a", bytes_max=MIB).close()

    assert server.connections == 1
    assert not any(b"ookie" in request for request in server.requests)


@pytest.mark.parametrize(
    "framing",
    [
        answer(png(), length=None),
        answer(png(), "Content-Type: text/html"),
        answer(png(), "Content-Encoding: identity"),
        b"HTTP/1.0 200 OK\r\n\r\n" + png(),
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(png()),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(png()), png()),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"1\r\n%c\r\n" % byte for byte in png())
        + b"0\r\nTrailer: x\r\n\r\n",
    ],
)
def test_every_framing_of_the_same_body_gives_the_same_file(
    framing: bytes, serve: Serve, spool: Spool
) -> None:
    with fetch(serve(framing, closing=True), spool) as fetched:
        assert fetched.file.read() == png()


def test_a_body_of_unknown_length_grows_its_reservation(serve: Serve, spool: Spool) -> None:
    body = png(9 * MIB)
    with fetch(serve(answer(body, length=None), closing=True), spool) as fetched:
        assert fetched.sha256 == hashlib.sha256(body).hexdigest()


def test_many_threads_share_one_fetcher(serve: Serve, spool: Spool) -> None:
    def mirror(connection: socket.socket, head: bytes) -> None:
        connection.sendall(answer(png(int(head.split()[1][1:]))))

    server = serve(mirror)
    with fetcher_for(server.origin, spool=spool) as fetcher, ThreadPoolExecutor(32) as threads:

        def size_of(size: int) -> int:
            with fetcher.fetch(f"{server.origin}/{size}", bytes_max=10 * MIB) as fetched:
                return fetched.bytes

        sizes = [number * 1000 for number in range(100)]
        assert list(threads.map(size_of, sizes)) == [len(png(size)) for size in sizes]


def test_a_large_body_stays_out_of_memory(serve: Serve, spool: Spool) -> None:
    body = png(32 * MIB)
    server = serve(answer(body))
    tracemalloc.start()
    try:
        fetch(server, spool, bytes_max=64 * MIB).close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * MIB


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
def test_a_missing_file_is_gone(status: str, serve: Serve, spool: Spool) -> None:
    with pytest.raises(AssetGone) as raised:
        fetch(serve(answer(b"no", status=status)), spool)

    assert raised.value.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("status", "failure", "verdict"),
    [
        ("201 Created", FileUnusable, HostVerdict.ANSWERS),
        ("204 No Content", FileUnusable, HostVerdict.ANSWERS),
        ("206 Partial Content", FileUnusable, HostVerdict.ANSWERS),
        ("300 Choices", FileUnusable, HostVerdict.ANSWERS),
        ("304 Not Modified", FileUnusable, HostVerdict.ANSWERS),
        ("400 Bad", FetchRefused, HostVerdict.REFUSES),
        ("401 Unauthorized", FetchRefused, HostVerdict.REFUSES),
        ("403 Forbidden", FetchRefused, HostVerdict.REFUSES),
        ("416 Range", FetchRefused, HostVerdict.REFUSES),
        ("451 Unavailable For Legal Reasons", FetchRefused, HostVerdict.REFUSES),
        ("429 Slow", FetchFailed, HostVerdict.DOWN),
        ("500 Oops", FetchFailed, HostVerdict.DOWN),
        ("503 Busy", FetchFailed, HostVerdict.DOWN),
        ("999 What", FetchFailed, HostVerdict.DOWN),
    ],
)
def test_any_other_status_fails_and_says_what_it_means_for_the_host(
    status: str, failure: type[Failure], verdict: HostVerdict, serve: Serve, spool: Spool
) -> None:
    with pytest.raises(failure, match=status[:3]) as raised:
        fetch(serve(answer(png(), status=status)), spool)

    assert (raised.value.host, raised.value.host_verdict) == ("127.0.0.1", verdict)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("203 Non-Authoritative Information", ()),
        ("206 Partial Content", (f"Content-Range: bytes 0-{len(png()) - 1}/{len(png())}",)),
        ("206 Partial Content", (f"content-range: Bytes  0-{len(png()) - 1}/{len(png())} ",)),
    ],
)
def test_another_status_with_the_whole_file_is_a_success(
    status: str, headers: tuple[str, ...], serve: Serve, spool: Spool
) -> None:
    with fetch(serve(answer(png(), *headers, status=status)), spool) as fetched:
        assert fetched.bytes == len(png())


@pytest.mark.parametrize("covered", ["bytes 0-9/100", "bytes 1-99/100", "bytes */100", "items 0-99/100", ""])
def test_a_part_of_a_file_is_no_file(covered: str, serve: Serve, spool: Spool) -> None:
    with pytest.raises(FileUnusable):
        fetch(serve(answer(png(), f"Content-Range: {covered}", status="206 Partial Content")), spool)


@pytest.mark.parametrize(
    "raw",
    [
        b"not http at all\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 2 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"",
    ],
)  # fmt: skip
def test_what_is_no_http_answer_fails_with_the_host(raw: bytes, serve: Serve, spool: Spool) -> None:
    with pytest.raises(FetchFailed) as raised:
        fetch(serve(raw, closing=True), spool)

    assert raised.value.host == "127.0.0.1"


def test_a_body_announced_too_large_is_not_read(serve: Serve, spool: Spool) -> None:
    with pytest.raises(TooLarge) as raised:
        fetch(serve(answer(b"", length=1001)), spool, bytes_max=1000)

    assert raised.value.host == "127.0.0.1"


def test_a_body_that_grows_too_large_is_cut_off(serve: Serve, spool: Spool) -> None:
    def endless(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(answer(b"", length=None))
        while True:
            connection.sendall(bytes(65536))

    with pytest.raises(TooLarge):
        fetch(serve(endless), spool, bytes_max=MIB)


def test_exactly_the_bytes_allowed_are_not_too_many(serve: Serve, spool: Spool) -> None:
    fetch(serve(answer(png(), length=None), closing=True), spool, bytes_max=len(png())).close()
    with pytest.raises(TooLarge):
        fetch(serve(answer(png(), length=None), closing=True), spool, bytes_max=len(png()) - 1)


@pytest.mark.parametrize(
    "cut",
    [
        answer(png(), length=len(png()) + 1),
        answer(b"", length=5),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b" % (len(png()) + 1, png()),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(png()), png()),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        answer(b"", length=None),
        answer(b""),
    ],
)
def test_a_cut_transfer_is_incomplete_and_has_no_digest(cut: bytes, serve: Serve, spool: Spool) -> None:
    with pytest.raises(BodyIncomplete) as raised:
        fetch(serve(cut, closing=True), spool)

    assert raised.value.sha256 is None
    assert raised.value.host == "127.0.0.1"


def test_a_reset_in_the_middle_fails(serve: Serve, spool: Spool) -> None:
    def reset(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(answer(png(), length=len(png()) + 100))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with pytest.raises(FetchFailed) as raised:
        fetch(serve(reset), spool)

    assert raised.value.host == "127.0.0.1"


def test_a_file_that_is_not_whole_is_incomplete_and_tells_its_digest(serve: Serve, spool: Spool) -> None:
    body = png()[:-1]
    with pytest.raises(BodyIncomplete) as raised:
        fetch(serve(answer(body)), spool, suspect_sha256="0" * 64)

    assert raised.value.sha256 == hashlib.sha256(body).hexdigest()
    assert raised.value.host == "127.0.0.1"


def test_the_same_incomplete_bytes_again_are_what_upstream_has(serve: Serve, spool: Spool) -> None:
    body = png()[:-1]
    digest = hashlib.sha256(body).hexdigest()
    with fetch(serve(answer(body)), spool, suspect_sha256=digest) as fetched:
        assert fetched.suspect == SUSPECT_INCOMPLETE
        assert fetched.file.read() == body


def test_a_whole_file_is_no_suspect_whatever_was_seen_before(serve: Serve, spool: Spool) -> None:
    digest = hashlib.sha256(png()).hexdigest()
    with fetch(serve(answer(png())), spool, suspect_sha256=digest) as fetched:
        assert fetched.suspect is None


def test_an_error_page_is_not_media_whatever_its_content_type(serve: Serve, spool: Spool) -> None:
    page = b"<!doctype html><title>403</title>"
    with pytest.raises(NotMedia) as raised:
        fetch(serve(answer(page, "Content-Type: image/png")), spool)

    assert raised.value.host == "127.0.0.1"


def test_a_picture_that_declares_too_many_pixels_is_too_large(serve: Serve, spool: Spool) -> None:
    bomb = media_samples.png(100_000, 100_000)
    with pytest.raises(TooLarge, match="megapixels") as raised:
        fetch(serve(answer(bomb)), spool)

    assert raised.value.host == "127.0.0.1"


def test_a_full_spool_is_a_hold_of_the_stage_and_of_no_host(serve: Serve, tmp_path: Path) -> None:
    spool = Spool(tmp_path, space=lambda _directory: Space(free=100 * MIB, total=1000 * MIB))
    with spool.reserve(44 * MIB), pytest.raises(SpoolFull) as raised:
        fetch(serve(answer(png(8 * MIB))), spool)

    assert raised.value.host is None
    assert spool.promised_bytes == 0


def test_a_spool_that_fills_up_during_a_transfer_is_a_hold_too(serve: Serve, tmp_path: Path) -> None:
    free = itertools.chain([100 * MIB], itertools.repeat(0))
    spool = Spool(tmp_path, space=lambda _directory: Space(free=next(free), total=1000 * MIB))
    with pytest.raises(SpoolFull) as raised:
        fetch(serve(answer(png(8 * MIB), length=None), closing=True), spool)

    assert raised.value.host is None
    assert spool.promised_bytes == 0


def test_what_will_never_fit_is_too_large(serve: Serve, tmp_path: Path) -> None:
    spool = Spool(tmp_path, space=lambda _directory: Space(free=MIB, total=MIB))
    with pytest.raises(TooLarge, match="never fit") as raised:
        fetch(serve(answer(b"", length=2 * MIB)), spool)

    assert raised.value.host == "127.0.0.1"


@pytest.mark.parametrize(
    "raw",
    [
        answer(png()),
        answer(b"no", status="403 Forbidden"),
        answer(b"no", status="500 Oops"),
        answer(png()[:-1]),
        answer(b"", length=7),
        b"SECRET SECRET\r\n\r\n",
        redirect("https://evil.example/?Signature=SECRET"),
        redirect("/b?Signature=SECRET"),
    ],
)
def test_no_message_or_log_line_contains_the_query(
    raw: bytes, serve: Serve, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    message = ""
    try:
        fetch(serve(raw, closing=True), spool, path="/a.png?Signature=SECRET").close()
    except Failure as failure:
        message = f"{failure} {failure.host}"

    assert "SECRET" not in message
    assert "SECRET" not in caplog.text


def test_a_body_of_unknown_length_that_just_fits_into_the_spool_is_taken(
    serve: Serve, tmp_path: Path
) -> None:
    free = itertools.chain([56 * MIB], itertools.repeat(52 * MIB))
    spool = Spool(tmp_path, space=lambda _directory: Space(free=next(free), total=1000 * MIB))
    content = png(5 * MIB)

    with fetch(serve(answer(content, length=None), closing=True), spool) as fetched:
        assert fetched.bytes == len(content)
