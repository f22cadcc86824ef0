"""`/healthz`, `/readyz` and `/metrics`: what monitoring systems ask.

`/healthz` does no I/O. It answers 503 if a thread hangs that archiving depends on. Only a restart helps, and Kubernetes
then restarts the process. `/readyz` answers 503 for two reasons only: callbacks cannot be committed, or the process is
draining. An outage of store or API appears in `degraded` and must not stop callbacks, since a refused one may be lost.

Reading the ledger blocks. So readings run in threads, one of a kind at a time, and a request waits for one at most
`READING_SECONDS_MAX`: a monitor that asks every second must not pile up threads behind a hanging ledger.
"""

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from archiver.failures import Failure, LedgerUnavailable
from archiver.problems import door_closed

READING_SECONDS_MAX = 5.0
READINGS_MAX = 4
"""Threads for readings: one for each kind, and a spare one."""

_Value = TypeVar("_Value")


def port_of(scope: Scope) -> int | None:
    """Our port at which the request arrived."""
    server = scope.get("server")
    return server[1] if server else None


_CLOSED: object = door_closed("the ledger does not commit").as_degraded()


class HealthRoutes:
    """The three endpoints."""

    def __init__(
        self,
        *,
        is_draining: Callable[[], bool],
        is_open: Callable[[], bool],
        probe: Callable[[], None],
        degraded: Callable[[], Sequence[object]],
        refresh_metrics: Callable[[], None],
        render_metrics: Callable[[], tuple[bytes, str]],
        stalled: Callable[[], Sequence[str]] = tuple,
        is_inside: Callable[[Scope], bool] = lambda _: True,
    ) -> None:
        """`is_open`: whether a new callback would be admitted. `is_inside`: whether a request may see metrics and
        details. The others are as in `AppParts`."""
        self._is_inside = is_inside
        self._is_draining = is_draining
        self._is_open = is_open
        self._render_metrics = render_metrics
        self._stalled = stalled
        self._closed = _Reading(functools.partial(_closed_by, probe), otherwise=_CLOSED)
        unreadable: Sequence[object] = (_CLOSED,)
        self._degraded = _Reading(degraded, otherwise=unreadable)
        self._refresh = _Reading(refresh_metrics, otherwise=None)

    def routes(self) -> list[Route]:
        return [
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
        ]

    async def healthz(self, _: Request) -> Response:
        if loops := self._stalled():
            return JSONResponse({"status": "stalled", "loops": list(loops)}, status_code=503)
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """`{"ready":…,"draining":…,"committing":…,"degraded":[…]}`, or `ready` alone; 503 unless `ready`."""
        draining = self._is_draining()
        # Together: a ledger that hangs would cost the time of both.
        closed, degraded = await asyncio.gather(self._closed.value(), self._degraded.value())
        if closed is None and not self._is_open():
            closed = _CLOSED
        if closed is _CLOSED:  # only a finished reading can say why
            closed = self._closed.last or _CLOSED
        if closed is not None:
            degraded = [closed, *(problem for problem in degraded if problem != _CLOSED)]
        content = {
            "ready": closed is None and not draining,
            "draining": draining,
            "committing": closed is None,
            "degraded": list(degraded),
        }
        status = 200 if content["ready"] else 503
        if not self._is_inside(request.scope):
            content = {"ready": content["ready"]}
        return JSONResponse(content, status_code=status)

    async def metrics(self, request: Request) -> Response:
        """The metrics. If the gauges cannot be refreshed, their last values are served."""
        if not self._is_inside(request.scope):
            raise HTTPException(404)
        await self._refresh.value()
        body, content_type = self._render_metrics()
        return Response(body, headers={"content-type": content_type})


class _Reading(Generic[_Value]):
    """A blocking read in a thread, shared by all requests that come while it runs."""

    def __init__(self, read: Callable[[], _Value], *, otherwise: _Value) -> None:
        """`otherwise` is the value if the read fails or takes too long."""
        self._read = read
        self._otherwise = otherwise
        self._running: asyncio.Task[_Value] | None = None
        self.last: _Value | None = None
        """The result of the latest finished reading, however long it took."""

    async def value(self) -> _Value:
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(asyncio.to_thread(self._read_now))
        running = self._running
        finished, _ = await asyncio.wait({running}, timeout=READING_SECONDS_MAX)
        return running.result() if finished else self._otherwise

    def _read_now(self) -> _Value:
        try:
            self.last = self._read()
        except Failure:
            self.last = self._otherwise
        return self.last


def _closed_by(probe: Callable[[], None]) -> object | None:
    """The problem that keeps callbacks from being committed, with what to do about it."""
    try:
        probe()
    except LedgerUnavailable as error:
        return door_closed(error).as_degraded()
    return None
