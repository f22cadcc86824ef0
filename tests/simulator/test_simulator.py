"""The simulated account behaves as documented: everything else that is tested stands on this."""

import base64
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import jwt
import pytest
import standardwebhooks

from tests.harness.simulator_client import bearer, code, get, post
from tests.simulator import CallbackUndelivered, KlingSimulator, Switches, faults
from tests.simulator.signing import webhook_headers

GENERATIONS = "/v1/images/generations"
DAY_SECONDS = 86_400


@pytest.fixture
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(trust_env=False, timeout=5.0) as client:
        yield client


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


def image_url(sim: KlingSimulator, http: httpx2.Client, task_id: str, field: str = "url") -> str:
    data = get(sim, http, f"{GENERATIONS}/{task_id}").json()["data"]
    return str(data["task_result"]["images"][0][field])


def test_a_created_task_is_followed_to_its_images(sim: KlingSimulator, http: httpx2.Client) -> None:
    """The main path: create, unfinished query, finished query, download, nothing to complain of."""
    created = post(sim, http, GENERATIONS, {"prompt": "a puppy", "n": 2, "external_task_id": "mine"}).json()
    task_id = created["data"]["task_id"]
    unfinished = get(sim, http, f"{GENERATIONS}/{task_id}").json()["data"]
    sim.succeed(task_id)
    finished = get(sim, http, f"{GENERATIONS}/mine").json()["data"]
    urls = [image["url"] for image in finished["task_result"]["images"]]
    bodies = [http.get(url).content for url in urls]

    assert len(task_id) == 18
    assert (unfinished["task_status"], unfinished["task_result"]) == ("submitted", {})
    assert unfinished["task_info"] == {"external_task_id": "mine"}
    assert (finished["task_status"], finished["task_id"]) == ("succeed", task_id)
    assert bodies == [sim.expected_bytes(task_id, "0"), sim.expected_bytes(task_id, "1")]
    assert bodies[0] != bodies[1]
    assert sim.requests == {"create": 1, "query": 2, "cdn": 2}
    assert sim.complaints == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (200, 0)),
        ({"iss": "someone"}, (401, 1000)),
        ({"nbf": 4_000_000_000}, (401, 1003)),
        ({"exp": 1_000_000_000}, (401, 1004)),
        ({"exp": None}, (401, 1002)),
        ({"exp": 4_000_000_000}, (401, 1002)),
    ],
)
def test_a_token_is_judged_by_its_claims(
    sim: KlingSimulator, http: httpx2.Client, changes: dict[str, object], expected: tuple[int, int]
) -> None:
    at = int(time.time())
    claims: dict[str, object] = {"iss": sim.access_key, "exp": at + 1800, "nbf": at - 5, **changes}
    token = jwt.api_jws.encode(json.dumps(claims).encode(), sim.secret_key, headers={"typ": "JWT"})
    answer = http.get(sim.base_url + GENERATIONS, headers={"Authorization": f"Bearer {token}"})

    assert code(answer) == expected


def test_missing_and_foreign_credentials_have_their_own_codes(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    url = sim.base_url + GENERATIONS
    valid = bearer(sim)["Authorization"]
    headers = [None, "Bearer", "Basic eA==", f"{valid}x", "Bearer a.b.c", "Bearer other"]
    answers = [http.get(url, headers={"Authorization": value} if value else {}) for value in headers]
    api_key = http.get(url, headers={"Authorization": f"Bearer {sim.api_key}"})

    assert [code(answer)[1] for answer in answers] == [1001, 1001, 1002, 1000, 1002, 1000]
    assert code(api_key) == (200, 0)


def test_an_unknown_id_and_a_wrong_family_are_the_same_bad_parameter(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    task_id = sim.create_task(family="images/editing/expand")
    unknown = get(sim, http, f"{GENERATIONS}/123")
    wrong_family = get(sim, http, f"{GENERATIONS}/{task_id}")

    assert code(unknown) == code(wrong_family) == (400, 1201)
    assert "123" in unknown.json()["message"]
    assert code(get(sim, http, f"/v1/images/editing/expand/{task_id}")) == (200, 0)


def test_a_failed_task_is_told_in_a_successful_answer(sim: KlingSimulator, http: httpx2.Client) -> None:
    task_id = sim.create_task()
    sim.fail(task_id, "risk control")
    answer = get(sim, http, f"{GENERATIONS}/{task_id}").json()

    assert (answer["code"], answer["message"]) == (0, "SUCCEED")
    assert answer["data"]["task_status_msg"] == "risk control"
    assert answer["data"]["task_result"] == {}


def test_a_create_call_is_checked_and_an_external_id_is_taken_once(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    bodies = [{}, {"prompt": "x", "n": 10}, {"prompt": "x", "external_task_id": "a"}]
    codes = [code(post(sim, http, GENERATIONS, body)) for body in bodies]
    again = post(sim, http, "/v1/images/multi-image2image", {"external_task_id": "a"})
    assert sim.complaints == []
    post(sim, http, GENERATIONS, {"prompt": "x", "colour": "red"})

    assert codes == [(400, 1201), (400, 1201), (200, 0)]
    assert code(again) == (400, 1201)
    assert "a" in again.json()["message"]
    assert sim.complaints == ["unknown parameters for images/generations: colour"]


def test_list_pages_have_documented_bounds(sim: KlingSimulator, http: httpx2.Client) -> None:
    for number in range(31):
        sim.create_task(created_at=sim.now_ms() - number * 1000)
    pages = [get(sim, http, GENERATIONS, pageNum=number).json()["data"] for number in (1, 2, 3)]
    bad: list[dict[str, object]] = [{"pageNum": 0}, {"pageNum": 1001}, {"pageSize": 501}, {"pageSize": "x"}]

    assert [len(page) for page in pages] == [30, 1, 0]
    assert [code(get(sim, http, GENERATIONS, **params)) for params in bad] == [(400, 1201)] * 4


def test_the_list_order_is_a_switch(sim: KlingSimulator, http: httpx2.Client) -> None:
    oldest_first = [sim.create_task(created_at=sim.now_ms() - (50 - n) * 1000) for n in range(50)]

    def listed(order: Any) -> list[str]:
        sim.switches.list_order = order
        return [row["task_id"] for row in get(sim, http, GENERATIONS, pageSize=50).json()["data"]]

    assert listed("oldest_first") == oldest_first
    assert listed("newest_first") == oldest_first[::-1]
    assert sorted(first := listed("shuffled")) == sorted(oldest_first)
    assert first != listed("shuffled")


def test_a_hidden_row_makes_a_page_short_and_a_cap_makes_pages_small(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    task_ids = [sim.create_task(created_at=sim.now_ms() - n * 1000) for n in range(4)]
    sim.hide_from_list(task_ids[0])
    sim.switches.list_page_rows_max = 2
    pages = [get(sim, http, GENERATIONS, pageNum=n, pageSize=500).json()["data"] for n in (1, 2, 3)]

    assert [[row["task_id"] for row in page] for page in pages] == [task_ids[1:2], task_ids[2:], []]


@pytest.mark.parametrize("purged", [True, False])
def test_rows_and_files_end_after_30_days(http: httpx2.Client, *, purged: bool) -> None:
    """The files always do; whether the rows do is a switch."""
    with KlingSimulator(switches=Switches(purge_rows=purged, url_lifetime_seconds=60)) as sim:
        task_id = sim.create_task(status="succeed")
        sim.advance(30 * DAY_SECONDS - 100)
        early = http.get(sim.url(task_id, "0"))
        sim.advance(200)
        late = http.get(sim.url(task_id, "0"))

        assert (early.status_code, late.status_code) == (200, 404)
        assert code(get(sim, http, f"{GENERATIONS}/{task_id}"))[0] == (400 if purged else 200)
        assert len(get(sim, http, GENERATIONS).json()["data"]) == (0 if purged else 1)


def test_answers_carry_the_clock_of_the_account(http: httpx2.Client) -> None:
    with KlingSimulator(now=lambda: 1_800_000_000.0) as sim:
        sim.advance(1)

        assert get(sim, http, GENERATIONS).headers["Date"] == "Fri, 15 Jan 2027 08:00:01 GMT"
        assert sim.create_task() == str(((1_800_000_001_000 - 1_568_028_518_800) << 22) + 1)


def test_a_signed_url_counts_byte_for_byte_and_until_it_expires(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    sim.switches.url_lifetime_seconds = 60
    task_id = sim.create_task(status="succeed")
    url = image_url(sim, http, task_id)
    fetched = [
        http.get(text).status_code for text in (url, url.replace("%3d", "%3D"), url.replace("%7E", "~"))
    ]
    altered = list(sim.complaints)
    sim.advance(60)

    assert fetched == [200, 403, 403]
    assert len(altered) == 2
    assert http.get(url).status_code == 403
    assert http.get(image_url(sim, http, task_id)).status_code == 200
    assert sim.complaints == altered


def test_queries_sign_freshly_unless_switched_off(sim: KlingSimulator, http: httpx2.Client) -> None:
    task_id = sim.create_task(status="succeed")
    fresh = {image_url(sim, http, task_id) for _ in range(3)}
    sim.switches.fresh_urls = False
    stable = {image_url(sim, http, task_id) for _ in range(3)}

    assert (len(fresh), len(stable)) == (3, 1)
    assert [http.get(url).status_code for url in fresh | stable] == [200] * 4


def test_revoked_urls_are_refused_until_the_task_is_queried_again(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    task_id = sim.create_task(status="succeed")
    url = image_url(sim, http, task_id)
    sim.revoke_urls(task_id)

    assert http.get(url).status_code == 403
    assert http.get(image_url(sim, http, task_id)).status_code == 200
    sim.purge_assets(task_id)
    assert http.get(image_url(sim, http, task_id)).status_code == 404
    assert sim.complaints == []


def test_a_watermark_is_a_second_file_and_expand_shows_it_in_lists_only(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    task_id = sim.create_task(watermark=True, status="succeed")
    marked = http.get(image_url(sim, http, task_id, "watermark_url")).content
    expand = "/v1/images/editing/expand"
    expanded = sim.create_task(family="images/editing/expand", watermark=True, status="succeed")
    single = get(sim, http, f"{expand}/{expanded}").json()["data"]["task_result"]["images"][0]
    row = get(sim, http, expand).json()["data"][0]["task_result"]["images"][0]

    assert marked == sim.expected_bytes(task_id, "0.watermark") != sim.expected_bytes(task_id, "0")
    assert sim.expected_names(task_id) == ["0.png", "0.watermark.png"]
    assert (set(single), set(row)) == ({"index", "url"}, {"index", "url", "watermark_url"})


def test_a_png_is_whole_and_of_the_size_asked_for(sim: KlingSimulator) -> None:
    task_id = sim.create_task(status="succeed", size=(704, 700))
    body = sim.expected_bytes(task_id, "0")
    chunks, at = [], 8
    while at < len(body):
        (length,) = struct.unpack_from(">I", body, at)
        kind, data = body[at + 4 : at + 8], body[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", body, at + 8 + length) == (zlib.crc32(kind + data),)
        chunks.append((kind, data))
        at += length + 12

    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack_from(">II", chunks[0][1]) == (704, 700)
    assert len(zlib.decompress(chunks[1][1])) == 700 * (704 * 3 + 1)


@pytest.mark.parametrize(
    ("family", "image_format", "name", "start", "end"),
    [
        ("images/generations", "jpeg", "0.jpg", b"\xff\xd8\xff\xe0", b"\xff\xd9"),
        ("images/generations", "webp", "0.webp", b"RIFF", b""),
        ("general/ai-multi-shot", "png", "0-3.png", b"\x89PNG", b"IEND\xaeB`\x82"),
        ("videos/text2video", None, "video-0.mp4", b"\0\0\0\x1cftypisom", b""),
        ("audio/text-to-audio", None, "audio-0.wav", b"RIFF", b""),
        ("audio/text-to-audio", None, "audio-0.mp3", b"\xff\xfb", b""),
        ("general/custom-voices", None, "voice-0.mp3", b"\xff\xfb", b""),
    ],
)
def test_every_family_serves_files_of_its_kind(
    sim: KlingSimulator,
    http: httpx2.Client,
    family: str,
    image_format: Any,
    name: str,
    start: bytes,
    end: bytes,
) -> None:
    task_id = sim.create_task(family=family, image_format=image_format, status="succeed")
    data = get(sim, http, f"/v1/{family}/{task_id}").json()["data"]
    rows = [row for array in data["task_result"].values() for row in array]
    urls = [str(value) for row in rows for value in row.values() if str(value).startswith(sim.origin)]
    bodies = [http.get(url).content for url in urls]

    assert sim.expected_bytes(task_id, name) in bodies
    assert sim.expected_bytes(task_id, name).startswith(start)
    assert sim.expected_bytes(task_id, name).endswith(end)


@pytest.mark.parametrize(("indexes", "stems"), [([3, 1], {"3", "1"}), ([2, 2], {"0", "1"}), ([None], {"0"})])
def test_odd_indexes_are_shown_and_files_are_named_by_place_when_ambiguous(
    sim: KlingSimulator, http: httpx2.Client, indexes: list[int | None], stems: set[str]
) -> None:
    task_id = sim.create_task(indexes=indexes, status="succeed")
    images = get(sim, http, f"{GENERATIONS}/{task_id}").json()["data"]["task_result"]["images"]

    assert [image.get("index") for image in images] == indexes
    assert {file.stem for file in sim.task(task_id).files} == stems


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


def test_api_faults_happen_as_often_as_armed(sim: KlingSimulator, http: httpx2.Client) -> None:
    task_id = sim.create_task()
    path = f"{GENERATIONS}/{task_id}"
    sim.fault("query", faults.too_fast(), times=2)
    sim.fault("query", faults.Html(502), times=1)
    sim.fault("query", faults.Empty(), times=1)
    sim.fault("query", faults.Json("[" * 100), match=task_id)
    answers = [get(sim, http, path) for _ in range(6)]
    sim.clear_faults("query")

    assert [answer.status_code for answer in answers] == [429, 429, 502, 200, 200, 200]
    assert [answer.content for answer in answers[3:]] == [b"", b"[" * 100, b"[" * 100]
    assert code(get(sim, http, path)) == (200, 0)


def test_a_create_that_is_cut_has_happened(sim: KlingSimulator, http: httpx2.Client) -> None:
    for cut in (faults.Cut(), faults.Cut(kept=0), faults.Cut(kept=0, reset=True)):
        sim.fault("create", cut, times=1)
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            post(sim, http, GENERATIONS, {"prompt": "x"})

    assert len(sim.task_ids()) == 3


def test_a_hanging_request_ends_with_the_simulator(http: httpx2.Client) -> None:
    failures: list[BaseException] = []

    def ask(sim: KlingSimulator) -> None:
        try:
            get(sim, http, GENERATIONS)
        except httpx2.TransportError as error:
            failures.append(error)

    arrived = threading.Event()
    with KlingSimulator() as sim:
        sim.fault(None, faults.Hang())
        sim.on_request(lambda _: arrived.set())
        client = threading.Thread(target=ask, args=(sim,))
        client.start()
        assert arrived.wait(5)
    client.join(5)

    assert len(failures) == 1


def test_an_overridden_task_is_shown_as_it_was_written(sim: KlingSimulator, http: httpx2.Client) -> None:
    task_id = sim.create_task()
    odd = {"task_id": task_id, "created_at": 10**400, "task_status_msg": "\ud800\0"}
    sim.override(task_id, odd)

    assert get(sim, http, f"{GENERATIONS}/{task_id}").json()["data"] == odd
    assert get(sim, http, GENERATIONS).json()["data"] == [odd]


def test_cdn_faults_break_a_transfer_in_their_own_way(sim: KlingSimulator, http: httpx2.Client) -> None:
    task_id = sim.create_task(status="succeed")
    whole = sim.expected_bytes(task_id, "0")

    def fetch(fault: faults.Fault) -> httpx2.Response:
        sim.fault("cdn", fault, times=1)
        return http.get(sim.url(task_id, "0"))

    half = whole[: len(whole) // 2]
    assert fetch(faults.Truncate()).content == half
    assert fetch(faults.Truncate(with_length=True)).content == half
    assert fetch(faults.LyingLength(-10)).content == whole[:-10]
    with pytest.raises(httpx2.RemoteProtocolError):
        fetch(faults.LyingLength(10))
    assert fetch(faults.Html()).headers["Content-Type"] == "text/html"
    assert "Content-Type" not in fetch(faults.WrongType(None)).headers
    assert fetch(faults.Redirect("http://10.0.0.1/")).headers["Location"] == "http://10.0.0.1/"
    assert fetch(faults.Drip(piece_bytes=len(whole) // 3, pause_seconds=0.001)).content == whole
    assert fetch(faults.Raw(403)).status_code == 403
    assert http.get(sim.url(task_id, "0")).content == whole


def test_what_the_account_would_never_expect_is_complained_of(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    task_id = sim.create_task(status="succeed")
    get(sim, http, "/v1/images/invented")
    get(sim, http, GENERATIONS, page=1)
    http.delete(sim.base_url + GENERATIONS, headers=bearer(sim))
    http.get(sim.url(task_id, "0"), headers={**bearer(sim), "Referer": "https://example.com"})

    assert len(sim.complaints) == 5
    for word in ("invented", "page", "DELETE", "authorization", "referer"):
        assert any(word in complaint for complaint in sim.complaints)


def test_the_account_may_change_between_two_pages(sim: KlingSimulator, http: httpx2.Client) -> None:
    sim.create_task(created_at=sim.now_ms() - 1000)
    sim.fault("list", faults.Call(sim.create_task), times=1)

    assert len(get(sim, http, GENERATIONS).json()["data"]) == 2


def test_tasks_of_all_families_are_told_in_the_new_standard_to_api_keys_only(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    image = sim.create_task(status="succeed", external_task_id="mine", created_at=sim.now_ms() - 2000)
    video = sim.create_task(family="videos/text2video", created_at=sim.now_ms() - 1000)
    key = {"Authorization": f"Bearer {sim.api_key}"}
    url = f"{sim.base_url}/tasks"
    refused = http.get(url, headers=bearer(sim), params={"task_ids": image})
    named = http.get(url, headers=key, params={"task_ids": f"{image},404"}).json()["data"]
    first = http.post(url, headers=key, json={"limit": 1}).json()["data"]
    second = http.post(url, headers=key, json={"limit": 1, "cursor": first["next_cursor"]}).json()["data"]

    assert code(refused) == (401, 1002)
    assert [(task["id"], task["status"], task["external_id"]) for task in named] == [
        (image, "succeeded", "mine")
    ]
    assert http.get(named[0]["outputs"][0]["url"]).content == sim.expected_bytes(image, "0")
    assert [first["result"][0]["id"], second["result"][0]["id"]] == [video, image]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert code(http.get(url, headers=key)) == (400, 1201)


def test_tasks_and_solutions_are_as_strict_as_documented(sim: KlingSimulator, http: httpx2.Client) -> None:
    """One kind of ids, 1 to 20 of them; a limit of at most 500; no AK/SK, which is complained of."""
    key = {"Authorization": f"Bearer {sim.api_key}"}
    for path in ("/tasks", "/solutions"):
        url = sim.base_url + path
        refused = [
            http.get(url, headers=key),
            http.get(url, headers=key, params={"task_ids": ",".join("123456789012345678901")}),
            http.get(url, headers=key, params={"task_ids": "1", "external_task_ids": "2"}),
            http.post(url, headers=key, json={"limit": 501}),
            http.post(url, headers=key, json={"cursor": "made up"}),
        ]
        assert [code(answer) for answer in refused] == [(400, 1201)] * 5
        assert http.get(url, headers=key, params={"task_ids": "1,2"}).json()["data"] == []
        assert code(http.get(url, headers=bearer(sim), params={"task_ids": "1"})) == (401, 1002)

    assert sim.complaints == ["AK/SK on /tasks", "AK/SK on /solutions"]


def test_tasks_show_each_standard_at_its_own_path(sim: KlingSimulator, http: httpx2.Client) -> None:
    families = ("images/generations", "tasks/video", "solutions/virtual_try_on")
    ids = [sim.create_task(family=family, status="succeed") for family in families]
    key = {"Authorization": f"Bearer {sim.api_key}"}

    def shown(path: str) -> set[str]:
        answer = http.post(sim.base_url + path, headers=key, json={}).json()["data"]["result"]
        return {task.get("id") or task["task_id"] for task in answer}

    assert (shown("/tasks"), shown("/solutions")) == (set(ids[:2]), {ids[2]})
    sim.switches.tasks_show, sim.switches.solution_shape = frozenset({"solution"}), "images"
    assert (shown("/tasks"), shown("/solutions")) == ({ids[2]}, {ids[2]})
    assert code(get(sim, http, f"/v1/tasks/video/{ids[1]}")) == (404, 1203)
    sim.complaints.clear()  # of the path that is none


def test_a_window_of_tasks_has_the_order_the_bounds_and_the_cursor_that_the_switches_say(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    start = sim.now_ms() - 100_000
    ids = [sim.create_task(family="tasks/video", created_at=start + number * 1000) for number in range(6)]
    key = {"Authorization": f"Bearer {sim.api_key}"}

    def page(**more: Any) -> httpx2.Response:
        body = {"start_time": str(start), "end_time": str(start + 5000), "limit": 2, **more}
        return http.post(f"{sim.base_url}/tasks", headers=key, json=body)

    def walk() -> list[str]:
        found, cursor = [], ""
        while True:
            data = page(cursor=cursor).json()["data"]
            found += [task["id"] for task in data.get("result", [])]
            cursor = data.get("next_cursor")
            if not data["has_more"]:
                return found

    assert walk() == ids[::-1]
    sim.switches.list_order = "shuffled"
    assert sorted(walk()) == ids
    sim.switches.window_bounds = (False, False)
    assert sorted(walk()) == ids[1:-1]
    sim.switches.window_time = "updated_at"
    for task_id in ids:
        sim.succeed(task_id)
    assert walk() == []
    sim.switches.window_time, sim.switches.cursor_pages_max = "created_at", 0
    assert code(page(cursor=page().json()["data"]["next_cursor"])) == (400, 1201)


@pytest.mark.parametrize(("answer", "status"), [("404", 404), ("405", 405), ("html", 200)])
def test_a_gateway_may_offer_single_questions_only(http: httpx2.Client, answer: Any, status: int) -> None:
    switches = Switches(lists_offered=False, tasks_offered=False, tokens_taken=False, unoffered_answer=answer)
    with KlingSimulator(prefix="/kling", switches=switches) as sim:
        task_id = sim.create_task(status="succeed")
        key = {"Authorization": f"Bearer {sim.api_key}"}
        single = http.get(f"{sim.base_url}{GENERATIONS}/{task_id}", headers=key)
        others = [
            http.get(f"{sim.base_url}{GENERATIONS}", headers=key),
            http.get(f"{sim.base_url}/tasks", headers=key, params={"task_ids": task_id}),
            http.post(f"{sim.base_url}/solutions", headers=key, json={}),
        ]

        assert single.json()["data"]["task_id"] == task_id
        assert [(other.status_code, other.text[:6]) for other in others] == [(status, "<html>")] * 3
        assert code(get(sim, http, f"{GENERATIONS}/{task_id}")) == (401, 1000)
        assert sim.complaints == []


def test_a_gateway_path_may_stand_before_everything_but_the_cdn(http: httpx2.Client) -> None:
    with KlingSimulator(prefix="/kling") as sim:
        task_id = sim.create_task(status="succeed")

        assert sim.base_url.endswith("/kling")
        assert http.get(image_url(sim, http, task_id)).status_code == 200
        assert (sim.requests["query"], sim.complaints) == (1, [])


def test_it_runs_as_a_process_of_its_own(http: httpx2.Client) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.simulator", "--port", "0", "--json-ready"]
    with subprocess.Popen([*command, "--history", "3"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        answer = http.get(
            ready["base_url"] + GENERATIONS, headers={"Authorization": f"Bearer {ready['api_key']}"}
        )
        process.send_signal(signal.SIGTERM)
        last = json.loads(process.stdout.read())

    assert len(answer.json()["data"]) == 3
    assert last == {"requests": {"list": 1}, "complaints": []}
    assert process.returncode == 0


def test_stopping_leaves_no_thread_and_no_open_port(http: httpx2.Client) -> None:
    before = set(threading.enumerate())
    with KlingSimulator() as sim:
        get(sim, http, GENERATIONS)
        port = sim.port

    assert set(threading.enumerate()) == before
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_token_without_a_signature_is_invalid(sim: KlingSimulator, http: httpx2.Client) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"iss": sim.access_key}).encode()).decode().rstrip("=")
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    answer = http.get(sim.base_url + GENERATIONS, headers={"Authorization": f"Bearer {header}.{claims}."})

    assert code(answer) == (401, 1002)
