"""What goes on to Kling and what comes back, over sockets."""

import contextlib
import gzip
import json
import pathlib
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import httpx2
import pytest

from archiver.kling import credentials
from archiver.kling.credentials import mint_token
from receiver.gateway import upstream
from tests.harness.daemons import until
from tests.harness.edge import SECONDS_MAX, Edge
from tests.harness.gateway import APPLICATION, BEARER, CLIENT_API_KEY, GATEWAY_KEY, gateway_to
from tests.harness.server import answer
from tests.simulator import KlingSimulator, faults
from tests.simulator.server import ACCESS_KEY, API_KEY, SECRET_KEY

GENERATIONS = "/v1/images/generations"
OK = b'{"code": 0,  "message":"ok","x":1e0}'
SOURCE = "Kling-Archiver-Source"
BARE_GET = (
    f"GET /account/costs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\nConnection: close\r\n\r\n"
).encode()


def gzipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


class Recorder:
    """A server in place of Kling that keeps each request, and answers once on each connection, as it is told."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.answer: Callable[[socket.socket], None] = says(OK)
        self.reads_bodies = True
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            data = bytearray()
            while b"\r\n\r\n" not in data:
                if not (piece := connection.recv(65536)):
                    return  # without an end, this thread would take a processor from all later tests
                data += piece
            head, _, body = bytes(data).partition(b"\r\n\r\n")
            announced = re.search(rb"(?i)\ncontent-length: *([0-9]+)", head)
            received = bytearray(body)
            length = int(announced[1]) if announced else 0
            while self.reads_bodies and len(received) < length and (piece := connection.recv(1 << 20)):
                received += piece
            self.heads.append(head)
            self.bodies.append(bytes(received))
            self.answer(connection)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(SECONDS_MAX)
        self._listener.close()  # only now: the thread would accept from what next has this file descriptor

    def header(self, name: bytes) -> list[bytes]:
        """Values in the last request."""
        lines = [line.partition(b":") for line in self.heads[-1].split(b"\r\n")[1:]]
        return [value.strip() for found, _, value in lines if found.lower() == name]


def says(
    body: bytes, *headers: str, status: str = "200 OK", length: int | None = -1
) -> Callable[[socket.socket], None]:
    """The connection ends with the answer, which must say so: a client might send the next request on it."""
    told = answer(body, *headers, "Connection: close", status=status, length=length)
    return lambda connection: connection.sendall(told)


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with contextlib.closing(Recorder()) as running:
        yield running


@pytest.fixture(scope="module")
def edge(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with gateway_to(
        f"http://{recorder.host}/base", tmp_path_factory.mktemp("gateway"), with_api_key=False
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _forget(recorder: Recorder) -> None:
    recorder.heads.clear()
    recorder.bodies.clear()
    recorder.answer = says(OK)
    recorder.reads_bodies = True


def test_what_a_client_sends_goes_on_as_it_came_without_its_connection(
    edge: Edge, recorder: Recorder
) -> None:
    body = b'{"prompt" : "a\\u0062", "n": 1.0}'
    headers = {
        **BEARER,
        "Content-Type": "application/json; charset=utf-8",
        "Accept": "application/json, */*",
        "User-Agent": "a-client/1",
        "Accept-Encoding": "gzip, br",
        "Cookie": "session=1",
        "Connection": "keep-alive, x-mine",
        "X-Mine": "mine",
        "X-Forwarded-For": "10.0.0.1",
    }

    got = edge.client.post("/kling/v1/account/a%20b~?b=%2f&a=1&a", content=body, headers=headers)

    assert (got.status_code, got.content, got.headers[SOURCE]) == (200, OK, "kling")
    assert recorder.heads[0].startswith(b"POST /base/v1/account/a%20b~?b=%2f&a=1&a HTTP/1.1\r\n")
    assert recorder.bodies == [body]
    names = [line.partition(b":")[0].lower() for line in recorder.heads[0].split(b"\r\n")[1:]]
    assert sorted(names) == sorted(
        [
            b"host",
            b"content-type",
            b"accept",
            b"user-agent",
            b"authorization",
            b"accept-encoding",
            b"content-length",
        ]
    )
    assert recorder.header(b"authorization") == [BEARER["Authorization"].encode()]
    assert recorder.header(b"accept-encoding") == [b"identity"]
    assert recorder.header(b"host") == [recorder.host.encode()]
    assert recorder.header(b"user-agent") == [b"a-client/1"]


def test_nothing_is_added_to_a_request_that_has_nothing(edge: Edge, recorder: Recorder) -> None:
    with edge.connection() as connected:
        connected.sendall(BARE_GET)
        assert connected.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")

    names = [line.partition(b":")[0].lower() for line in recorder.heads[0].split(b"\r\n")[1:]]
    assert sorted(names) == [b"accept-encoding", b"authorization", b"host"]


@pytest.mark.parametrize(
    ("sent", "goes_on"),
    [
        (API_KEY, API_KEY),
        (CLIENT_API_KEY, CLIENT_API_KEY),
        (mint_token(ACCESS_KEY, SECRET_KEY, now=1), None),
        (GATEWAY_KEY, "the account's own"),
    ],
)
def test_klings_own_credentials_go_on_and_a_gateway_key_is_replaced(
    edge: Edge, recorder: Recorder, sent: str, goes_on: str | None
) -> None:
    got = edge.client.get("/account/costs", headers={"Authorization": f"Bearer {sent}"})

    if goes_on is None:
        assert (got.status_code, got.json()["code"], recorder.heads) == (401, 1000, [])
    elif goes_on == "the account's own":
        (authorization,) = recorder.header(b"authorization")
        assert authorization.startswith(b"Bearer ey")
        assert GATEWAY_KEY.encode() not in recorder.heads[0]
    else:
        assert recorder.header(b"authorization") == [f"Bearer {goes_on}".encode()]


def test_a_client_that_only_knows_key_pairs_signs_with_a_gateway_key(tmp_path: pathlib.Path) -> None:
    with KlingSimulator() as sim, gateway_to(sim.base_url, tmp_path, with_api_key=False) as edge:
        for pair in ((APPLICATION, GATEWAY_KEY), (ACCESS_KEY, SECRET_KEY)):
            token = mint_token(*pair, now=int(time.time()))
            got = edge.client.get(GENERATIONS, headers={"Authorization": f"Bearer {token}"})
            assert (got.status_code, got.json()["code"]) == (200, 0)
    assert sim.complaints == []


def test_a_refused_token_is_renewed_at_once_for_what_changes_nothing_and_else_for_the_next(
    edge: Edge, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def mint(*pair: str, now: int) -> str:
        made.append(mint_token(*pair, now=now))
        return made[-1]

    monkeypatch.setattr(credentials, "mint_token", mint)
    recorder.answer = says(b'{"code":1003}', "Content-Type: application/json", status="401 Unauthorized")
    headers = {"Authorization": f"Bearer {GATEWAY_KEY}"}

    for method, path, sent, minted in (
        ("POST", GENERATIONS, 1, 0),
        ("POST", "/v1/unknown/path", 1, 1),
        ("GET", f"{GENERATIONS}/t", 2, 2),
    ):
        recorder.heads.clear()
        made.clear()
        got = edge.client.request(method, path, content=b"{}" if method == "POST" else None, headers=headers)
        assert (got.status_code, len(recorder.heads), len(made)) == (401, sent, minted), path


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        ("200 OK", ("Content-Type: application/json",), OK),
        ("201 Created", ("content-type: text/plain; charset=gbk", "X-Request-Id: 7"), b"\xff\x00text"),
        ("429 Too Many", ("Content-Type: application/json", "Retry-After: 7"), b'{"code":1302}'),
        ("404 Not Found", ("Content-Type: text/html",), b"<html>"),
        ("502 Bad Gateway", (), b""),
        ("302 Found", ("Location: https://elsewhere.example/",), b""),
        ("200 OK", ("Content-Type: application/json",), b"[" * 5000 + b"]" * 5000),
    ],
)
def test_an_answer_comes_back_with_its_status_bytes_type_and_pause(
    edge: Edge, recorder: Recorder, status: str, headers: tuple[str, ...], body: bytes
) -> None:
    recorder.answer = says(body, *headers, "Set-Cookie: a=b", "X-Powered-By: kling", status=status)

    got = edge.client.get("/account/costs", headers=BEARER, follow_redirects=False)

    kept = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in headers}
    kept.pop("location", None)
    assert (got.status_code, got.content) == (int(status[:3]), body)
    assert {name: value for name, value in got.headers.items() if name != "date"} == {
        **kept,
        "content-length": str(len(body)),
        SOURCE.lower(): "kling",
    }


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("gzip", gzipped(OK)),
        ("GZIP", gzipped(OK[:9]) + gzipped(OK[9:])),
        ("deflate", zlib.compress(OK)),
        ("identity", OK),
    ],
    ids=lambda _: "encoded",
)
def test_an_encoded_answer_is_decoded(edge: Edge, recorder: Recorder, encoding: str, encoded: bytes) -> None:
    recorder.answer = says(encoded, f"Content-Encoding: {encoding}", "Content-Type: application/json")

    got = edge.client.get("/account/costs", headers=BEARER)

    assert (got.status_code, got.content) == (200, OK)
    assert "content-encoding" not in got.headers


CUT = (504, 5002)
UNDECODABLE = (502, 5001)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (says(gzipped(OK)[:-9], "Content-Encoding: gzip"), UNDECODABLE),
        (says(b"not gzip", "Content-Encoding: gzip"), UNDECODABLE),
        (says(OK, "Content-Encoding: br"), UNDECODABLE),
        (says(gzipped(gzipped(OK)), "Content-Encoding: gzip, gzip"), UNDECODABLE),
        (says(gzipped(bytes(33 << 20)), "Content-Encoding: gzip"), UNDECODABLE),
        (says(OK, "Content-Type: application/json", length=len(OK) + 1), CUT),
        (says(OK[:-3], "Content-Type: application/json", length=None), CUT),
        (says(OK[:-3], "Content-Type: application/json"), CUT),
        (
            lambda connection: connection.sendall(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"
            ),
            CUT,
        ),
        (lambda connection: connection.sendall(b"HTTP/1.1 200"), CUT),
        (lambda connection: connection.sendall(b"SSH-2.0\r\n\r\n"), CUT),
        (lambda _: None, CUT),
    ],
)
def test_a_cut_or_undecodable_answer_is_an_answer_of_the_gateway(
    edge: Edge, recorder: Recorder, said: Callable[[socket.socket], None], outcome: tuple[int, int]
) -> None:
    recorder.answer = said

    got = edge.client.post("/account/costs", headers=BEARER, content=b"{}")

    assert (got.status_code, got.json()["code"], got.headers[SOURCE]) == (*outcome, "gateway")
    assert "gateway" in got.json()["message"]
    assert len(recorder.heads) == 1  # never repeated


def test_an_unreachable_api_is_an_answer_of_the_gateway(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with gateway_to(f"http://127.0.0.1:{port}", tmp_path) as edge:
        got = edge.client.get("/account/costs", headers=BEARER)

    assert (got.status_code, got.json()["code"], got.headers[SOURCE]) == (503, 5001, "gateway")
    assert int(got.headers["retry-after"]) > 0


def test_a_silent_kling_is_an_answer_of_the_gateway_after_its_time_limit(
    edge: Edge, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "QUERY_SECONDS", 0.2)
    monkeypatch.setattr(upstream, "CREATE_SECONDS", 0.3)
    gate = threading.Event()

    def say_nothing(_: socket.socket) -> None:
        gate.wait(SECONDS_MAX)

    recorder.answer = say_nothing
    query = edge.client.get("/account/costs", headers=BEARER)
    create = edge.client.post("/novel/create", headers=BEARER, content=b"x" * (2 << 20))
    gate.set()

    for got in (query, create):
        assert (got.status_code, got.json()["code"], got.headers[SOURCE]) == (504, 5002, "gateway")
    until(lambda: len(recorder.bodies) == 2, what="both requests to be read")
    assert [len(body) for body in recorder.bodies] == [0, 2 << 20]


@pytest.mark.parametrize(
    ("begun", "seconds", "status", "code"),
    [
        (answer(b'{"code":1200}', status="413 Too Large"), SECONDS_MAX, 413, 1200),
        (b"HTTP/1.1 413 Too", 0.3, 504, 5002),
    ],
    ids=["whole", "half an answer"],
)
def test_a_large_create_that_kling_refuses_before_it_has_read_it_is_told_so_at_once(
    begun: bytes,
    seconds: float,
    status: int,
    code: int,
    edge: Edge,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upstream, "CREATE_SECONDS", seconds)
    gate = threading.Event()

    def say_and_stay(connection: socket.socket) -> None:
        connection.sendall(begun)
        gate.wait(SECONDS_MAX)

    recorder.reads_bodies, recorder.answer = False, say_and_stay
    got = edge.client.post("/novel/create", headers=BEARER, content=bytes(16 << 20))
    gate.set()

    assert (got.status_code, got.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "told",
    [
        answer(OK, status="999 Odd"),
        answer(OK, status="600 Odd"),
    ],
)
def test_a_status_that_http_does_not_have_is_an_answer_of_the_gateway(
    told: bytes, edge: Edge, recorder: Recorder
) -> None:
    recorder.answer = lambda connection: connection.sendall(told)
    got = edge.client.get("/account/costs", headers=BEARER)

    assert (got.status_code, got.json()["code"], got.headers[SOURCE]) == (502, 5001, "gateway")


@pytest.mark.parametrize("name", ["Content-Type", "Request-Id", "Retry-After"])
def test_a_header_with_a_control_character_is_left_out_of_an_answer(
    name: str, edge: Edge, recorder: Recorder
) -> None:
    recorder.answer = says(OK, f"{name}: a\x01b", "X-Request-Id: 7")
    got = edge.client.post(GENERATIONS, content=b"{}", headers=BEARER)

    assert (got.status_code, got.content, got.headers[SOURCE]) == (200, OK, "kling")
    assert got.headers["x-request-id"] == "7"
    assert name not in got.headers


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_a_method_that_is_about_the_way_and_not_the_path_does_not_go_on(
    method: str, edge: Edge, recorder: Recorder
) -> None:
    got = edge.client.request(method, "/account/costs", headers=BEARER)

    assert (got.status_code, got.json()["code"], got.headers[SOURCE]) == (405, 1202, "gateway")
    assert method not in got.headers["allow"]
    assert not recorder.heads


def test_kling_is_asked_through_the_proxy_of_the_environment(
    recorder: Recorder, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{recorder.host}")
    recorder.answer = lambda connection: connection.sendall(answer(b"", status="403 Forbidden"))
    with gateway_to("https://kling.example", tmp_path) as edge:
        got = edge.client.get("/account/costs", headers=BEARER)

    assert (got.status_code, got.json()["code"]) == (503, 5001)
    assert recorder.heads[0].startswith(b"CONNECT kling.example:443 HTTP/1.1\r\n")
    assert b"Bearer" not in recorder.heads[0]


def test_a_large_answer_is_passed_on_while_it_comes_and_stays_without_its_end_if_it_is_cut(
    edge: Edge, recorder: Recorder
) -> None:
    body = b"x" * (3 << 20)
    recorder.answer = says(body, "Content-Type: application/octet-stream")
    whole = edge.client.get("/account/costs", headers=BEARER)
    recorder.answer = says(body, "Content-Type: application/octet-stream", length=len(body) + 1)

    assert whole.content == body
    with pytest.raises(httpx2.RemoteProtocolError):
        edge.client.get("/account/costs", headers=BEARER)


def test_a_body_of_many_megabytes_goes_on_whole(edge: Edge, recorder: Recorder) -> None:
    body = json.dumps({"image": "A" * (20 << 20)}).encode()

    got = edge.client.post("/account/costs", headers=BEARER, content=body)
    in_pieces = edge.client.post("/account/costs", headers=BEARER, content=iter([body[:100], body[100:]]))

    assert (got.status_code, in_pieces.status_code) == (200, 200)
    assert recorder.bodies == [body, body]


def test_sixty_four_clients_wait_for_kling_and_take_no_thread(edge: Edge, recorder: Recorder) -> None:
    arrived, gate = threading.Semaphore(0), threading.Event()

    def slowly(connection: socket.socket) -> None:
        arrived.release()
        assert gate.wait(SECONDS_MAX)
        connection.sendall(answer(OK))

    recorder.answer = slowly
    of_clients: list[socket.socket] = []
    before = set(threading.enumerate())
    try:
        for _ in range(64):
            of_clients.append(
                socket.create_connection(("127.0.0.1", int(edge.server.url.rpartition(":")[2])), SECONDS_MAX)
            )
            of_clients[-1].sendall(BARE_GET)
        assert all(arrived.acquire(timeout=SECONDS_MAX) for _ in range(64))
        begun = {each.name for each in set(threading.enumerate()) - before}
        quick = edge.client.get("/healthz").status_code
        gate.set()
        answers = [client.recv(65536)[:15] for client in of_clients]
    finally:
        gate.set()
        for client in of_clients:
            client.close()

    assert quick == 200
    assert [name for name in begun if not name.startswith("Thread-")] == []  # those are Kling's
    assert answers == [b"HTTP/1.1 200 OK"] * 64


def test_requests_are_counted_by_kind_and_status(tmp_path: pathlib.Path) -> None:
    with KlingSimulator() as sim, gateway_to(sim.base_url, tmp_path) as edge:
        sim.fault("list", faults.too_fast(), times=1)
        edge.client.get(GENERATIONS, headers=BEARER)
        edge.client.get(GENERATIONS, headers=BEARER)
        edge.client.get(GENERATIONS)
        counted = {
            (sample.labels["kind"], sample.labels["code"]): sample.value
            for metric in edge.metrics.registry.collect()
            if metric.name == "kling_gateway_requests"
            for sample in metric.samples
        }
        timed = edge.metrics.registry.get_sample_value("kling_gateway_overhead_seconds_count")

    assert counted == {("list", "429"): 1, ("list", "200"): 1, ("list", "401"): 1}
    assert timed == 2


def test_without_a_gateway_klings_paths_are_not_found() -> None:
    with Edge() as edge:
        assert edge.client.get(GENERATIONS, headers=BEARER).status_code == 404
