"""What the body of a create says of callbacks, and how it is changed: by place, every other byte as it came."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.create.paths import LEGACY_PLACE, NEW_STANDARD_PLACE
from receiver.gateway.creates.body import CreateBody, Edit, Editor, bytes_added, read
from receiver.gateway.creates.skimming import LONG_STRING_BYTES, SKIMMED_BYTES_MAX, Skimmer, Unreadable

OURS = "https://kling.example.com/callbacks/t/images/generations"
LONG = b"A" * (LONG_STRING_BYTES + 1)


def skimmed(body: bytes, *, step: int = 1 << 20) -> CreateBody:
    skimmer = Skimmer()
    for at in range(0, len(body), step):
        skimmer.feed(body[at : at + step])
    return read(skimmer.finish())


def members(count: int) -> bytes:
    return b"{%b}" % b",".join(b'"%d":1' % number for number in range(count))


def edited(body: bytes, edits: list[Edit], *, step: int = 1 << 20) -> bytes:
    editor = Editor(edits)
    changed = b"".join(editor.feed(body[at : at + step]) for at in range(0, len(body), step))
    assert len(changed) == len(body) + bytes_added(edits)
    return changed


@pytest.mark.parametrize(
    ("body", "with_url", "without"),
    [
        (b"{}", b'{"callback_url":"U"}', b"{}"),
        (b" {\n} ", b' {"callback_url":"U"\n} ', b" {\n} "),
        (b'{"a":1}', b'{"callback_url":"U","a":1}', b'{"a":1}'),
        (b'{"callback_url" : "x"}', b'{"callback_url" : "U"}', b"{}"),
        (b'{"a":1, "callback_url":"x" }', b'{"a":1, "callback_url":"U" }', b'{"a":1 }'),
        (b'{"callback_url":"x", "a":1 }', b'{"callback_url":"U", "a":1 }', b'{"a":1 }'),
        (
            b'{"callback_url":"x","a":1,"callb\\u0061ck_url":"y"}',
            b'{"callback_url":"U","a":1,"callb\\u0061ck_url":"U"}',
            b'{"a":1}',
        ),
        (b'{"callback_url":"x","callback_url":"y"}', b'{"callback_url":"U","callback_url":"U"}', b"{}"),
        (
            b'{"a":{"callback_url":"x"},"callback_url":"y"}',
            b'{"a":{"callback_url":"x"},"callback_url":"U"}',
            b'{"a":{"callback_url":"x"}}',
        ),
        (
            b'{"callback_url":"y","options":{"k":1,"callback_url":"x"}}',
            b'{"callback_url":"U","options":{"k":1,"callback_url":"U"}}',
            b'{"options":{"k":1}}',
        ),
        (
            '{"é":"ü","callback_url":"x"}'.encode(),
            '{"é":"ü","callback_url":"U"}'.encode(),
            '{"é":"ü"}'.encode(),
        ),
        (
            b'{"image":"' + LONG + b'","callback_url":"x","tail":"' + LONG + b'\\n"}',
            b'{"image":"' + LONG + b'","callback_url":"U","tail":"' + LONG + b'\\n"}',
            b'{"image":"' + LONG + b'","tail":"' + LONG + b'\\n"}',
        ),
        (
            b'{"image":"' + LONG + b'\\/\\u00e9"}',
            b'{"callback_url":"U","image":"' + LONG + b'\\/\\u00e9"}',
            b'{"image":"' + LONG + b'\\/\\u00e9"}',
        ),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_callback_url_is_replaced_inserted_or_taken_out_and_nothing_else_changes(
    body: bytes, with_url: bytes, without: bytes, step: int
) -> None:
    read_body = skimmed(body, step=step)

    assert edited(body, read_body.with_url("U", place=LEGACY_PLACE), step=step) == with_url
    assert edited(body, read_body.without_url(), step=step) == without


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"options":{"callback_url":"U"}}'),
        (b'{"options":{}}', b'{"options":{"callback_url":"U"}}'),
        (b'{"options":{ "k":1}}', b'{"options":{"callback_url":"U", "k":1}}'),
        (b'{"options":null}', b'{"options":null}'),
        (
            b'{"options":{},"options":{"a":2}}',
            b'{"options":{"callback_url":"U"},"options":{"callback_url":"U","a":2}}',
        ),
        (b'{"callback_url":"x"}', b'{"options":{"callback_url":"U"},"callback_url":"U"}'),
    ],
)
def test_in_the_new_standard_the_url_is_inserted_into_options(body: bytes, expected: bytes) -> None:
    assert edited(body, skimmed(body).with_url("U", place=NEW_STANDARD_PLACE)) == expected


def test_every_callback_url_is_seen_whatever_its_type() -> None:
    body = b'{"callback_url":"a","callback_url":7,"options":{"callback_url":null},"options":3}'

    assert skimmed(body).callback_urls == {LEGACY_PLACE: ["a", 7], NEW_STANDARD_PLACE: [None]}


def test_a_callback_url_too_long_to_be_one_is_no_string() -> None:
    (value,) = skimmed(b'{"callback_url":"' + LONG + b'"}').callback_urls[LEGACY_PLACE]

    assert not isinstance(value, str)


@pytest.mark.parametrize(
    ("body", "external_id"),
    [
        (b'{"external_task_id":"e-1"}', "e-1"),
        (b'{"options":{"external_task_id":"e-2"}}', "e-2"),
        (b'{"external_task_id":7,"options":[]}', None),
        (b'{"external_task_id":""}', None),
    ],
)
def test_an_external_id_is_read_from_either_dialect(body: bytes, external_id: str | None) -> None:
    assert skimmed(body).external_task_id == external_id


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"text"',
        b"7",
        b"{",
        b'{"a":}',
        b'{"a":1}}',
        b'{"a":1}{}',
        b'{"a":NaN}',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"a":"' + LONG + b'\xc3"}',
        b'{"a":"\\q"}',
        b'{"a":"' + LONG + b'\\q      "}',
        b'{"a":"\x01"}',
        b'{"' + LONG + b'":1}',
        b'{"a":"cut',
        b'{"a":' + b"9" * 5000 + b"}",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":[' + b"1," * SKIMMED_BYTES_MAX + b"1]}",
        members(1001),
        b'{"a":1,"options":' + members(1000) + b"}",
        b'{"callback_url":"", "options":{%b}}' % b",".join([b'"callback_url":"https://a.b/"'] * 16),
        b"{%b}" % b",".join([b'"options":{"callback_url":""}'] * 17),
        b"\x1f\x8b\x08\x00",
        b"--boundary\r\nContent-Disposition: form-data\r\n",
    ],
    ids=itertools.count(),
)
def test_what_is_not_one_json_object_in_utf_8_is_unreadable_and_nothing_worse(body: bytes) -> None:
    for step in (3, 1 << 20):
        with pytest.raises(Unreadable):
            skimmed(body, step=step)


_NAMES = st.sampled_from(["callback_url", "options", "prompt", "é", '"\\', ""])
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("A" * (LONG_STRING_BYTES + 5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=8,
)


@given(
    document=st.dictionaries(_NAMES, _VALUES, max_size=5),
    is_ascii=st.booleans(),
    indent=st.sampled_from([None, 1]),
    step=st.integers(1, 5000),
)
def test_any_object_says_the_same_after_an_edit_but_for_its_callback_urls(
    document: dict[str, Any], is_ascii: bool, indent: int | None, step: int
) -> None:
    body = json.dumps(document, ensure_ascii=is_ascii, indent=indent).encode("utf-8", "surrogatepass")
    read_body = skimmed(body, step=step)
    with_url = json.loads(edited(body, read_body.with_url(OURS, place=LEGACY_PLACE), step=step))
    without = json.loads(edited(body, read_body.without_url(), step=step))

    expected: dict[str, Any] = {**document, "callback_url": OURS}
    options = document.get("options")
    if isinstance(options, dict) and "callback_url" in options:
        expected["options"] = {**options, "callback_url": OURS}
    assert with_url == expected
    bare = {name: value for name, value in document.items() if name != "callback_url"}
    if isinstance(options, dict):
        bare["options"] = {name: value for name, value in options.items() if name != "callback_url"}
    assert without == bare
