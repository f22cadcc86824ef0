"""The HTTP server: uvicorn, listening, draining and stopping in our order.

1. First signal (SIGTERM, SIGINT or SIGHUP): the process becomes unready (`on_draining`) but answers for
   `drain_seconds` more, so that load balancers notice before a connection is refused. Then `on_closing` runs, the
   listener closes, requests in progress get `shutdown_seconds`, the application's lifespan ends, and `run` returns.
2. Second signal: skip the drain. Third signal: do not wait for requests.

No 200 depends on this order. The socket is bound when the server is built: a port in use is an error before anything
else starts, and connections during the start wait in the backlog.
"""

import asyncio
import contextlib
import dataclasses
import gc
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from archiver import log
from receiver.server import replies
from receiver.server.notify import Supervisor
from receiver.server.protocol import BoundedProtocol, StallWatch
from receiver.server.watchdog import Watchdog

BACKLOG = 2048
CONNECTIONS_MAX = 800
"""Beyond it requests get 503 and `Connection: close`. It leaves room below the usual limit of 1024 open files, and this
many of the largest bodies fit a small machine's memory."""
OTHERS_SHARE = 0.75
"""The share of connections beyond which every request except a callback gets 503: clients of the gateway keep theirs
open."""
KEEP_ALIVE_SECONDS = 30
"""Longer than the pause between a sender's callbacks."""
STALL_SECONDS = 15
OVERLOADED_STALL_SECONDS = 2
"""Short, because meanwhile genuine callbacks get 503, and Kling is not known to repeat them."""
HEALTH_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

_OVERLOADED = dataclasses.replace(
    replies.UNAVAILABLE,
    message="The server has too many connections; please send it again.",
    headers=(*replies.UNAVAILABLE.headers, (b"connection", b"close"), replies.FROM_GATEWAY),
)
_log = log.get()


class CannotListen(Exception):
    """The message is a sentence for the operator. The port is taken, or the address is not there yet."""


class NoSuchAddress(CannotListen):
    """The address will never be there."""


class HttpServer:
    """One listening socket and the application behind it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        metrics_port: int | None = None,
        drain_seconds: float,
        shutdown_seconds: float,
        on_draining: Callable[[], None],
        on_closing: Callable[[], None],
        supervisor: Supervisor | None = None,
        connections_max: int = CONNECTIONS_MAX,
        stall_seconds: int = STALL_SECONDS,
    ) -> None:
        """Bind (`port` 0: to a free port), also to `metrics_port`. The hooks run on the event loop and must not block.

        Raises:
            CannotListen: the address is in use, is not local, or does not resolve.
        """
        self._sockets = [_listen(host, port)]
        self.url = _url_of(self._sockets[0])
        """Where the server listens, with the actual port."""
        if metrics_port is not None:
            try:
                self._sockets.append(_listen(host, metrics_port))
            except CannotListen:
                self.close()
                raise
        self._connections_max = connections_max
        config = uvicorn.Config(
            self._admit(app),
            loop="uvloop",
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_notify=0,  # every second
            # uvicorn declares an int, but asyncio.wait_for accepts a fraction.
            timeout_graceful_shutdown=shutdown_seconds,  # type: ignore[arg-type]
        )
        self._server = _Server(
            config,
            drain_seconds=drain_seconds,
            on_draining=on_draining,
            on_closing=on_closing,
            supervisor=supervisor or Supervisor({}),
            stall_seconds=lambda connected: (
                OVERLOADED_STALL_SECONDS if connected > connections_max else stall_seconds
            ),
        )
        config.callback_notify = self._server.every_second

    def run(self) -> int:
        """Serve until stopped. Returns the exit status: 1 if the application could not start."""
        _log.info("door.opened", url=self.url)
        # Unfrozen, every full collection walks the objects that exist now while all callbacks wait: measured, a
        # seventh of the processor time and twice the 99th percentile.
        gc.freeze()
        try:
            self._server.run(sockets=self._sockets)
        except SystemExit:  # uvicorn's signal that the lifespan failed; it has logged the reason
            return 1
        finally:
            gc.unfreeze()
            self.close()
        _log.info("daemon.stopped", url=self.url)
        return 0

    def close(self) -> None:
        """Release the addresses, also of a server that never ran."""
        for bound in self._sockets:
            bound.close()

    def stop(self) -> None:
        """Act as on a signal: the first call drains, the second closes. From any thread, also before `run`."""
        self._server.interrupt_from_anywhere()

    def _admit(self, app: ASGIApp) -> ASGIApp:
        """503 while overloaded. uvicorn's `limit_concurrency` sends no `Retry-After` and fails health checks."""
        others_max = self._connections_max * OTHERS_SHARE

        async def admitted(scope: Scope, receive: Receive, send: Send) -> None:
            connected = len(self._server.server_state.connections)
            if connected > others_max and _is_refused(
                scope.get("path", ""), connected > self._connections_max
            ):
                await replies.send(_OVERLOADED, send)
            else:
                await app(scope, receive, send)

        return admitted


def _is_refused(path: str, is_full: bool) -> bool:
    """Whether the request is refused because connections are scarce."""
    return path not in HEALTH_PATHS and (is_full or not path.startswith("/callbacks"))


class _Server(uvicorn.Server):
    """uvicorn's server with our signal handling."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        drain_seconds: float,
        on_draining: Callable[[], None],
        on_closing: Callable[[], None],
        supervisor: Supervisor,
        stall_seconds: Callable[[int], float],
    ) -> None:
        """`stall_seconds` takes the number of connections."""
        super().__init__(config)
        self._stalls = StallWatch()
        self._stall_seconds = stall_seconds
        self._drain_seconds = drain_seconds
        self._on_draining = on_draining
        self._on_closing = on_closing
        self._supervisor = supervisor
        self._interrupts = 0
        self._early_interrupts = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's handlers would close the listener at once and re-raise the signal at the end."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._loop = loop
        for _ in range(self._early_interrupts):
            self._interrupt()
        is_main = threading.current_thread() is threading.main_thread()
        handled = stop_signals() if is_main else ()
        for number in handled:
            loop.add_signal_handler(number, self._interrupt)
        try:
            with Watchdog().watching(loop):
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
            self._supervisor.stopping()
            asyncio.get_running_loop().call_later(self._drain_seconds, self._close)
        elif not self.should_exit:
            self._close()
        else:
            self.force_exit = True

    def _close(self) -> None:
        if not self.should_exit:
            self._on_closing()
            self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the listener and tell the supervisor."""
        await super().startup(sockets)
        if self.started:
            self._supervisor.ready()

    async def every_second(self) -> None:
        """Called by uvicorn."""
        self._supervisor.tick()
        self._close_stalled()

    def _close_stalled(self) -> None:
        connections, now = self.server_state.connections, asyncio.get_running_loop().time()
        self._stalls.cut_off_unread(connections, now=now)
        self._stalls.close_stalled(
            connections,
            now=now,
            seconds_max=self._stall_seconds(len(connections)),
        )


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that stop this process: SIGHUP not under `nohup`, which ignores it."""
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return (signal.SIGTERM, signal.SIGINT, *(() if is_ignored else (signal.SIGHUP,)))


def _url_of(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:  # Python would read 65536 as 0 in one call and leak a socket in the next
        raise NoSuchAddress(f"cannot listen on {host}:{port}: there is no such port")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = found[0]
        everywhere = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(
            (address[0], port), family=family, backlog=BACKLOG, dualstack_ipv6=everywhere
        )
    except (OSError, UnicodeError) as error:
        if isinstance(error, UnicodeError):
            raise NoSuchAddress(f"cannot listen on {host}:{port}: this is no host name") from error
        raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror}") from error
