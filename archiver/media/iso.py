"""MP4, MOV, AVIF and HEIC, which share the ISO base media format: a file of nested boxes."""

import dataclasses
from collections.abc import Iterator

from archiver.media.reader import FileReader, Format, Shape

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_NEUTRAL_BRANDS = frozenset({b"mif1", b"msf1", b"miaf"})
"""Still pictures of any codec: the compatible brands decide."""
_OTHER_STILL_BRANDS = frozenset({b"crx ", b"jp2 ", b"jpx ", b"jxl "})
"""Still pictures in formats that we do not store."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    content_start: int
    end: int


def _boxes(reader: FileReader, start: int, end: int) -> Iterator[_Box]:
    """The boxes between two offsets, up to the first malformed one. The last may end beyond `end`."""
    while start + 8 <= end and len(header := reader.read(start, 16)) >= 8:
        length, skip = int.from_bytes(header[:4], "big"), 8
        if length == 1 and len(header) == 16:
            length, skip = int.from_bytes(header[8:], "big"), 16
        elif length == 0:
            length = max(end - start, 8)
        if length < skip or not header[4:8].isascii():
            return
        yield _Box(header[4:8], start + skip, start + length)
        start += length


def _boxes_are_whole(reader: FileReader) -> bool:
    """No box ends beyond the file, no cut header is left over, and `ftyp` is not alone. Players need more."""
    end = 0
    content = False
    for box in _boxes(reader, 0, reader.size):
        end = box.end
        content = content or box.kind != b"ftyp"
    return content and (end == reader.size or reader.size - end >= 8)


def _boxes_at(reader: FileReader, path: tuple[bytes, ...], *, skip: int = 0) -> Iterator[_Box]:
    """The boxes at the end of a path of kinds. The first kind's content begins with `skip` bytes: version and flags."""
    yield from _boxes_below(reader, _Box(b"", 0, reader.size), path, skip=skip)


def _boxes_below(reader: FileReader, parent: _Box, path: tuple[bytes, ...], *, skip: int) -> Iterator[_Box]:
    for box in _boxes(reader, parent.content_start, min(parent.end, reader.size)):
        if box.kind != path[0]:
            continue
        if len(path) == 1:
            yield box
        else:
            content = _Box(box.kind, box.content_start + skip, box.end)
            yield from _boxes_below(reader, content, path[1:], skip=0)


def _still(reader: FileReader) -> Shape:
    """HEIF, ISO/IEC 23008-12: the `ispe` properties hold the sizes."""
    sizes = [
        (reader.number(box.content_start + 4, 4) or 0, reader.number(box.content_start + 8, 4) or 0)
        for box in _boxes_at(reader, (b"meta", b"iprp", b"ipco", b"ispe"), skip=4)
    ]
    return Shape.of_largest(sizes, whole=_boxes_are_whole(reader))


def _movie(reader: FileReader) -> Shape:
    """Track headers end with width and height as 16.16 fixed point; both are 0 for sound."""
    sizes = [
        ((reader.number(box.end - 8, 4) or 0) >> 16, (reader.number(box.end - 4, 4) or 0) >> 16)
        for box in _boxes_at(reader, (b"moov", b"trak", b"tkhd"))
    ]
    return Shape.of_largest(sizes, whole=_boxes_are_whole(reader))


AVIF = Format("avif", "image/avif", _still)
HEIC = Format("heic", "image/heic", _still)
MOV = Format("mov", "video/quicktime", _movie)
MP4 = Format("mp4", "video/mp4", _movie)


def format_by_brand(reader: FileReader) -> Format | None:
    """The format of a file that begins with a box `ftyp`."""
    length = min(max(reader.number(0, 4) or 0, 16), 1024)
    brands = reader.read(8, length - 8)
    major = brands[:4]
    compatible = {brands[at : at + 4] for at in range(8, len(brands), 4)}
    if major in _AVIF_BRANDS or (major in _NEUTRAL_BRANDS and compatible & _AVIF_BRANDS):
        return AVIF
    if major in _HEIC_BRANDS or major in _NEUTRAL_BRANDS:
        return HEIC
    if major == b"qt  ":
        return MOV
    return None if major in _OTHER_STILL_BRANDS else MP4
