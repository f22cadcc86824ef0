"""Bytes to callbacks: both dialects, and the rule that nothing a stranger sends raises."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.model import Callback, Status
from receiver.callbacks.payload import Malformed, Signatures, SignatureVerdict, parse

SECRET = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="
OTHER_SECRET = "whsec_b3RoZXJzZWNyZXRvdGhlcnNlY3JldG90aGVyc2VjcmU="
SIGNED_AT = 1781080794
SIGNED_BODY = (
    b'{"id":"1234567890","status":"succeeded","message":"",'
    b'"create_time":1781080778802,"update_time":1781080794151}'
)
SIGNATURE = b"v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4="


def read(body: bytes, *, family_hint: str | None = None) -> Callback | Malformed:
    return parse(body, account="default", family_hint=family_hint)


def callback(body: object) -> Callback:
    found = read(json.dumps(body).encode())
    assert isinstance(found, Callback), found
    return found


def headers(
    *, at: bytes = b"1781080794", signature: bytes = SIGNATURE, without: bytes = b""
) -> list[tuple[bytes, bytes]]:
    sent = [
        (b"content-type", b"application/json"),
        (b"webhook-id", b"9876543210"),
        (b"webhook-timestamp", at),
        (b"webhook-signature", signature),
    ]
    return [(name, value) for name, value in sent if name != without]


def signatures(*secrets: str, required: bool = False, now: float = SIGNED_AT) -> Signatures:
    return Signatures(secrets or (SECRET,), required=required, clock=lambda: now)


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


def test_a_task_at_the_top_wins_over_one_under_data() -> None:
    body = {"id": "outer", "status": "succeeded", "data": {"id": "inner", "status": "failed"}}

    assert callback(body).task_id == "outer"


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
        b'{"task_id":"1","task_status":"succeed","x":NaN}',
        b'{"task_id":"1","task_status":"succeed","x":-Infinity}',
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


def test_the_published_signature_is_valid() -> None:
    assert signatures().check(headers(), SIGNED_BODY) is SignatureVerdict.VALID


def test_header_names_are_taken_in_any_case() -> None:
    shouted = [(name.upper(), value) for name, value in headers()]

    assert signatures().check(shouted, SIGNED_BODY) is SignatureVerdict.VALID


@pytest.mark.parametrize("off", [-300, 300])
def test_a_signature_is_good_for_five_minutes_either_way(off: int) -> None:
    assert signatures(now=SIGNED_AT + off).check(headers(), SIGNED_BODY) is SignatureVerdict.VALID


@pytest.mark.parametrize("off", [-301, 301])
def test_an_older_or_newer_signature_is_stale(off: int) -> None:
    assert signatures(now=SIGNED_AT + off).check(headers(), SIGNED_BODY) is SignatureVerdict.STALE


@pytest.mark.parametrize("at", [b"soon", b"-1", b"1e9", b"nan", b"9" * 400, "１".encode(), b"1781080794.5"])
def test_a_time_that_is_none_is_stale(at: bytes) -> None:
    assert signatures().check(headers(at=at), SIGNED_BODY) is SignatureVerdict.STALE


def test_any_of_several_secrets_will_do() -> None:
    assert signatures(OTHER_SECRET, SECRET).check(headers(), SIGNED_BODY) is SignatureVerdict.VALID


@pytest.mark.parametrize(
    "before", [b"v1,AAAA", b"v2,x", b"garbage", b"v1", b"v1,a,b", b"v1,!", b"\xff\xfe", "v1,ä".encode()]
)
def test_a_good_entry_counts_whatever_stands_before_it(before: bytes) -> None:
    both = headers(signature=before + b" " + SIGNATURE)

    assert signatures().check(both, SIGNED_BODY) is SignatureVerdict.VALID


@pytest.mark.parametrize("signature", [b"v1,AAAA", b"v2" + SIGNATURE[2:], SIGNATURE[3:], b"\xff", b","])
def test_another_signature_is_wrong(signature: bytes) -> None:
    assert signatures().check(headers(signature=signature), SIGNED_BODY) is SignatureVerdict.WRONG


@pytest.mark.parametrize("body", [SIGNED_BODY + b" ", b"", b"\xff\xfe", b"\0"])
def test_a_signature_covers_every_byte_of_the_body(body: bytes) -> None:
    assert signatures().check(headers(), body) is SignatureVerdict.WRONG


def test_a_signature_by_another_secret_is_wrong() -> None:
    assert signatures(OTHER_SECRET).check(headers(), SIGNED_BODY) is SignatureVerdict.WRONG


@pytest.mark.parametrize("name", [b"webhook-id", b"webhook-timestamp", b"webhook-signature"])
def test_a_missing_or_empty_header_makes_the_signature_incomplete(name: bytes) -> None:
    emptied = [(header, b"" if header == name else value) for header, value in headers()]

    assert signatures().check(headers(without=name), SIGNED_BODY) is SignatureVerdict.INCOMPLETE
    assert signatures().check(emptied, SIGNED_BODY) is SignatureVerdict.INCOMPLETE


def test_no_headers_at_all_are_refused_only_where_a_signature_is_required() -> None:
    plain = [(b"content-type", b"application/json")]

    assert signatures().check(plain, SIGNED_BODY) is SignatureVerdict.ABSENT
    assert signatures(required=True).check(plain, SIGNED_BODY) is SignatureVerdict.MISSING


def test_without_a_secret_nothing_is_checked() -> None:
    unchecked = Signatures([], required=False).check(headers(signature=b"v1,AAAA"), SIGNED_BODY)

    assert unchecked is SignatureVerdict.UNCHECKED


def test_four_verdicts_refuse() -> None:
    refused = {verdict for verdict in SignatureVerdict if verdict.refused}

    assert refused == {
        SignatureVerdict.MISSING,
        SignatureVerdict.INCOMPLETE,
        SignatureVerdict.STALE,
        SignatureVerdict.WRONG,
    }


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!!", "whsec_ä", "whsec_a"])
def test_a_secret_that_is_none_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match=r"^a signing secret must be whsec_ followed by base64$"):
        Signatures([secret], required=False)
