"""The routes of the console, and its pages for what is not there or has failed."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from receiver.console.access.addresses import ClientAddresses
from receiver.console.access.login import Login
from receiver.console.access.sessions import Sessions
from receiver.console.access.slowing import Slowing
from receiver.console.frame import Frame
from receiver.console.pages.accounts import AccountPages
from receiver.console.pages.forwards import ForwardPages
from receiver.console.pages.overview import Overview
from receiver.console.pages.task import SingleTaskPages
from receiver.console.pages.tasks import TaskPages
from receiver.console.parts import ConsoleParts
from receiver.console.readings import Readings
from receiver.console.rendering import Renderer
from receiver.console.static_files import StaticFiles


def build_console(
    parts: ConsoleParts, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> ASGIApp:
    """Answers every path that `serves` names. Its pages run on the event loop's default executor."""
    static = StaticFiles()
    sessions = Sessions(parts.token, now=lambda: parts.ledger.now() / 1000)
    frame = Frame(sessions, Renderer(static), Readings(), ended=parts.ledger.ended_sessions)
    login = Login(
        frame,
        parts.token,
        is_https=(parts.public_url or "").startswith("https://"),
        addresses=ClientAddresses(parts.trusted_proxies),
        slowing=Slowing(monotonic=time.monotonic),
        sleep=sleep,
    )
    routes: list[BaseRoute] = [
        Route("/console/", _without_slash),
        *static.routes(),
        *login.routes(),
        *Overview(parts).routes(frame),
        *TaskPages(parts).routes(frame),
        *SingleTaskPages(parts).routes(frame),
        *ForwardPages(parts).routes(frame),
        *AccountPages(parts).routes(frame),
    ]
    app = Starlette(
        routes=routes, exception_handlers={HTTPException: _refused(frame), Exception: _crashed(frame)}
    )
    app.router.redirect_slashes = False
    return app


def serves(path: str) -> bool:
    """Whether a path is the console's."""
    return path == "/console" or path.startswith("/console/")


async def _without_slash(_: Request) -> Response:
    return RedirectResponse("../console", status_code=308)


def _refused(frame: Frame) -> Callable[[Request, Exception], Response]:
    def refused(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = error.headers if isinstance(error, HTTPException) else None
        title, message = "Not found", "There is nothing here."
        if status == 405:
            title, message = "Not allowed", "This page takes no such request."
        session = frame.session_of(request)
        return frame.failed(request, status, title, message, session=session, headers=headers)

    return refused


def _crashed(frame: Frame) -> Callable[[Request, Exception], Response]:
    def crashed(request: Request, _: Exception) -> Response:
        message = "An internal error. It has been logged."
        return frame.failed(request, 500, "Something went wrong", message, session=frame.session_of(request))

    return crashed
