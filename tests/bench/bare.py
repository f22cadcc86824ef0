"""The baseline of the door: a Starlette endpoint that reads the body, stores nothing and answers 200."""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def callback(request: Request) -> JSONResponse:
    await request.body()
    return JSONResponse({"code": 0, "message": "ok"})


if __name__ == "__main__":
    app = Starlette(routes=[Route("/{path:path}", callback, methods=["POST"])])
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=2048,
    )
