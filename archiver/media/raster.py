"""PNG, JPEG, GIF, BMP and TIFF."""

import re
import struct

from archiver.media.reader import WINDOW_BYTES, FileReader, Format, Shape

_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1, 13: 4, 16: 8}
_TIFF_SEGMENTS = ((273, 279), (324, 325))
"""Tags of offsets and lengths: of strips, of tiles."""
_TIFF_IMAGES_MAX = 100
"""The directories form a linked list, which may be a circle."""
_TIFF_TAGS = frozenset({256, 257, 273, 279, 324, 325})


def _png(reader: FileReader) -> Shape:
    """https://www.w3.org/TR/png-3/#5DataRep"""
    has_header = reader.read(12, 4) == b"IHDR"
    width = reader.number(16, 4) if has_header else None
    height = reader.number(20, 4) if has_header else None
    offset = 8
    while len(header := reader.read(offset, 8)) == 8:
        offset += 12 + int.from_bytes(header[:4], "big")
        if header[4:] == b"IEND":
            return Shape(offset <= reader.size, width, height)
    return Shape(False, width, height)


def _jpeg(reader: FileReader) -> Shape:
    """https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B.

    The segments are walked, not searched: an embedded thumbnail has its own end-of-image marker.
    """
    width = height = None
    offset, marker = _jpeg_marker(reader, 2)
    while marker not in (None, 0xD9):
        if marker in _JPEG_SIZES and width is None:
            height, width = reader.number(offset + 3, 2), reader.number(offset + 5, 2)
        if marker not in _JPEG_BARE:
            offset += max(reader.number(offset, 2) or 0, 2)
        offset, marker = _jpeg_marker(reader, offset)
    return Shape(marker == 0xD9, width, height)


def _jpeg_marker(reader: FileReader, offset: int) -> tuple[int, int | None]:
    """Where the next segment starts at or after `offset`, and its marker. Skips entropy-coded data."""
    count = 16  # between segments the marker is at `offset`; inside a scan it may be megabytes away
    while chunk := reader.read(offset, count):
        found = _JPEG_MARKER.search(chunk)
        if found is not None:
            return offset + found.end(), found[1][0]
        # A marker may straddle two chunks: read the last byte again.
        offset += max(len(chunk) - 1, 1)
        count = WINDOW_BYTES // 2
    return offset, None


def _gif(reader: FileReader) -> Shape:
    """https://www.w3.org/Graphics/GIF/spec-gif89a.txt

    Viewers make room for a frame larger than the screen, so the largest counts.
    """
    width, height = reader.number(6, 2, little=True) or 0, reader.number(8, 2, little=True) or 0
    offset = 13 + _gif_palette_bytes(reader, 10)
    while block := reader.read(offset, 1):
        if block == b"\x3b":
            return Shape(True, width, height)
        if block == b"\x21":
            offset = _gif_sub_blocks_end(reader, offset + 2)
        elif block == b"\x2c":
            left, top, frame_width, frame_height = _gif_frame(reader, offset + 1)
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            offset = _gif_sub_blocks_end(reader, offset + 10 + _gif_palette_bytes(reader, offset + 9) + 1)
        else:
            offset += 1  # padding, which every viewer ignores
    return Shape(False, width, height)


def _gif_frame(reader: FileReader, offset: int) -> tuple[int, int, int, int]:
    """Left, top, width and height; zeros where the file ends first."""
    head = reader.read(offset, 8)
    return struct.unpack("<HHHH", head) if len(head) == 8 else (0, 0, 0, 0)


def _gif_palette_bytes(reader: FileReader, flags_offset: int) -> int:
    flags = reader.number(flags_offset, 1) or 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_sub_blocks_end(reader: FileReader, offset: int) -> int:
    while length := reader.number(offset, 1):
        offset += 1 + length
    return offset + 1


def _bmp(reader: FileReader) -> Shape:
    """Some writers leave the file size 0, so uncompressed pixels are counted too."""
    head = reader.read(0, 34)
    if len(head) < 34:
        return Shape(False)
    declared, _, pixels_offset, _, width, height, _, depth, compression = struct.unpack(
        "<IIIIiiHHI", head[2:34]
    )
    row_bytes = (abs(width) * depth + 31) // 32 * 4
    needed = pixels_offset + row_bytes * abs(height) if compression == 0 else 0
    return Shape(max(declared, needed) <= reader.size, abs(width), abs(height))


def _tiff(reader: FileReader) -> Shape:
    """https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf"""
    little = reader.read(0, 1) == b"I"
    directory = reader.number(4, 4, little=little)
    if not directory:
        return Shape(False)
    whole = True
    sizes: list[tuple[int, int]] = []
    while directory and len(sizes) < _TIFF_IMAGES_MAX:
        image, directory = _tiff_image(reader, directory, little=little)
        whole = whole and image.whole
        sizes.append((image.width or 0, image.height or 0))
    return Shape.of_largest(sizes, whole=whole)


def _tiff_image(reader: FileReader, directory: int, *, little: bool) -> tuple[Shape, int | None]:
    """The image of one directory, and the offset of the next directory, if any."""
    entries = reader.number(directory, 2, little=little)
    if entries is None or directory + 2 + 12 * entries > reader.size:
        return Shape(False), None
    tags = dict(_tiff_entry(reader, directory + 2 + 12 * number, little=little) for number in range(entries))
    ends = [
        offset + length
        for offsets, lengths in _TIFF_SEGMENTS
        for offset, length in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
    ]
    width, height = (next(iter(tags.get(tag, ())), None) for tag in (256, 257))
    shape = Shape(max(ends, default=0) <= reader.size, width, height)
    return shape, reader.number(directory + 2 + 12 * entries, 4, little=little)


def _tiff_entry(reader: FileReader, offset: int, *, little: bool) -> tuple[int, tuple[int, ...]]:
    """A tag and its values; no values if they are not integers or not in the file."""
    tag, kind = reader.number(offset, 2, little=little) or 0, reader.number(offset + 2, 2, little=little) or 0
    count, size = reader.number(offset + 4, 4, little=little) or 0, _TIFF_SIZES.get(kind, 0)
    if not size or tag not in _TIFF_TAGS:
        return tag, ()
    values_offset = offset + 8 if size * count <= 4 else reader.number(offset + 8, 4, little=little) or 0
    values: list[int] = []
    while len(values) < count:
        value = reader.number(values_offset + size * len(values), size, little=little)
        if value is None:
            break
        values.append(value)
    return tag, tuple(values)


PNG = Format("png", "image/png", _png)
JPEG = Format("jpg", "image/jpeg", _jpeg)
GIF = Format("gif", "image/gif", _gif)
BMP = Format("bmp", "image/bmp", _bmp)
TIFF = Format("tiff", "image/tiff", _tiff)
