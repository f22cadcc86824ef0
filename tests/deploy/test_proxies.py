"""The shipped reverse proxies, running before a real daemon: what passes from outside and how, and what does not."""

import http.server
import pathlib
import re
import subprocess
import threading
from collections.abc import Iterator

import httpx2
import pytest

from receiver.gateway.front.bodies import BODY_BYTES_MAX
from tests.deploy.proxies import Caddy, Nginx, Proxy
from tests.harness.daemons import FAMILY, TOKEN, Daemon, Site
from tests.harness.deployment import DEPLOY
from tests.harness.programs import needs, program
from tests.s3_servers import S3Server

OPERATORS = (
    *("/metrics", "/healthz", "/readyz", "/console", "/console/login", "/api/tasks", "/api/openapi.json"),
    *(
        "//metrics",
        "/%6Detrics",
        "/metrics/",
        "/./metrics",
        "/console/../metrics",
        "/api",
        "/files/../metrics",
    ),
)
HALF = b"x" * 1000
PROXIES: dict[str, type[Caddy] | type[Nginx]] = {"caddy": Caddy, "nginx": Nginx}


@pytest.fixture(
    params=[
        pytest.param("caddy", marks=needs("caddy")),
        pytest.param("nginx", marks=[needs("nginx"), needs("openssl")]),
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, rclone_server: S3Server) -> Iterator[Site]:
    """One daemon that serves everything there is."""
    everything = {
        "KLING_ADMIN_TOKEN": "admin-token-0123456789abcdef",
        "KLING_LINK_SECRET": "link-secret-0123456789-0123456789",
        "KLING_PUBLIC_URL": "https://kling.example.com",
        "KLING_GATEWAY": "on",
        "KLING_TRUSTED_PROXIES": "127.0.0.1",
    }
    with Site(tmp_path_factory.mktemp("site"), rclone_server, **everything) as made:
        daemon: Daemon = made.start()
        daemon.wait_ready()
        yield made


@pytest.fixture
def before_the_daemon(kind: str, site: Site, tmp_path: pathlib.Path) -> Iterator[Proxy]:
    proxy = PROXIES[kind](tmp_path, upstream=site.port, gateway=False)
    yield proxy
    proxy.stop()


@pytest.fixture
def with_gateway(kind: str, site: Site, tmp_path: pathlib.Path) -> Iterator[Proxy]:
    proxy = PROXIES[kind](tmp_path, upstream=site.port, gateway=True)
    yield proxy
    proxy.stop()


def test_callbacks_and_links_pass_and_nothing_else(site: Site, before_the_daemon: Proxy) -> None:
    client = before_the_daemon.client
    task_id = site.create_task()
    body = {"task_id": task_id, "task_status": "succeed", "task_info": {}}

    assert client.post(f"/callbacks/{TOKEN}/{FAMILY}", json=body).status_code == 200
    site.wait_archived(task_id)
    shown = client.get(_path_of_link(site, task_id))
    assert shown.content == site.sim.expected_bytes(task_id, "0.png")
    assert client.get("/files/wrong").status_code == 404
    for path in (*OPERATORS, "/", "/v1/images/generations", "/anything"):
        assert client.get(path).status_code == 404, path
        assert "kling_" not in client.get(path).text, path


def _path_of_link(site: Site, task_id: str) -> str:
    looked = site.start(program=("archiver", "link", task_id))
    assert looked.wait() == 0, looked.output
    return looked.output.split()[-1].removeprefix("https://kling.example.com")


def test_with_the_gateway_all_but_the_operator_s_paths_pass(with_gateway: Proxy) -> None:
    for path in ("/v1/images/generations/1", "/kling/v1/images/generations", "/tasks"):
        answer = with_gateway.client.get(path)
        assert (answer.status_code, answer.headers["kling-archiver-source"]) == (401, "gateway"), path
    for path in OPERATORS:
        answer = with_gateway.client.get(path)
        assert answer.status_code in {401, 404}, path
        assert "kling_" not in answer.text, path


# --- what the daemon sees -----------------------------------------------------------------------------------


class _Upstream(http.server.BaseHTTPRequestHandler):
    """Answers with the headers that it was asked with; of a file, the second half only when it is released."""

    protocol_version = "HTTP/1.1"
    released = threading.Event()

    def do_GET(self) -> None:
        if not self.path.startswith("/files/"):
            return self._answer(str(self.headers).encode())
        self._answer(HALF, announced=2 * len(HALF))
        self.wfile.flush()
        assert self.released.wait(60)
        self.wfile.write(HALF)
        return None

    do_POST = do_GET  # noqa: N815 -- the library's name

    def _answer(self, content: bytes, *, announced: int | None = None) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", str(announced or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
        """Nothing on standard error."""


@pytest.fixture
def before_a_listener(kind: str, tmp_path: pathlib.Path) -> Iterator[Proxy]:
    _Upstream.released.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Upstream) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever).start()
        proxy = PROXIES[kind](tmp_path, upstream=server.server_port, gateway=True)
        yield proxy
        _Upstream.released.set()
        proxy.stop()
        server.shutdown()


@pytest.mark.parametrize("path", ["/callbacks/t/images/generations", "/v1/images/generations"])
def test_the_daemon_hears_the_client_s_own_address_whatever_the_client_claims(
    before_a_listener: Proxy, path: str
) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "gopher"}
    heard = before_a_listener.client.post(path, headers=forged, content=b"{}").text.lower()

    assert "x-forwarded-for: 127.0.0.1\n" in heard.replace("\r", "")
    assert "203.0.113.9" not in heard
    assert "gopher" not in heard
    scheme = before_a_listener.url.partition(":")[0]
    assert f"x-forwarded-proto: {scheme}\n" in heard.replace("\r", "")


def test_a_callback_that_is_too_large_is_not_passed_on(before_a_listener: Proxy) -> None:
    body = b"x" * 2_000_000
    try:
        status = before_a_listener.client.post("/callbacks/t/images/generations", content=body).status_code
    except httpx2.TransportError:  # refused before all of it was sent
        status = 413

    assert status in {400, 413, 502}
    assert before_a_listener.client.post("/v1/images/generations", content=body).status_code == 200


def test_nginx_takes_as_much_as_the_gateway_and_no_more() -> None:
    """What only the gateway refuses, it refuses while nginx still sends: the client would see 502 in place of 413."""
    files = [DEPLOY / "nginx/gateway.conf", *(DEPLOY / "kubernetes").glob("*/*.yaml")]
    limits = {
        limit
        for path in files
        for limit in re.findall(r"(?:client_max_body_size|proxy-body-size:) (\w+)", path.read_text())
    }

    assert limits == {f"{BODY_BYTES_MAX // 1024**2}m"}


def test_the_pieces_of_a_file_pass_as_they_come(before_a_listener: Proxy) -> None:
    with before_a_listener.client.stream("GET", "/files/film.mp4") as answer:
        pieces = answer.iter_raw()
        first = b""
        while len(first) < len(HALF):
            first += next(pieces)
        assert first == HALF, "before the second half was sent"
        _Upstream.released.set()
        assert b"".join(pieces) == HALF


@needs("caddy")
@pytest.mark.parametrize("gateway", ["off", "on"])
def test_caddy_finds_nothing_to_say_about_the_caddyfile(gateway: str, tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [program("caddy"), "validate", "--adapter", "caddyfile", "--config", str(DEPLOY / "Caddyfile")],
        env={
            "HOME": str(tmp_path),
            "KLING_PUBLIC_URL": "https://kling.example.com",
            "KLING_GATEWAY": gateway,
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert '"level":"warn"' not in done.stderr
    formatted = subprocess.run(
        [program("caddy"), "fmt", str(DEPLOY / "Caddyfile")], capture_output=True, text=True, check=False
    )
    assert formatted.stdout == (DEPLOY / "Caddyfile").read_text()
