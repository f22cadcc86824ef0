"""The ASGI application as a value: built from parts by the entry point, registered nowhere.

Two rules:

1. `/healthz` touches nothing, and `/readyz` answers 503 for two reasons only: callbacks cannot be committed,
   or the process is draining. An outage of the store or of the API is told in `degraded` and must never close
   the door: callbacks that are refused are the one thing nobody can fetch again.
2. Whatever goes wrong in any endpoint, the caller gets JSON from the table in `replies` and never a
   traceback; the traceback goes into the log.

Looking at the ledger blocks, so it is done in a thread, one look of a kind at a time, and nobody waits longer
than `PEEK_SECONDS` for it: a monitoring system that asks every second must not pile up threads behind a ledger
that hangs.
"""

import asyncio
import contextlib
import dataclasses
import functools
import http
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Generic, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archiver import log
from archiver.engine.pools import PrestartedPool
from archiver.failures import Failure
from archiver.metrics import Metrics
from receiver.api.tasks import AT_A_TIME
from receiver.callbacks.endpoint import Callbacks
from receiver.callbacks.intake import Intake
from receiver.server import replies
from receiver.server.replies import Reply

PEEK_SECONDS = 5.0
LOOKS_MAX = 4
"""Looks under way at once: one for each thing that is looked at, and one to spare."""

_log = log.get()
_Seen = TypeVar("_Seen")


@dataclasses.dataclass(frozen=True, slots=True)
class AppParts:
    """All that the application is made of. The callables may block; each may raise a `Failure`."""

    callbacks: Callbacks
    intake: Intake
    metrics: Metrics
    draining: Callable[[], bool]
    """Whether the process is on its way out. Must not block."""
    probe: Callable[[], None]
    """Returns if the ledger can commit, raises `LedgerUnavailable` if not."""
    degraded: Callable[[], Sequence[object]]
    """What does not work at the moment and does not concern callbacks, as JSON values."""
    refresh_metrics: Callable[[], None]
    """Brings the gauges up to date before they are read."""
    routes: Sequence[BaseRoute] = ()
    """The API, and the console later."""


def build_app(parts: AppParts) -> ASGIApp:
    """The application; its lifespan opens and drains the intake, once. Raises `ThreadsRefused`."""
    health = _Health(parts)
    # Here, where an error ends the start with its sentence; uvicorn would log one of the lifespan with a traceback.
    # The API may ask a ledger that hangs as often as it can, and the looks must still find a thread.
    pool = PrestartedPool(LOOKS_MAX + AT_A_TIME, name="look")

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(pool)
        async with parts.intake:
            yield

    inside = Starlette(
        routes=[
            Route("/healthz", health.healthz),
            Route("/readyz", health.readyz),
            Route("/metrics", health.metrics),
            *parts.routes,
        ],
        exception_handlers={HTTPException: _refused, Exception: _unexpected},
        lifespan=lifespan,
    )
    inside.router.redirect_slashes = False
    return _callbacks_first(parts.callbacks, _last_handler(inside))


def _callbacks_first(callbacks: ASGIApp, others: ASGIApp) -> ASGIApp:
    """Callbacks go past Starlette's routing and middleware, which cost a fifth of the whole request.

    Nothing they await raises, so what escapes is a mistake of ours: logged, and answered where no answer has begun.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if not path.startswith("/callbacks/") and path != "/callbacks":
            return await others(scope, receive, send)
        try:
            return await callbacks(scope, receive, send)
        except Exception:  # noqa: BLE001 -- the edge's last handler, with its traceback in the log
            _log.exception("request.failed", method=scope["method"])
        with contextlib.suppress(RuntimeError):  # the answer had begun
            await replies.send(replies.UNEXPECTED, send)
        return None

    return app


def _last_handler(inside: ASGIApp) -> ASGIApp:
    """Log what nobody caught, and answer it where Starlette (which answers and raises again) has not."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        async def noting_send(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await inside(scope, receive, noting_send)
        except Exception:
            if scope["type"] != "http":
                raise
            _log.exception("request.failed", method=scope["method"])
            if not answered:
                await replies.send(replies.UNEXPECTED, send)

    return app


class _Health:
    """The endpoints that machines ask."""

    def __init__(self, parts: AppParts) -> None:
        self._parts = parts
        self._probe = _Peek(functools.partial(_succeeds, parts.probe), otherwise=False)
        blind: Sequence[object] = ("ledger_unavailable",)
        self._degraded = _Peek(parts.degraded, otherwise=blind)
        self._refresh = _Peek(parts.refresh_metrics, otherwise=None)

    async def healthz(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """`{"ready":…,"draining":…,"committing":…,"degraded":[…]}`; 503 where `ready` is false."""
        draining = self._parts.draining()
        committing = self._parts.intake.is_open and await self._probe.look()
        content = {
            "ready": committing and not draining,
            "draining": draining,
            "committing": committing,
            "degraded": list(await self._degraded.look()),
        }
        return JSONResponse(content, status_code=200 if content["ready"] else 503)

    async def metrics(self, _: Request) -> Response:
        """Gauges that cannot be brought up to date show what they last showed: old beats none in an outage."""
        await self._refresh.look()
        body, content_type = self._parts.metrics.render()
        return Response(body, headers={"content-type": content_type})


class _Peek(Generic[_Seen]):
    """A blocking look at something, in a thread, shared by all who want it while it lasts."""

    def __init__(self, look: Callable[[], _Seen], *, otherwise: _Seen) -> None:
        """`otherwise` is what a failed or an overlong look has seen."""
        self._look = look
        self._otherwise = otherwise
        self._running: asyncio.Task[_Seen] | None = None

    async def look(self) -> _Seen:
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(asyncio.to_thread(self._look_now))
        running = self._running
        finished, _ = await asyncio.wait({running}, timeout=PEEK_SECONDS)
        return running.result() if finished else self._otherwise

    def _look_now(self) -> _Seen:
        try:
            return self._look()
        except Failure:
            return self._otherwise


def _succeeds(probe: Callable[[], None]) -> bool:
    probe()
    return True


async def _refused(_: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path, no such method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = (error.headers if isinstance(error, HTTPException) else None) or {}
    reply = _REFUSALS.get(status, Reply(status, 1200, http.HTTPStatus(status).phrase))
    return _response(reply, headers)


async def _unexpected(_: Request, _error: Exception) -> Response:
    return _response(replies.UNEXPECTED, {})


_REFUSALS: Mapping[int, Reply] = {
    404: replies.NOT_FOUND,
    405: Reply(405, 1202, "Not with this method."),
}


def _response(reply: Reply, headers: Mapping[str, str]) -> Response:
    """The reply as Starlette sends one, header for header as `replies.send` would."""
    ours = {name.decode(): value.decode() for name, value in reply.headers}
    return Response(reply.body(), reply.status, {"content-type": "application/json", **headers, **ours})
