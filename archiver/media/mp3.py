"""MP3: tags, junk and zeros perhaps, then frames. There is no header, so frames are found by their chain: each says
how long it is, and where it ends the next one begins.

Whole: as many frames as the first one declares (`Info`, `Xing`), or, if it declares none, at most 4 KiB behind it that
are neither frame nor tag; and the last frame is not cut. Frames behind junk may belong to another file, of which they
are a part: there the 4 KiB hold in any case.
"""

import dataclasses
import re

from archiver.media.reader import WINDOW_BYTES, FileReader, Format, Shape

JUNK_BYTES_MAX = 64 * 1024
"""In front of the first frame, beside tags."""
FOREIGN_BYTES_MAX = 4096
_TAGS_MAX = 16
_CHAIN = 4
"""So many frames must follow each other where junk stands in front: eleven bits of sync are weak evidence."""
_CANDIDATES_MAX = 200
_FREE_BYTES_MIN, _FREE_BYTES_MAX = 20, 8192

_ID3 = re.compile(rb"ID3[\x02-\x04].{2}[\0-\x7f]{4}", re.DOTALL)
_SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
_TEXT = re.compile(rb"[\t\n\x0c\r -~]*")
_OTHER = re.compile(
    rb"\s*<|\xef\xbb\xbf|\xff\xfe|\xfe\xff|RIFF|FORM|OggS|fLaC|FLV|PK\x03\x04|\x7fELF|MZ|\x1f\x8b|[FCZ]WS|\0asm"
    rb"|\x30\x26\xb2\x75|\0\0\x01[\xb0-\xff]|\x47.{187}\x47|\xff[\xf0\xf1\xf8\xf9]|\xca\xfe\xba\xbe|Rar!|7z\xbc\xaf|BM|II|MM",
    re.DOTALL,
)
"""Begins like something else, which may hold frames: a page, a program, an archive, another container."""
_BOXES = re.compile(rb"ftyp|mdat|moov")
"""Boxes of a damaged film, whose sound may be frames of MP3."""
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KILOBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KILOBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


@dataclasses.dataclass(frozen=True, slots=True)
class _Start:
    """`is_sure` if nothing but tags stands in front. `free_bytes` is the length of a frame in free format, without its
    pad byte; 0 if that is not known."""

    offset: int
    free_bytes: int = 0
    is_sure: bool = True


def _frame_bytes(header: bytes, free_bytes: int = 0) -> int:
    """The length of the layer III frame that these four bytes begin; 0 if they begin none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bitrate == 15 or rate == 3:
        return 0
    padding = header[2] >> 1 & 1
    if bitrate == 0:
        return free_bytes + padding if free_bytes else 0
    kilobits = (_KILOBITS_1 if version == 3 else _KILOBITS_2)[bitrate]
    return (144_000 if version == 3 else 72_000) * kilobits // _RATES[version][rate] + padding


def _tag_bytes(reader: FileReader, offset: int) -> int:
    """The length of the tag at `offset`; 0 if there is none."""
    head = reader.read(offset, 32)
    if _ID3.match(head):
        length = 0
        for byte in head[6:10]:  # seven bits each
            length = length << 7 | byte
        return 10 + length + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        is_header = head[23] & 0x20
        return 32 + (int.from_bytes(head[12:16], "little") if is_header else 0)
    if head[:3] == b"TAG":
        return 128
    if head[:11] == b"LYRICSBEGIN":
        end = reader.read(offset, 8192).find(b"LYRICS200")
        return end + 9 if end > 0 else 0
    return 0


def _tags_end(reader: FileReader) -> int:
    """Behind the tags at the beginning and their padding."""
    offset = 0
    for _ in range(_TAGS_MAX):
        if not (length := _tag_bytes(reader, offset)):
            break
        padding = reader.read(offset + length, 4096)
        offset += length + len(padding) - len(padding.lstrip(b"\0"))
    return offset


def _chain(reader: FileReader, offset: int, *, count: int, may_end: bool = False) -> _Start | None:
    """`offset` if `count` frames follow each other there, or one and then the end of the file or a tag, if they may."""
    free_bytes = _free_bytes(reader, offset)
    at = offset
    for number in range(count):
        length = _frame_bytes(reader.read(at, 4), free_bytes)
        if not length:
            ends = may_end and number and (at + 4 > reader.size or _tag_bytes(reader, at))
            return _Start(offset, free_bytes) if ends else None
        at += length
    return _Start(offset, free_bytes)


def _free_bytes(reader: FileReader, offset: int) -> int:
    """The distance from a frame in free format to the next one like it, if a third one is as far away."""
    header = reader.read(offset, 4)
    if (
        len(header) < 4
        or header[0] != 0xFF
        or header[1] & 0xE6 != 0xE2
        or header[2] >> 4
        or header[2] & 12 == 12
    ):
        return 0
    data = reader.read(offset, _FREE_BYTES_MAX)
    at = _FREE_BYTES_MIN
    while (at := data.find(header[:2], at + 1)) > 0:
        reader.spend(1)
        if at + 2 < len(data) and data[at + 2] & 0xFD == header[2] & 0xFD:
            free_bytes = at - (header[2] >> 1 & 1)
            third = at + free_bytes + (data[at + 2] >> 1 & 1)
            if reader.read(offset + third, 2) == header[:2]:
                return free_bytes
    return 0


def _find_start(reader: FileReader) -> _Start | None:
    start = _tags_end(reader)
    found = _chain(reader, start, count=2, may_end=True)
    if found is not None:
        return found
    head = reader.read(0, 192)
    if not start and (_OTHER.match(head) or _TEXT.fullmatch(head[:64])):
        return None
    found = _search(reader, start, JUNK_BYTES_MAX)
    if found and not start and _BOXES.search(reader.read(0, min(found.offset, WINDOW_BYTES))):
        return None
    return found and dataclasses.replace(found, is_sure=False)


def _search(reader: FileReader, start: int, count: int) -> _Start | None:
    """The first chain of frames that begins in these bytes."""
    end = min(start + count, reader.size)
    candidates = 0
    while start < end:
        data = reader.read(start, min(WINDOW_BYTES // 2, end - start + 1))
        if not data:
            break
        for sync in _SYNC.finditer(data):
            candidates += 1
            if candidates > _CANDIDATES_MAX:
                return None
            if found := _chain(reader, start + sync.start(), count=_CHAIN):
                return found
        # A header may straddle two pieces: read the last byte again.
        start += max(len(data) - 1, 1)
    return None


def is_mp3(reader: FileReader) -> bool:
    """Other formats have tags too, so a frame must follow; unless the file ends in the tag."""
    return _find_start(reader) is not None or (
        _tag_bytes(reader, 0) > 0 and _tags_end(reader) + 4 > reader.size
    )


def _declared_frames(reader: FileReader, start: _Start) -> int:
    """As the first frame declares them. That frame has no sound, but some writers count it. 0 if it does not say."""
    head = reader.read(start.offset, 192)
    at = max(head.find(b"Info", 4, 48), head.find(b"Xing", 4, 48))
    if at < 0 or at + 12 > len(head) or not head[at + 7] & 1:
        return 0
    return int.from_bytes(head[at + 8 : at + 12], "big")


def _read_shape(reader: FileReader) -> Shape:
    start = _find_start(reader)
    if start is None:
        return Shape("no frames")
    frames, foreign, offset = 0, 0, start.offset
    while offset < reader.size:
        if length := _frame_bytes(reader.read(offset, 4), start.free_bytes):
            frames += 1
        elif not (length := _tag_bytes(reader, offset)):
            following = _search(reader, offset + 1, reader.size)
            length = (following.offset if following else reader.size) - offset
            foreign += length
        offset += length
    declared = _declared_frames(reader, start)
    if offset > reader.size:
        return Shape("its last frame or tag is cut")
    if frames - bool(foreign) < declared:
        return Shape(f"{frames} frames of {declared}")
    if foreign > FOREIGN_BYTES_MAX and not (declared and start.is_sure):
        return Shape(f"{foreign} bytes are no sound")
    return Shape(None)


MP3 = Format("mp3", "audio/mpeg", _read_shape)
