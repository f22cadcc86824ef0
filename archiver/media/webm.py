"""WebM: elements of EBML (RFC 8794) as Matroska (RFC 9559) defines them."""

import dataclasses
from collections.abc import Iterator

from archiver.media.reader import FileReader, Format, Shape

MAGIC = b"\x1a\x45\xdf\xa3"
_DOCTYPE, _SEGMENT = 0x4282, 0x18538067
_TRACKS, _TRACK, _VIDEO, _WIDTH, _HEIGHT = 0x1654AE6B, 0xAE, 0xE0, 0xB0, 0xBA


@dataclasses.dataclass(frozen=True, slots=True)
class _Element:
    id: int
    start: int
    """Of its content."""
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


def _elements(reader: FileReader, start: int, end: int) -> Iterator[_Element]:
    """The elements between two offsets, up to the first malformed one or one with an open end."""
    while start < end:
        id_field = _vint(reader, start, marked=True)
        length_field = _vint(reader, start + id_field[1], marked=False) if id_field else None
        if id_field is None or length_field is None:
            return
        (element_id, id_bytes), (length, length_bytes) = id_field, length_field
        content = start + id_bytes + length_bytes
        is_open = length == (1 << 7 * length_bytes) - 1
        yield _Element(element_id, content, None if is_open else content + length)
        if is_open:
            return
        start = content + length


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
        return Shape(False)
    end = reader.size if segment.end is None else segment.end
    sizes = []
    for element in _elements(reader, segment.start, min(end, reader.size)):
        end = max(end, element.end or 0)
        if element.id == _TRACKS:
            sizes = list(_webm_sizes(reader, element))
    return Shape.of_largest(sizes, whole=end <= reader.size)


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
