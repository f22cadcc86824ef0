"""WebM: elements of EBML (RFC 8794) as Matroska (RFC 9559) defines them.

Whole: tracks, and clusters that are elements up to their end, with a block that is not empty. A live writer leaves the
lengths of segment and clusters open: then the elements go on to the end of the file.
"""

import dataclasses
from collections.abc import Iterator

from archiver.media.reader import FileReader, Format, Shape

MAGIC = b"\x1a\x45\xdf\xa3"
_DOCTYPE, _SEGMENT = 0x4282, 0x18538067
_TRACKS, _TRACK, _VIDEO, _WIDTH, _HEIGHT = 0x1654AE6B, 0xAE, 0xE0, 0xB0, 0xBA
_CLUSTER, _GROUP, _BLOCK, _SIMPLE_BLOCK = 0x1F43B675, 0xA0, 0xA1, 0xA3
_KNOWN = frozenset((
    0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469, 0xEC, 0xBF,
    0xE7, 0x5854, 0x58D7, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF,
    0xA1, 0xA2, 0x75A1, 0xA6, 0xEE, 0xA5, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2, 0x8E, 0xE8, 0xCC, 0xCD, 0xCB, 0xCE,
    0xCF, 0xC8, 0xC9, 0xCA,
))  # fmt: skip
"""All elements of segments, clusters and block groups."""
_BLOCK_HEADER_BYTES = 4
_PADDING_BYTES_MAX = 64
_EMPTY_BYTES = 16
"""No frame of VP8, VP9, AV1, Opus or Vorbis begins with so many zeros."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Element:
    id: int
    start: int
    """The offset of its content."""
    end: int | None
    """None if a live writer left the length open."""


def _vint(reader: FileReader, offset: int, *, marked: bool) -> tuple[int, int] | None:
    """A variable-length integer and its length in bytes. `marked`: with the length marker, as ids are written."""
    first = reader.number(offset, 1)
    if not first:
        return None
    length = 9 - first.bit_length()
    value = reader.number(offset, length)
    if value is None:
        return None
    return (value if marked else value & (1 << 7 * length) - 1), length


def _element(reader: FileReader, start: int) -> _Element | None:
    id_field = _vint(reader, start, marked=True)
    length_field = _vint(reader, start + id_field[1], marked=False) if id_field else None
    if id_field is None or length_field is None:
        return None
    (element_id, id_bytes), (length, length_bytes) = id_field, length_field
    content = start + id_bytes + length_bytes
    is_open = length == (1 << 7 * length_bytes) - 1
    return _Element(element_id, content, None if is_open else content + length)


def _elements(reader: FileReader, start: int, end: int) -> Iterator[_Element]:
    """The elements between two offsets, up to the first malformed one. What an open one holds follows it."""
    while start < end and (element := _element(reader, start)):
        yield element
        start = element.start if element.end is None else element.end


def is_webm(reader: FileReader) -> bool:
    """False for other EBML documents, Matroska among them, which we do not store."""
    header = next(_elements(reader, 0, reader.size), None)
    if header is None or header.end is None:
        return False
    return any(
        element.id == _DOCTYPE and _text(reader, element) == b"webm"
        for element in _elements(reader, header.start, min(header.end, 4096))
    )


def _text(reader: FileReader, element: _Element) -> bytes:
    """At most 16 bytes, without the padding that RFC 8794 allows."""
    return reader.read(element.start, min((element.end or 0) - element.start, 16)).rstrip(b"\0")


def _webm(reader: FileReader) -> Shape:
    segment = next((element for element in _elements(reader, 0, reader.size) if element.id == _SEGMENT), None)
    if segment is None:
        return Shape("no segment")
    top = _elements(reader, segment.start, min(segment.end or reader.size, reader.size))
    tracks = next((element for element in top if element.id == _TRACKS), None)
    if tracks is None or all(
        track.id != _TRACK for track in _elements(reader, tracks.start, tracks.end or reader.size)
    ):
        return Shape("no tracks")
    shape = Shape.of_largest(_webm_sizes(reader, tracks), flaw=None)
    return dataclasses.replace(shape, flaw=next(_flaws(reader, segment.start, segment.end), None))


def _flaws(reader: FileReader, start: int, segment_end: int | None) -> Iterator[str]:
    """The flaws of a segment. Clusters are entered, so that their elements count as the segment's."""
    end = reader.size if segment_end is None else segment_end
    blocks = 0
    while start < end:
        element = _element(reader, start) if start < reader.size else None
        if element is None:
            padding = reader.read(start, _PADDING_BYTES_MAX + 1)
            if segment_end is not None or len(padding) > _PADDING_BYTES_MAX or any(padding):
                yield f"no element at byte {start}"
            break
        if element.id not in _KNOWN:
            yield f"no element at byte {start}"
        if (element.end or 0) > reader.size:
            yield f"the element at byte {start} is cut"
        if element.id in (_SIMPLE_BLOCK, _BLOCK):
            blocks += 1
            if not _is_block(reader, element.start, (element.end or reader.size) - element.start):
                yield f"no block at byte {start}"
        is_entered = element.end is None or element.id in (_CLUSTER, _GROUP)
        start = element.start if is_entered else element.end or 0
    if not blocks:
        yield "no blocks"


def _is_block(reader: FileReader, start: int, length: int) -> bool:
    """A track, and a frame that is not zeros."""
    head = reader.read(start, min(length, _BLOCK_HEADER_BYTES + _EMPTY_BYTES))
    frame = head[_BLOCK_HEADER_BYTES:]
    return bool(head and head[0] and frame) and (len(frame) < _EMPTY_BYTES or any(frame))


def _webm_sizes(reader: FileReader, tracks: _Element) -> Iterator[tuple[int, int]]:
    """One size for each video track."""
    for track in _elements(reader, tracks.start, tracks.end or reader.size):
        if track.id != _TRACK:
            continue
        for video in _elements(reader, track.start, track.end or reader.size):
            if video.id == _VIDEO:
                numbers = {
                    field.id: reader.number(field.start, min((field.end or 0) - field.start, 8)) or 0
                    for field in _elements(reader, video.start, video.end or reader.size)
                    if field.id in (_WIDTH, _HEIGHT)
                }
                yield numbers.get(_WIDTH, 0), numbers.get(_HEIGHT, 0)


WEBM = Format("webm", "video/webm", _webm)
