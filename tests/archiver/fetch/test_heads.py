"""Heads of responses as real CDN nodes send them: which header lines count, and which cost nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.failures import FetchFailed, FileUnusable, NotMedia
from archiver.fetch.heads import Head, HeadRefused, read_head
from archiver.fetch.spool import Spool
from tests.harness.server import MIB, Serve, answer, fetch, fetcher_for, png

CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(png()), png())


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """Every test ends with nothing promised: no failure may leak room."""
    spool = Spool(tmp_path / "spool")
    yield spool
    assert spool.promised_bytes == 0


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, GZIP", "deflate", " zstd", "UTF-8,x-gzip"])
def test_a_content_encoding_is_refused_by_name(encoding: str, serve: Serve, spool: Spool) -> None:
    with pytest.raises(FileUnusable, match="Content-Encoding"):
        fetch(serve(answer(png(), f"Content-Encoding: {encoding}")), spool)


@pytest.mark.parametrize(
    "encoding", ["UTF-8", "binary", "none", "aws-chunked", "identity", "identity, binary", "", "\xff\x00 x"]
)
def test_the_bytes_decide_under_any_other_label_of_content_encoding(
    encoding: str, serve: Serve, spool: Spool
) -> None:
    with fetch(serve(answer(png(), f"Content-Encoding: {encoding}")), spool) as fetched:
        assert fetched.file.read() == png()


def test_what_is_no_media_under_a_label_of_content_encoding_is_refused_with_the_header_named(
    serve: Serve, spool: Spool
) -> None:
    framed = b"%x;chunk-signature=0\r\n%b\r\n0\r\n\r\n" % (len(png()), png())
    with pytest.raises(NotMedia, match="Content-Encoding: aws-chunked"):
        fetch(serve(answer(framed, "Content-Encoding: aws-chunked")), spool)


@pytest.mark.parametrize(
    "line",
    [
        b"X/Powered: y",
        b"X Cache: HIT",
        b"X-Cache[0]: HIT",
        b"(X): y",
        b"X-Cache : HIT",
        b": no name",
        b"no colon",
        b"X: \x00\x01\x0b",
        b"X: \xff",
        b"\xe5\x9b\xbe: x",
        b"X: a\r\n\tb\x00",
        b"X:" + b"x" * 90_000,
        b"Content-Length-Before: 7, 8",
        b"X-Transfer/Encoding: 7",
    ],
)
def test_a_header_line_that_does_not_frame_the_body_costs_nothing(
    line: bytes, serve: Serve, spool: Spool
) -> None:
    first = answer(png()).replace(b"200 OK\r\n", b"200 OK\r\n%b\r\n" % line)
    second = answer(png()).replace(b"\r\n\r\n", b"\r\n%b\r\n\r\n" % line)
    chunked = b"HTTP/1.1 200 OK\r\n%b\r\nTransfer-Encoding: chunked\r\n\r\n%b" % (line, CHUNKED)
    server = serve(b"HTTP/1.1 103 Early Hints\r\n%b\r\n\r\n" % line + first, second, chunked)
    with fetcher_for(server.origin, spool=spool) as fetcher:
        for _ in range(3):
            with fetcher.fetch(server.origin + "/a", bytes_max=MIB) as fetched:
                assert fetched.file.read() == png()
    assert server.connections == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 \xe5\x9b\xbe\x00\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200\r\nTransfer-Encoding:chunked",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding : chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: Chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 7",
        b"HTTP/1.1 200 OK\r\nContent-Length : %d\r\nContent-Length:%d, %d" % ((len(CHUNKED),) * 3),
    ],
)
def test_framing_that_has_one_meaning_is_understood(head: bytes, serve: Serve, spool: Spool) -> None:
    is_chunked = b"chunked" in head.lower()
    body = CHUNKED if is_chunked else png() + bytes(len(CHUNKED) - len(png()))
    with fetch(serve(head + b"\r\n\r\n" + body), spool) as fetched:
        assert fetched.file.read().startswith(png())


@pytest.mark.parametrize("trailer", [b"X Y: z", b": x", b"X: \x00", b"Content-Length: x", b" x"])
def test_a_malformed_trailer_costs_nothing(trailer: bytes, serve: Serve, spool: Spool) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with fetch(serve(head + CHUNKED[:-2] + trailer + b"\r\n\r\n"), spool) as fetched:
        assert fetched.file.read() == png()


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (b"Content-Length: 1\r\nContent-Length: 2", "Content-Length"),
        (b"Content-Length: 1, 2", "Content-Length"),
        (b"Content-Length: 0x10", "Content-Length"),
        (b"Content-Length: 1 2", "Content-Length"),
        (b"Content-Length: \x0b5", "Content-Length"),
        (b"Content-Length:", "Content-Length"),
        (b"Content Length: 5", "Content-Length"),
        (b"(Content-Length): 5", "Content-Length"),
        (b"Content-Length\x00: 5", "Content-Length"),
        (b" Content-Length: 5", "Content-Length"),
        (b"Content-Length", "Content-Length"),
        (b"Transfer-Encoding: gzip, chunked", "Transfer-Encoding"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip", "Transfer-Encoding"),
        (b"Transfer-Encoding: x\r\n\tchunked", "Transfer-Encoding"),
        (b"Transfer-Encoding: \x0bchunked", "Transfer-Encoding"),
        (b"Transfer/Encoding: chunked", "Transfer-Encoding"),
        (b"Transfer-Encoding:", "Transfer-Encoding"),
    ],
)
def test_framing_that_has_no_one_meaning_is_refused_by_name(
    lines: bytes, named: str, serve: Serve, spool: Spool
) -> None:
    with pytest.raises(FetchFailed, match=named):
        fetch(serve(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (lines, png()), closing=True), spool)


LINES = st.lists(
    st.sampled_from(
        [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Content-Length : 5", b"Connection: close"]
    )
    | st.binary(max_size=20).map(lambda noise: noise.replace(b"\n", b"")),
    max_size=6,
)


@given(LINES)
def test_any_head_is_refused_by_name_or_has_one_framing(lines: list[bytes]) -> None:
    raw = b"\r\n".join([b"HTTP/1.1 200 OK", *(line for line in lines if line.strip(b"\r")), b"", b""])
    message = ""
    try:
        head, framing = read_head(raw)
    except HeadRefused as refused:
        head, framing, message = Head(), b"", str(refused)
    assert not message or "Content-Length" in message or "Transfer-Encoding" in message
    assert framing.lower().count(b"content-length") + framing.lower().count(b"transfer-encoding") <= 1
    assert (b"Content-Length: 5" in framing) == (head.length == 5)
    assert set(framing.lower().split(b"\r\n")) <= {
        *(b"http/1.1 200", b"content-length: 5", b"transfer-encoding: chunked", b"connection: close", b"")
    }
