"""HTTPS_PROXY for the CDN: a real CONNECT proxy on loopback, and the address policy before it."""

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from archiver.config.settings import Settings, SettingsError
from archiver.failures import AssetAddressRefused, HostVerdict, ProxyFailed
from archiver.fetch.fetcher import Fetcher
from archiver.fetch.proxy import Proxy
from archiver.fetch.spool import Spool
from archiver.fetch.urls import EgressPolicy, Origin
from tests.harness.server import MIB, Serve, Server, answer, png

NAME = "cdn.example.test"


class ConnectProxy:
    """Takes CONNECT to any name, and leads to `port` on loopback: it has a DNS of its own."""

    def __init__(self, port: int, *, says: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.heads: list[bytes] = []
        self._port, self._says = port, says
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._serve, client)

    def _start(self, target: object, *sockets: socket.socket) -> None:
        self._open.extend(sockets)
        thread = threading.Thread(target=target, args=sockets)  # type: ignore[arg-type]  # a method
        self._threads.append(thread)
        thread.start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (piece := client.recv(4096)):
                return
            head += piece
        self.heads.append(head)
        client.sendall(self._says)
        if b" 200 " not in self._says:
            with contextlib.suppress(OSError):  # the client may have gone
                client.shutdown(socket.SHUT_RDWR)
            return
        upstream = socket.create_connection(("127.0.0.1", self._port))
        self._start(self._pump, upstream, client)
        self._pump(client, upstream)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in (self._listener, *self._open):
            one.close()


class TlsConnectProxy(ConnectProxy):
    """One that is itself spoken to over TLS."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(port)
        self.url = self.url.replace("http://", "https://")

    def _serve(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),  # the client may have gone
            self._context.wrap_socket(client, server_side=True) as tls,
            socket.create_connection(("127.0.0.1", self._port)) as upstream,
        ):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (piece := tls.recv(4096)):
                    return
                head += piece
            self.heads.append(head)
            tls.sendall(self._says)
            _relay(tls, upstream)


def _relay(tls: ssl.SSLSocket, upstream: socket.socket) -> None:
    """In one thread: two may not use one TLS connection."""
    while True:
        ready = [tls] if tls.pending() else select.select([tls, upstream], [], [])[0]
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            (upstream if source is tls else tls).sendall(data)


@contextlib.contextmanager
def proxying(port: int, **options: bytes) -> Iterator[ConnectProxy]:
    proxy = ConnectProxy(port, **options)
    with contextlib.closing(proxy):
        yield proxy


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def cdn(certificate: Path, serve: Serve) -> Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return serve(answer(png()), context=context)


def no_dns(_host: str, _port: int) -> Sequence[str]:
    raise socket.gaierror(-2, "Name or service not known")


def public(_host: str, _port: int) -> Sequence[str]:
    return ["93.184.216.34"]


def fetch(environ: Mapping[str, str], spool: Spool, trusting: ssl.SSLContext, resolver: object) -> int:
    fetcher = Fetcher(
        policy=EgressPolicy.parse(["example.test"]),
        spool=spool,
        resolver=resolver,  # type: ignore[arg-type]  # one of the three above
        ssl_context=trusting,
        proxy=Proxy.from_environment(environ),
    )
    with (
        contextlib.closing(fetcher),
        fetcher.fetch(f"https://{NAME}/a?Signature=SECRET", bytes_max=MIB) as file,
    ):
        return file.bytes


@pytest.mark.parametrize("resolver", [public, no_dns])
def test_a_file_comes_through_the_proxy_which_is_told_the_name_and_nothing_of_the_url(
    resolver: object, cdn: Server, spool: Spool, trusting: ssl.SSLContext
) -> None:
    with proxying(cdn.port) as proxy:
        assert fetch({"HTTPS_PROXY": proxy.url}, spool, trusting, resolver) == len(png())

    (head,) = proxy.heads
    assert head.startswith(b"CONNECT cdn.example.test:443 HTTP/1.1\r\n")
    assert b"SECRET" not in head
    assert b"Authorization" not in head
    assert cdn.requests[0].startswith(b"GET /a?Signature=SECRET ")


def test_a_name_with_a_refused_address_is_refused_before_the_proxy_hears_of_it(
    cdn: Server, spool: Spool, trusting: ssl.SSLContext
) -> None:
    with proxying(cdn.port) as proxy, pytest.raises(AssetAddressRefused, match=r"10\.0\.0\.1"):
        fetch({"https_proxy": proxy.url}, spool, trusting, lambda _host, _port: ["10.0.0.1"])

    assert proxy.heads == []


def test_the_certificate_must_be_that_of_the_host_and_not_of_the_proxys_target(
    cdn: Server, spool: Spool
) -> None:
    untrusting = ssl.create_default_context()
    with proxying(cdn.port) as proxy, pytest.raises(Exception, match="certificate"):
        fetch({"HTTPS_PROXY": proxy.url}, spool, untrusting, no_dns)

    assert cdn.requests == []


def test_a_password_of_the_proxy_goes_to_the_proxy_only(
    cdn: Server, spool: Spool, trusting: ssl.SSLContext
) -> None:
    with proxying(cdn.port) as proxy:
        fetch({"HTTPS_PROXY": proxy.url.replace("//", "//me:p%40ss@")}, spool, trusting, no_dns)

    assert b"Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in proxy.heads[0]
    assert b"bWU6cEBzcw" not in cdn.requests[0]


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "HTTP 403"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "user name and password"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", "HTTP 502|more than an answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no answer that can be read"),
        (b"HTTP/1.1 200 OK\r\n\r\nand a word", "more than an answer"),
        (b"", "no answer that can be read"),
    ],
)
def test_a_proxy_that_gives_no_way_is_named_as_the_cause(
    says: bytes, words: str, cdn: Server, spool: Spool, trusting: ssl.SSLContext
) -> None:
    with proxying(cdn.port, says=says) as proxy, pytest.raises(ProxyFailed, match=words) as raised:
        fetch({"HTTPS_PROXY": proxy.url}, spool, trusting, no_dns)

    assert "HTTPS_PROXY" in raised.value.what_to_do
    assert (raised.value.host, raised.value.host_verdict) == (NAME, HostVerdict.DOWN)


def test_a_proxy_on_a_closed_port_is_named_as_the_cause(spool: Spool, trusting: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"

    with pytest.raises(ProxyFailed, match="the proxy cannot be reached"):
        fetch({"HTTPS_PROXY": url}, spool, trusting, no_dns)


@pytest.mark.parametrize(
    ("no_proxy", "host", "goes"),
    [
        ("", "cdn.klingai.com", True),
        ("klingai.com", "cdn.klingai.com", False),
        (".klingai.com", "cdn.klingai.com", False),
        ("*.klingai.com", "cdn.klingai.com", False),
        ("other.com, KLINGAI.com", "cdn.klingai.com", False),
        ("klingai.com:443", "cdn.klingai.com", False),
        ("klingai.com:8443", "cdn.klingai.com", True),
        ("gai.com", "cdn.klingai.com", True),
        ("10.0.0.0/8", "10.1.2.3", False),
        ("10.0.0.0/8", "11.1.2.3", True),
        ("10.0.0.0/8", "cdn.klingai.com", True),
        ("::1,fd00::/8", "fd00::7", False),
        ("", "127.0.0.1", False),
        ("", "localhost", False),
    ],
)
def test_no_proxy_says_which_hosts_are_asked_without_it(no_proxy: str, host: str, goes: bool) -> None:
    proxy = Proxy.from_environment({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": no_proxy})

    assert proxy is not None
    assert proxy.serves(Origin("https", host, 443)) is goes
    assert not proxy.serves(Origin("http", host, 80))


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"HTTP_PROXY": "http://proxy.example"},
        {"HTTPS_PROXY": ""},
        {"HTTPS_PROXY": "http://proxy.example", "NO_PROXY": "a,*"},
        {"https_proxy": "", "HTTPS_PROXY": "http://proxy.example"},
    ],
)
def test_where_no_proxy_is_named_there_is_none(environ: Mapping[str, str]) -> None:
    assert Proxy.from_environment(environ) is None


@pytest.mark.parametrize(
    "url", ["socks5://secret.test:1080", "http://", "http://secret.test:x", "ftp://secret.test"]
)
def test_a_proxy_that_cannot_be_used_is_refused_at_start_by_its_name_and_without_its_value(url: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load({"HTTPS_PROXY": url})

    said = str(raised.value)
    assert "HTTPS_PROXY must be the URL of an HTTP proxy" in said
    assert "secret.test" not in said


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("written", ["http://proxy:port", "ftp://proxy", "socks5h://proxy:1080"])
def test_each_variable_that_the_client_of_the_api_reads_must_name_an_http_proxy(
    variable: str, written: str
) -> None:
    environ = {variable: written, "https_proxy": "http://proxy.example:3128"}
    with pytest.raises(ValueError, match=f"{variable} must be the URL of an HTTP proxy"):
        Proxy.from_environment(environ)


@pytest.mark.parametrize("size", [100, 300_000])
def test_a_file_comes_through_a_proxy_that_is_spoken_to_over_tls(
    certificate: Path, serve: Serve, spool: Spool, trusting: ssl.SSLContext, size: int
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    cdn = serve(answer(png(size)), context=context)

    with contextlib.closing(TlsConnectProxy(cdn.port, context)) as proxy:
        assert fetch({"https_proxy": proxy.url}, spool, trusting, public) == len(png(size))
    assert proxy.heads[0].startswith(f"CONNECT {NAME}:443".encode())
