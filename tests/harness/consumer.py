"""A consumer of webhooks, over real HTTP, that can misbehave."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import standardwebhooks

SECRET = "whsec_" + "c2VjcmV0LW9mLXRoZS1jb25zdW1lcg=="


class Consumer:
    """What was posted to `url`, and how it answers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer: Callable[[http.server.BaseHTTPRequestHandler], None] = answering(200)
        self.requests: list[tuple[dict[str, str], bytes]] = []
        """Headers and body, of every path."""
        self.paths: list[str] = []

    @property
    def taken(self) -> list[dict[str, Any]]:
        """The bodies, each verified by its signature; of repeats the first."""
        by_id: dict[str, dict[str, Any]] = {}
        for headers, body in self.requests:
            standardwebhooks.Webhook(SECRET).verify(body, headers)
            by_id.setdefault(headers["webhook-id"], json.loads(body))
        return list(by_id.values())


def answering(status: int, **headers: str) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    """This status, without a body."""

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


@contextmanager
def consumer() -> Iterator[Consumer]:
    """One that listens on a port of its own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        seen: ClassVar[Consumer]

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.seen.paths.append(self.path)
            self.seen.requests.append((headers, body))  # last: tests wait for it
            self.seen.answer(self)

        do_GET = do_POST  # noqa: N815 -- the library's name; a client that follows a redirect asks so

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.seen = Consumer(f"http://127.0.0.1:{server.server_port}/hook?key=a-part-of-the-secret")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Handler.seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
