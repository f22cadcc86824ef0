"""Questions go through the proxy that the environment names, as those of boto3 do."""

import contextlib
import pathlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from archiver.audit.doctor.asking import Unreached, ask
from archiver.fetch.proxy import Proxy
from tests.harness.server import write_certificate

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.contextmanager
def proxying(answer: bytes, *, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy of one question, and the first line of each head that it has read; behind a tunnel it is the host too."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                heads.append(connection.recv(4096))
                connection.sendall(answer)
                if tls is not None:
                    connection = tls.wrap_socket(connection, server_side=True)
                    heads.append(connection.recv(4096))
                    connection.sendall(ANSWER)
                connection.close()

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}", heads
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        serving.join()


def test_https_goes_through_a_tunnel_and_the_certificate_is_the_host_s(tmp_path: pathlib.Path) -> None:
    certificate = write_certificate(tmp_path / "good.pem", days=90)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    trust = ssl.create_default_context(cafile=str(certificate))
    with proxying(b"HTTP/1.1 200 Connection established\r\n\r\n", tls=tls) as (address, heads):
        proxy = Proxy.from_environment({"HTTPS_PROXY": f"http://user:p%40ss@{address}"})
        answer = ask("https://cdn.example.test:1/results?X-Amz-Signature=1", trust=trust, proxy=proxy)

    assert (answer.status, answer.body) == (200, b"ok")
    assert answer.certificate_ends_at is not None
    assert heads[0].startswith(b"CONNECT cdn.example.test:1 ")
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in heads[0]
    assert heads[1].startswith(b"GET /results?X-Amz-Signature=1 ")
    assert b"Proxy-" not in heads[1]


def test_a_refusing_proxy_is_reported() -> None:
    with proxying(b"HTTP/1.1 502 no\r\n\r\n") as (address, _):
        proxy = Proxy.from_environment({"HTTPS_PROXY": address})
        with pytest.raises(Unreached, match="502"):
            ask("https://results.invalid/", proxy=proxy)


def test_hosts_of_no_proxy_are_asked_directly() -> None:
    with proxying(ANSWER) as (address, heads):
        proxy = Proxy.from_environment({"HTTPS_PROXY": address, "NO_PROXY": "results.invalid"})
        with pytest.raises(Unreached):
            ask("https://results.invalid/", proxy=proxy)

    assert heads == []
