"""WebP and WAV, which share the RIFF container: chunks of a kind and a length.

The length of the whole, at byte 4, is weak evidence. Encoders that write into a pipe cannot know it: they leave a
placeholder. Others forget to subtract the header, or to add a pad byte. So the chunks decide, and the length only
reveals a file that was cut between two of them.
"""

import re
import struct
from collections.abc import Iterator

from archiver.media.reader import FileReader, Format, Shape

_LENGTH_SLACK = 9
"""The header, and a pad byte."""
_PLACEHOLDERS_FROM = 0x7FFF_0000
"""ffmpeg writes 0xFFFFFFFF, arecord 0x7FFFFFFF, sox 0x7FFFF000 and, of the whole, 0x7FFFF024: more than the 2 GiB less
64 KiB of a file that we accept."""
_OF_DS64 = 0xFFFF_FFFF
_ROUND_PLACEHOLDERS = range(2_000_000_000, 2_000_000_000 + 4096)
_KIND = re.compile(rb"[ -~]{4}")
_PICTURES = (b"VP8 ", b"VP8L")
"""What their data mean is not read: a black picture of cwebp has 44,000 zeros in a row."""


def _is_placeholder(length: int) -> bool:
    return length == 0 or length >= _PLACEHOLDERS_FROM or length in _ROUND_PLACEHOLDERS


def _declared_end(reader: FileReader) -> int | None:
    """Where the header says that the file ends; None if it does not say."""
    length = reader.number(4, 4, little=True) or 0
    return None if _is_placeholder(length) else 8 + length


def _is_cut(reader: FileReader) -> bool:
    end = _declared_end(reader)
    return end is not None and end > reader.size + _LENGTH_SLACK


def _chunks(reader: FileReader, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start of the content, and length. The last one may end beyond `end`."""
    while start + 8 <= end and _KIND.match(header := reader.read(start, 8)) and len(header) == 8:
        length = int.from_bytes(header[4:], "little")
        yield header[:4], start + 8, length
        start += 8 + length + length % 2


# --- WebP: https://developers.google.com/speed/webp/docs/riff_container ----------------------------------------------


def _webp(reader: FileReader) -> Shape:
    width, height = _canvas(reader)
    return Shape(next(_webp_flaws(reader), None), width, height)


def _canvas(reader: FileReader) -> tuple[int | None, int | None]:
    """By the first chunk."""
    head = reader.read(12, 18)
    if len(head) < 18:
        return None, None
    if head[:4] == b"VP8X":
        return int.from_bytes(head[12:15], "little") + 1, int.from_bytes(head[15:18], "little") + 1
    if head[:4] == b"VP8L":
        bits = int.from_bytes(head[9:13], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[:4] == b"VP8 " and head[11:14] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", head[14:18])
        return width & 0x3FFF, height & 0x3FFF
    return None, None


def _webp_flaws(reader: FileReader) -> Iterator[str]:
    pictures = 0
    first = reader.read(12, 4)
    if first not in (b"VP8X", *_PICTURES):
        yield "no picture at its beginning"
    for kind, start, length in _chunks(reader, 12, _declared_end(reader) or reader.size):
        end = start + length
        if end > reader.size:
            yield "a chunk is cut"
        if kind == b"ANMF":
            inner = [chunk for chunk in _chunks(reader, start + 16, end) if chunk[0] in _PICTURES]
        else:
            inner = [(kind, start, length)] if kind in _PICTURES else []
        if kind == b"ANMF" and not inner:
            yield "a frame without a picture"
        for chunk in inner:
            pictures += 1
            yield from _picture_flaws(reader, *chunk, end=end)
    if not pictures:
        yield "no picture chunk"
    if _is_cut(reader):
        yield "it is shorter than its header says"


def _picture_flaws(reader: FileReader, kind: bytes, start: int, length: int, *, end: int) -> Iterator[str]:
    """The flaws of a chunk with one frame; for VP8, that must be a key frame whose first partition is there."""
    head = reader.read(start, min(length, 10))
    if len(head) < 10 or start + length > end:
        yield "a picture is cut"
    elif kind == b"VP8L" and (head[0] != 0x2F or head[4] >> 5):
        yield "no picture in VP8L"
    elif kind == b"VP8 ":
        tag = int.from_bytes(head[:3], "little")
        if tag & 1 or head[3:6] != b"\x9d\x01\x2a" or not 0 < tag >> 5 <= length - 10:
            yield "no picture in VP8"


# --- WAV ------------------------------------------------------------------------------------------------------------


def _wav(reader: FileReader) -> Shape:
    return Shape(next(_wav_flaws(reader), None))


def _wav_flaws(reader: FileReader) -> Iterator[str]:
    has_format = False
    large_length = None
    for kind, start, length in _chunks(reader, 12, reader.size):
        if kind == b"ds64":
            large_length = reader.number(start + 8, 8, little=True)
        elif kind == b"fmt ":
            channels, rate = (
                reader.number(start + 2, 2, little=True),
                reader.number(start + 4, 4, little=True),
            )
            has_format = length >= 14 and bool(channels) and bool(rate)
        elif kind == b"data":
            if not has_format:
                yield "no format before the samples"
            declared = large_length if length == _OF_DS64 and large_length else length
            yield from _samples_flaws(reader, start, declared)
            break
        elif start + length > reader.size:
            yield "a chunk is cut"
    else:
        yield "no data chunk"
    if reader.read(0, 4) != b"RIFF" and large_length is None:
        yield "no ds64 chunk"
    if _is_cut(reader):
        yield "it is shorter than its header says"


def _samples_flaws(reader: FileReader, start: int, length: int) -> Iterator[str]:
    there = reader.size - start
    if length == 0 and there > 0:
        kind, _, following = next(_chunks(reader, start, reader.size), (b"", 0, 0))
        if kind and 8 + following <= there:
            there = 0  # another chunk follows: 0 is no placeholder
    if there <= 0:
        yield "no samples"
    # Some writers count headers in.
    elif (
        length > there
        and not _is_placeholder(length)
        and length not in (there + 8, reader.size - 8, reader.size)
    ):
        yield "the samples are cut"


WEBP = Format("webp", "image/webp", _webp)
WAV = Format("wav", "audio/wav", _wav)
