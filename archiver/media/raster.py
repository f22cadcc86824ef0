"""GIF, BMP and TIFF. None has checksums: whole is what has a picture that lies in the file."""

import dataclasses
import struct

from archiver.media.reader import FileReader, Format, Shape

_GIF_ZEROS_MAX = 16
"""Padding between blocks, which viewers skip."""
_BMP_UNCOMPRESSED = (0, 3, 6)
_TIFF_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_TIFF_INTEGERS = frozenset((1, 2, 3, 4, 7, 13, 16))
_TIFF_SEGMENTS = ((273, 279), (324, 325), (513, 514))
"""Tags of offsets and lengths: of strips, of tiles, of a JPEG."""
_TIFF_IMAGES_MAX = 100
"""The directories form a linked list, which may be a circle."""
_TIFF_BITS = 258
_TIFF_TAGS = frozenset({256, 257, _TIFF_BITS, 273, 279, 324, 325, 513, 514})


def _gif(reader: FileReader) -> Shape:
    """https://www.w3.org/Graphics/GIF/spec-gif89a.txt

    Viewers make room for a frame larger than the screen, so the largest counts.
    """
    width, height = reader.number(6, 2, little=True) or 0, reader.number(8, 2, little=True) or 0
    offset = 13 + _gif_palette_bytes(reader, 10)
    frames = zeros = 0
    while block := reader.read(offset, 1):
        if block == b"\x3b":
            return Shape(None if frames else "no frame", width, height)
        if block == b"\x21":
            offset, _ = _gif_sub_blocks(reader, offset + 2)
        elif block == b"\x2c":
            left, top, frame_width, frame_height = _gif_frame(reader, offset + 1)
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            offset, data_bytes = _gif_sub_blocks(
                reader, offset + 10 + _gif_palette_bytes(reader, offset + 9) + 1
            )
            if not data_bytes:
                return Shape("a frame without data", width, height)
            frames += 1
        elif block == b"\0" and zeros < _GIF_ZEROS_MAX:
            offset += 1
            zeros += 1
        else:
            return Shape(f"no block at byte {offset}", width, height)
    return Shape("no trailer", width, height)


def _gif_frame(reader: FileReader, offset: int) -> tuple[int, int, int, int]:
    """Left, top, width and height; zeros where the file ends first."""
    head = reader.read(offset, 8)
    return struct.unpack("<HHHH", head) if len(head) == 8 else (0, 0, 0, 0)


def _gif_palette_bytes(reader: FileReader, flags_offset: int) -> int:
    flags = reader.number(flags_offset, 1) or 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_sub_blocks(reader: FileReader, offset: int) -> tuple[int, int]:
    """The offset behind them, and how many bytes they hold."""
    total = 0
    while length := reader.number(offset, 1):
        offset += 1 + length
        total += length
    return offset + 1, total


def _bmp(reader: FileReader) -> Shape:
    """Some writers leave the file size 0, so uncompressed pixels are counted too."""
    head = reader.read(0, 34)
    if head[14:15] == b"\x0c" and len(head) == 34:  # OS/2
        width, height, _, depth = struct.unpack("<HHHH", head[18:26])
        compression = 0
    elif len(head) == 34:
        width, height, _, depth, compression = struct.unpack("<iiHHI", head[18:34])
    else:
        return Shape("its header is cut")
    declared, _, pixels_offset = struct.unpack("<III", head[2:14])
    row_bytes = (abs(width) * depth + 31) // 32 * 4
    needed = pixels_offset + (row_bytes * abs(height) if compression in _BMP_UNCOMPRESSED else 1)
    shape = Shape(None, abs(width), abs(height))
    if not width or not height:
        return dataclasses.replace(shape, flaw="no pixels")
    return dataclasses.replace(shape, flaw="it is cut" if max(declared, needed) > reader.size else None)


def _tiff(reader: FileReader) -> Shape:
    """https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf"""
    little = reader.read(0, 1) == b"I"
    directory = reader.number(4, 4, little=little)
    if not directory:
        return Shape("no directory")
    flaws: list[str] = []
    sizes: list[tuple[int, int]] = []
    while directory and len(sizes) < _TIFF_IMAGES_MAX:
        image, directory = _tiff_image(reader, directory, little=little)
        flaws += [image.flaw] if image.flaw else []
        sizes.append((image.width or 0, image.height or 0))
    return Shape.of_largest(sizes, flaw=next(iter(flaws), None))


def _tiff_image(reader: FileReader, directory: int, *, little: bool) -> tuple[Shape, int | None]:
    """The image of one directory, and the offset of the next directory, if any."""
    entries = reader.number(directory, 2, little=little)
    if entries is None or directory + 2 + 12 * entries > reader.size:
        return Shape("a directory is cut"), None
    tags = dict(_tiff_entry(reader, directory + 2 + 12 * number, little=little) for number in range(entries))
    width, height = (next(iter(tags.get(tag) or ()), None) for tag in (256, 257))
    flaw = _tiff_flaw(reader, tags) if width and height else "no size"
    return Shape(flaw, width, height), reader.number(directory + 2 + 12 * entries, 4, little=little)


def _tiff_flaw(reader: FileReader, tags: dict[int, tuple[int, ...] | None]) -> str | None:
    if None in tags.values():
        return "a tag lies outside the file"
    if not all(tags.get(_TIFF_BITS) or (1,)):
        return "samples without bits"
    segments = 0
    for of_offsets, of_lengths in _TIFF_SEGMENTS:
        offsets, lengths = tags.get(of_offsets) or (), tags.get(of_lengths) or ()
        segments += len(offsets)
        if len(offsets) != len(lengths) or not all(offsets + lengths):
            return "a strip without data"
        if any(offset + length > reader.size for offset, length in zip(offsets, lengths, strict=True)):
            return "a strip lies outside the file"
    return None if segments else "no strips"


def _tiff_entry(reader: FileReader, offset: int, *, little: bool) -> tuple[int, tuple[int, ...] | None]:
    """A tag and its values; None if they are not in the file. Values that this module does not use are left out."""
    tag, kind = reader.number(offset, 2, little=little) or 0, reader.number(offset + 2, 2, little=little) or 0
    count, size = reader.number(offset + 4, 4, little=little) or 0, _TIFF_SIZES.get(kind, 0)
    values_offset = offset + 8 if size * count <= 4 else reader.number(offset + 8, 4, little=little) or 0
    if values_offset + size * count > reader.size:
        return tag, None
    if kind not in _TIFF_INTEGERS or tag not in _TIFF_TAGS:
        return tag, ()
    values: list[int] = []
    while len(values) < count:
        value = reader.number(values_offset + size * len(values), size, little=little)
        if value is None:
            break
        values.append(value)
    return tag, tuple(values)


GIF = Format("gif", "image/gif", _gif)
BMP = Format("bmp", "image/bmp", _bmp)
TIFF = Format("tiff", "image/tiff", _tiff)
