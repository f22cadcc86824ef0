"""A Kling that answers everything at once: creates, single queries and all else. Plain ASGI, so that it is no
bottleneck."""

import itertools
import json
import sys
from typing import Any

import uvicorn

_NUMBERS = itertools.count(900_000_000_000_000_000)
_TIME = 1_800_000_000_000


def _task(task_id: str) -> dict[str, object]:
    return {
        "task_id": task_id,
        "task_status": "processing",
        "task_status_msg": "",
        "task_info": {},
        "created_at": _TIME,
        "updated_at": _TIME,
    }


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application."""
    if scope["type"] != "http":
        return
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    task_id = str(next(_NUMBERS)) if scope["method"] == "POST" else scope["path"].rpartition("/")[2]
    content = {"code": 0, "message": "SUCCEED", "request_id": "r", "data": _task(task_id)}
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        lifespan="off",
    )
