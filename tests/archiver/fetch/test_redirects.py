"""Redirects, which go through the same gate as the first URL."""

import pytest

from archiver.failures import (
    FileUnusable,
    UrlRefused,
)
from archiver.fetch.spool import Spool
from tests.harness.server import Serve, answer, fetch, png, redirect


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
)
def test_a_redirect_is_followed(status: str, serve: Serve, spool: Spool) -> None:
    server = serve(redirect("../b?c=%2f", status), answer(png()))
    fetch(server, spool, path="/x/a.png").close()

    assert server.requests[1].startswith(b"GET /x/../b?c=%2f HTTP/1.1\r\n")
    assert b"Referer" not in server.requests[1]


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/\xe5\x9b\xbe\xff", b"/%E5%9B%BE%FF"),
        ("/\xf0\x9f\xab\xa9 \xc2\xa0", b"/%F0%9F%AB%A9%20%C2%A0"),
        ("/a b?c d", b"/a%20b?c%20d"),
        ("\xa0", b"/%A0"),
    ],
)
def test_a_location_with_blanks_and_outside_ascii_is_asked_for_as_browsers_do(
    location: str, target: bytes, serve: Serve, spool: Spool
) -> None:
    server = serve(redirect(location), answer(png()))
    fetch(server, spool).close()

    assert server.requests[1].startswith(b"GET %b HTTP/1.1\r\n" % target)


def test_a_location_may_name_an_international_host(serve: Serve, spool: Spool) -> None:
    server = serve(redirect("//b\xc3\xbccher.example:80/"))

    with pytest.raises(UrlRefused, match=r"xn--bcher-kva\.example"):
        fetch(server, spool)


def test_three_redirects_are_followed_and_a_fourth_is_not(serve: Serve, spool: Spool) -> None:
    fetch(serve(*[redirect("/n")] * 3, answer(png())), spool).close()

    server = serve(redirect("/n"))
    with pytest.raises(FileUnusable, match="more than 3 redirects") as raised:
        fetch(server, spool)
    assert len(server.requests) == 4
    assert raised.value.host == "127.0.0.1"


def test_a_redirect_to_another_listed_origin_names_that_one(serve: Serve, spool: Spool) -> None:
    second = serve(answer(png()))
    first = serve(redirect(f"http://localhost:{second.port}/b"))
    with fetch(first, spool, also=[f"http://localhost:{second.port}"]) as fetched:
        assert fetched.host == "localhost"
    assert second.requests[0].startswith(b"GET /b ")


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:1/",
        "http://169.254.169.254/latest/meta-data/",
        "https://evil.example/",
        "//evil.example/",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "http://user@127.0.0.1/",
        "/a\tb",
        "\\\\evil.example\\a",
        "http://[::1",
        "//evil\xff.example/",
        "/" + "a" * 20_000,
    ],
)
def test_a_redirect_goes_through_the_same_gate(location: str, serve: Serve, spool: Spool) -> None:
    server = serve(redirect(location))

    with pytest.raises(UrlRefused):
        fetch(server, spool)
    assert len(server.requests) == 1


@pytest.mark.parametrize("headers", [[], ["Location:"], ["Location: "]])
def test_a_redirect_to_nowhere_fails(headers: list[str], serve: Serve, spool: Spool) -> None:
    with pytest.raises(FileUnusable, match="nowhere"):
        fetch(serve(answer(b"", *headers, status="302 Found")), spool)
