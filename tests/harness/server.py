"""A server on loopback that answers with the bytes it is given, and a fetcher that may go there."""

import contextlib
import datetime
import ipaddress
import itertools
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from archiver.fetch.fetcher import FetchedFile, Fetcher, FetchLimits
from archiver.fetch.spool import Spool
from archiver.fetch.urls import EgressPolicy

MIB = 1024 * 1024


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(data_bytes: int = 100) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 8, 2, 0, 0, 0))
    pixels = zlib.compress(bytes(20)).ljust(data_bytes, b"\0")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = -1) -> bytes:
    """A response; `length` -1 announces the true one, None announces none."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


Handler = Callable[[socket.socket, bytes], None]
"""Gets the connection and the request head that came over it."""


class Server:
    """Hands each request to the handler; keeps the request heads and counts connections."""

    def __init__(self, handler: Handler, *, context: ssl.SSLContext | None = None) -> None:
        self._handler = handler
        self._context = context
        self.requests: list[bytes] = []
        self.connections = 0
        self.names: list[str | None] = []
        """TLS server names asked for."""
        self._open: list[socket.socket] = []
        self.stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                while head := self._head(connection):
                    self.requests.append(head)
                    self._handler(connection, head)

    @staticmethod
    def _head(connection: socket.socket) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = connection.recv(65536)
            if not data:
                return b""
            head += data
        return head

    def close(self) -> None:
        self.stopping.set()
        # Shut down and not only closed: on Linux that is what wakes a thread out of accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._listener.close()  # only now: the thread would accept from what next has this file descriptor
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that sends the given answers in turn (the last one again and again) or asks a handler."""
    servers: list[Server] = []

    def start(
        *answers: bytes | Handler, context: ssl.SSLContext | None = None, closing: bool = False
    ) -> Server:
        turns = itertools.chain(answers, itertools.repeat(answers[-1]))

        def handler(connection: socket.socket, head: bytes) -> None:
            turn = next(turns)
            if isinstance(turn, bytes):
                connection.sendall(turn)
            else:
                turn(connection, head)
            if closing:
                connection.shutdown(socket.SHUT_RDWR)

        servers.append(Server(handler, context=context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def to_loopback(_host: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1"]


@contextlib.contextmanager
def fetcher_for(
    *allowed: str,
    spool: Spool,
    resolver: Callable[[str, int], Sequence[str]] = to_loopback,
    context: ssl.SSLContext | None = None,
    idle_seconds: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Fetcher]:
    fetcher = Fetcher(
        policy=EgressPolicy.parse(allowed),
        spool=spool,
        resolver=resolver,
        ssl_context=context,
        clock=clock,
        limits=FetchLimits(connect_seconds=5.0, idle_seconds=idle_seconds),
    )
    with contextlib.closing(fetcher):
        yield fetcher


def fetch(
    server: Server,
    spool: Spool,
    *,
    path: str = "/a.png",
    bytes_max: int = 10 * MIB,
    seconds_max: float = 30.0,
    idle_seconds: float = 5.0,
    suspect_sha256: str | None = None,
    also: Sequence[str] = (),
) -> FetchedFile:
    with fetcher_for(server.origin, *also, spool=spool, idle_seconds=idle_seconds) as fetcher:
        return fetcher.fetch(
            server.origin + path, bytes_max=bytes_max, seconds_max=seconds_max, suspect_sha256=suspect_sha256
        )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for cdn.example.test and its key, in one PEM file."""
    return write_certificate(tmp_path_factory.mktemp("tls") / "certificate.pem", days=1)


def write_certificate(file: Path, *, days: float) -> Path:
    """A self-signed certificate for cdn.example.test and 127.0.0.1, good for so many days from now, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cdn.example.test")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("cdn.example.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + secret)
    return file


@pytest.fixture
def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def redirect(location: str, status: str = "302 Found") -> bytes:
    return answer(b"elsewhere", f"Location: {location}", status=status)
