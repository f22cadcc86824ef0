"""Callbacks of the simulated account."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
import standardwebhooks

from tests.harness.simulator_client import GENERATIONS, post
from tests.simulator import CallbackUndelivered, KlingSimulator, Switches
from tests.simulator.signing import webhook_headers


class Receiver(ThreadingHTTPServer):
    """Notes callbacks and answers with `status`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.status = 200
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/callbacks"

    def statuses(self) -> list[str]:
        return [json.loads(body)["task_status"] for _, body in self.received]


class _Door(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the standard library's
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_callbacks_have_the_captured_shape_and_follow_the_status(
    sim: KlingSimulator, receiver: Receiver
) -> None:
    task_id = sim.create_task(callback_url=receiver.url, watermark=True)
    sim.process(task_id)
    sim.succeed(task_id)
    sim.wait_callbacks()
    headers, body = receiver.received[-1]
    callback = json.loads(body)

    assert receiver.statuses() == ["processing", "succeed"]
    assert headers["user-agent"].startswith("Apache-HttpClient/")
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert "authorization" not in headers
    assert "webhook-id" not in headers
    assert (callback["task_id"], callback["task_info"]) == (task_id, {})
    assert {name: len(rows) for name, rows in callback["task_result"].items()} == {
        "images": 1,
        "videos": 0,
        "audios": 0,
    }
    assert set(callback["task_result"]["images"][0]) == {"index", "url"}
    assert [delivery.http_status for delivery in sim.deliveries] == [200, 200]
    assert sim.complaints == []


@pytest.mark.parametrize(
    ("switch", "expected"),
    [
        ("callback_drop", []),
        ("callback_double", ["processing", "processing", "succeed", "succeed"]),
        ("callback_reorder", ["succeed", "processing"]),
    ],
)
def test_callbacks_are_dropped_doubled_and_reordered_on_demand(
    sim: KlingSimulator, receiver: Receiver, switch: str, expected: list[str]
) -> None:
    setattr(sim.switches, switch, True)
    task_id = sim.create_task(callback_url=receiver.url)
    sim.process(task_id)
    sim.succeed(task_id)
    sim.wait_callbacks()

    assert receiver.statuses() == expected


def test_a_callback_not_answered_with_200_is_complained_of(sim: KlingSimulator, receiver: Receiver) -> None:
    task_id = sim.create_task(callback_url=receiver.url)
    receiver.status = 503
    expected = sim.send_callback(task_id, expect=503)
    before = list(sim.complaints)
    sim.fail(task_id)
    sim.wait_callbacks()

    assert (expected, before) == (503, [])
    assert sim.complaints == [f"callback failed of {task_id} was answered with 503"]


def test_a_receiver_that_is_down_is_noted_and_not_complained_of(sim: KlingSimulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/callbacks"
    task_id = sim.create_task(callback_url=url)
    sim.fail(task_id)
    sim.wait_callbacks()

    assert [delivery.http_status for delivery in sim.deliveries] == [None]
    assert sim.complaints == []
    with pytest.raises(CallbackUndelivered):
        sim.send_callback(task_id)


def test_signed_callbacks_satisfy_the_public_library_and_the_documented_vector(
    sim: KlingSimulator, receiver: Receiver
) -> None:
    secret = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="
    sim.switches.signing_secret = secret
    sim.send_callback(sim.create_task(callback_url=receiver.url))
    sim.send_console_test(receiver.url)
    vector = webhook_headers(
        secret,
        webhook_id="9876543210",
        timestamp=1781080794,
        body=b'{"id":"1234567890","status":"succeeded","message":"",'
        b'"create_time":1781080778802,"update_time":1781080794151}',
    )

    for headers, body in receiver.received:
        standardwebhooks.Webhook(secret).verify(body, headers)
    assert len(receiver.received) == 2
    assert vector["webhook-signature"] == "v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4="


def test_automatic_progress_carries_a_task_to_its_end(http: httpx2.Client, receiver: Receiver) -> None:
    with KlingSimulator(switches=Switches(progress_seconds=(0.01, 0.02))) as sim:
        body = {"prompt": "x", "callback_url": receiver.url}
        task_id = post(sim, http, GENERATIONS, body).json()["data"]["task_id"]
        sim.wait_callbacks()

        assert sim.task(task_id).status == "succeed"
        assert receiver.statuses() == ["processing", "succeed"]
