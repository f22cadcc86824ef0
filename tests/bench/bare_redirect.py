"""The baseline of links: a Starlette endpoint that answers a fixed 302."""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route

LOCATION = "https://store.example/bench/images/generations/2026/11/26/831768251064815642/0.png?" + "x" * 300


async def redirect(_: Request) -> RedirectResponse:
    return RedirectResponse(LOCATION, 302)


if __name__ == "__main__":
    uvicorn.run(
        Starlette(routes=[Route("/{path:path}", redirect)]),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=2048,
    )
