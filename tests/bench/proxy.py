"""The baseline of the gateway: a reverse proxy built on the same libraries, which passes everything on and changes
nothing."""

import sys
from typing import Any

import httpcore2
import uvicorn

_HOP_BY_HOP = {b"host", b"connection", b"transfer-encoding", b"accept-encoding"}


class Proxy:
    """The ASGI application. It uses the HTTP library of the gateway with that library's own pool."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._pool = httpcore2.AsyncConnectionPool(max_connections=256, max_keepalive_connections=256)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        pieces, more = [], True
        while more:
            message = await receive()
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        headers = [(name, value) for name, value in scope["headers"] if name not in _HOP_BY_HOP]
        async with self._pool.stream(
            scope["method"],
            self._upstream + scope["raw_path"].decode(),
            headers=headers,
            content=b"".join(pieces),
        ) as answer:
            kept = [
                (name.lower(), value) for name, value in answer.headers if name.lower() not in _HOP_BY_HOP
            ]
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            async for piece in answer.aiter_stream():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    uvicorn.run(
        Proxy(sys.argv[2]),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        lifespan="off",
    )
