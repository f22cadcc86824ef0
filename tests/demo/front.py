"""The reverse proxy before doors and gateway, as `deploy/` has one: callbacks go to a door, all else to the gateway."""

import contextlib
import http.server
import itertools
import threading
from collections.abc import Iterator, Sequence

import httpx2

FOR_EACH_CONNECTION = frozenset(
    {"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"}
)
SECONDS_MAX = 30.0


class Front:
    """Listens at `url`; `doors` and `gateway` are URLs, set before the first request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.doors: Sequence[str] = ()
        self.gateway = ""
        self._numbers = itertools.count()

    def targets(self, path: str) -> list[str]:
        """To be tried in this order."""
        if not path.startswith("/callbacks/"):
            return [self.gateway]
        first = next(self._numbers) % len(self.doors)
        return [*self.doors[first:], *self.doors[:first]]


@contextlib.contextmanager
def fronting() -> Iterator[Front]:
    """One that listens on a port of its own."""
    with httpx2.Client(trust_env=False, timeout=SECONDS_MAX) as client:

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                answer = self._ask(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                if answer is None:
                    self.close_connection = True  # what a client sees of a dead daemon
                    return
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    if name.lower() not in FOR_EACH_CONNECTION:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST  # noqa: N815 -- the library's name

            def _ask(self, body: bytes) -> httpx2.Response | None:
                headers = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in FOR_EACH_CONNECTION
                }
                for target in front.targets(self.path):
                    with contextlib.suppress(httpx2.TransportError):
                        return client.request(
                            self.command,
                            f"{target}{self.path}",
                            content=body,
                            headers={**headers, "Accept-Encoding": "identity"},
                        )
                return None

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        front = Front(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield front
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
