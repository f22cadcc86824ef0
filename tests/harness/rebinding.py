"""The program that `tests/archiver/fetch/test_dns_faults.py` runs in a network where any address may be ours.

Its loopback device carries a public address, a private one and the metadata address, each with the same HTTPS server
behind it, and the system's resolver asks a `NameServer` on port 53. The program's own fetcher then fetches by name,
through the system's own `getaddrinfo`, and the result says which address was really spoken to.

    python -m tests.harness.rebinding CERTIFICATE SPOOL       scenarios as JSON on stdin, results as JSON on stdout
"""

import contextlib
import fcntl
import json
import pathlib
import socket
import ssl
import struct
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

from archiver.failures import Failure
from archiver.fetch.fetcher import Fetcher, FetchLimits
from archiver.fetch.spool import Spool
from archiver.fetch.urls import EgressPolicy
from tests.harness.name_server import NameServer
from tests.simulator.media import media

PUBLIC, PRIVATE, METADATA, LOOPBACK = "93.184.216.34", "10.0.0.1", "169.254.169.254", "127.0.0.1"
SUFFIX = "klingai.com"
_SET_ADDRESS, _SET_FLAGS = 0x8916, 0x8914
_UP = 0x1 | 0x40
"""IFF_UP and IFF_RUNNING."""


def raise_loopback(addresses: Sequence[str]) -> None:
    """Bring the device up and give it these addresses besides its own. Needs a network namespace of our own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))
        for number, address in enumerate(addresses, start=1):
            name = f"lo:{number}".encode()
            fcntl.ioctl(
                control,
                _SET_ADDRESS,
                struct.pack("16sH2x4s8x", name, socket.AF_INET, socket.inet_aton(address)),
            )


class Servers:
    """HTTPS on port 443 and HTTP on port 80 of every address; counts connections by the address they came to."""

    def __init__(self, certificate: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listeners = {port: socket.create_server(("0.0.0.0", port)) for port in (443, 80)}  # noqa: S104 -- of this namespace
        self.connections: Counter[str] = Counter()

    @contextlib.contextmanager
    def serving(self) -> Iterator["Servers"]:
        for port, listener in self._listeners.items():
            threading.Thread(target=self._accept, args=(port, listener), daemon=True).start()
        yield self

    def _accept(self, port: int, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            self.connections[connection.getsockname()[0]] += 1
            with contextlib.suppress(OSError), connection:
                if port == 443:
                    connection = self._context.wrap_socket(connection, server_side=True)
                with connection:
                    connection.sendall(_answer(connection.recv(65536)))


def _answer(head: bytes) -> bytes:
    """A picture, or where `/to/<url>` asks for it a redirect there; the connection ends with it."""
    target = head.split(b" ")[1].decode()
    if target.startswith("/to/"):
        return f"HTTP/1.1 302 Found\r\nLocation: {target[4:]}\r\nConnection: close\r\n\r\n".encode()
    body = media("rebinding", "png", (24, 24))
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def outcome_of(fetcher: Fetcher, url: str) -> str:
    """`fetched`, or the slug of the failure."""
    try:
        fetcher.fetch(url, bytes_max=1024 * 1024).close()
    except Failure as failure:
        return failure.reason
    return "fetched"


def main(certificate: str, spool: str) -> None:
    raise_loopback([PUBLIC, PRIVATE, METADATA])
    results = {}
    with NameServer((LOOPBACK, 53)).serving() as names, Servers(certificate).serving() as servers:
        for scenario, plan in json.load(sys.stdin).items():
            names.answer(plan["answers"])
            servers.connections.clear()
            fetcher = Fetcher(
                policy=EgressPolicy.parse([SUFFIX]),
                spool=Spool(pathlib.Path(spool)),
                limits=FetchLimits(),
                ssl_context=ssl.create_default_context(cafile=certificate),
            )
            with contextlib.closing(fetcher):
                outcomes = [outcome_of(fetcher, url) for url in plan["urls"]]
            results[scenario] = {
                "outcomes": outcomes,
                "asked": dict(names.asked),
                "connections": dict(servers.connections),
            }
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
