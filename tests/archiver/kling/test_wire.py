"""Bytes, bodies, connections and clocks between the API and its client."""

import contextlib
import email.utils
import gzip
import http.server
import json
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import failures
from archiver.kling import responses
from tests.harness.scripted_api import NOW, TASK_ID, Api, Clients, Reply, envelope, query, row


def test_a_compressed_answer_is_read(api: Api, clients: Clients) -> None:
    api.says(Reply(gzip.compress(envelope(row())), headers={"Content-Encoding": "gzip"}))

    assert query(clients()).task_id == TASK_ID


@pytest.mark.parametrize("body", [b"not gzip", gzip.compress(b" " * 3_000_000)])
def test_a_compressed_body_that_is_broken_or_a_bomb_is_unreadable(
    api: Api, clients: Clients, body: bytes
) -> None:
    api.says(Reply(body, headers={"Content-Encoding": "gzip"}))

    with pytest.raises(failures.ApiAnswerUnreadable):
        query(clients(body_bytes_max=1_000_000))
    assert clients.observed == [("query", "http_200")]


def test_an_endless_body_is_cut_off(api: Api, clients: Clients) -> None:
    def pour(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(500):  # as good as endless, and an end for a client that does not cut it off
            handler.wfile.write(b" " * 65_536)

    api.says(Reply(pour))

    with pytest.raises(failures.ApiAnswerUnreadable, match="more than 1000000 bytes"):
        query(clients(body_bytes_max=1_000_000))


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_that_drips_is_given_up_at_the_deadline_in_headers_and_in_the_body(
    api: Api, clients: Clients, head: bytes
) -> None:
    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(head)
        for _ in range(500):  # far longer than the deadline, each wait far shorter than any read timeout
            if api.closing.wait(0.02):
                return
            handler.wfile.write(b"x")

    api.says(Reply(drip))

    with pytest.raises(failures.ApiTimeout):
        query(clients(answer_seconds=0.3))
    assert clients.observed == [("query", "timeout")]


def test_silence_is_a_timeout(api: Api, clients: Clients) -> None:
    api.says(Reply(lambda _handler: cast("None", api.closing.wait(60))))

    with pytest.raises(failures.ApiTimeout):
        query(clients(read_seconds=0.1))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_connection_that_breaks_is_unreachable_and_not_an_answer(
    api: Api, clients: Clients, raw: bytes
) -> None:
    api.says(Reply(lambda handler: cast("None", handler.wfile.write(raw))))

    with pytest.raises(failures.ApiUnreachable):
        query(clients())
    assert clients.observed == [("query", "connection")]


def test_an_api_without_a_listener_is_unreachable(api: Api, clients: Clients) -> None:
    client = clients()
    api.shutdown()
    api.socket.close()

    with pytest.raises(failures.ApiUnreachable):
        query(client)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, 0), (-1, -1000), (1, 1000), (-600, -600_000), (600, 600_000)]
)
def test_the_clocks_are_compared_as_far_as_whole_seconds_tell(
    api: Api, clients: Clients, seconds: int, expected: int
) -> None:
    api.says(
        Reply(envelope(row()), headers={"Date": email.utils.formatdate(NOW + seconds, usegmt=True)}),
        envelope(row()),
    )
    client = clients()
    before = client.skew_ms
    query(client)
    query(client)  # an answer without a date changes nothing

    assert before is None
    # The date may stand for any moment of its second.
    assert client.skew_ms == (expected if expected >= 0 else expected + 999)


@pytest.mark.parametrize(
    ("seconds", "age", "expected"),
    [(-600, "600", 0), (-86_400, "86400", 0), (-900, "600", -300_000), (0, "0", 0), (-600, "", -600_000)]
    + [(-600, age, -600_000) for age in ("-600", "ten minutes", "9" * 10, "9" * 5000)],
)
def test_an_answer_from_a_cache_tells_the_time_that_it_was_made_at_and_its_age(
    api: Api, clients: Clients, seconds: int, age: str, expected: int
) -> None:
    headers = {"Date": email.utils.formatdate(NOW + seconds, usegmt=True), "Age": age}
    api.says(Reply(envelope(row()), headers=headers))
    client = clients()
    query(client)

    assert client.skew_ms == (expected if expected >= 0 else expected + 999)


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 99999 99:99:99 GMT", "9" * 5000])
def test_a_date_that_is_none_is_ignored(api: Api, clients: Clients, date: str) -> None:
    api.says(Reply(envelope(row()), headers={"Date": date}))
    client = clients()
    query(client)

    assert client.skew_ms is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"\xff\xfe\x00",
        b"<html>no</html>",
        b"[]",
        b"null",
        b'{"code":0',
        b'{"message":"ok","data":{}}',
        b'{"code":null}',
        b'{"code":true}',
        b'{"code":0.0}',
        b'{"code":"success","data":{}}',
        b'{"code":0,"code":1}',
        b'{"code":' + b"9" * 5000 + b"}",
        b"[" * 200_000,
    ],
)
def test_bytes_that_are_no_envelope_are_unreadable(body: bytes) -> None:
    with pytest.raises(failures.ApiAnswerUnreadable):
        responses.read_answer(body)


def test_broken_characters_in_a_text_do_not_keep_a_task_out(api: Api, clients: Clients) -> None:
    body = envelope(row(task_status_msg="cut \ud83d", name="ok")).replace(b'"ok"', b'"\xe4\xbd"')
    api.says(body)
    document = query(clients()).document

    assert (document["task_status_msg"], document["name"]) == ("cut \ufffd", "\ufffd")


def test_ids_beyond_doubles_keep_every_digit(api: Api, clients: Clients) -> None:
    api.says(b'{"code":"0","data":{"task_id":828338674605228111,"task_status":"submitted"}}')

    assert query(clients()).task_id == "828338674605228111"


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_an_answer_or_unreadable(body: bytes) -> None:
    with contextlib.suppress(failures.ApiAnswerUnreadable):
        assert isinstance(responses.read_answer(body).code, int)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    )
)
def test_whatever_is_sound_can_be_written_again(data: object) -> None:
    answer = responses.read_answer(json.dumps({"code": 0, "data": data}).encode())
    with contextlib.suppress(failures.ApiAnswerUnreadable):
        written = json.dumps(responses.sound(answer.data), allow_nan=False, ensure_ascii=False)
        assert json.loads(written.encode()) == json.loads(written)
