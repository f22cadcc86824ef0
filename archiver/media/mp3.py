"""MP3: an ID3 tag perhaps, then frames."""

import re

from archiver.media.reader import FileReader, Format, Shape

_ID3 = re.compile(rb"ID3[\x02-\x04].{2}[\0-\x7f]{4}", re.DOTALL)
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KILOBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KILOBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def _frame_bytes(header: bytes) -> int:
    """The length of the layer III frame that these four bytes begin; 0 if they begin none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return 0
    kilobits = (_KILOBITS_1 if version == 3 else _KILOBITS_2)[bitrate]
    samples_bytes = 144_000 if version == 3 else 72_000
    return samples_bytes * kilobits // _RATES[version][rate] + (header[2] >> 1 & 1)


def _frames_start(reader: FileReader) -> int:
    """Where the frames start: after the ID3 tag, whose length has seven bits a byte, and its padding."""
    if not _ID3.match(reader.read(0, 10)):
        return 0
    length = 0
    for byte in reader.read(6, 4):
        length = length << 7 | byte & 0x7F
    start = 10 + length + (10 if (reader.number(5, 1) or 0) & 0x10 else 0)
    padding = reader.read(start, 4096)
    return start + len(padding) - len(padding.lstrip(b"\0"))


def is_mp3(reader: FileReader) -> bool:
    """A frame must follow an ID3 tag, since other formats have tags too. A second frame must follow the first, since
    eleven bits of sync are weak evidence. Either may be missing at the end of the file."""
    start = _frames_start(reader)
    if start > 0 and start + 4 > reader.size:
        return True
    frame_bytes = _frame_bytes(reader.read(start, 4))
    if not frame_bytes:
        return False
    next_frame = start + frame_bytes
    return next_frame + 4 > reader.size or _frame_bytes(reader.read(next_frame, 4)) > 0


def _read_shape(reader: FileReader) -> Shape:
    """Not whole if the last frame is cut. Other bytes after a frame (tags, joins) are harmless."""
    offset = _frames_start(reader)
    if offset + 4 > reader.size:
        return Shape(False)
    while length := _frame_bytes(reader.read(offset, 4)):
        offset += length
    return Shape(offset <= reader.size)


MP3 = Format("mp3", "audio/mpeg", _read_shape)
