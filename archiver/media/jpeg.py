"""JPEG: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B.

The segments are walked, not searched: an embedded thumbnail has its own end-of-image marker. Whole: a frame, the
tables that its scans name, all scans of each component with data enough for its blocks, and the end-of-image marker.
What the data mean is not read: the bytes of a scan may be any, zeros too.
"""

import dataclasses
import re
from collections.abc import Iterator

from archiver.media.reader import WINDOW_BYTES, FileReader, Format, Shape

_START, _END, _SCAN, _TABLES_HUFFMAN, _TABLES_QUANTIZATION = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN_SEQUENTIAL, _HUFFMAN_PROGRESSIVE = frozenset({0xC0, 0xC1}), frozenset({0xC2})
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_READS_A_SCAN = 10
"""What checking its header costs."""
_COMPONENTS_MAX = 4
_TABLES_MAX = 8
"""In one segment: two classes of four."""
_ALL_COEFFICIENTS = 2**64 - 1
_MARKER_MIN = 0xC0
_RESERVED = frozenset((0xDE, 0xDF, *range(0xF0, 0xFE)))
"""For other kinds of JPEG; decoders stop there."""
_BARE = frozenset(range(0xD0, 0xDA))
"""Markers without a segment."""
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


@dataclasses.dataclass(frozen=True, slots=True)
class _Component:
    id: int
    across: int
    down: int
    table: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Frame:
    kind: int
    width: int
    height: int
    components: tuple[_Component, ...]

    def blocks(self, component: _Component) -> int:
        """How many blocks of 8×8 a scan of it has at least."""
        across_max = max(other.across for other in self.components)
        down_max = max(other.down for other in self.components)
        columns = _divided_up(_divided_up(self.width * component.across, across_max), 8)
        return columns * _divided_up(_divided_up(self.height * component.down, down_max), 8)


def _divided_up(number: int, divisor: int) -> int:
    return (number + divisor - 1) // divisor


class _Picture:
    """What the segments have shown so far."""

    def __init__(self) -> None:
        self.frame: _Frame | None = None
        self._quantization: set[int] = set()
        self._huffman: set[int] = set()
        self._scanned: dict[int, int] = {}
        """By component: a bit for each coefficient whose last bit was in a scan."""

    def flaws_of(self, marker: int, content: bytes) -> Iterator[str]:
        """The flaws of one segment that is not a scan."""
        if marker == _START:
            yield "a second start of image"
        elif marker < _MARKER_MIN or marker in _RESERVED:
            yield "an unknown marker"
        elif marker == _TABLES_QUANTIZATION:
            self._quantization |= _quantization_tables(content)
        elif marker == _TABLES_HUFFMAN:
            self._huffman |= _huffman_tables(content)
        elif marker in _FRAMES and self.frame is None:
            self.frame = _frame(marker, content)
            if self.frame is None:
                yield "the frame declares no picture"

    def flaws_of_scan(self, content: bytes, data_bytes: int) -> Iterator[str]:
        frame = self.frame
        if frame is None:
            yield "a scan without a frame"
            return
        count = content[0] if content else 0
        if not 1 <= count <= 4 or len(content) < 4 + 2 * count:
            yield "the scan names no components"
            return
        named = dict(zip(content[1 : 2 * count : 2], content[2 : 2 * count + 1 : 2], strict=True))
        first, last, approximation = content[1 + 2 * count :][:3]
        components = [component for component in frame.components if component.id in named]
        if len(components) != count:
            yield "the scan names components that the frame lacks"
            return
        needed: set[int] = set()
        for tables in named.values():
            needed |= _needed_tables(frame, tables, first, last, approximation)
        # Frames of Motion JPEG have no Huffman tables at all: decoders know the usual ones.
        if not needed <= self._huffman and (self._huffman or frame.kind in _HUFFMAN_PROGRESSIVE):
            yield "a Huffman table is missing"
        if frame.kind not in _LOSSLESS and not {one.table for one in components} <= self._quantization:
            yield "a quantization table is missing"
        bits = sum(frame.blocks(one) for one in components if one.id not in self._scanned)
        if data_bytes * 8 < bits * _bits_each_block(frame) or not data_bytes:
            yield "a scan is too short for its picture"
        is_final = not approximation & 15
        for component in named:
            coefficients = (2 << min(last, 63)) - (1 << min(first, 63)) if is_final else 0
            self._scanned[component] = self._scanned.get(component, 0) | coefficients

    def flaws_at_end(self) -> Iterator[str]:
        if not self._scanned:
            yield "no scan"
        if self.frame is None:
            return
        for component in self.frame.components:
            if component.id not in self._scanned:
                yield "a component without a scan"
            elif self.frame.kind in _HUFFMAN_PROGRESSIVE and self._scanned[component.id] != _ALL_COEFFICIENTS:
                yield "scans are missing"


def _frame(marker: int, content: bytes) -> _Frame | None:
    """A height of 0 is given after the first scan."""
    if len(content) < 6 or content[5] > _COMPONENTS_MAX or len(content) < 6 + 3 * content[5]:
        return None
    components = tuple(
        _Component(content[at], content[at + 1] >> 4, content[at + 1] & 15, content[at + 2])
        for at in range(6, 6 + 3 * content[5], 3)
    )
    width = int.from_bytes(content[3:5], "big")
    if (
        not width
        or not components
        or any(not 1 <= n <= 4 for one in components for n in (one.across, one.down))
    ):
        return None
    return _Frame(marker, width, int.from_bytes(content[1:3], "big"), components)


def _quantization_tables(content: bytes) -> set[int]:
    """The numbers of tables that have no step of 0."""
    tables: set[int] = set()
    at = 0
    for _ in range(_TABLES_MAX):
        kind = content[at : at + 1]
        values = content[at + 1 : at + (129 if kind > b"\x0f" else 65)]
        steps = [values[i : i + 2] != b"\0\0" for i in range(0, 128, 2)] if len(values) == 128 else values
        if len(values) in (64, 128) and all(steps):
            tables.add(kind[0] & 15)
        at += 1 + len(values)
    return tables


def _huffman_tables(content: bytes) -> set[int]:
    """Class (0: DC, 1: AC) and number, as the segment writes them."""
    tables: set[int] = set()
    at = 0
    for _ in range(_TABLES_MAX):
        codes = sum(content[at + 1 : at + 17])
        if codes and at + 17 + codes <= len(content):
            tables.add(content[at])
        at += 17 + codes
    return tables


def _needed_tables(frame: _Frame, tables: int, first: int, last: int, approximation: int) -> set[int]:
    direct, alternating = tables >> 4, 0x10 | tables & 15
    if frame.kind in _HUFFMAN_SEQUENTIAL:
        return {direct, alternating}
    if frame.kind not in _HUFFMAN_PROGRESSIVE:
        return set()
    needed = {direct} if first == 0 and approximation >> 4 == 0 else set()
    return needed | ({alternating} if last > 0 else set())


def _bits_each_block(frame: _Frame) -> int:
    """At least: a Huffman code has one bit or more. 0 where the codes are arithmetic."""
    if frame.kind in _HUFFMAN_SEQUENTIAL:
        return 2
    return 1 if frame.kind in _HUFFMAN_PROGRESSIVE else 0


def _read_shape(reader: FileReader) -> Shape:
    picture = _Picture()
    flaw = next(_flaws(reader, picture), None)
    frame = picture.frame
    return Shape(flaw, frame.width, frame.height or None) if frame else Shape(flaw)


def _flaws(reader: FileReader, picture: _Picture) -> Iterator[str]:
    offset, marker = _next_marker(reader, 2)
    while marker not in (None, _END):
        length = 0 if marker in _BARE else max(reader.number(offset, 2) or 0, 2)
        content = reader.read(offset + 2, max(length - 2, 0))
        offset += length
        start = offset
        if marker == _SCAN:
            offset, following = _next_marker(reader, offset)
            reader.spend(_READS_A_SCAN)
            yield from picture.flaws_of_scan(content, max(offset - 2 - start, 0))
        else:
            yield from picture.flaws_of(marker or 0, content)
            offset, following = _next_marker(reader, offset)
        marker = following
    if marker is None:
        yield "no end of image"
    yield from picture.flaws_at_end()


def _next_marker(reader: FileReader, offset: int) -> tuple[int, int | None]:
    """Where the next segment starts at or after `offset`, and its marker. Skips entropy-coded data."""
    count = 16  # between segments the marker is at `offset`; inside a scan it may be megabytes away
    while chunk := reader.read(offset, count):
        found = _MARKER.search(chunk)
        if found is not None:
            return offset + found.end(), found[1][0]
        # A marker may straddle two chunks: read the last byte again.
        offset += max(len(chunk) - 1, 1)
        count = WINDOW_BYTES // 2
    return offset, None


JPEG = Format("jpg", "image/jpeg", _read_shape)
