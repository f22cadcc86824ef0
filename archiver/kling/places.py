"""Changes a JSON text at given places, and leaves every other byte as it is. No I/O.

The gateway never parses an answer and writes it anew: numbers, escapes, white space and repeated keys stay as Kling
wrote them. The text is read once, from left to right, without recursion. Besides the answer, memory holds one byte for
each open bracket. An answer of 500 rows with 2,000 URLs (0.6 MB) takes 30 ms.

JSON is what `responses` accepts as JSON. That includes NaN and Infinity, raw line ends in strings, and UTF-8 with or
without a byte order mark. Invalid UTF-8 is repaired.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence

from archiver.kling.responses import mended
from archiver.model import Place

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WHITE = rb"[ \t\n\r]*+"
_STRING = rb'"[^"\\]*+(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\]*+)*+"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++)?+"
_SCALAR = rb"(?:%b|%b|true|false|null|NaN|-?Infinity)" % (_STRING, _NUMBER)

# Every repetition is possessive, so a failing match is linear too.
_WHITE_TO_END = re.compile(_WHITE + rb"\Z")
_VALUE = re.compile(_WHITE + rb"(?:(%b)|([\[{])%b([\]}])?+)" % (_SCALAR, _WHITE))
_NAME = re.compile(_WHITE + rb"(%b)%b:" % (_STRING, _WHITE))
_AFTER_VALUE = re.compile(_WHITE + rb"([,\]}])")
_SCALAR_MEMBER = re.compile(rb"%b(%b)%b:%b(%b)%b," % (_WHITE, _STRING, _WHITE, _WHITE, _SCALAR, _WHITE))
_SCALAR_ITEMS = re.compile(rb"(?:%b%b%b,)*+" % (_WHITE, _SCALAR, _WHITE))
_SCALAR_MEMBERS = re.compile(rb"(?:%b%b%b:%b%b%b,)*+" % (_WHITE, _STRING, _WHITE, _WHITE, _SCALAR, _WHITE))
_COUNT = re.compile(rb"0|[1-9][0-9]{0,17}")
_OTHERWISE_QUOTED = re.compile(rb"[^ -\[\]-~]")
_ANY_STRING = re.compile(_STRING)
_PAIRS = (b"{}", b"[]")
_OBJECT = b"{"[0]


class NotJson(ValueError):
    """The text is not JSON."""


@dataclasses.dataclass(slots=True)
class _Node:
    """The changes that are wanted at a place and below it."""

    replacement: bytes | None = None
    items: bytes = b""
    """Items to append to the array at this place."""
    added: int = 0
    """The number to add to the integer at this place."""
    below: dict[bytes | int, "_Node"] = dataclasses.field(default_factory=dict)
    """Nodes below this one, by name (as `_quoted` writes it) or by index."""

    def at(self, place: Place) -> "_Node":
        """The node of a place below this one, made where it is not there."""
        node = self
        for step in place:
            node = node.below.setdefault(_quoted(step) if isinstance(step, str) else step, _Node())
        return node

    def member(self, name: bytes) -> "_Node | None":
        """The node of a member, if changes are wanted there; `name` is as the text writes it."""
        node = self.below.get(name)
        if node is None and _OTHERWISE_QUOTED.search(name) is not None:
            return self.below.get(_quoted(_read(name)))
        return node


@dataclasses.dataclass(slots=True)
class _Level:
    """An open object or array that contains wanted places."""

    node: _Node
    index: int = -1
    """The index of the current item of an array."""


def replace_strings(text: bytes, replacements: Mapping[Place, str]) -> bytes:
    """`text` with the strings at these places replaced.

    A place is the path from the top: names of objects, indexes of arrays. Names are compared as `responses` reads them,
    broken characters mended. Where an object has a name twice, every string at that place is replaced, since readers
    differ in which one they take. A place that is not there, or holds no string, is passed by.

    Raises NotJson, also where nothing is to be replaced.
    """
    root = _Node()
    for place, replacement in replacements.items():
        root.at(place).replacement = _quoted(replacement)
    return _Reading(text, root).replaced()


def append_items(text: bytes, place: Place, items: Sequence[bytes], *, count: Place | None = None) -> bytes:
    """`text` with these JSON texts appended to the array at this place, and the integer at `count` larger by as many;
    where no array is there, unchanged. Raises NotJson."""
    root = _Node()
    root.at(place).items = b",".join(items)
    if count is not None:
        root.at(count).added = len(items)
    reading = _Reading(text, root)
    replaced = reading.replaced()
    return replaced if reading.has_appended else text


def replace_in_strings(text: bytes, replace: Callable[[str], str]) -> bytes:
    """A JSON `text` with `replace` done to every string in it, names included; only those that change are written
    anew."""

    def replaced(found: re.Match[bytes]) -> bytes:
        value = _read(found[0])
        changed = replace(value)
        return found[0] if changed == value else _quoted(changed)

    return _ANY_STRING.sub(replaced, text)


class _Reading:
    """One pass over a text, which copies it."""

    def __init__(self, text: bytes, root: _Node) -> None:
        self._text = text
        self._root = root
        self._at = len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0
        self._open = bytearray()
        """The brackets of all open objects and arrays."""
        self._levels: list[_Level] = []
        """The outermost of these: those that lead to a wanted place."""
        self._copied = 0
        self._pieces: list[bytes] = []
        self.has_appended = False

    def replaced(self) -> bytes:
        """Raises NotJson."""
        node: _Node | None = self._root
        while True:
            self._value(node)
            if not self._open:
                break
            node = self._next()
        if _WHITE_TO_END.match(self._text, self._at) is None:
            raise self._no_json()
        return b"".join((*self._pieces, self._text[self._copied :]))

    def _value(self, node: _Node | None) -> None:
        """Read a scalar to behind its comma, or a bracket that opens."""
        value = self._match(_VALUE)
        opening, closing = value[2], value[3]
        if opening is not None and closing is None:
            self._open += opening
            if node is not None and (node.below or node.items):
                self._levels.append(_Level(node))
            return
        if opening is None:
            self._replace(node, *value.span(1))
        elif opening + closing not in _PAIRS:
            raise self._no_json()
        elif node is not None and opening == b"[":
            self._append(node.items, value.start(3))
        self._close()

    def _close(self) -> None:
        """Read from the end of a value, past the brackets that close there, to behind the comma."""
        while self._open:
            after = self._match(_AFTER_VALUE)[1]
            if after == b",":
                break
            if len(self._levels) == len(self._open):
                node = self._levels.pop().node
                self._append(b"," + node.items if node.items and after == b"]" else b"", self._at - 1)
            if bytes((self._open.pop(),)) + after not in _PAIRS:
                raise self._no_json()

    def _next(self) -> _Node | None:
        """Read up to the next value; its node, if changes are wanted there."""
        is_object = self._open[-1] == _OBJECT
        if len(self._levels) == len(self._open):
            level = self._levels[-1]
            if is_object:
                return self._next_member(level.node)
            level.index += 1
            return level.node.below.get(level.index)
        self._match(_SCALAR_MEMBERS if is_object else _SCALAR_ITEMS)
        if is_object:
            self._match(_NAME)
        return None

    def _next_member(self, node: _Node) -> _Node | None:
        while (scalar := _SCALAR_MEMBER.match(self._text, self._at)) is not None:
            self._replace(node.member(scalar[1]), *scalar.span(2))
            self._at = scalar.end()
        return node.member(self._match(_NAME)[1])

    def _replace(self, node: _Node | None, start: int, end: int) -> None:
        if node is None:
            return
        if node.replacement is not None and self._text.startswith(b'"', start):
            self._put(node.replacement, start, end)
        elif node.added and _COUNT.fullmatch(self._text, start, end):
            self._put(b"%d" % (int(self._text[start:end]) + node.added), start, end)

    def _put(self, written: bytes, start: int, end: int) -> None:
        self._pieces += (self._text[self._copied : start], written)
        self._copied = end

    def _append(self, items: bytes, at: int) -> None:
        if items:
            self._put(items, at, at)
            self.has_appended = True

    def _match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._no_json()
        self._at = found.end()
        return found

    def _no_json(self) -> NotJson:
        return NotJson(f"No JSON: it breaks at byte {self._at}.")


def _read(string: bytes) -> str:
    """The value of a JSON string, as `responses` reads it."""
    if string.isascii() and b"\\" not in string:
        return string[1:-1].decode("ascii")
    value: str = json.loads(string.decode("utf-8", "replace"), strict=False)
    return mended(value)


def _quoted(value: str) -> bytes:
    return json.dumps(value).encode("ascii")
