"""Addresses behind names, and TLS to the host of the URL."""

import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from archiver.failures import (
    AssetAddressRefused,
    FetchFailed,
    FetchTimeout,
    RedirectRefused,
)
from archiver.fetch.spool import Spool
from tests.harness.server import MIB, Serve, Server, answer, fetcher_for, png, redirect


def test_an_allowed_name_that_resolves_to_us_is_refused(serve: Serve, spool: Spool) -> None:
    server = serve(answer(png()))
    with (
        fetcher_for("klingai.com", spool=spool) as fetcher,
        pytest.raises(AssetAddressRefused, match=r"127\.0\.0\.1, which is loopback") as raised,
    ):
        fetcher.fetch("https://cdn.klingai.com/a?Signature=SECRET", bytes_max=MIB)

    assert raised.value.host == "cdn.klingai.com"
    assert server.connections == 0


def test_a_port_without_a_listener_fails_with_the_host(spool: Spool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    origin = f"http://127.0.0.1:{port}"

    with fetcher_for(origin, spool=spool) as fetcher, pytest.raises(FetchFailed) as raised:
        fetcher.fetch(origin + "/a", bytes_max=MIB)
    assert raised.value.host == "127.0.0.1"


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label")])
def test_a_name_that_cannot_be_resolved_fails_with_the_host(error: Exception, spool: Spool) -> None:
    def resolver(_host: str, _port: int) -> Sequence[str]:
        raise error

    with (
        fetcher_for("klingai.com", spool=spool, resolver=resolver) as fetcher,
        pytest.raises(FetchFailed) as raised,
    ):
        fetcher.fetch("https://cdn.klingai.com/a", bytes_max=MIB)
    assert raised.value.host == "cdn.klingai.com"


@pytest.fixture
def tls_server(certificate: Path, serve: Serve) -> Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = serve(answer(png()), context=context)

    def remember(_socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        server.names.append(name)

    context.sni_callback = remember
    return server


def test_tls_asks_for_the_urls_host_while_connecting_to_the_vetted_address(
    tls_server: Server, trusting: ssl.SSLContext, spool: Spool
) -> None:
    origin = f"https://cdn.example.test:{tls_server.port}"
    with fetcher_for(origin, spool=spool, context=trusting) as fetcher:
        fetcher.fetch(origin + "/a", bytes_max=MIB).close()

    assert tls_server.names == ["cdn.example.test"]
    assert f"Host: cdn.example.test:{tls_server.port}\r\n".encode() in tls_server.requests[0]


def test_a_certificate_for_another_name_fails(
    tls_server: Server, trusting: ssl.SSLContext, spool: Spool
) -> None:
    origin = f"https://other.example.test:{tls_server.port}"
    with (
        fetcher_for(origin, spool=spool, context=trusting) as fetcher,
        pytest.raises(FetchFailed, match="certificate") as raised,
    ):
        fetcher.fetch(origin + "/a?Signature=SECRET", bytes_max=MIB)

    assert raised.value.host == "other.example.test"
    assert tls_server.requests == []


def test_a_certificate_of_no_trusted_authority_fails(tls_server: Server, spool: Spool) -> None:
    origin = f"https://cdn.example.test:{tls_server.port}"
    with fetcher_for(origin, spool=spool) as fetcher, pytest.raises(FetchFailed, match="certificate"):
        fetcher.fetch(origin + "/a", bytes_max=MIB)


def test_a_redirect_from_https_to_http_is_refused_even_to_a_listed_origin(
    certificate: Path, trusting: ssl.SSLContext, serve: Serve, spool: Spool
) -> None:
    plain = serve(answer(png()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    tls = serve(redirect(plain.origin + "/a"), context=context)
    origin = f"https://cdn.example.test:{tls.port}"
    with (
        fetcher_for(origin, plain.origin, spool=spool, context=trusting) as fetcher,
        pytest.raises(RedirectRefused, match="from https to http"),
    ):
        fetcher.fetch(origin + "/a", bytes_max=MIB)

    assert plain.connections == 0


def test_a_tls_handshake_that_hangs_is_a_timeout(spool: Spool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        origin = f"https://cdn.example.test:{mute.getsockname()[1]}"
        with fetcher_for(origin, spool=spool) as fetcher, pytest.raises(FetchTimeout):
            fetcher.fetch(origin + "/a", bytes_max=MIB, seconds_max=0.2)
