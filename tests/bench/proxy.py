"""The baseline of the gateway: a reverse proxy built on the same libraries, which passes everything on and changes
nothing."""

import sys
from typing import Any

import httpx2
import uvicorn

_HOP_BY_HOP = {b"host", b"connection", b"transfer-encoding", b"accept-encoding"}


class Proxy:
    """The ASGI application."""

    def __init__(self, upstream: str) -> None:
        self._client = httpx2.AsyncClient(
            base_url=upstream,
            trust_env=False,
            limits=httpx2.Limits(max_connections=256, max_keepalive_connections=256),
        )

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        pieces, more = [], True
        while more:
            message = await receive()
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        headers = [(name, value) for name, value in scope["headers"] if name not in _HOP_BY_HOP]
        built = self._client.build_request(
            scope["method"], scope["raw_path"].decode(), headers=headers, content=b"".join(pieces)
        )
        answer = await self._client.send(built, stream=True)
        kept = [
            (name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _HOP_BY_HOP
        ]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
        async for piece in answer.aiter_raw():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await answer.aclose()
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
