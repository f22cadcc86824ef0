"""Strings replaced by their place: every other byte stays, for any JSON text."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.kling.places import NotJson, append_items, replace_in_strings, replace_strings
from archiver.model import Place

LINK = 'https://kling.example.com/files/é"\\\n'


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@dataclasses.dataclass
class Written:
    """A JSON text in pieces: bytes that stay, and strings with their places."""

    pieces: list[tuple[bytes, Place | None]]

    def text(self, links: dict[Place, str]) -> bytes:
        return b"".join(
            raw if place not in links else json.dumps(links[place]).encode() for raw, place in self.pieces
        )

    @property
    def places(self) -> list[Place]:
        return [place for _, place in self.pieces if place is not None]


_NAMES = st.sampled_from(["url", "data", "", "ä", '"', "\0", "0", "a\\b"]) | st.text(max_size=3)
_WHITE = st.text(" \t\r\n", max_size=2).map(str.encode)
_LITERALS = st.sampled_from(
    [b"null", b"true", b"false", b"NaN", b"Infinity", b"-Infinity", b"-0", b"1E+9", b"0.50", b"9" * 5000]
)


@st.composite
def _string(draw: st.DrawFn, value: st.SearchStrategy[str]) -> tuple[bytes, str]:
    """A string as JSON may write it, and its value."""
    text = draw(value)
    if draw(st.booleans()):
        return json.dumps(text).encode(), text
    escaped = "".join(
        f"\\u{ord(char):04X}" if char < "\U00010000" and draw(st.booleans()) else _plain(char)
        for char in text
    )
    return f'"{escaped}"'.encode(), text


def _plain(char: str) -> str:
    return json.dumps(char, ensure_ascii=False)[1:-1]


@st.composite
def _written(draw: st.DrawFn, place: Place = ()) -> Written:
    kinds = ["string", "literal"] if len(place) > 4 else ["string", "literal", "array", "object"]
    kind = draw(st.sampled_from(kinds))
    before, after = draw(_WHITE), draw(_WHITE)
    if kind == "string":
        raw, _ = draw(_string(st.text(max_size=5)))
        return Written([(before, None), (raw, place), (after, None)])
    if kind == "literal":
        return Written([(before + draw(_LITERALS) + after, None)])
    pieces: list[tuple[bytes, Place | None]] = []
    for index in range(draw(st.integers(0, 4))):
        pieces += [(b"," * bool(pieces), None)]
        step: str | int = index
        if kind == "object":
            raw, step = draw(_string(_NAMES))
            pieces += [(draw(_WHITE) + raw + draw(_WHITE) + b":", None)]
        pieces += draw(_written((*place, step))).pieces
    brackets = (b"[", b"]") if kind == "array" else (b"{", b"}")
    inside = pieces or [(draw(_WHITE), None)]
    return Written([(before + brackets[0], None), *inside, (brackets[1] + after, None)])


@settings(max_examples=40)
@given(_written(), st.data(), st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_only_the_replaced_strings_differ(written: Written, data: st.DataObject, mark: bytes) -> None:
    chosen = data.draw(st.sets(st.sampled_from(written.places))) if written.places else set()
    links = {place: f"{LINK}{number}" for number, place in enumerate(chosen)}

    assert replace_strings(mark + written.text({}), links) == mark + written.text(links)


@settings(max_examples=40)
@given(_VALUES, st.data())
def test_what_python_writes_is_read_back_with_the_strings_replaced(value: Any, data: st.DataObject) -> None:
    places = _places_of_strings(value)
    chosen = data.draw(st.sets(st.sampled_from(places))) if places else set()
    replaced = replace_strings(json.dumps(value).encode(), dict.fromkeys(chosen, LINK))

    assert json.dumps(json.loads(replaced)) == json.dumps(_with_links(value, chosen))


def _places_of_strings(value: Any, place: Place = ()) -> list[Place]:
    if isinstance(value, str):
        return [place]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for step, item in inner for found in _places_of_strings(item, (*place, step))]


def _with_links(value: Any, chosen: set[Place], place: Place = ()) -> Any:
    if isinstance(value, dict):
        return {name: _with_links(item, chosen, (*place, name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_links(item, chosen, (*place, index)) for index, item in enumerate(value)]
    return LINK if place in chosen else value


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        (b'{"a":"x","a":"x"}', ("a",), b'{"a":"L","a":"L"}'),
        (b'{"a":{"b":"x"},"a":{"b":"y"}}', ("a", "b"), b'{"a":{"b":"L"},"a":{"b":"L"}}'),
        (b'{"a":"x","a":1,"a":{"a":"x"}}', ("a",), b'{"a":"L","a":1,"a":{"a":"x"}}'),
        (b'{"\\u0061":"x"}', ("a",), b'{"\\u0061":"L"}'),
        (b'{"\xff":"x","\\ud800":"\xfe"}', ("\ufffd",), b'{"\xff":"L","\\ud800":"L"}'),
        (b'["x","y"]', (1,), b'["x","L"]'),
        (b'{"1":"x"}', (1,), b'{"1":"x"}'),
        (b'["x"]', ("0",), b'["x"]'),
        (b'["x"]', (0, "url"), b'["x"]'),
        (b' "x"\n', (), b' "L"\n'),
        (b'{"a\n":"x\t","b":"\0"}', ("a\n",), b'{"a\n":"L","b":"\0"}'),
        (b'{"a\x7f":"x"}', ("a\x7f",), b'{"a\x7f":"L"}'),
        (b"12", (), b"12"),
        (b'{"a":{},"b":[ ],"c":"x"}', ("c",), b'{"a":{},"b":[ ],"c":"L"}'),
    ],
)
def test_a_place_names_every_string_that_a_reader_may_find_there(
    text: bytes, place: Place, expected: bytes
) -> None:
    assert replace_strings(text, {place: "L"}) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"", b" ", b"{", b"[", b'"', b'"a', b"{]", b"[}", b"[1}", b'{"a":1]', b'{"a":1,}', b"[1,]", b"[,1]", b"{,}",
        b'{"a"}', b'{"a":}', b"{1:1}", b"1 1", b"01", b"1.", b"-", b"+1", b".5", b"1e", b"tru", b"nan", b"--Infinity",
        b'"\\x"', b'"\\u12g4"', b'"\\u12"', b"'a'", b"\xff", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf1",
        b"\xa01", b"\x0c1", b"[]]", b"{}}", "1".encode("utf-16"), b"[" * 100_000, b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(NotJson):
        replace_strings(text, {("a",): "L"})


def test_nesting_of_100_000_levels_is_read_beside_the_place_and_on_the_way_to_it() -> None:
    depth = 100_000
    beside = b"[" * depth + b"]" * depth
    on_the_way = b'{"a":' * depth + b'"x"' + b"}" * depth
    text = b'{"beside":%b,"b":"x","on":%b}' % (beside, on_the_way)
    links: dict[Place, str] = {("b",): "L", ("on", *["a"] * depth): "L"}

    assert replace_strings(text, links) == text.replace(b'"x"', b'"L"')


def test_text_is_replaced_inside_strings_however_they_write_it() -> None:
    text = (
        b'{"a":"\n","message":"to https:\\/\\/ours.example\\/x!", "n": 1.50, "url" : "https://other.example"}'
    )
    replaced = replace_in_strings(
        text, lambda value: value.replace("https://ours.example/x", "https://client")
    )

    assert (
        replaced == b'{"a":"\n","message":"to https://client!", "n": 1.50, "url" : "https://other.example"}'
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"data": [ ] , "x": [1]}', b'{"data": [ 7,8] , "x": [1]}'),
        (b'{"data": [{"data":[]} ] }', b'{"data": [{"data":[]} ,7,8] }'),
        (b'{"data": [1, 2.50],"data":[]}', b'{"data": [1, 2.50,7,8],"data":[7,8]}'),
        (b'{"data": {"a":[1]}}', b'{"data": {"a":[1]}}'),
        (b'{"data": {}}', b'{"data": {}}'),
        (b'{"data": null}', b'{"data": null}'),
    ],
)
def test_items_are_appended_to_the_array_at_a_place(text: bytes, expected: bytes) -> None:
    assert append_items(text, ("data",), [b"7", b"8"]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"data":{"count":1,"result":[1]}}', b'{"data":{"count":3,"result":[1,7,8]}}'),
        (b'{"data":{"result":[ ] , "count": 0 }}', b'{"data":{"result":[ 7,8] , "count": 2 }}'),
        (b'{"data":{"result":[],"count":"1"}}', b'{"data":{"result":[7,8],"count":"1"}}'),
        (
            b'{"data":{"result":[],"count":1.0,"count":-1}}',
            b'{"data":{"result":[7,8],"count":1.0,"count":-1}}',
        ),
        (b'{"data":{"result":null,"count":0}}', b'{"data":{"result":null,"count":0}}'),
    ],
)
def test_a_count_grows_with_the_items_that_are_appended(text: bytes, expected: bytes) -> None:
    assert append_items(text, ("data", "result"), [b"7", b"8"], count=("data", "count")) == expected
