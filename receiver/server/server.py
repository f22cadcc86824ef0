"""uvicorn, run from here, with our order of leaving.

Two rules:

1. SIGTERM or SIGINT first makes the process unready (`on_draining`) and goes on answering for `drain_seconds`,
   so that whoever routes traffic here notices before a connection is refused. Then `on_closing`, the listener
   closes, requests in progress get `shutdown_seconds`, the application's lifespan ends, `run` returns. A second
   signal skips the drain, a third stops waiting for requests. Nothing that was answered 200 depends on any of
   this; kill -9 at any point costs the sender a repeat.
2. No connection may be held open for nothing. The endpoint bounds the time of a body that has begun; a connection
   that sends no request, half of one, no body or headers without end is closed here, because uvicorn bounds only
   the pause *after* a request. A crowd of such connections gets two seconds instead of fifteen: while there are
   too many, genuine callbacks are answered 503, and Kling is not known to repeat any.

The socket is bound when the server is built, so that a port in use is an error before anything else starts,
and connections that come during the start wait in the backlog instead of being refused.
"""

import asyncio
import contextlib
import dataclasses
import gc
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import cast

import httptools
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from archiver import log
from receiver.server import replies
from receiver.server.segments import OneSegment

BACKLOG = 2048
CONNECTIONS_MAX = 800
"""Above it requests are answered 503 and their connections closed. Below the usual limit of 1024 open files,
with room for the rest of the process, and times the largest body no more memory than a small machine has."""
KEEP_ALIVE_SECONDS = 30
"""Longer than the pause between a sender's callbacks, so that they need not connect anew each time."""
STALL_SECONDS = 15
CROWDED_STALL_SECONDS = 2
IDLE_BYTES_MAX = 256 * 1024
HEALTH_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

_CROWDED = dataclasses.replace(
    replies.UNAVAILABLE, headers=(*replies.UNAVAILABLE.headers, (b"connection", b"close"))
)
_log = log.get()


class CannotListen(Exception):
    """The address cannot be bound; the message is a sentence for the operator."""


class HttpServer:
    """One listening socket and the application behind it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        drain_seconds: float,
        shutdown_seconds: float,
        on_draining: Callable[[], None],
        on_closing: Callable[[], None],
        connections_max: int = CONNECTIONS_MAX,
        stall_seconds: int = STALL_SECONDS,
    ) -> None:
        """Bind. `port` 0 takes a free one; the hooks run on the event loop and must not block.

        Raises:
            CannotListen: the address is in use, not ours, or does not resolve.
        """
        self._socket = _listen(host, port)
        self.url = _url_of(self._socket)
        """Where it listens, the port being the actual one."""
        self._connections_max = connections_max
        config = uvicorn.Config(
            self._admit(app),
            loop="uvloop",
            http=_Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_notify=0,  # every second
            # Typed int, handed to asyncio.wait_for, which takes a fraction as well.
            timeout_graceful_shutdown=shutdown_seconds,  # type: ignore[arg-type]
        )
        self._server = _Server(
            config,
            drain_seconds=drain_seconds,
            on_draining=on_draining,
            on_closing=on_closing,
            patience=lambda connected: (
                CROWDED_STALL_SECONDS if connected > connections_max else stall_seconds
            ),
        )
        config.callback_notify = self._server.close_stalled

    def run(self) -> int:
        """Serve until stopped; the exit status, 0 unless the application could not start."""
        _log.info("daemon.started", url=self.url)
        # What is there by now stays. Unfrozen, it is walked by every full collection, with all callbacks waiting:
        # measured, that cost a seventh of the processor time and doubled the 99th percentile.
        gc.freeze()
        try:
            self._server.run(sockets=[self._socket])
        except SystemExit:  # uvicorn's way of saying that the lifespan failed; it has logged why
            return 1
        finally:
            gc.unfreeze()
            self._socket.close()
        _log.info("daemon.stopped", url=self.url)
        return 0

    def close(self) -> None:
        """Give the address back without ever having run."""
        self._socket.close()

    def _admit(self, app: ASGIApp) -> ASGIApp:
        """uvicorn's own limit_concurrency answers without `Retry-After`, and would fail the health checks too."""

        async def admitted(scope: Scope, receive: Receive, send: Send) -> None:
            connected = len(self._server.server_state.connections)
            if connected > self._connections_max and scope.get("path") not in HEALTH_PATHS:
                await replies.send(_CROWDED, send)
            else:
                await app(scope, receive, send)

        return admitted

    def stop(self) -> None:
        """What the first signal does (a second call: the second). From any thread, also before `run`."""
        self._server.interrupt_from_anywhere()


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol with two holes closed.

    One: nothing bounds the head of a request, nor what still comes after its answer. Here both are, by
    `IDLE_BYTES_MAX`.

    Two: an offer to switch protocols makes it lose the body, where the offer must be declined. The parser stops
    there and the endpoint sees an empty body (github.com/Kludex/uvicorn/issues/2722). Java's own client makes
    the offer (`Upgrade: h2c`) on every plain-http request, and whoever relays Kling's callbacks, or Kling one
    day, may be using it.
    """

    _idle_bytes = 0
    """How much has come since a request was last in progress."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        self._segments = OneSegment(transport, loop=self.loop)
        super().connection_made(cast("asyncio.Transport", self._segments))

    def eof_received(self) -> None:
        self._segments.flush()  # the loop closes the transport next, and what is written after that is lost

    def data_received(self, data: bytes) -> None:
        self._parse(data)
        if not _is_between_requests(self):
            self._idle_bytes = 0
            return
        self._idle_bytes += len(data)
        if self._idle_bytes > IDLE_BYTES_MAX:
            self.transport.close()

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _decline(self, rest: bytes) -> None:
        """Read the body with a new parser, which has seen the same framing headers and no offer.

        The application's task is scheduled but has not run, so it never notices that its body once counted
        as complete. A request pipelined behind this one is lost on the new parser: hence the close.
        """
        self.cycle.keep_alive = False
        self.cycle.more_body = True
        self.cycle.message_event.clear()
        self.parser = httptools.HttpRequestParser(_BodyOnly(self))
        framing = (b"content-length", b"transfer-encoding")
        head = [name + b": " + value + b"\r\n" for name, value in self.headers if name in framing]
        self._parse(b"".join([b"POST / HTTP/1.1\r\n", *head, b"\r\n", rest]))


class _BodyOnly:
    """Passes on from a parser what belongs to the body."""

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete


class _Server(uvicorn.Server):
    """uvicorn's server with our signal handling."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        drain_seconds: float,
        on_draining: Callable[[], None],
        on_closing: Callable[[], None],
        patience: Callable[[int], float],
    ) -> None:
        """`patience` gives the seconds that a connection may wait for its caller, by how many are connected."""
        super().__init__(config)
        self._patience = patience
        self._drain_seconds = drain_seconds
        self._on_draining = on_draining
        self._on_closing = on_closing
        self._interrupts = 0
        self._early_interrupts = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._waiting: dict[HttpToolsProtocol, tuple[RequestResponseCycle | None, float]] = {}
        """Connections whose caller's turn it is: during which request, and since when."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replaces uvicorn's, which would close the listener at once and raise the signal again at the end."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._loop = loop
        for _ in range(self._early_interrupts):
            self._interrupt()
        handled: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)
        if threading.current_thread() is not threading.main_thread():
            handled = ()
        for number in handled:
            loop.add_signal_handler(number, self._interrupt)
        try:
            yield
        finally:
            with self._lock:
                self._loop = None
            for number in handled:
                loop.remove_signal_handler(number)

    def interrupt_from_anywhere(self) -> None:
        with self._lock:
            if self._loop is None:
                self._early_interrupts += 1
            else:
                self._loop.call_soon_threadsafe(self._interrupt)

    def _interrupt(self) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            _log.info("daemon.draining", drain_seconds=self._drain_seconds)
            self._on_draining()
            asyncio.get_running_loop().call_later(self._drain_seconds, self._close)
        elif not self.should_exit:
            self._close()
        else:
            self.force_exit = True

    def _close(self) -> None:
        if not self.should_exit:
            self._on_closing()
            self.should_exit = True

    async def close_stalled(self) -> None:
        """Called every second: what has waited too long for one and the same request or body is closed."""
        now = asyncio.get_running_loop().time()
        patience = self._patience(len(self.server_state.connections))
        waiting: dict[HttpToolsProtocol, tuple[RequestResponseCycle | None, float]] = {}
        for connection in self.server_state.connections:
            if not isinstance(connection, HttpToolsProtocol) or not _awaits_caller(connection):
                continue
            cycle, since = self._waiting.get(connection, (None, now))
            waiting[connection] = (connection.cycle, since if cycle is connection.cycle else now)
            if now - waiting[connection][1] >= patience:
                connection.transport.close()
        self._waiting = waiting


def _is_between_requests(connection: HttpToolsProtocol) -> bool:
    cycle: RequestResponseCycle | None = connection.cycle  # None before the first, whatever its type says
    return cycle is None or cycle.response_complete


def _awaits_caller(connection: HttpToolsProtocol) -> bool:
    """Whether it is the caller's turn: to finish a body, or to send a request where uvicorn has no timer running
    for that."""
    if _is_between_requests(connection):
        return connection.timeout_keep_alive_task is None
    return connection.cycle.more_body


def _url_of(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:  # python would take 65536 for 0 in one call, and leak a socket in the next
        raise CannotListen(f"cannot listen on {host}:{port}: there is no such port")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = found[0]
        everywhere = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(
            (address[0], port), family=family, backlog=BACKLOG, dualstack_ipv6=everywhere
        )
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this is no host name"
        raise CannotListen(f"cannot listen on {host}:{port}: {reason}") from error
