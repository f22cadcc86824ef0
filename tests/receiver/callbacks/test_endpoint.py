"""The callback endpoint over real sockets: the table of replies, and hostile requests."""

import base64
import hashlib
import hmac
import json
import logging
import re
import threading
import uuid
from collections.abc import Iterator, Sequence

import pytest
import structlog

from archiver.create.callback_tokens import gateway_token, new_reference, referring
from archiver.failures import LedgerUnavailable
from archiver.ledger import Ledger
from archiver.model import Callback, CallbackOutcome, Status
from receiver.callbacks.signatures import Signatures
from receiver.server import replies
from tests.harness.daemons import until
from tests.harness.edge import BODY_BYTES_MAX, OTHER_TOKEN, SECONDS_MAX, TOKEN, Edge, legacy_body

SECRET = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="
NOW = 1_781_080_794


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with Edge() as running:
        yield running


def signed(body: bytes, *, at: int = NOW) -> dict[str, str]:
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    digest = hmac.digest(key, b"msg-1.%d." % at + body, hashlib.sha256)
    signature = "v1," + base64.b64encode(digest).decode()
    return {"webhook_id": "msg-1", "webhook_timestamp": str(at), "webhook_signature": signature}


def request(path: str, body: bytes = b"", *headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: edge", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("path", "family"),
    [
        (f"/callbacks/{TOKEN}/images/generations", "images/generations"),
        (f"/callbacks/{TOKEN}/images/editing/expand", "images/editing/expand"),
        (f"/callbacks/{TOKEN}/images/generations/", "images/generations"),
        (f"/callbacks/{TOKEN}/images/generations?x=y", "images/generations"),
        (f"/callbacks/{TOKEN}/images/%67enerations", "images/generations"),
        (f"/callbacks/{TOKEN}/some-new/family-9", "some-new/family-9"),
        (f"/callbacks/{TOKEN}", None),
        (f"/callbacks/{TOKEN}/", None),
        (f"/callbacks/%30{TOKEN[1:]}", None),
        (f"/callbacks/{OTHER_TOKEN}", None),
    ],
)
def test_a_callback_is_recorded_with_the_family_of_its_path(
    edge: Edge, path: str, family: str | None
) -> None:
    task_id = uuid.uuid4().hex

    answer = edge.post(path, legacy_body(task_id))

    assert answer.status_code == 200
    assert edge.journal.callbacks[-1].task_id == task_id
    assert edge.journal.callbacks[-1].family_hint == family


def test_a_200_says_ok_and_names_the_request(edge: Edge) -> None:
    answer = edge.post_callback(legacy_body())
    request_id = str(uuid.UUID(answer.json()["request_id"]))

    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"code": 0, "message": "ok", "request_id": request_id}


def test_every_answer_has_a_random_uuid_of_its_own() -> None:
    answers = [json.loads(replies.OK.body()) for _ in range(200)]
    names = [uuid.UUID(answer["request_id"]) for answer in answers]

    assert len(set(names)) == len(names)
    assert {(name.version, name.variant) for name in names} == {(4, uuid.RFC_4122)}


def test_a_repeated_callback_is_as_welcome_as_a_new_one(edge: Edge) -> None:
    before = edge.count("duplicate")
    body = legacy_body(uuid.uuid4().hex)

    assert [edge.post_callback(body).status_code for _ in range(3)] == [200, 200, 200]
    until(lambda: edge.count("duplicate") == before + 2, what="the count, which comes after the answer")


@pytest.mark.parametrize(
    "path",
    [
        "/callbacks/wrong",
        f"/callbacks/wrong{TOKEN}",
        f"/callbacks/{TOKEN[:-1]}",
        f"/callbacks/{TOKEN}0",
        f"/callbacks/{TOKEN.upper()}",
        "/callbacks/%ff%fe",
        "/callbacks/%00",
        f"/callbacks/{TOKEN}%0A",
        "/callbacks/" + "a" * 10_000,
        "/callbacks/",
        "/callbacks",
        "/callbacks//",
        f"/callbacks//{TOKEN}",
        f"//callbacks/{TOKEN}",
        f"/callbacks%2F{TOKEN}",
        f"/callbacks/./{TOKEN}",
        f"/x/../callbacks/{TOKEN}",
        f"/Callbacks/{TOKEN}",
        "/wrong",
        "/",
        f"/callbacks/{TOKEN}/images",
        f"/callbacks/{TOKEN}/images/../generations",
        f"/callbacks/{TOKEN}/images/%2e%2e",
        f"/callbacks/{TOKEN}/images%2Fgenerations",
        f"/callbacks/{TOKEN}/images%2Fgenerations/expand",
        f"/callbacks/{TOKEN}/images/generations%00",
        f"/callbacks/{TOKEN}/images/generations%0A",
        f"/callbacks/{TOKEN}/Images/Generations",
        f"/callbacks/{TOKEN}/images//generations",
        f"/callbacks/{TOKEN}/images/generations//",
        f"/callbacks/{TOKEN}/a/b/c/d",
        f"/callbacks/{TOKEN}/images/%C3%A4",
        f"/callbacks/{TOKEN}/images/%25",
    ],
)
def test_any_other_path_is_the_same_404_to_the_last_byte(edge: Edge, path: str) -> None:
    recorded = len(edge.journal.callbacks)
    body = legacy_body()
    length = f"Content-Length: {len(body)}"

    answer = edge.raw(request(path, body, length, "Connection: close"))
    expected = edge.raw(request("/no/such/path", body, length, "Connection: close"))

    assert status_of(answer) == 404
    assert re.sub(rb"date: [^\r]*", b"", answer) == re.sub(rb"date: [^\r]*", b"", expected)
    assert len(edge.journal.callbacks) == recorded


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("token", [TOKEN, "wrong"])
def test_another_method_is_405_for_any_token(edge: Edge, method: str, token: str) -> None:
    answer = edge.client.request(method, f"/callbacks/{token}/images/generations")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b'{"task_status":"succeed"}',
        b'{"task_id":"1"}',
        b'{"task_id":"<script>","task_status":"succeed"}',
        b'{"task_id":"1","task_status":NaN}',
        b"\xff",
        b"[" * BODY_BYTES_MAX,
    ],
)
def test_what_is_no_callback_is_400_with_a_sentence_and_no_echo(edge: Edge, body: bytes) -> None:
    before = edge.count("malformed")

    answer = edge.post_callback(body)
    content = answer.json()

    assert answer.status_code == 400
    assert content["code"] == 1200
    assert str(uuid.UUID(content["request_id"])) == content["request_id"]
    assert "script" not in content["message"]
    assert edge.count("malformed") == before + 1


def test_a_body_of_the_largest_size_is_taken_and_one_byte_more_is_413(edge: Edge) -> None:
    body = legacy_body()
    before = edge.count("too_large")

    assert edge.post_callback(body.ljust(BODY_BYTES_MAX)).status_code == 200
    assert edge.post_callback(body.ljust(BODY_BYTES_MAX + 1)).status_code == 413
    assert edge.count("too_large") == before + 1


def test_a_chunked_body_is_counted_as_it_comes(edge: Edge) -> None:
    def chunks(size: int) -> Iterator[bytes]:
        body = legacy_body().ljust(size)
        yield from (body[start : start + 1000] for start in range(0, size, 1000))

    path = f"/callbacks/{TOKEN}"

    assert edge.client.post(path, content=chunks(BODY_BYTES_MAX)).status_code == 200
    assert edge.client.post(path, content=chunks(BODY_BYTES_MAX + 1)).status_code == 413


def test_an_endless_chunked_body_is_413_before_it_ends(edge: Edge) -> None:
    chunk = b"%x\r\n" % BODY_BYTES_MAX + b" " * BODY_BYTES_MAX + b"\r\n"
    with edge.connection() as connected:
        connected.sendall(request(f"/callbacks/{TOKEN}", chunk * 2, "Transfer-Encoding: chunked"))

        assert status_of(connected.recv(65536)) == 413


def test_a_sender_that_ends_with_the_connection_still_gets_to_read_its_413(edge: Edge) -> None:
    body = legacy_body().ljust(2_000_000)
    length = f"Content-Length: {len(body)}"

    answer = edge.raw(request(f"/callbacks/{TOKEN}", body, length, "Connection: close"))

    assert status_of(answer) == 413


@pytest.mark.parametrize("length", [BODY_BYTES_MAX + 1, 10**18])
def test_an_announced_length_is_refused_before_the_body_comes(edge: Edge, length: int) -> None:
    with edge.connection() as connected:
        connected.sendall(request(f"/callbacks/{TOKEN}", b"", f"Content-Length: {length}"))

        assert status_of(connected.recv(65536)) == 413


def test_a_wrong_token_is_404_however_large_the_body(edge: Edge) -> None:
    assert edge.post("/callbacks/wrong", b" " * (BODY_BYTES_MAX + 1)).status_code == 404


def test_a_connection_serves_on_after_a_refusal(edge: Edge) -> None:
    refused = request(f"/callbacks/{TOKEN}", b" " * 9000, "Content-Length: 9000")
    body = legacy_body()
    accepted = request(f"/callbacks/{TOKEN}", body, f"Content-Length: {len(body)}", "Connection: close")

    answers = edge.raw(refused, accepted)

    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"413", b"200"]


def test_a_sender_that_disconnects_halfway_is_no_error(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    recorded = len(edge.journal.callbacks)
    with caplog.at_level(logging.WARNING):
        with edge.connection() as connected:
            connected.sendall(request(f"/callbacks/{TOKEN}", b'{"task', "Content-Length: 100"))
        with edge.connection() as connected:
            connected.sendall(b"POST /callbacks/")

        assert edge.post_callback(legacy_body()).status_code == 200
    assert caplog.records == []
    assert len(edge.journal.callbacks) == recorded + 1


def test_a_body_without_end_is_answered_in_time() -> None:
    with Edge(body_seconds_max=0.2) as edge, edge.connection() as connected:
        connected.sendall(request(f"/callbacks/{TOKEN}", b"{", "Content-Length: 100"))

        assert status_of(connected.recv(65536)) == 408


def test_a_body_in_many_small_pieces_is_one_body(edge: Edge) -> None:
    body = legacy_body("in-pieces")
    head = request(f"/callbacks/{TOKEN}", b"", f"Content-Length: {len(body)}", "Connection: close")

    answer = edge.raw(head, *(body[at : at + 1] for at in range(len(body))))

    assert status_of(answer) == 200
    assert edge.journal.callbacks[-1].task_id == "in-pieces"


H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")


def test_an_offer_to_switch_protocols_is_declined_and_the_callback_taken(edge: Edge) -> None:
    body = legacy_body("offered-whole")
    length = f"Content-Length: {len(body)}"

    answer = edge.raw(request(f"/callbacks/{TOKEN}", body, length, *H2C))

    assert status_of(answer) == 200
    assert edge.journal.callbacks[-1].task_id == "offered-whole"


def test_the_body_behind_such_an_offer_may_come_in_chunks_and_pieces(edge: Edge) -> None:
    body = legacy_body("offered-in-pieces")
    chunked = b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    head = request(f"/callbacks/{TOKEN}", b"", "Transfer-Encoding: chunked", *H2C)

    answer = edge.raw(head[:50], head[50:], *(chunked[at : at + 7] for at in range(0, len(chunked), 7)))

    assert status_of(answer) == 200
    assert edge.journal.callbacks[-1].task_id == "offered-in-pieces"


def test_a_signature_is_checked_over_the_raw_body() -> None:
    with Edge(signatures=Signatures([SECRET], required=False, clock=lambda: NOW)) as edge:
        body = legacy_body()

        assert edge.post_callback(body, **signed(body)).status_code == 200
        assert edge.post_callback(body + b" ", **signed(body)).status_code == 401
        assert edge.post_callback(body, **signed(body, at=NOW - 301)).status_code == 401
        assert edge.post_callback(body, webhook_id="msg-1").status_code == 401
        assert edge.post_callback(body).status_code == 200
        assert edge.count("bad_signature") == 3
        assert len(edge.journal.callbacks) == 2


def test_a_signed_callback_is_taken_on_a_machine_whose_clock_is_six_minutes_off() -> None:
    signatures = Signatures([SECRET], required=True, clock=lambda: NOW + 360, skew_ms=lambda: -360_000)
    with Edge(signatures=signatures) as edge:
        body = legacy_body()

        assert edge.post_callback(body, **signed(body)).status_code == 200


def test_a_signed_time_that_cannot_be_judged_is_asked_for_again_and_not_refused() -> None:
    signatures = Signatures([SECRET], required=True, clock=lambda: NOW + 360, skew_ms=lambda: None)
    with Edge(signatures=signatures) as edge:
        body = legacy_body()
        answer = edge.post_callback(body, **signed(body))

        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        assert (edge.count("unavailable"), edge.count("bad_signature")) == (1, 0)
        assert edge.journal.callbacks == []


def test_a_required_signature_may_not_be_absent() -> None:
    with Edge(signatures=Signatures([SECRET], required=True, clock=lambda: NOW)) as edge:
        assert edge.post_callback(legacy_body()).status_code == 401


def test_the_signature_is_looked_at_before_the_shape() -> None:
    with Edge(signatures=Signatures([SECRET], required=True, clock=lambda: NOW)) as edge:
        assert edge.post_callback(b"no json").status_code == 401
        for body in (b"no json", b'{"id":"1","status":"\xe4"}', b"\xff\xfe"):
            assert edge.post_callback(body, **signed(body)).status_code == 400


def test_each_token_speaks_for_its_own_account() -> None:
    with Edge(accounts={TOKEN: "ours", OTHER_TOKEN: "theirs"}) as edge:
        edge.post(f"/callbacks/{TOKEN}", legacy_body("1"))
        edge.post(f"/callbacks/{OTHER_TOKEN}", legacy_body("2"))

        assert [callback.account for callback in edge.journal.callbacks] == ["ours", "theirs"]


def test_the_gateways_own_token_speaks_for_its_account_and_names_the_create_that_gave_it() -> None:
    reference = new_reference()
    with Edge(accounts={TOKEN: "first", OTHER_TOKEN: "second"}) as edge:
        for number, segment in enumerate(
            (gateway_token(TOKEN), referring(gateway_token(OTHER_TOKEN), reference))
        ):
            answer = edge.post(f"/callbacks/{segment}/images/generations", legacy_body(f"t-{number}"))
            assert answer.status_code == 200
        for wrong in (
            referring(gateway_token(TOKEN), "short"),
            referring(gateway_token(TOKEN), reference + "x"),
            referring(gateway_token(TOKEN), "%2e" * 22),
            gateway_token(TOKEN) + ".",
            referring(TOKEN, reference),
            gateway_token("another"),
            "." + reference,
        ):
            answer = edge.post(f"/callbacks/{wrong}/images/generations", legacy_body("t-9"))
            assert answer.status_code == 404, wrong

        recorded = [
            (found.account, found.task_id, found.create_reference) for found in edge.journal.callbacks
        ]
        assert recorded == [("first", "t-0", None), ("second", "t-1", reference)]


def test_a_token_need_not_be_ascii() -> None:
    with Edge(accounts={"schlüssel": "default"}) as edge:
        assert edge.post("/callbacks/schl%C3%BCssel", legacy_body()).status_code == 200
        assert edge.post("/callbacks/schl%FCssel", legacy_body()).status_code == 404


def test_an_unavailable_ledger_is_503_with_retry_after() -> None:
    def refuse(_: Sequence[Callback]) -> list[CallbackOutcome]:
        raise LedgerUnavailable("the disk is full")

    with Edge(refuse) as edge:
        answer = edge.post_callback(legacy_body())

        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["code"] != 0
        assert "disk" not in answer.text
        assert edge.count("unavailable") == 1


def test_too_many_waiting_are_503() -> None:
    entered, gate = threading.Semaphore(0), threading.Event()

    def record(callbacks: Sequence[Callback]) -> list[CallbackOutcome]:
        entered.release()
        assert gate.wait(SECONDS_MAX)
        return [CallbackOutcome.ACCEPTED for _ in callbacks]

    with Edge(record, waiting_max=1) as edge, edge.connection() as first:
        body = legacy_body()
        first.sendall(request(f"/callbacks/{TOKEN}", body, f"Content-Length: {len(body)}"))
        assert entered.acquire(timeout=SECONDS_MAX)

        assert edge.post_callback(body).status_code == 503

        gate.set()

        assert status_of(first.recv(65536)) == 200


def test_a_200_means_that_the_ledger_has_it(tmp_path: object) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db", daemon=True)
    with Edge(ledger.callbacks.record) as edge:
        answer = edge.post_callback(legacy_body("durable"))

        assert answer.status_code == 200
    callback = Callback(account="default", task_id="durable", status=Status.SUCCEEDED, family_hint=None)
    assert ledger.callbacks.record([callback]) == [CallbackOutcome.DUPLICATE]
    ledger.close()


def test_accepted_callbacks_are_counted_and_timed() -> None:
    with Edge() as edge:
        sample = edge.metrics.registry.get_sample_value
        edge.post_callback(legacy_body())
        until(lambda: sample("kling_last_callback_timestamp_seconds"), what="the last figure of a callback")

        assert edge.count("accepted") == 1
        assert sample("kling_callback_ack_seconds_count") == 1


def test_one_line_is_logged_per_decision_and_none_holds_the_token_or_the_body() -> None:
    with structlog.testing.capture_logs() as lines, Edge() as edge:
        edge.post_callback(legacy_body("t-1", "succeed", secret="from the body"))
        edge.post_callback(b"no json")
        edge.post("/callbacks/guessed-token", legacy_body())
        edge.post_callback(b" " * (BODY_BYTES_MAX + 1))

    decisions = [line for line in lines if str(line["event"]).startswith("callback.")]
    assert [(line["event"], line["result"]) for line in decisions] == [
        ("callback.accepted", "accepted"),
        ("callback.refused", "malformed"),
        ("callback.refused", "unauthorized"),
        ("callback.refused", "too_large"),
    ]
    assert decisions[0]["task_id"] == "t-1"
    told = json.dumps(lines, default=str)
    assert not any(secret in told for secret in (TOKEN, "guessed-token", "from the body"))


def test_an_unknown_family_is_logged_once() -> None:
    with structlog.testing.capture_logs() as lines, Edge() as edge:
        for _ in range(3):
            edge.post(f"/callbacks/{TOKEN}/holograms/generations", legacy_body())
        edge.post_callback(legacy_body())

    named = [line["family"] for line in lines if line["event"] == "callback.family_unknown"]
    assert named == ["holograms/generations"]
