"""Bytes to callbacks: both dialects, and the rule that nothing a stranger sends raises."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.model import Callback, Status
from receiver.callbacks.payload import Malformed, parse


def read(body: bytes, *, family_hint: str | None = None) -> Callback | Malformed:
    return parse(body, account="default", family_hint=family_hint)


def callback(body: object) -> Callback:
    found = read(json.dumps(body).encode())
    assert isinstance(found, Callback), found
    return found


def test_a_legacy_body_becomes_a_callback() -> None:
    body = {
        "task_id": "843250903213",
        "task_status": "succeed",
        "created_at": 1766000000000,
        "updated_at": 1766000001000,
        "task_info": {},
        "task_result": {"images": [{"index": 0, "url": "https://x.test/"}], "videos": [], "audios": None},
    }

    assert callback(body) == Callback(
        account="default",
        task_id="843250903213",
        status=Status.SUCCEEDED,
        family_hint=None,
        updated_at=1766000001000,
        result_arrays=("images",),
    )


def test_a_new_standard_body_becomes_a_callback() -> None:
    body = {"id": "77", "status": "failed", "update_time": 1766000001000, "outputs": [{"type": "video"}]}

    assert callback(body) == Callback(
        account="default",
        task_id="77",
        status=Status.FAILED,
        family_hint=None,
        updated_at=1766000001000,
        result_arrays=("outputs",),
    )


def test_the_family_of_the_url_is_the_hint() -> None:
    found = read(b'{"id":"1","status":"x"}', family_hint="images/generations")

    assert isinstance(found, Callback)
    assert found.family_hint == "images/generations"


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("submitted", Status.RUNNING),
        ("processing", Status.RUNNING),
        ("succeed", Status.SUCCEEDED),
        ("succeeded", Status.SUCCEEDED),
        ("failed", Status.FAILED),
        ("on-hold", None),
        ("\0", None),
    ],
)
def test_a_status_word_that_we_do_not_know_is_still_a_status(word: str, status: Status | None) -> None:
    assert callback({"task_id": "1", "task_status": word}).status is status


def test_one_object_under_data_is_unwrapped() -> None:
    assert callback({"code": 0, "data": {"task_id": "inner", "task_status": "succeed"}}).task_id == "inner"


@pytest.mark.parametrize("inner", [{"id": "inner", "status": "x"}, {"task_id": "inner", "task_status": "x"}])
def test_an_envelope_with_an_id_of_its_own_is_about_the_task_inside(inner: dict[str, str]) -> None:
    assert callback({"id": "outer", "status": "succeeded", "data": inner}).task_id == "inner"


@pytest.mark.parametrize("inner", [{}, {"id": "inner"}, {"id": "a/b", "status": "x"}, [], "x", None])
def test_data_that_is_no_task_leaves_the_one_at_the_top(inner: object) -> None:
    assert callback({"id": "outer", "status": "succeeded", "data": inner}).task_id == "outer"


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_number_that_json_cannot_hold_costs_nothing_in_a_field_that_is_not_used(number: bytes) -> None:
    found = read(b'{"task_id":"1","task_status":"succeed","updated_at":%b,"x":[%b]}' % (number, number))

    assert isinstance(found, Callback)
    assert found.updated_at is None


def test_data_is_unwrapped_once_only() -> None:
    assert isinstance(read(b'{"data":{"data":{"id":"1","status":"x"}}}'), Malformed)


def test_null_in_one_dialect_leaves_the_word_to_the_other() -> None:
    body = {"task_id": None, "id": "new", "task_status": None, "status": "succeeded"}

    assert callback(body).task_id == "new"


@pytest.mark.parametrize(
    ("value", "task_id"),
    [
        (843250903213, "843250903213"),
        (0, "0"),
        (10**127, "1" + "0" * 127),
        ("a" * 128, "a" * 128),
        ("A-z_0.~", "A-z_0.~"),
        ("...", "..."),
    ],
)
def test_an_id_is_a_safe_string_or_an_integer(value: object, task_id: str) -> None:
    assert callback({"task_id": value, "task_status": "succeed"}).task_id == task_id


@pytest.mark.parametrize(
    "written",
    [
        b'""',
        b'"."',
        b'".."',
        b'"a/b"',
        b'"a b"',
        b'"a\\u0000"',
        b'"\\ud800"',
        b'"1\\n"',
        '"ä"'.encode(),
        b'"' + b"a" * 129 + b'"',
        b"1" * 129,
        b"1" * 5000,
        b"1.0",
        b"1e3",
        b"1e999",
        b"true",
        b"null",
        b"[]",
        b"{}",
    ],
)
def test_no_other_id_is_taken(written: bytes) -> None:
    assert isinstance(read(b'{"task_id":' + written + b',"task_status":"succeed"}'), Malformed)


@pytest.mark.parametrize("written", [b'""', b"null", b"1", b"true", b"[]", b'{"a":1}'])
def test_no_other_status_is_taken(written: bytes) -> None:
    assert isinstance(read(b'{"task_id":"1","task_status":' + written + b"}"), Malformed)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"not json",
        b"[]",
        b'"text"',
        b"null",
        b"5",
        b'{"task_id":"1","task_status":"succeed"',
        b'{"task_id":"1","task_status":"succeed"}}',
        b'{"task_id":"1","task_status":NaN}',
        b'{"task_id":-Infinity,"task_status":"succeed"}',
        b'{"task_id":"1","task_status":"\xff"}',
        '{"task_id":"1","task_status":"succeed"}'.encode("utf-16"),
        b"[" * 200_000,
        b'{"a":' * 40_000,
        b'{"task_id":"1","task_status":"succeed","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"data":[]}',
        b'{"data":null}',
        b'{"data":{}}',
    ],
)
def test_what_is_no_callback_is_named_so_in_a_sentence(body: bytes) -> None:
    found = read(body)

    assert isinstance(found, Malformed)
    assert found.reason.endswith(".")


def test_a_byte_order_mark_is_harmless() -> None:
    assert isinstance(read(b'\xef\xbb\xbf{"id":"1","status":"x"}'), Callback)


def test_of_duplicate_keys_the_last_one_counts() -> None:
    found = read(b'{"id":"1","id":"2","status":"x"}')

    assert isinstance(found, Callback)
    assert found.task_id == "2"


@pytest.mark.parametrize("written", [b"9" * 400, b"9" * 5000, b"-1", b"1e999", b'"soon"', b"[]", b"true"])
def test_an_absurd_time_is_as_good_as_none(written: bytes) -> None:
    found = read(b'{"id":"1","status":"x","update_time":' + written + b"}")

    assert isinstance(found, Callback)
    assert found.updated_at is None


def test_names_of_result_arrays_are_few_and_safe() -> None:
    arrays = {"bad name": [1], "\0": [1], "x" * 65: [1], **{f"array_{n}": [1] for n in range(50)}}

    names = callback({"id": "1", "status": "x", "task_result": arrays}).result_arrays

    assert names == tuple(f"array_{n}" for n in range(16))


@given(st.binary(max_size=200))
def test_no_bytes_raise(body: bytes) -> None:
    assert isinstance(read(body), Callback | Malformed)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_fields = [
    "task_id",
    "id",
    "task_status",
    "status",
    "updated_at",
    "update_time",
    "task_result",
    "outputs",
    "data",
]


@given(st.dictionaries(st.sampled_from(_fields), _values))
def test_no_document_raises_and_what_is_taken_is_safe(document: dict[str, object]) -> None:
    found = read(json.dumps(document).encode())

    assert isinstance(found, Malformed) or found.task_id.isascii()
