"""The part of a file that a client wants: a range, all, or nothing because it has the file (RFC 9110, sections 13 and
14)."""

import dataclasses
import re
from collections.abc import Iterable

_BYTES = re.compile(r"[ \t]*([0-9]*)[ \t]*-[ \t]*([0-9]*)[ \t]*")
_DIGITS_MAX = 18


@dataclasses.dataclass(frozen=True, slots=True)
class ByteRange:
    """`count` bytes from `first`."""

    first: int
    count: int

    def content_range(self, size: int) -> str:
        """The header's value."""
        return f"bytes {self.first}-{self.first + self.count - 1}/{size}"


class NotSatisfiable(Exception):
    """The range begins after the end of the file."""


def wanted_range(headers: Iterable[tuple[bytes, bytes]], *, size: int, etag: str | None) -> ByteRange | None:
    """The one range that is asked for; None for the whole file: without a range, with several, with one that cannot be
    read, or where `If-Range` names another file.

    Raises NotSatisfiable.
    """
    values = _values(headers, b"range")
    conditions = _values(headers, b"if-range")
    if len(values) != 1 or (conditions and conditions != [etag]):
        return None
    unit, _, written = values[0].partition("=")
    found = _BYTES.fullmatch(written)
    if unit.strip().lower() != "bytes" or found is None or max(map(len, found.groups())) > _DIGITS_MAX:
        return None
    first, last = (int(digits) if digits else None for digits in found.groups())
    if first is None:
        return None if last is None else _suffix(last, size=size)
    if last is not None and last < first:
        return None
    if first >= size:
        raise NotSatisfiable
    end = size if last is None else min(last + 1, size)
    return ByteRange(first, end - first)


def _suffix(count: int, *, size: int) -> ByteRange:
    """The last `count` bytes."""
    if count == 0 or size == 0:
        raise NotSatisfiable
    count = min(count, size)
    return ByteRange(size - count, count)


def has_it(headers: Iterable[tuple[bytes, bytes]], *, etag: str | None) -> bool:
    """Whether `If-None-Match` names the file. It is compared weakly: a proxy may have weakened it."""
    if etag is None:
        return False
    named = [tag.strip() for value in _values(headers, b"if-none-match") for tag in value.split(",")]
    return "*" in named or etag in [tag.removeprefix("W/") for tag in named]


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for found, value in headers if found == name]
