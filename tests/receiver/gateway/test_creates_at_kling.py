"""Creates through the whole receiver, with the simulated Kling behind it and the client's callbacks to come."""

import contextlib
import json
import pathlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from archiver.create.callback_tokens import gateway_token
from archiver.fetch.urls import ConsumerPolicy
from archiver.ledger import Ledger
from receiver.gateway.creates.handler import Creates
from receiver.gateway.creates.reading import CallbackAddress
from receiver.gateway.gateway import CreateParts
from tests.harness.edge import TOKEN, Edge
from tests.harness.gateway import ACCOUNT, BEARER, GATEWAY_KEY, gateway_to
from tests.harness.server import answer
from tests.simulator import KlingSimulator, faults

GENERATIONS = "/v1/images/generations"
CLIENT = "https://app.example.com/cb?job=1"
PATIENCE_SECONDS = 60.0


class House:
    """A receiver that is both the door and the gateway."""

    def __init__(self, sim: KlingSimulator, edge: Edge, ledger: Ledger) -> None:
        self.sim = sim
        self.edge = edge
        self.ledger = ledger

    def create(self, path: str = GENERATIONS, **body: object) -> httpx2.Response:
        headers = BEARER | {"Content-Type": "application/json"}
        return self.edge.client.post(path, content=json.dumps({"prompt": "a fox"} | body), headers=headers)

    def told(self, task_id: str) -> str | None:
        return told(self.ledger, task_id)

    def references(self) -> int:
        return references(self.ledger)

    def arrivals(self, prompt: str) -> list[object]:
        """The callback URLs with which creates of this prompt have arrived at Kling."""
        return [seen.callback_url for seen in self.sim.creates if seen.prompt == prompt]


def told(ledger: Ledger, task_id: str) -> str | None:
    """The callback URL of the task's client."""
    with ledger.database.read() as connection:
        query = "SELECT client_callback_url FROM tasks WHERE task_id = ?"
        found: str | None = connection.exec_driver_sql(query, (task_id,)).scalar()
        return found


def references(ledger: Ledger) -> int:
    with ledger.database.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM gateway_creates").scalar_one())


def eventually(check: Callable[[], Any]) -> Any:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not (found := check()) and time.monotonic() < ends_at:
        time.sleep(0.02)
    assert found
    return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder: pathlib.Path = tmp_path_factory.mktemp("creates")
    ledger = Ledger.open(f"sqlite:///{folder / 'ledger.db'}", daemon=False, create=True)
    addresses: dict[str, CallbackAddress] = {}
    parts = CreateParts(ledger.gateway_creates, addresses, ConsumerPolicy.parse(()), lambda _account: None)
    with (
        contextlib.closing(ledger),
        KlingSimulator() as sim,
        gateway_to(sim.base_url, folder, creates=parts, record=ledger.callbacks.record) as edge,
    ):
        addresses[ACCOUNT] = CallbackAddress(edge.server.url, gateway_token(TOKEN))
        yield House(sim, edge, ledger)


def test_a_created_task_is_in_the_ledger_before_its_client_gets_the_answer_and_kling_calls_us(
    house: House,
) -> None:
    answer = house.create(callback_url=CLIENT)

    task_id = answer.json()["data"]["task_id"]
    assert house.told(task_id) == CLIENT
    assert answer.headers["Kling-Archiver-Source"] == "kling"
    assert house.edge.server.url not in answer.text
    house.sim.succeed(task_id)
    eventually(
        lambda: [sent.http_status for sent in house.sim.deliveries if sent.task_id == task_id][-1:] == [200]
    )
    assert house.references() == 0
    assert house.sim.complaints == []


def test_a_whole_answer_with_something_broken_in_it_registers_its_task(house: House) -> None:
    row = b'"data":{"task_id":"%b","task_status":"submitted","seed":%b}}'
    broken = {
        b"cut-emoji": (b'{"code":0,"message":"\xf0\x9f",' + row, b"1"),
        b"long-number": (b'{"code":0,"message":"",' + row, b"9" * 5000),
        b"line-end": (b'{"code":0,"message":"a\n\tb",' + row, b"1"),
        b"mark": (b'\xef\xbb\xbf{"code":0,"message":"",' + row, b"1"),
    }
    for task_id, (text, number) in broken.items():
        body = text % (task_id, number)
        said = faults.Raw(200, body, {"content-type": "application/json"})
        house.sim.fault("create", faults.Happened(said), times=1)

        answer = house.create(callback_url=CLIENT)

        assert (answer.status_code, answer.content) == (200, body), task_id
        assert house.told(task_id.decode()) == CLIENT


def test_the_new_standard_and_a_gateway_key_work_alike(house: House) -> None:
    headers = {"Authorization": f"Bearer {GATEWAY_KEY}", "Content-Type": "application/json"}
    body = {"contents": [], "options": {"callback_url": CLIENT}}
    answer = house.edge.client.post("/kling/text-to-video/kling-3.0", json=body, headers=headers)

    task_id = answer.json()["data"]["id"]
    assert house.told(task_id) == CLIENT
    house.sim.succeed(task_id)
    eventually(
        lambda: any(sent.task_id == task_id and sent.http_status == 200 for sent in house.sim.deliveries)
    )


def test_a_path_that_takes_no_callback_url_is_asked_once_with_one(house: House) -> None:
    house.sim.switches.callback_urls_refused = frozenset({"images/omni-image"})
    for prompt in ("first", "second"):
        answer = house.create("/v1/images/omni-image", callback_url=CLIENT, prompt=prompt)
        assert answer.status_code == 200
        assert house.told(answer.json()["data"]["task_id"]) == CLIENT

    urls = house.arrivals("first")
    assert len(urls) == 2
    assert urls[1:] == house.arrivals("second") == [None]


def test_a_create_whose_answer_is_cut_is_not_sent_again_and_its_callback_finds_its_client(
    house: House,
) -> None:
    known = set(house.sim.task_ids())
    house.sim.fault("create", faults.Cut(), times=1)
    answer = house.create(callback_url=CLIENT, prompt="cut")

    assert (answer.status_code, answer.json()["code"]) == (504, 5002)
    assert len(house.arrivals("cut")) == 1
    assert house.references() == 1
    (task_id,) = set(house.sim.task_ids()) - known
    assert house.told(task_id) is None
    house.sim.succeed(task_id)
    eventually(lambda: house.told(task_id) == CLIENT)
    assert house.references() == 0


def test_a_client_that_leaves_while_kling_is_slow_has_its_task_registered(house: House) -> None:
    known = set(house.sim.task_ids())
    house.sim.switches.create_seconds = 0.3
    try:
        body = json.dumps({"prompt": "left", "callback_url": CLIENT}).encode()
        head = (
            f"POST {GENERATIONS} HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER['Authorization']}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        host, port = house.edge.server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(head.encode() + body)
            (task_id,) = eventually(lambda: set(house.sim.task_ids()) - known)
        eventually(lambda: house.told(task_id) == CLIENT)
        assert len(house.arrivals("left")) == 1
    finally:
        house.sim.switches.create_seconds = 0.0


class SlowKling:
    """Takes one create, the rest of its body once it may."""

    def __init__(self) -> None:
        self.begun, self.goes_on = threading.Event(), threading.Event()
        self.body = bytearray()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, self._listener:
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(1024)
                assert piece, "the connection has ended before the request"
                head += piece
            self.begun.set()
            assert self.goes_on.wait(PATIENCE_SECONDS)
            announced = re.search(rb"(?i)content-length: *([0-9]+)", head)
            assert announced is not None
            self.body += head.partition(b"\r\n\r\n")[2]
            while len(self.body) < int(announced[1]) and (piece := connection.recv(1 << 20)):
                self.body += piece
            task = {"task_id": "897", "task_status": "submitted"}
            connection.sendall(answer(json.dumps({"code": 0, "data": task}).encode()))


def test_a_large_create_that_outlasts_the_shutdown_goes_to_kling_whole_and_is_registered(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Creates.close, "__kwdefaults__", {"seconds": PATIENCE_SECONDS})
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", daemon=False, create=True)
    addresses = {ACCOUNT: CallbackAddress("https://door.example", gateway_token(TOKEN))}
    parts = CreateParts(ledger.gateway_creates, addresses, ConsumerPolicy.parse(()), lambda _account: None)
    kling = SlowKling()
    image = "A" * (16 << 20)

    def create(edge: Edge) -> None:
        """The client hears that the server stops before Kling goes on."""
        body = json.dumps({"image": image, "callback_url": CLIENT}).encode()
        with contextlib.suppress(httpx2.HTTPError):
            edge.client.post(GENERATIONS, content=body, headers=BEARER, timeout=PATIENCE_SECONDS)
        kling.goes_on.set()

    with contextlib.closing(ledger):
        with gateway_to(kling.url, tmp_path, creates=parts, shutdown_seconds=0.05) as edge:
            client = threading.Thread(target=create, args=(edge,))
            client.start()
            assert kling.begun.wait(PATIENCE_SECONDS)
            edge.server.stop()
            edge.server.stop()
            client.join()

        assert json.loads(kling.body)["image"] == image
        assert (told(ledger, "897"), references(ledger)) == (CLIENT, 0)
