"""One try to post a message: bounded, whatever the consumer does, and signed so that the public library verifies it."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import standardwebhooks

from archiver.fetch.urls import ConsumerPolicy, vet_own
from archiver.webhooks.sender import Signing, Unanswered, WebhookSender
from tests.harness.consumer import SECRET, Consumer, consumer
from tests.harness.server import Serve, answer

OLD_SECRET = "whsec_" + "b2xkLXNlY3JldC1vZi10aGUtY29uc3VtZXI="
TRY_SECONDS = 0.4
ENDS_SECONDS = 60.0
"""Far more than a try, on any machine; a hanging consumer would take for ever."""

BODY = "{}\r\n\r\n"
"""Ends as a head does, so that the server of these tests knows when it has all."""

Handler = Callable[[socket.socket, bytes], None]


@pytest.fixture(scope="module")
def hook() -> Iterator[Consumer]:
    with consumer() as listening:
        yield listening


def test_every_secret_signs_each_try_anew(hook: Consumer) -> None:
    times = iter([1_790_000_000, 1_790_000_060])
    sender = WebhookSender(now=lambda: next(times))
    for _ in range(2):
        sender.post(vet_own(hook.url), message_id="fwd_1", body="{}", signing=Signing([OLD_SECRET, SECRET]))

    first, second = (headers for headers, _ in hook.requests[-2:])
    assert [each["webhook-timestamp"] for each in (first, second)] == ["1790000000", "1790000060"]
    assert set(first["webhook-signature"].split()).isdisjoint(second["webhook-signature"].split())
    for headers in (first, second):
        signed = headers | {"webhook-timestamp": str(int(time.time()))}
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(SECRET).verify("{}", signed)  # another time is another signature
    fresh = WebhookSender()
    fresh.post(vet_own(hook.url), message_id="fwd_2", body="{}", signing=Signing([OLD_SECRET, SECRET]))
    headers, body = hook.requests[-1]
    for secret in (OLD_SECRET, SECRET):
        standardwebhooks.Webhook(secret).verify(body, headers)


def sending(content: bytes) -> Handler:
    return lambda connection, _: connection.sendall(content)


def again_and_again(piece: bytes, *, pause: float = 0.0, first: bytes = b"") -> Handler:
    """Until the peer has gone."""

    def handle(connection: socket.socket, _head: bytes) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(first)
            while True:
                connection.sendall(piece)
                time.sleep(pause)

    return handle


def hang(connection: socket.socket, _head: bytes) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


OK = b"HTTP/1.1 200 OK\r\n"
ANSWERED: dict[str, tuple[Handler, int]] = {
    "a body without an end": (again_and_again(b"x" * 65536, first=OK + b"\r\n"), 200),
    "a body that drips": (again_and_again(b"x", pause=0.05, first=OK + b"Content-Length: 999\r\n\r\n"), 200),
    "a body that never comes": (sending(OK + b"Content-Length: 999\r\n\r\n"), 200),
    "a broken body": (sending(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), 200),
    "10,000 short headers": (sending(OK + b"a: b\r\n" * 10_000 + b"\r\n"), 200),
    "10,000 long headers": (
        sending(OK + b"".join(b"x-%d: y\r\n" % place for place in range(10_000)) + b"\r\n"),
        200,
    ),
    "headers without an end": (again_and_again(b"a: b\r\n" * 1000, first=OK), 200),
    "a length that is no number": (sending(OK + b"Content-Length: x\r\n\r\n"), 200),
    "two lengths": (sending(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), 200),
    "an unknown coding": (sending(b"HTTP/1.1 204 None\r\nTransfer-Encoding: gzip\r\n\r\n"), 204),
    "an interim answer": (
        sending(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer(b"", status="204 No Content")),
        204,
    ),
    "a redirect": (sending(answer(b"", "Location: http://127.0.0.1:1/", status="307 Elsewhere")), 307),
    "gone": (sending(answer(b"", status="410 Gone")), 410),
}


@pytest.mark.parametrize("kind", ANSWERED)
def test_the_status_is_all_that_counts(serve: Serve, kind: str) -> None:
    handler, status = ANSWERED[kind]
    server = serve(handler)
    began = time.monotonic()

    assert WebhookSender().post(vet_own(server.origin), message_id="fwd_1", body=BODY) == status
    assert time.monotonic() - began < ENDS_SECONDS
    assert server.connections == 1


UNANSWERED: dict[str, Handler] = {
    "no answer": hang,
    "a head that drips": again_and_again(b"H", pause=0.05),
    "interim answers without an end": again_and_again(b"HTTP/1.1 103 Early Hints\r\n\r\n", pause=0.01),
    "a connection that closes": lambda connection, _: connection.close(),
    "no HTTP": sending(b"220 mail.example.com ESMTP\r\n\r\n"),
    "HTTP that is none": sending(b"\x16\x03\x01\x02\x00" * 100 + b"\r\n\r\n"),
}


@pytest.mark.parametrize("kind", UNANSWERED)
def test_a_try_ends_where_no_status_comes(serve: Serve, kind: str) -> None:
    server = serve(UNANSWERED[kind])
    sender = WebhookSender(try_seconds=TRY_SECONDS)
    began = time.monotonic()

    with pytest.raises(Unanswered) as caught:
        sender.post(vet_own(f"{server.origin}/a-secret?key=hidden"), message_id="fwd_1", body=BODY)
    assert time.monotonic() - began < ENDS_SECONDS
    assert "hidden" not in str(caught.value)


def test_what_is_answered_before_the_body_was_read_counts_though_the_rest_is_not_read() -> None:
    let_go = threading.Event()

    def answer_early(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1)
            connection.sendall(answer(b""))
            let_go.wait(ENDS_SECONDS)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer_early, args=[listening])
        thread.start()
        try:
            url = vet_own(f"http://127.0.0.1:{listening.getsockname()[1]}/")
            sender = WebhookSender(try_seconds=6)  # the test lasts as long, but for a second
            assert sender.post(url, message_id="fwd_1", body="x" * 20_000_000) == 200
        finally:
            let_go.set()
            thread.join()


def test_a_try_ends_also_if_the_body_is_not_read_or_the_port_speaks_no_tls(serve: Serve) -> None:
    plain = serve(answer(b""))
    sender = WebhookSender(try_seconds=TRY_SECONDS)
    with pytest.raises(Unanswered):
        sender.post(vet_own(f"https://127.0.0.1:{plain.port}/"), message_id="fwd_1", body=BODY)

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        with pytest.raises(Unanswered, match="timeout"):
            sender.post(vet_own(f"http://127.0.0.1:{port}/"), message_id="fwd_1", body="x" * 20_000_000)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"])
def test_a_clients_host_with_a_private_address_is_not_connected_to(serve: Serve, address: str) -> None:
    server = serve(answer(b""))
    sender = WebhookSender(resolver=lambda _host, _port: ["93.184.216.34", address], try_seconds=TRY_SECONDS)
    url = ConsumerPolicy.parse([]).vet(f"https://app.example.com:{server.port}/hook")

    with pytest.raises(Unanswered) as caught:
        sender.post(url, message_id="fwd_1", body=BODY)
    assert caught.value.is_refused
    assert server.connections == 0
