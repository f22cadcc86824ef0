"""Boxes of the ISO base media format (ISO/IEC 14496-12), of which MP4, MOV, AVIF and HEIC consist."""

import dataclasses
import re
from collections.abc import Iterator

from archiver.media.reader import FileReader

_KIND = re.compile(rb"[ -~\xa9][ -~]{3}")


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    kind: bytes
    start: int
    content_start: int
    end: int


def boxes(reader: FileReader, start: int, end: int) -> Iterator[Box]:
    """The boxes between two offsets, up to the first malformed one. The last may end beyond `end`."""
    while start + 8 <= end and len(header := reader.read(start, 16)) >= 8:
        length, skip = int.from_bytes(header[:4], "big"), 8
        if length == 1 and len(header) == 16:
            length, skip = int.from_bytes(header[8:], "big"), 16
        elif length == 0:
            length = max(end - start, 8)
        if length < skip or not _KIND.match(header, 4):
            return
        yield Box(header[4:8], start, start + skip, start + length)
        start += length


def inside(reader: FileReader, parent: Box, *, skip: int = 0) -> Iterator[Box]:
    """The boxes of a box whose content begins with `skip` other bytes (4: version and flags)."""
    return boxes(reader, parent.content_start + skip, min(parent.end, reader.size))


def below(reader: FileReader, parent: Box, *path: bytes) -> Box | None:
    """The first box at the end of a path of kinds."""
    found: Box | None = parent
    for kind in path:
        if found is None:
            break
        found = next((box for box in inside(reader, found) if box.kind == kind), None)
    return found
