"""Finds the callback URLs in the body of a create, and changes them in place; every other byte stays. No I/O.

A body is never parsed and written anew. `read` finds the members called `callback_url`, at the top and in `options`;
each change is a list of `Edit`s. If a name occurs twice, every occurrence counts, because readers differ in which one
they take.
"""

import collections
import dataclasses
import json
import re
from collections.abc import Iterator, Sequence

from archiver.create.paths import CALLBACK_FIELD, LEGACY_PLACE, NEW_STANDARD_PLACE, OPTIONS
from receiver.gateway.creates.skimming import Skimmed, Unreadable

MEMBERS_MAX = 1000
"""At the top and in `options` together. The longest documented create has about twenty."""
CALLBACK_URLS_MAX = 16

_WHITE = re.compile(r"[ \t\n\r]+")
_EXTERNAL_ID = "external_task_id"


@dataclasses.dataclass(frozen=True, slots=True)
class Edit:
    """Replaces the bytes from `start` to `end` by `text`."""

    start: int
    end: int
    text: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class _Member:
    """One name and value of an object; offsets in the skimmed text."""

    name: str
    start: int
    """The offset of the name."""
    value_start: int
    end: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Object:
    opened: int
    """Behind its opening bracket."""
    members: Sequence[_Member]

    def called(self, name: str) -> list[_Member]:
        return [member for member in self.members if member.name == name]


@dataclasses.dataclass(frozen=True, slots=True)
class CreateBody:
    """One JSON object."""

    skimmed: Skimmed
    document: dict[str, object]
    """Without its long strings."""
    top: _Object
    options: Sequence[_Object]
    """Hardly ever more than one."""

    @property
    def callback_urls(self) -> dict[tuple[str, ...], list[object]]:
        """Place → every value that stands there."""
        of_place = {
            LEGACY_PLACE: [self.top],
            NEW_STANDARD_PLACE: self.options,
        }
        return {
            place: [self._value(member) for inner in objects for member in inner.called(CALLBACK_FIELD)]
            for place, objects in of_place.items()
        }

    @property
    def external_task_id(self) -> str | None:
        """At the top, else in `options`."""
        options = self.document.get(OPTIONS)
        for source in (self.document, options if isinstance(options, dict) else {}):
            value = source.get(_EXTERNAL_ID)
            if isinstance(value, str) and value:
                return value
        return None

    def with_url(self, url: str, *, place: tuple[str, ...]) -> list[Edit]:
        """Every callback URL becomes `url`; where there is none at `place`, it is inserted."""
        value = json.dumps(url).encode()
        edits = [
            self._edit(member.value_start, member.end, value)
            for inner in (self.top, *self.options)
            for member in inner.called(CALLBACK_FIELD)
        ]
        if not self.callback_urls[place]:
            edits += self._insertion(value, place=place)
        return sorted(edits, key=lambda edit: edit.start)

    def without_url(self) -> list[Edit]:
        """Every member called `callback_url` is taken out, with its comma."""
        edits = [edit for inner in (self.top, *self.options) for edit in self._removals(inner)]
        return sorted(edits, key=lambda edit: edit.start)

    def _insertion(self, value: bytes, *, place: tuple[str, ...]) -> list[Edit]:
        """None where `options` is there and is no object."""
        name = json.dumps(CALLBACK_FIELD).encode()
        member = b"%b:%b" % (name, value)
        if place == LEGACY_PLACE:
            return [self._inserted(self.top, member)]
        if self.options:
            return [self._inserted(inner, member) for inner in self.options]
        if self.top.called(OPTIONS):
            return []
        return [self._inserted(self.top, b"%b:{%b}" % (json.dumps(OPTIONS).encode(), member))]

    def _inserted(self, inner: _Object, member: bytes) -> Edit:
        return self._edit(inner.opened, inner.opened, member + (b"," if inner.members else b""))

    def _removals(self, inner: _Object) -> Iterator[Edit]:
        """One edit for each run of such members: up to the next name, or at the end from the last value that stays."""
        members = inner.members
        number = 0
        while number < len(members):
            run = number
            while number < len(members) and members[number].name == CALLBACK_FIELD:
                number += 1
            if number == run:
                number += 1
            elif number < len(members):
                yield self._edit(members[run].start, members[number].start, b"")
            else:
                start = members[run - 1].end if run else members[0].start
                yield self._edit(start, members[-1].end, b"")

    def _edit(self, start: int, end: int, text: bytes) -> Edit:
        return Edit(self.skimmed.offset(start), self.skimmed.offset(end), text)

    def _value(self, member: _Member) -> object:
        return json.loads(self.skimmed.text[member.value_start : member.end])


def read(skimmed: Skimmed) -> CreateBody:
    """Raises Unreadable for what is not one JSON object, or has too many members."""
    try:
        document = json.loads(skimmed.text.decode(), parse_constant=_refuse_constant)
        if not isinstance(document, dict):
            raise Unreadable("not an object")
        # Every byte is one character here; bytes beyond ASCII stand in strings only, so the structure is the same.
        text = skimmed.text.decode("latin-1")
        objects = [top := _object(text, _skip_white(text, 0), members_max=MEMBERS_MAX)]
        left = MEMBERS_MAX - len(top.members)
        for member in top.called(OPTIONS):
            if text[member.value_start] == "{":
                objects.append(_object(text, member.value_start, members_max=left))
                left -= len(objects[-1].members)
        if sum(len(inner.called(CALLBACK_FIELD)) for inner in objects) > CALLBACK_URLS_MAX:
            raise Unreadable("too many callback URLs")
    except (ValueError, RecursionError) as error:
        raise Unreadable("not JSON") from error
    return CreateBody(skimmed, document, top, objects[1:])


class Editor:
    """Applies `edits`, which are in order and do not overlap, to a body that arrives in chunks."""

    def __init__(self, edits: Sequence[Edit]) -> None:
        self._edits = collections.deque(edits)
        self._at = 0
        self._copied = 0
        """Up to here the body has been copied or replaced."""

    def feed(self, chunk: bytes) -> bytes:
        """The next bytes, edited."""
        start, end = self._at, self._at + len(chunk)
        self._at = end
        pieces: list[bytes] = []
        while self._edits and self._edits[0].start < end:
            edit = self._edits.popleft()
            pieces += (chunk[self._copied - start : edit.start - start], edit.text)
            self._copied = edit.end
        if self._copied < end:
            pieces.append(chunk[self._copied - start :])
            self._copied = end
        return b"".join(pieces)


def bytes_added(edits: Sequence[Edit]) -> int:
    """By how much a body grows."""
    return sum(len(edit.text) - (edit.end - edit.start) for edit in edits)


def _object(text: str, at: int, *, members_max: int) -> _Object:
    """The object whose bracket is at `at`; `text` is JSON. Raises Unreadable."""
    opened = at + 1
    members: list[_Member] = []
    at = _skip_white(text, opened)
    while text[at] != "}":
        if len(members) >= members_max:
            raise Unreadable("too many members")
        start = at
        name, at = _DECODER.raw_decode(text, start)
        value_start = _skip_white(text, _skip_white(text, at) + 1)
        _, end = _DECODER.raw_decode(text, value_start)
        members.append(_Member(name, start, value_start, end))
        at = _skip_white(text, end)
        if text[at] == ",":
            at = _skip_white(text, at + 1)
    return _Object(opened, members)


def _skip_white(text: str, at: int) -> int:
    found = _WHITE.match(text, at)
    return at if found is None else found.end()


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder()
