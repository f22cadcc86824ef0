"""A proxy before a real S3 server that fails on demand: what no server can be asked to do by itself.

It passes every request on byte for byte (signatures stay valid: the Host header is the client's), unless the test's
rule names a fault for it. Faults come in pairs: *failed* (the server never saw it) and *failed but happened*.
"""

import contextlib
import dataclasses
import http.client
import http.server
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping

ANSWER_SECONDS_MAX = 30


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What the client asked; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


class Exchange:
    """One request in the hands of a fault."""

    def __init__(self, handler: "_Handler") -> None:
        self._handler = handler
        self.request = Request(
            handler.command, handler.path, {name.lower(): value for name, value in handler.headers.items()}
        )
        self._unread = int(self.request.headers.get("content-length", 0))
        self._expects_continue = self.request.headers.get("expect", "").lower() == "100-continue"

    def read(self, limit: int | None = None) -> bytes:
        """What is left of the body, or the next `limit` bytes of it. Only now does a client that expects it get
        `100 Continue`."""
        if self._expects_continue:
            self.raw(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._expects_continue = False
        if limit is None or limit > self._unread:
            limit = self._unread
        self._unread -= limit
        return self._handler.rfile.read(limit)

    def forward(self) -> tuple[int, dict[str, str], bytes]:
        """Ask the real server: its status, headers and body."""
        upstream = http.client.HTTPConnection(
            "127.0.0.1", self._handler.proxy.port, timeout=ANSWER_SECONDS_MAX
        )
        with contextlib.closing(upstream):
            upstream.putrequest(
                self.request.method, self.request.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self._passed_headers():
                upstream.putheader(name, value)
            upstream.endheaders(self.read())
            answer = upstream.getresponse()
            return answer.status, dict(answer.headers.items()), answer.read()

    def forward_part(self, body_bytes: int) -> None:
        """Pass on the head and the beginning of the body, then hang up on the server."""
        lines = [f"{self.request.method} {self.request.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self._passed_headers()]
        with socket.create_connection(("127.0.0.1", self._handler.proxy.port)) as upstream:
            upstream.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + self.read(body_bytes))

    def _passed_headers(self) -> list[tuple[str, str]]:
        unpassed = {"expect", "connection"}
        return [
            (name, value) for name, value in self._handler.headers.items() if name.lower() not in unpassed
        ]

    def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Answer; the connection ends with it."""
        lines = [f"HTTP/1.1 {status} Said", "Connection: close"]
        lines += [
            f"{name}: {value}"
            for name, value in headers.items()
            if name.lower() not in {"connection", "transfer-encoding"}
        ]
        self.raw("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def raw(self, data: bytes) -> None:
        """These bytes and nothing else."""
        with contextlib.suppress(OSError):  # the client may have gone
            self._handler.wfile.write(data)

    def wait_until_gone(self) -> None:
        """Return once the client has hung up."""
        with contextlib.suppress(OSError):
            while self._handler.connection.recv(65536):
                continue

    def reset(self) -> None:
        """End the connection by RST."""
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Fault = Callable[[Exchange], None]
Rule = Callable[[Request], Fault | None]


def pass_on(exchange: Exchange) -> None:
    """No fault."""
    exchange.send(*exchange.forward())


def answering(status: int, code: str = "", *, headers: Mapping[str, str] | None = None) -> Fault:
    """Failed: the server never sees the request, the client gets an S3 error (or a bare success)."""
    body = (
        f"<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>".encode() if code else b""
    )

    def fault(exchange: Exchange) -> None:
        exchange.read()
        shown = b"" if exchange.request.method == "HEAD" else body
        exchange.send(status, {"Content-Length": str(len(shown)), **(headers or {})}, shown)

    return fault


def refusing_unread(status: int, code: str) -> Fault:
    """Failed: the server answers and hangs up without having read any of the body, as real ones do."""
    body = f"<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>".encode()

    def fault(exchange: Exchange) -> None:
        exchange.send(status, {"Content-Length": str(len(body))}, body)

    return fault


def speaking(data: bytes) -> Fault:
    """Failed: these raw bytes are the answer."""

    def fault(exchange: Exchange) -> None:
        exchange.read()
        exchange.raw(data)

    return fault


def hanging(exchange: Exchange) -> None:
    """Failed: the server never sees the request, and no answer comes for as long as the client waits."""
    exchange.read()
    exchange.wait_until_gone()


def hanging_afterwards(exchange: Exchange) -> None:
    """Failed but happened: the server did it, and its answer never comes."""
    exchange.forward()
    exchange.wait_until_gone()


def after(event: Callable[[], object]) -> Fault:
    """No fault of ours: `event` happens to the server first, and then it gets the request."""

    def fault(exchange: Exchange) -> None:
        event()
        pass_on(exchange)

    return fault


def cut_while_sending(body_bytes: int) -> Fault:
    """Failed: the connection breaks when the proxy has this much of the body, and the server got as much."""

    def fault(exchange: Exchange) -> None:
        exchange.forward_part(body_bytes)
        exchange.reset()

    return fault


def losing_the_answer(exchange: Exchange) -> None:
    """Failed but happened: the server did it, the client's connection breaks."""
    exchange.forward()
    exchange.reset()


def happened_but(status: int, code: str) -> Fault:
    """Failed but happened: the server did it, the client is told an error."""

    def fault(exchange: Exchange) -> None:
        exchange.forward()
        answering(status, code)(exchange)

    return fault


def with_headers(**changed: str) -> Fault:
    """Happened, with other headers in the answer (`ETag="…"`)."""

    def fault(exchange: Exchange) -> None:
        status, headers, body = exchange.forward()
        kept = {name: value for name, value in headers.items() if name.lower() not in map(str.lower, changed)}
        exchange.send(status, kept | changed, body)

    return fault


def cut_while_answering(body_bytes: int) -> Fault:
    """The head of the real answer and only the beginning of its body."""

    def fault(exchange: Exchange) -> None:
        status, headers, body = exchange.forward()
        exchange.send(status, headers, body[:body_bytes])

    return fault


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: "FaultyProxy"

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        self.close_connection = True
        if not self.raw_requestline or not self.parse_request():
            return
        self.close_connection = True
        exchange = Exchange(self)
        self.proxy.requests.append(exchange.request)
        (self.proxy.rule(exchange.request) or pass_on)(exchange)

    def handle_expect_100(self) -> bool:
        """`Exchange.read` sends `100 Continue`."""
        return True

    def log_message(self, *_: object) -> None:
        """The tests read `FaultyProxy.requests` instead."""


class FaultyProxy:
    """Listens on a loopback port and passes on to `port`, but where `rule` names a fault."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.rule: Rule = lambda _: None
        self.requests: list[Request] = []
        """Everything that was asked, in order, faults included."""
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.endpoint_url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}"

    @contextlib.contextmanager
    def serving(self) -> Iterator["FaultyProxy"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def on(self, method: str, fault: Fault, *, times: int | None = None) -> None:
        """The fault for every request of this method, or for the next `times` of them."""
        left = [times]

        def rule(request: Request) -> Fault | None:
            if request.method != method or left[0] == 0:
                return None
            left[0] = None if left[0] is None else left[0] - 1
            return fault

        self.rule = rule

    def on_all(self, fault: Fault) -> None:
        """The fault for every request."""
        self.rule = lambda _: fault

    def asked(self) -> list[str]:
        """The methods of all requests so far."""
        return [request.method for request in self.requests]
