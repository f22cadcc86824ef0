"""WebP and WAV, which share the RIFF container."""

import struct

from archiver.media.reader import FileReader, Format, Shape


def _riff_is_whole(reader: FileReader) -> bool:
    """Compares the declared length. Encoders that write into a pipe declare 0xFFFFFFFF: unknown."""
    length = reader.number(4, 4, little=True)
    return length is not None and (length == 0xFFFF_FFFF or 8 + length <= reader.size)


def _wav(reader: FileReader) -> Shape:
    return Shape(_riff_is_whole(reader))


def _webp(reader: FileReader) -> Shape:
    """https://developers.google.com/speed/webp/docs/riff_container"""
    whole = _riff_is_whole(reader)
    head = reader.read(12, 18)
    if len(head) < 18:
        return Shape(False)
    if head[:4] == b"VP8X":
        width, height = int.from_bytes(head[12:15], "little"), int.from_bytes(head[15:18], "little")
        return Shape(whole, width + 1, height + 1)
    if head[:4] == b"VP8L":
        bits = int.from_bytes(head[9:13], "little")
        return Shape(whole, (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if head[:4] == b"VP8 " and head[11:14] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", head[14:18])
        return Shape(whole, width & 0x3FFF, height & 0x3FFF)
    return Shape(whole)


WEBP = Format("webp", "image/webp", _webp)
WAV = Format("wav", "audio/wav", _wav)
