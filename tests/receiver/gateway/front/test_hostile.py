"""Clients that lie, smuggle, stall and flood: what they are told, and that Kling never hears of them."""

import contextlib
import json
import pathlib
import select
import socket
import threading
from collections.abc import Iterator

import pytest
import structlog

from archiver.kling.client_credentials import ClientCredentials
from archiver.kling.credentials import mint_token
from receiver.gateway.front import bodies
from receiver.server import protocol
from tests.harness.edge import SECONDS_MAX, TOKEN, Edge, legacy_body
from tests.harness.gateway import BEARER, gateway_to
from tests.simulator import KlingSimulator, faults
from tests.simulator.server import ACCESS_KEY, API_KEY, SECRET_KEY

COSTS = "/account/costs"
AUTHORIZED = f"Authorization: Bearer {API_KEY}"
CREATE = b'{"prompt": "a cat", "callback_url": "https://application.example/hook"}'


@pytest.fixture(scope="module")
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as running:
        yield running


@pytest.fixture(scope="module")
def edge(sim: KlingSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with gateway_to(sim.base_url, tmp_path_factory.mktemp("gateway")) as running:
        yield running


def raw(edge: Edge, *lines: str, body: bytes = b"") -> bytes:
    """What comes back for a request of these lines: up to the end of the connection, or of a refusal."""
    with edge.connection() as connected:
        head = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")
        received = b""
        with contextlib.suppress(ConnectionError):
            connected.sendall(head + body)
            while not received.endswith(b"}") and (piece := connected.recv(65536)):
                received += piece
    return received


def statuses(received: bytes) -> list[int]:
    """Of each answer."""
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def envelope(received: bytes) -> dict[str, object]:
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"\r\nkling-archiver-source: gateway\r\n" in head + b"\r\n"
    content: dict[str, object] = json.loads(body)
    assert set(content) == {"code", "message", "request_id"}
    return content


CHUNKED = b"4\r\n{ } \r\n0\r\n\r\n"
SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (["Content-Length: 4", "Transfer-Encoding: chunked"], SMUGGLED),
        (["Transfer-Encoding: chunked", "Content-Length: 4"], SMUGGLED),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], SMUGGLED),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], CHUNKED),
        (["Transfer-Encoding: identity"], CHUNKED),
        (["Transfer-Encoding: gzip, chunked"], CHUNKED),
        (["Transfer-Encoding: chunked, gzip"], CHUNKED),
        (["Transfer-Encoding: xchunked"], CHUNKED),
        (["Transfer-Encoding: \x0bchunked"], CHUNKED),
        (["Transfer-Encoding : chunked"], CHUNKED),
        (["X: y\nTransfer-Encoding: chunked"], CHUNKED),
        (["Transfer-Encoding:", " chunked"], CHUNKED),
        (["Content-Length: 4", "Content-Length: 5"], b"{ } "),
        (["Content-Length: 4, 4"], b"{ } "),
        (["Content-Length: +4"], b"{ } "),
        (["Content-Length: 0x4"], b"{ } "),
        (["Content-Length: -1"], b"{ } "),
        (["Content-Length: 4", " 5"], b"{ } "),
        (["Content-Length: 99999999999999999999999"], b"{ } "),
        (["Content-Type: application/json", "Content-Type: text/plain", "Content-Length: 4"], b"{ } "),
        (["X-Folded: a", "\tAuthorization: Bearer x", "Content-Length: 4"], b"{ } "),
        (["X: a\0b", "Content-Length: 4"], b"{ } "),
        (["X: a\rb", "Content-Length: 4"], b"{ } "),
        ([": empty", "Content-Length: 4"], b"{ } "),
        (["Content-Length: 2", "Transfer-Encoding: chunked", "Transfer-Encoding: "], SMUGGLED),
        (["Transfer-Encoding: chunked"], b"4;x=\n\r\n{ } \r\n0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"-4\r\n{ } \r\n0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"4\n{ } \n0\n\n"),
        (["Transfer-Encoding: chunked"], b"4\r\n{ } X\r\n0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"fffffffffffffffff\r\n{ } \r\n0\r\n\r\n"),
    ],
    ids=lambda _: "",
)
def test_a_request_whose_end_can_be_read_in_two_ways_goes_nowhere(
    sim: KlingSimulator, edge: Edge, lines: list[str], body: bytes
) -> None:
    before = len(sim.log)

    got = statuses(raw(edge, f"POST {COSTS} HTTP/1.1", "Host: x", AUTHORIZED, *lines, body=body))

    assert set(got) <= {400, 413}
    assert [logged.path for logged in sim.log[before:]] == []


@pytest.mark.parametrize(
    "head",
    [
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        f"POST {COSTS} HTTP/1.1\r\nHost: x\r\n{AUTHORIZED}\r\nContent-Length: +4\r\n\r\n{{ }} ".encode(),
        f"GET {COSTS} HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n".encode(),
    ],
    ids=["line", "TLS", "length", "NUL"],
)
def test_what_is_no_http_is_refused_in_kling_s_envelope_and_ends_the_connection(
    edge: Edge, head: bytes
) -> None:
    received = edge.raw(head)

    assert statuses(received) == [400]
    assert b"\r\nconnection: close\r\n" in received
    assert envelope(received)["code"] == 1200


@pytest.mark.parametrize(
    "request_line",
    [
        "GET http://elsewhere.example/account/costs HTTP/1.1",
        "GET //elsewhere.example/account/costs HTTP/1.1",
        "CONNECT elsewhere.example:443 HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET /account/costs HTTP/1.0\r\nTransfer-Encoding: chunked",
        "GET /account/\xe4 HTTP/1.1",
        "GET /account/costs?\xe4 HTTP/1.1",
        "GET /account /costs HTTP/1.1",
        "GET /account/%2e%2e/costs HTTP/1.1",
        "GET /account/a%2Fb HTTP/1.1",
        "GET /account/a%5Cb HTTP/1.1",
        "GET /account/a%00 HTTP/1.1",
        "GET /account/costs\x00 HTTP/1.1",
        "get /account/costs HTTP/1.1",
        "GET /account/costs HTTP/2.0",
        "GET /account/costs",
    ],
    ids=lambda _: "",
)
def test_a_request_line_that_is_no_path_of_klings_goes_nowhere_but_to_kling(
    sim: KlingSimulator, edge: Edge, request_line: str
) -> None:
    before = len(sim.log)

    got = raw(edge, request_line, "Host: x", AUTHORIZED)

    asked = [logged.path for logged in sim.log[before:]]
    if request_line.startswith("GET http://"):  # the absolute form of a path: ours, whatever host it names
        assert asked == [COSTS]
    else:
        assert (set(statuses(got)) <= {400, 404, 405}, asked) == (True, [])


def token(*, now: int) -> str:
    return mint_token(ACCESS_KEY, SECRET_KEY, now=now)


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ([], 1001),
        (["Authorization:"], 1001),
        (["Authorization: Bearer wrong"], 1000),
        (["Authorization: Bearer " + token(now=1)], 1000),
        (["Authorization: Bearer " + token(now=4_000_000_000)], 1000),
        (
            [
                "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJBS3NpbXVsYXRlZCIsImV4cCI6OTk5OTk5OTk5OX0."
            ],
            1000,
        ),
        ([AUTHORIZED, "Authorization: Bearer wrong"], 1000),
        ([AUTHORIZED, AUTHORIZED], 1000),
        ([f"Proxy-{AUTHORIZED}", f"X-{AUTHORIZED}"], 1001),
    ],
    ids=lambda _: "",
)
def test_an_unknown_client_is_refused_before_its_body_is_read(
    sim: KlingSimulator, edge: Edge, authorization: list[str], code: int
) -> None:
    before = len(sim.log)

    got = raw(
        edge,
        "POST /v1/images/generations HTTP/1.1",
        "Host: x",
        *authorization,
        "Content-Encoding: gzip",
        "Content-Length: 999999999999",
        "Expect: 100-continue",
    )

    assert statuses(got) == [401]
    assert envelope(got)["code"] == code
    assert sim.log[before:] == []


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        (["Content-Encoding: gzip", "Content-Length: 4"], 415, 1200),
        (["Content-Encoding: br", "Transfer-Encoding: chunked"], 415, 1200),
        ([f"Content-Length: {100 * 1024 * 1024 + 1}"], 413, 1200),
    ],
)
def test_a_body_that_is_encoded_or_too_large_is_refused_in_klings_envelope(
    sim: KlingSimulator, edge: Edge, lines: list[str], status: int, code: int
) -> None:
    before = len(sim.log)

    got = raw(edge, f"POST {COSTS} HTTP/1.1", "Host: x", AUTHORIZED, *lines, "Expect: 100-continue")

    assert (statuses(got), envelope(got)["code"]) == ([status], code)
    assert sim.log[before:] == []


def test_a_body_that_grows_too_large_is_refused_and_takes_no_room(
    sim: KlingSimulator, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        bodies.BodyReader.__init__, "__kwdefaults__", {"bytes_max": 3 << 20, "grace_seconds": 30.0}
    )
    before = len(sim.log)
    with gateway_to(sim.base_url, tmp_path) as edge:
        got = edge.client.post(COSTS, headers=BEARER, content=iter([bytes(1 << 20)] * 4))

    assert (got.status_code, got.json()["code"]) == (413, 1200)
    assert sim.log[before:] == []


def test_a_body_that_comes_a_byte_at_a_time_has_an_end_and_one_that_is_only_slow_goes_on(
    sim: KlingSimulator, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        bodies.BodyReader.__init__, "__kwdefaults__", {"bytes_max": 1 << 20, "grace_seconds": 4.0}
    )
    before = len(sim.log)
    with gateway_to(sim.base_url, tmp_path, stall_seconds=3) as edge, edge.connection() as dripping:
        dripping.sendall(
            f"POST {COSTS} HTTP/1.1\r\nHost: x\r\n{AUTHORIZED}\r\nContent-Length: 99999\r\n\r\n".encode()
        )
        stopped = threading.Event()
        feeder = threading.Thread(target=drip, args=(dripping, stopped))
        feeder.start()
        got = dripping.recv(65536)
        stopped.set()
        feeder.join()

    assert got.startswith(b"HTTP/1.1 408 ")  # from the gateway, not cut off by the server's own limit
    assert b'"code":1200' in got
    assert sim.log[before:] == []


def drip(connected: socket.socket, stopped: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not stopped.wait(0.05):
            connected.sendall(b"x")


def test_a_client_that_does_not_read_its_answer_is_dropped(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "UNREAD_SECONDS_MAX", 0.5)
    with KlingSimulator() as sim, gateway_to(sim.base_url, tmp_path) as edge, edge.connection() as silent:
        sim.fault(None, faults.Raw(200, bytes(16 << 20)), times=1)
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.sendall(f"GET {COSTS} HTTP/1.1\r\nHost: x\r\n{AUTHORIZED}\r\n\r\n".encode())
        assert silent.recv(4) == b"HTTP"
        poller = select.poll()
        poller.register(silent, 0)  # of a reset it always tells

        assert poller.poll(SECONDS_MAX * 1000)


def test_beyond_the_limit_of_requests_a_client_is_told_to_come_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "receiver.gateway.front.endpoint.GatewayEndpoint.__init__.__kwdefaults__", {"requests_max": 1}
    )
    arrived, gate = threading.Event(), threading.Event()

    def hold() -> None:
        arrived.set()
        assert gate.wait(SECONDS_MAX)

    with KlingSimulator() as sim, gateway_to(sim.base_url, tmp_path) as edge, edge.connection() as first:
        sim.fault("list", faults.Call(hold), times=1)
        first.sendall(f"GET /v1/images/generations HTTP/1.1\r\nHost: x\r\n{AUTHORIZED}\r\n\r\n".encode())
        assert arrived.wait(SECONDS_MAX)
        refused = edge.client.get("/v1/images/generations", headers=BEARER)
        stranger = edge.client.get("/v1/images/generations")
        callback = edge.post_callback(legacy_body())
        gate.set()
        assert first.recv(65536).startswith(b"HTTP/1.1 200 ")
        again = edge.client.get("/v1/images/generations", headers=BEARER)

    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, 5001, "5")
    assert refused.headers["Kling-Archiver-Source"] == "gateway"
    assert (stranger.status_code, callback.status_code, again.status_code) == (401, 200, 200)


def test_connections_of_clients_leave_room_for_callbacks(tmp_path: pathlib.Path) -> None:
    body = legacy_body()
    head = f"POST /callbacks/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with (
        KlingSimulator() as sim,
        gateway_to(sim.base_url, tmp_path, connections_max=8) as edge,
        contextlib.ExitStack() as opened,
    ):
        for _ in range(6):
            opened.enter_context(edge.connection())
        refused = edge.client.get("/v1/images/generations", headers=BEARER)
        with edge.connection() as connected:
            connected.sendall(head.encode() + body)
            taken = connected.recv(65536)

    assert (refused.status_code, refused.headers["connection"]) == (503, "close")
    assert refused.headers["Kling-Archiver-Source"] == "gateway"
    assert taken.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"a":' * 50_000,
        b"\xff\xfe",
        b"\0" * 100,
        b"{" + b'"k":1,' * 100_000 + b'"z":1}',
        b"not json",
    ],
    ids=lambda _: "",
)
def test_a_body_of_any_kind_is_klings_to_judge(sim: KlingSimulator, edge: Edge, body: bytes) -> None:
    before = len(sim.log)

    got = edge.client.post("/v1/images/generations", headers=BEARER, content=body)

    assert got.headers["Kling-Archiver-Source"] == "kling"
    assert [logged.path for logged in sim.log[before:]] == ["/v1/images/generations"]
    sim.complaints.clear()


def test_a_request_that_breaks_the_gateway_is_told_so_in_kling_s_envelope_and_counted(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OverflowError("int too large to convert to float")

    def counted() -> float:
        labels = {"kind": "other", "code": "500"}
        return edge.metrics.registry.get_sample_value("kling_gateway_requests_total", labels) or 0.0

    before = counted()
    monkeypatch.setattr(ClientCredentials, "recognise", broken)
    got = edge.client.get(COSTS, headers=BEARER)

    assert (got.status_code, got.json()["code"]) == (500, 5000)
    assert got.headers["Kling-Archiver-Source"] == "gateway"
    assert counted() == before + 1


def test_to_head_no_length_is_told_that_get_would_not_have(edge: Edge) -> None:
    got = edge.client.head(COSTS, headers=BEARER)

    assert "content-length" not in got.headers
    assert got.headers["Kling-Archiver-Source"] == "kling"


def test_no_credential_path_query_or_body_stands_in_the_log(sim: KlingSimulator, edge: Edge) -> None:
    with structlog.testing.capture_logs() as logged:
        sim.fault(None, faults.Drop(), times=1)
        edge.client.post("/hidden-path/x?hidden-query=1", headers=BEARER, content=b"hidden-body")
        edge.client.get("/hidden-path/%2F", headers=BEARER)
        edge.client.get("/hidden-path", headers={"Authorization": "Bearer hidden-key"})

    assert [line["event"] for line in logged] == ["gateway.unanswered", "gateway.refused", "gateway.refused"]
    assert "hidden" not in str(logged)
    assert API_KEY not in str(logged)
