"""The ASGI application: routes, and the handlers of last resort.

After any error the client gets JSON from the table in `replies`, and the traceback goes to the log.
"""

import asyncio
import contextlib
import dataclasses
import http
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archiver import log
from archiver.engine.pools import PrestartedPool
from archiver.metrics import Metrics
from archiver.store.inspected_streams import import_all
from receiver.api.tasks import LEDGER_CALLS_MAX
from receiver.callbacks.endpoint import CallbackEndpoint
from receiver.callbacks.intake import Intake
from receiver.console.console import build_console, serves
from receiver.console.parts import ConsoleParts
from receiver.console.readings import READINGS_MAX as CONSOLE_READINGS_MAX
from receiver.gateway.front.endpoint import is_for_gateway
from receiver.gateway.gateway import Gateway
from receiver.health import READINGS_MAX, HealthRoutes, port_of
from receiver.links.endpoint import LinkEndpoint
from receiver.links.service import LinkService
from receiver.server import replies
from receiver.server.replies import Reply
from receiver.server.server import HEALTH_PATHS

_REFUSALS: Mapping[int, Reply] = {
    404: replies.NOT_FOUND,
    405: Reply(405, 1202, "This method is not allowed here."),
}
_log = log.get()


@dataclasses.dataclass(frozen=True, slots=True)
class Door:
    """What the application needs to take callbacks."""

    callbacks: CallbackEndpoint
    intake: Intake


@dataclasses.dataclass(frozen=True, slots=True)
class AppParts:
    """The parts of the application. The callables may block and may raise a `Failure`, except `draining`."""

    door: Door | None
    """None in a process that takes no callbacks."""
    metrics: Metrics
    draining: Callable[[], bool]
    probe: Callable[[], None]
    """Raises `LedgerUnavailable` if the ledger cannot commit."""
    degraded: Callable[[], Sequence[object]]
    """Current problems that do not concern callbacks, as JSON values."""
    stalled: Callable[[], Sequence[str]]
    """The names of hanging threads that archiving depends on. Never waits."""
    refresh_metrics: Callable[[], None]
    """Updates the gauges."""
    routes: Sequence[BaseRoute] = ()
    gateway: Gateway | None = None
    """None where Kling's own paths are not served."""
    links: LinkService | None = None
    """None where `/files` is not served."""
    console: ConsoleParts | None = None
    """None where `/console` is not served."""
    metrics_port: int | None = None
    """Where `/metrics` and the details of `/readyz` are, if not on every port."""


def build_app(parts: AppParts) -> ASGIApp:
    """Its lifespan opens and drains the intake, once. Raises `ThreadsRefused`."""
    door = parts.door
    metrics_port = parts.metrics_port
    health = HealthRoutes(
        is_inside=lambda scope: metrics_port is None or port_of(scope) == metrics_port,
        is_draining=parts.draining,
        is_open=lambda: door is None or door.intake.is_open,
        probe=parts.probe,
        degraded=parts.degraded,
        stalled=parts.stalled,
        refresh_metrics=parts.refresh_metrics,
        render_metrics=parts.metrics.render,
    )
    # Not in the lifespan, because uvicorn would log a traceback of `ThreadsRefused` there. Enough threads for the
    # readings while API and console use all of theirs.
    calls_max = LEDGER_CALLS_MAX + (0 if parts.console is None else CONSOLE_READINGS_MAX)
    pool = PrestartedPool(READINGS_MAX + calls_max, name="look")

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(pool)
        async with contextlib.AsyncExitStack() as opened:
            if parts.links is not None or parts.gateway is not None:
                await import_all()
            if parts.links is not None:
                opened.push_async_callback(parts.links.close)
            if door is not None:
                await opened.enter_async_context(door.intake)
            if parts.gateway is not None:
                opened.push_async_callback(parts.gateway.close)
            yield

    inner = Starlette(
        routes=[*health.routes(), *parts.routes],
        exception_handlers={HTTPException: _refused, Exception: _unexpected},
        lifespan=lifespan,
    )
    inner.router.redirect_slashes = False
    others: ASGIApp = inner if parts.console is None else _console_first(build_console(parts.console), inner)
    others = _last_handler(others if parts.links is None else _links_first(parts.links.endpoint, others))
    if parts.gateway is not None:
        others = _klings_paths(parts.gateway.endpoint, others)
    app = others if door is None else _callbacks_first(door.callbacks, others)
    return app if metrics_port is None else _health_alone_on(metrics_port, app)


def _health_alone_on(port: int, others: ASGIApp) -> ASGIApp:
    """On the metrics port only the health endpoints answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and port_of(scope) == port and scope["path"] not in HEALTH_PATHS:
            await replies.send(replies.NOT_FOUND, send)
        else:
            await others(scope, receive, send)

    return app


def _callbacks_first(callbacks: ASGIApp, others: ASGIApp) -> ASGIApp:
    """Callbacks bypass Starlette's routing and middleware, which cost a fifth of the whole request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if not path.startswith("/callbacks/") and path != "/callbacks":
            return await others(scope, receive, send)
        try:
            return await callbacks(scope, receive, send)
        except Exception:  # noqa: BLE001 -- the edge's last handler, with its traceback in the log
            _log.exception("request.failed", method=scope["method"])
        with contextlib.suppress(RuntimeError):  # the response had begun
            await replies.send(replies.UNEXPECTED, send)
        return None

    return app


def _console_first(console: ASGIApp, others: ASGIApp) -> ASGIApp:
    """The console answers in HTML, also where it has no page."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and serves(scope["path"])
        await (console if is_page else others)(scope, receive, send)

    return app


def _links_first(links: LinkEndpoint, others: ASGIApp) -> ASGIApp:
    """Links bypass Starlette's routing and middleware too: a third of what a redirect costs here."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (links if links.serves(scope) else others)(scope, receive, send)

    return app


def _klings_paths(gateway: ASGIApp, others: ASGIApp) -> ASGIApp:
    """Paths that are not ours belong to the gateway, which handles its own errors."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (gateway if is_for_gateway(scope) else others)(scope, receive, send)

    return app


def _last_handler(inner: ASGIApp) -> ASGIApp:
    """Log uncaught exceptions, and answer where Starlette has not (it answers, then raises again)."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        async def noting_send(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await inner(scope, receive, noting_send)
        except Exception:
            if scope["type"] != "http":
                raise
            _log.exception("request.failed", method=scope["method"])
            if not answered:
                await replies.send(replies.UNEXPECTED, send)

    return app


async def _refused(_: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path, no such method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = (error.headers if isinstance(error, HTTPException) else None) or {}
    reply = _REFUSALS.get(status, Reply(status, 1200, http.HTTPStatus(status).phrase))
    return _response(reply, headers)


async def _unexpected(_: Request, _error: Exception) -> Response:
    return _response(replies.UNEXPECTED, {})


def _response(reply: Reply, headers: Mapping[str, str]) -> Response:
    """With the same headers as `replies.send`."""
    own = {name.decode(): value.decode() for name, value in reply.headers}
    return Response(reply.body(), reply.status, {"content-type": "application/json", **headers, **own})
