"""What a file is, by its own bytes. Two rules:

1. Only structure is read, never a pixel: no decoder of ours can be exploited, and a decompression bomb is a
   short file with large numbers in its header. Those numbers are what is judged.
2. No input crashes or holds it up: all reading goes through `Bytes`, which past the end answers with fewer
   bytes, and after `READS_MAX` reads behaves as if the end had come. Every step of every walk reads.

`Media.whole` is False when the file ends before its own structure does: the way to see a cut transfer where
HTTP cannot (no Content-Length, or a proxy that stored half). Bytes after the end are harmless and common.
A structure too long to walk gets the benefit of the doubt: a doubt that is wrong delays a good file by an hour.
"""

import dataclasses
import re
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from archiver.failures import NotMedia, TooLarge

PIXELS_MAX = 100_000_000
READS_MAX = 500_000
"""Below a second of work. The most a genuine 64 MiB file needs is a GIF's 263,000, one for each 255 bytes."""

WINDOW_BYTES = 64 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Media:
    """A file of a known type. Width and height are pixels as declared, None where there are none to read."""

    content_type: str
    extension: str
    width: int | None
    height: int | None
    whole: bool


class Bytes:
    """Random access to a seekable file of `size` bytes through one small window; never raises at the end."""

    def __init__(self, file: BinaryIO, *, reads_max: int) -> None:
        self._file = file
        self.size = file.seek(0, 2)
        self.reads_left = reads_max
        self._start = 0
        self._window = b""

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset`; fewer, or none, beyond the end. `count` ≤ `WINDOW_BYTES`."""
        self.reads_left -= 1
        if not 0 <= offset < self.size or self.reads_left < 0:
            return b""
        if not self._start <= offset <= offset + count <= self._start + len(self._window):
            self._file.seek(offset)
            self._start, self._window = offset, self._file.read(WINDOW_BYTES)
        return self._window[offset - self._start : offset - self._start + count]

    def number(self, offset: int, count: int, *, little: bool = False) -> int | None:
        """An unsigned integer, or None where the file ends first."""
        data = self.read(offset, count)
        return int.from_bytes(data, "little" if little else "big") if len(data) == count else None


@dataclasses.dataclass(frozen=True, slots=True)
class _Shape:
    """What the reader of one format found."""

    whole: bool
    width: int | None = None
    height: int | None = None


def identify(file: BinaryIO, *, reads_max: int = READS_MAX) -> Media:
    """The file must be seekable; where it is positioned afterwards is undefined.

    Raises NotMedia for everything that is not one of the known types (HTML, SVG and JSON among them), and
    TooLarge beyond 100 megapixels.
    """
    data = Bytes(file, reads_max=reads_max)
    head = data.read(0, 64)
    kind = _kind(head, data)
    if kind is None:
        raise NotMedia("the bytes are no image, video or audio file of a known type")
    extension, content_type, reader = kind
    shape = reader(data)
    if (shape.width or 0) * (shape.height or 0) > PIXELS_MAX:
        raise TooLarge(f"{shape.width}×{shape.height} pixels declared, more than 100 megapixels")
    return Media(
        content_type=content_type,
        extension=extension,
        width=shape.width or None,
        height=shape.height or None,
        whole=shape.whole or data.reads_left < 0,
    )


_Reader = Callable[[Bytes], _Shape]
_Kind = tuple[str, str, _Reader]


def _kind(head: bytes, data: Bytes) -> _Kind | None:
    """Extension, content type and reader. Magic bytes at offset 0 only: what starts as anything else is that."""
    for pattern, kind in _MAGIC:
        if pattern.match(head):
            return kind
    if head[4:8] == b"ftyp" and head.startswith(b"\0\0"):  # `<!--ftyp` is the beginning of a page
        return _ftyp_kind(data)
    if head.startswith(b"\x1a\x45\xdf\xa3") and _ebml_is_webm(data):
        return ("webm", "video/webm", _webm)
    if _ID3.match(head) or _mp3_frame_bytes(head[:4]):
        return _mp3_kind(data)
    return None


# --- PNG, JPEG, GIF -------------------------------------------------------------------------------------


def _png(data: Bytes) -> _Shape:
    """https://www.w3.org/TR/png-3/#5DataRep"""
    has_header = data.read(12, 4) == b"IHDR"
    width = data.number(16, 4) if has_header else None
    height = data.number(20, 4) if has_header else None
    offset = 8
    while len(header := data.read(offset, 8)) == 8:
        offset += 12 + int.from_bytes(header[:4], "big")
        if header[4:] == b"IEND":
            return _Shape(offset <= data.size, width, height)
    return _Shape(False, width, height)


_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


def _jpeg(data: Bytes) -> _Shape:
    """https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B.

    The segments are walked and not searched: an embedded thumbnail has an end-of-image marker of its own.
    """
    width = height = None
    offset, marker = _jpeg_marker(data, 2)
    while marker not in (None, 0xD9):
        if marker in _JPEG_SIZES and width is None:
            height, width = data.number(offset + 3, 2), data.number(offset + 5, 2)
        if marker not in _JPEG_BARE:
            offset += max(data.number(offset, 2) or 0, 2)
        offset, marker = _jpeg_marker(data, offset)
    return _Shape(marker == 0xD9, width, height)


def _jpeg_marker(data: Bytes, offset: int) -> tuple[int, int | None]:
    """The next marker at or after `offset` and where its segment starts; entropy-coded data is skipped."""
    count = 16  # between segments the marker is right here; inside a scan it may be megabytes away
    while chunk := data.read(offset, count):
        found = _JPEG_MARKER.search(chunk)
        if found is not None:
            return offset + found.end(), found[1][0]
        # A marker may straddle the border, but only the last 0xFF of it has to be read again.
        offset += max(len(chunk) - 1, 1)
        count = WINDOW_BYTES // 2
    return offset, None


def _gif(data: Bytes) -> _Shape:
    """https://www.w3.org/Graphics/GIF/spec-gif89a.txt

    Viewers make room for a frame that is larger than the screen, so the largest counts.
    """
    width, height = data.number(6, 2, little=True) or 0, data.number(8, 2, little=True) or 0
    offset = 13 + _gif_palette(data, 10)
    while block := data.read(offset, 1):
        if block == b"\x3b":
            return _Shape(True, width, height)
        if block == b"\x21":
            offset = _gif_after_parts(data, offset + 2)
        elif block == b"\x2c":
            left, top, frame_width, frame_height = _gif_frame(data, offset + 1)
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            offset = _gif_after_parts(data, offset + 10 + _gif_palette(data, offset + 9) + 1)
        else:
            offset += 1  # padding, which every viewer forgives
    return _Shape(False, width, height)


def _gif_frame(data: Bytes, offset: int) -> tuple[int, int, int, int]:
    """Left, top, width and height; zeros where the file ends first."""
    head = data.read(offset, 8)
    return struct.unpack("<HHHH", head) if len(head) == 8 else (0, 0, 0, 0)


def _gif_palette(data: Bytes, flags_offset: int) -> int:
    """How long the colour table is that these flags announce, in bytes."""
    flags = data.number(flags_offset, 1) or 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_after_parts(data: Bytes, offset: int) -> int:
    """Behind a chain of parts of at most 255 bytes."""
    while length := data.number(offset, 1):
        offset += 1 + length
    return offset + 1


# --- RIFF: WebP, WAV ------------------------------------------------------------------------------------


def _riff_is_whole(data: Bytes) -> bool:
    """As long as it says. Encoders that write into a pipe say 0xFFFFFFFF: unknown."""
    length = data.number(4, 4, little=True)
    return length is not None and (length == 0xFFFF_FFFF or 8 + length <= data.size)


def _wav(data: Bytes) -> _Shape:
    return _Shape(_riff_is_whole(data))


def _webp(data: Bytes) -> _Shape:
    """https://developers.google.com/speed/webp/docs/riff_container"""
    whole = _riff_is_whole(data)
    head = data.read(12, 18)
    if len(head) < 18:
        return _Shape(False)
    if head[:4] == b"VP8X":
        width, height = int.from_bytes(head[12:15], "little"), int.from_bytes(head[15:18], "little")
        return _Shape(whole, width + 1, height + 1)
    if head[:4] == b"VP8L":
        bits = int.from_bytes(head[9:13], "little")
        return _Shape(whole, (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if head[:4] == b"VP8 " and head[11:14] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", head[14:18])
        return _Shape(whole, width & 0x3FFF, height & 0x3FFF)
    return _Shape(whole)


# --- BMP, TIFF ------------------------------------------------------------------------------------------


def _bmp(data: Bytes) -> _Shape:
    """Some writers leave the file size 0, so the pixels are counted too where they are not compressed."""
    head = data.read(0, 34)
    if len(head) < 34:
        return _Shape(False)
    declared, _, pixels_offset, _, width, height, _, depth, compression = struct.unpack(
        "<IIIIiiHHI", head[2:34]
    )
    row_bytes = (abs(width) * depth + 31) // 32 * 4
    needed = pixels_offset + row_bytes * abs(height) if compression == 0 else 0
    return _Shape(max(declared, needed) <= data.size, abs(width), abs(height))


_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1, 13: 4, 16: 8}
_TIFF_PARTS = ((273, 279), (324, 325))
"""Tags of the offsets and lengths of strips, and of tiles."""
_TIFF_IMAGES_MAX = 100
"""Directories are a chain, which may bite its tail."""
_TIFF_TAGS = frozenset({256, 257, 273, 279, 324, 325})


def _tiff(data: Bytes) -> _Shape:
    """https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf; of several images the largest counts, so that
    none is too large."""
    little = data.read(0, 1) == b"I"
    directory = data.number(4, 4, little=little)
    if not directory:
        return _Shape(False)
    whole = True
    sizes: list[tuple[int, int]] = []
    while directory and len(sizes) < _TIFF_IMAGES_MAX:
        image, directory = _tiff_image(data, directory, little=little)
        whole = whole and image.whole
        sizes.append((image.width or 0, image.height or 0))
    return _largest(sizes, whole=whole)


def _tiff_image(data: Bytes, directory: int, *, little: bool) -> tuple[_Shape, int | None]:
    """The image of one directory, and where the next directory is, if there is one."""
    entries = data.number(directory, 2, little=little)
    if entries is None or directory + 2 + 12 * entries > data.size:
        return _Shape(False), None
    tags = dict(_tiff_entry(data, directory + 2 + 12 * number, little=little) for number in range(entries))
    ends = [
        offset + length
        for offsets, lengths in _TIFF_PARTS
        for offset, length in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
    ]
    width, height = (next(iter(tags.get(tag, ())), None) for tag in (256, 257))
    shape = _Shape(max(ends, default=0) <= data.size, width, height)
    return shape, data.number(directory + 2 + 12 * entries, 4, little=little)


def _tiff_entry(data: Bytes, offset: int, *, little: bool) -> tuple[int, tuple[int, ...]]:
    """A tag of the directory and its values; none where they are not integers or not in the file."""
    tag, kind = data.number(offset, 2, little=little) or 0, data.number(offset + 2, 2, little=little) or 0
    count, size = data.number(offset + 4, 4, little=little) or 0, _TIFF_SIZES.get(kind, 0)
    if not size or tag not in _TIFF_TAGS:
        return tag, ()
    place = offset + 8 if size * count <= 4 else data.number(offset + 8, 4, little=little) or 0
    values: list[int] = []
    while len(values) < count:
        value = data.number(place + size * len(values), size, little=little)
        if value is None:
            break
        values.append(value)
    return tag, tuple(values)


# --- ISO media: MP4, MOV, AVIF, HEIC --------------------------------------------------------------------

_AVIF = frozenset({b"avif", b"avis"})
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_FOREIGN = frozenset({b"crx ", b"jp2 ", b"jpx ", b"jxl "})
"""Brands of still pictures that are none of our types."""


def _ftyp_kind(data: Bytes) -> _Kind | None:
    """By the major brand; the neutral `mif1` and `msf1` are decided by the compatible ones."""
    length = min(max(data.number(0, 4) or 0, 16), 1024)
    brands = data.read(8, length - 8)
    major = brands[:4]
    compatible = {brands[at : at + 4] for at in range(8, len(brands), 4)}
    if major in _AVIF or (major in {b"mif1", b"msf1", b"miaf"} and compatible & _AVIF):
        return ("avif", "image/avif", _still)
    if major in _HEIC or major in {b"mif1", b"msf1", b"miaf"}:
        return ("heic", "image/heic", _still)
    if major == b"qt  ":
        return ("mov", "video/quicktime", _movie)
    return None if major in _FOREIGN else ("mp4", "video/mp4", _movie)


@dataclasses.dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    start: int
    """Of its content."""
    end: int


def _boxes(data: Bytes, start: int, end: int) -> Iterator[_Box]:
    """The boxes between two offsets, until one makes no sense. The last may end beyond `end`."""
    while start + 8 <= end and len(header := data.read(start, 16)) >= 8:
        length, skip = int.from_bytes(header[:4], "big"), 8
        if length == 1 and len(header) == 16:
            length, skip = int.from_bytes(header[8:], "big"), 16
        elif length == 0:
            length = max(end - start, 8)
        if length < skip or not header[4:8].isascii():
            return
        yield _Box(header[4:8], start + skip, start + length)
        start += length


def _boxes_are_whole(data: Bytes) -> bool:
    """The boxes cover the file: none ends beyond it, what is left over is no piece of a header, and there is
    more than `ftyp`. What boxes there must be is left to players."""
    end = 0
    content = False
    for box in _boxes(data, 0, data.size):
        end = box.end
        content = content or box.kind != b"ftyp"
    return content and (end == data.size or data.size - end >= 8)


def _inside(data: Bytes, path: tuple[bytes, ...], *, skip: int = 0) -> Iterator[_Box]:
    """All boxes at the end of a path of kinds; `skip` bytes of version and flags open the first of them."""
    yield from _below(data, _Box(b"", 0, data.size), path, skip=skip)


def _below(data: Bytes, parent: _Box, path: tuple[bytes, ...], *, skip: int) -> Iterator[_Box]:
    for box in _boxes(data, parent.start, min(parent.end, data.size)):
        if box.kind != path[0]:
            continue
        if len(path) == 1:
            yield box
        else:
            yield from _below(data, _Box(box.kind, box.start + skip, box.end), path[1:], skip=0)


def _largest(sizes: list[tuple[int, int]], *, whole: bool) -> _Shape:
    """Thumbnails, tiles and alpha planes declare sizes too; the picture is the largest."""
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    return _Shape(whole, width or None, height or None)


def _still(data: Bytes) -> _Shape:
    """HEIF, ISO/IEC 23008-12: sizes are the `ispe` properties."""
    sizes = [
        (data.number(box.start + 4, 4) or 0, data.number(box.start + 8, 4) or 0)
        for box in _inside(data, (b"meta", b"iprp", b"ipco", b"ispe"), skip=4)
    ]
    return _largest(sizes, whole=_boxes_are_whole(data))


def _movie(data: Bytes) -> _Shape:
    """Track headers end in width and height as 16.16 fixed point; sound tracks have zeros there."""
    sizes = [
        ((data.number(box.end - 8, 4) or 0) >> 16, (data.number(box.end - 4, 4) or 0) >> 16)
        for box in _inside(data, (b"moov", b"trak", b"tkhd"))
    ]
    return _largest(sizes, whole=_boxes_are_whole(data))


# --- WebM -----------------------------------------------------------------------------------------------

_EBML, _DOCTYPE, _SEGMENT = 0x1A45DFA3, 0x4282, 0x18538067
_TRACKS, _TRACK, _VIDEO, _WIDTH, _HEIGHT = 0x1654AE6B, 0xAE, 0xE0, 0xB0, 0xBA


@dataclasses.dataclass(frozen=True, slots=True)
class _Element:
    id: int
    start: int
    end: int | None
    """None where a live writer left the length open."""


def _vint(data: Bytes, offset: int, *, marked: bool) -> tuple[int, int] | None:
    """A variable-length integer (RFC 8794) and its length in bytes; ids keep the length marker."""
    first = data.number(offset, 1)
    if not first:
        return None
    length = 9 - first.bit_length()
    value = data.number(offset, length)
    if value is None:
        return None
    return (value if marked else value & (1 << 7 * length) - 1), length


def _elements(data: Bytes, start: int, end: int) -> Iterator[_Element]:
    """The elements between two offsets, until one makes no sense or has an open end."""
    while start < end:
        name = _vint(data, start, marked=True)
        length = _vint(data, start + name[1], marked=False) if name else None
        if name is None or length is None:
            return
        content = start + name[1] + length[1]
        is_open = length[0] == (1 << 7 * length[1]) - 1
        yield _Element(name[0], content, None if is_open else content + length[0])
        if is_open:
            return
        start = content + length[0]


def _ebml_is_webm(data: Bytes) -> bool:
    """Matroska, its wider parent, is none of our types."""
    header = next(_elements(data, 0, data.size), None)
    if header is None or header.end is None:
        return False
    return any(
        element.id == _DOCTYPE and _text(data, element) == b"webm"
        for element in _elements(data, header.start, min(header.end, 4096))
    )


def _text(data: Bytes, element: _Element) -> bytes:
    """At most 16 bytes of it, without the padding that RFC 8794 allows."""
    return data.read(element.start, min((element.end or 0) - element.start, 16)).rstrip(b"\0")


def _webm(data: Bytes) -> _Shape:
    """https://www.rfc-editor.org/rfc/rfc9559"""
    segment = next((element for element in _elements(data, 0, data.size) if element.id == _SEGMENT), None)
    if segment is None:
        return _Shape(False)
    end = data.size if segment.end is None else segment.end
    sizes = []
    for element in _elements(data, segment.start, min(end, data.size)):
        end = max(end, element.end or 0)
        if element.id == _TRACKS:
            sizes = list(_webm_sizes(data, element))
    return _largest(sizes, whole=end <= data.size)


def _webm_sizes(data: Bytes, tracks: _Element) -> Iterator[tuple[int, int]]:
    for track in _elements(data, tracks.start, tracks.end or data.size):
        if track.id != _TRACK:
            continue
        for video in _elements(data, track.start, track.end or data.size):
            if video.id == _VIDEO:
                numbers = {
                    part.id: data.number(part.start, min((part.end or 0) - part.start, 8)) or 0
                    for part in _elements(data, video.start, video.end or data.size)
                    if part.id in (_WIDTH, _HEIGHT)
                }
                yield numbers.get(_WIDTH, 0), numbers.get(_HEIGHT, 0)


# --- MP3 ------------------------------------------------------------------------------------------------

_ID3 = re.compile(rb"ID3[\x02-\x04].{2}[\0-\x7f]{4}", re.DOTALL)
_MP3_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_MP3_KILOBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_KILOBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def _mp3_frame_bytes(header: bytes) -> int:
    """The length of the layer III frame with this header of four bytes; 0 where it is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return 0
    kilobits = (_MP3_KILOBITS_1 if version == 3 else _MP3_KILOBITS_2)[bitrate]
    samples_bytes = 144_000 if version == 3 else 72_000
    return samples_bytes * kilobits // _MP3_RATES[version][rate] + (header[2] >> 1 & 1)


def _mp3_start(data: Bytes) -> int:
    """Where the sound starts: behind the ID3 tag, whose length has seven bits a byte, and its padding."""
    if not _ID3.match(data.read(0, 10)):
        return 0
    length = 0
    for byte in data.read(6, 4):
        length = length << 7 | byte & 0x7F
    start = 10 + length + (10 if (data.number(5, 1) or 0) & 0x10 else 0)
    padding = data.read(start, 4096)
    return start + len(padding) - len(padding.lstrip(b"\0"))


def _mp3_kind(data: Bytes) -> _Kind | None:
    """Eleven bits of sync are little evidence: a second frame must follow the first, unless the file ends.

    An ID3 tag is evidence enough; other sounds carry one too, though, so a frame has to follow it.
    """
    start = _mp3_start(data)
    first = _mp3_frame_bytes(data.read(start, 4))
    if start + 4 > data.size and start > 0:
        return ("mp3", "audio/mpeg", _mp3)  # cut inside the tag
    if not first:
        return None
    if start + first + 4 <= data.size and not _mp3_frame_bytes(data.read(start + first, 4)):
        return None
    return ("mp3", "audio/mpeg", _mp3)


def _mp3(data: Bytes) -> _Shape:
    """Not whole when the last frame is cut. Where the frames stop making sense (tags, joins) all is well."""
    offset = _mp3_start(data)
    if offset + 4 > data.size:
        return _Shape(False)
    while length := _mp3_frame_bytes(data.read(offset, 4)):
        offset += length
    return _Shape(offset <= data.size)


# --- the table ------------------------------------------------------------------------------------------

_MAGIC: tuple[tuple[re.Pattern[bytes], _Kind], ...] = tuple(
    (re.compile(pattern, re.DOTALL), kind)
    for pattern, kind in (
        (rb"\x89PNG\r\n\x1a\n", ("png", "image/png", _png)),
        (rb"\xff\xd8\xff", ("jpg", "image/jpeg", _jpeg)),
        (rb"RIFF....WEBP", ("webp", "image/webp", _webp)),
        (rb"RIFF....WAVE", ("wav", "audio/wav", _wav)),
        (rb"GIF8[79]a", ("gif", "image/gif", _gif)),
        # "BM" alone is two letters of text: the header's length and its one colour plane must fit too.
        (rb"BM.{12}[\x28\x34\x38\x40\x6c\x7c]\0\0\0.{8}\x01\0", ("bmp", "image/bmp", _bmp)),
        (rb"II\x2a\0|MM\0\x2a", ("tiff", "image/tiff", _tiff)),
        # QuickTime before `ftyp` existed; a length below 512 MiB cannot be text.
        (rb"[\0-\x1f]...(moov|mdat|wide|pnot)", ("mov", "video/quicktime", _movie)),
    )
)
