"""MP4 and MOV. Whole: a movie box with a track of film or sound, each with its tables, whose samples lie in the file;
or fragments (`moof`) after it that do. Players start from these tables, and nothing else says what the bytes of `mdat`
are.

A film of fragments may have been cut between two of them: an index (`sidx`) shows that, nothing else does.
"""

import dataclasses
from collections.abc import Iterator

from archiver.media.boxes import Box, below, boxes, inside
from archiver.media.reader import FileReader, Shape
from archiver.media.samples import Track

_TOP = frozenset(
    b"ftyp moov mdat moof mfra sidx styp free skip wide uuid udta meta pnot prft emsg pdin".split()
)
_MEDIA = frozenset((b"vide", b"soun", b"pict"))
_TRAILING_BYTES_MAX = 64
"""Bytes after the last fragment that are no box."""
_BASE_GIVEN, _DESCRIPTION_GIVEN, _DURATION_GIVEN, _SIZE_GIVEN = 0x1, 0x2, 0x8, 0x10
_RUN_OFFSET, _RUN_FLAGS, _RUN_SIZES = 0x1, 0x4, 0x200
_RUN_FIELDS = (0x100, 0x200, 0x400, 0x800)


def read_shape(reader: FileReader) -> Shape:
    """Track headers end with width and height as 16.16 fixed point; both are 0 for sound."""
    top = _Top.of(reader)
    headers = (below(reader, track, b"tkhd") for track in _tracks(reader, top.movie))
    sizes = (
        ((reader.number(box.end - 8, 4) or 0) >> 16, (reader.number(box.end - 4, 4) or 0) >> 16)
        for box in headers
        if box is not None
    )
    shape = Shape.of_largest(sizes, flaw=None)
    return dataclasses.replace(shape, flaw=next(flaws(reader, top), None))


@dataclasses.dataclass(slots=True)
class _Top:
    """The boxes of the file itself."""

    movie: Box | None = None
    cut: Box | None = None
    data_bytes: int = 0
    fragments: int = 0
    end: int = 0

    @classmethod
    def of(cls, reader: FileReader) -> "_Top":
        top = cls()
        for box in boxes(reader, 0, reader.size):
            if box.end > reader.size:
                # An unknown kind is no box, but other bytes after the last one.
                top.cut = box if box.kind in _TOP else None
                break
            top.end = box.end
            if box.kind == b"moov" and top.movie is None:
                top.movie = box
            elif box.kind == b"mdat":
                top.data_bytes += box.end - box.content_start
            top.fragments += box.kind == b"moof"
        return top


def _tracks(reader: FileReader, movie: Box | None) -> Iterator[Box]:
    if movie is not None:
        yield from (box for box in inside(reader, movie) if box.kind == b"trak")


def flaws(reader: FileReader, top: _Top | None = None) -> Iterator[str]:
    """The first one counts; the later ones may follow from it."""
    top = top or _Top.of(reader)
    if top.cut is not None:
        yield f"the box {top.cut.kind.decode()} is cut"
    if not top.data_bytes:
        yield "no mdat box"
    if top.movie is None:
        yield "no moov box"
    elif not below(reader, top.movie, b"cmov"):  # a compressed movie box, of QuickTime 3
        yield from _movie_flaws(reader, top, top.movie)


def _movie_flaws(reader: FileReader, top: _Top, box: Box) -> Iterator[str]:
    if not below(reader, box, b"mvhd"):
        yield "no mvhd box"
    tracks = samples = 0
    for track in _tracks(reader, box):
        handler = below(reader, track, b"mdia", b"hdlr")
        if handler is None or not below(reader, track, b"tkhd") or not below(reader, track, b"mdia", b"mdhd"):
            yield "a track without its headers"
        elif reader.read(handler.content_start + 8, 4) in _MEDIA:
            found = Track(reader, track)
            tracks += 1
            samples += found.count
            yield from found.flaws()
    if not tracks:
        yield "no track of film or sound"
    if top.fragments:
        yield from _fragments_flaws(reader, top)
    elif not samples:
        yield "no samples"


def _fragments_flaws(reader: FileReader, top: _Top) -> Iterator[str]:
    runs = 0
    for box in boxes(reader, 0, reader.size):
        if box.kind == b"sidx" and _indexed_end(reader, box) > reader.size:
            yield "its index points outside the file"
        if box.kind == b"moof":
            for start, end in _runs(reader, box):
                runs += end > start
                if end > reader.size:
                    yield "samples of a fragment lie outside the file"
                if end - start >= 16 and not any(reader.glance(start, 16)):
                    yield f"zeros in place of a sample at byte {start}"
    if not runs:
        yield "no samples"
    if reader.size - top.end > _TRAILING_BYTES_MAX:
        yield f"no box at byte {top.end}"


def _indexed_end(reader: FileReader, box: Box) -> int:
    """Where the last fragment of a `sidx` ends: its lengths follow each other from the end of the box on."""
    offset_bytes = 4 if reader.number(box.content_start, 1) == 0 else 8
    at = box.content_start + 12 + offset_bytes
    first = reader.number(at, offset_bytes) or 0
    entries = reader.table(
        at + offset_bytes + 4, 3 * (reader.number(at + offset_bytes + 2, 2) or 0), bytes_each=4
    )
    return box.end + first + sum(entry & 0x7FFF_FFFF for index, entry in enumerate(entries) if index % 3 == 0)


def _runs(reader: FileReader, fragment: Box) -> Iterator[tuple[int, int]]:
    """Where the samples of each run start and end, as far as the fragment itself says."""
    for traf in inside(reader, fragment):
        if traf.kind != b"traf":
            continue
        base, size_each = fragment.start, 0
        end = base
        for box in inside(reader, traf):
            if box.kind == b"tfhd":
                given, size_each = _fragment_header(reader, box)
                base = end = fragment.start if given is None else given
            elif box.kind == b"trun":
                start, bytes_ = _run(reader, box, size_each)
                start = end if start is None else base + start
                end = start + bytes_
                yield start, end


def _fragment_header(reader: FileReader, box: Box) -> tuple[int | None, int]:
    """Base of the offsets, if given, and length of a sample; 0 if not given."""
    flags = (reader.number(box.content_start, 4) or 0) & 0xFFFFFF
    at = box.content_start + 8
    base = reader.number(at, 8) if flags & _BASE_GIVEN else None
    at += (
        8 * bool(flags & _BASE_GIVEN)
        + 4 * bool(flags & _DESCRIPTION_GIVEN)
        + 4 * bool(flags & _DURATION_GIVEN)
    )
    return base, (reader.number(at, 4) or 0) if flags & _SIZE_GIVEN else 0


def _run(reader: FileReader, box: Box, size_each: int) -> tuple[int | None, int]:
    """Offset of its first sample, if given, and how many bytes its samples have."""
    flags = (reader.number(box.content_start, 4) or 0) & 0xFFFFFF
    count = reader.number(box.content_start + 4, 4) or 0
    at = box.content_start + 8
    start = None
    if flags & _RUN_OFFSET:
        start = int.from_bytes(reader.read(at, 4), "big", signed=True)
        at += 4
    at += 4 * bool(flags & _RUN_FLAGS)
    if not flags & _RUN_SIZES:
        return start, count * size_each
    fields = [flag for flag in _RUN_FIELDS if flags & flag]
    count = min(count, max(box.end - at, 0) // (4 * len(fields)))
    table = reader.table(at, count * len(fields), bytes_each=4)
    place = fields.index(_RUN_SIZES)
    return start, sum(number for index, number in enumerate(table) if index % len(fields) == place)
