"""Replies: JSON whatever the sentence holds."""

import json
import uuid

import pytest

from receiver.server.replies import NOT_FOUND, OK, Reply, malformed


@pytest.mark.parametrize("message", ["ok", 'a "quote"', "a \\ backslash", "a\nline", "é \ud800"])
def test_any_message_makes_a_body_of_json(message: str) -> None:
    content = json.loads(malformed(message).body())

    assert (content["code"], content["message"]) == (1200, message)


def test_each_body_has_a_request_id_of_its_own() -> None:
    first, second = (uuid.UUID(json.loads(OK.body())["request_id"]) for _ in range(2))

    assert (first.version, second.version) == (4, 4)
    assert first != second


def test_a_404_is_the_same_to_the_last_byte() -> None:
    assert NOT_FOUND.body() == NOT_FOUND.body() == b'{"code":1203,"message":"There is nothing here."}'


def test_the_body_is_compact() -> None:
    assert Reply(200, 0, "ok", has_request_id=False).body() == b'{"code":0,"message":"ok"}'
