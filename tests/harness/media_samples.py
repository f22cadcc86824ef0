"""Small whole files of every format that we know, made by hand."""

import struct
import zlib
from collections.abc import Callable


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int = 3, height: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"pixels") + chunk(b"IEND")


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg(width: int = 3, height: int = 2) -> bytes:
    thumbnail = b"\xff\xd8\xff\xd9"
    frame = struct.pack(">BHHB", 8, height, width, 3) + bytes(9)
    scan = b"\x12\xff\x00\x34\xff\xd0\x56" * 9
    return (
        b"\xff\xd8"
        + segment(0xE1, b"Exif\0\0" + thumbnail)
        + segment(0xC4, bytes(20))
        + segment(0xC2, frame)
        + segment(0xDA, bytes(6))
        + scan
        + segment(0xDA, bytes(6))
        + scan
        + b"\xff\xff\xd9"
    )


def gif(width: int = 3, height: int = 2) -> bytes:
    parts = b"\x03abc\x04\x3bxyz\x00"
    return (
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
        + b"\x21\xfe" + parts
        + b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0x81) + bytes(12) + b"\x02" + parts
        + b"\x3b"
    )  # fmt: skip


def riff(form: bytes, content: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(content)) + form + content


def webp_lossy(width: int = 3, height: int = 2) -> bytes:
    frame = b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(10)
    return riff(b"WEBP", b"VP8 " + struct.pack("<I", len(frame)) + frame)


def webp_lossless(width: int = 3, height: int = 2) -> bytes:
    frame = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(9)
    return riff(b"WEBP", b"VP8L" + struct.pack("<I", len(frame)) + frame)


def webp_extended(width: int = 3, height: int = 2) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff(b"WEBP", b"VP8X\x0a\0\0\0\x10\0\0\0" + sizes)


def wav() -> bytes:
    return riff(b"WAVE", b"fmt \x10\0\0\0" + bytes(16) + b"data\x08\0\0\0" + bytes(8))


def bmp(width: int = 3, height: int = 2) -> bytes:
    pixels = bytes((width * 24 + 31) // 32 * 4 * abs(height)) if width < 1000 else b""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + info + pixels


def tiff(width: int = 3, height: int = 2, *, order: str = "<") -> bytes:
    entries = [(256, 3, 1, width), (257, 4, 1, height), (273, 4, 1, 64), (279, 4, 1, 18)]
    directory = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        directory += struct.pack(order + "HHI", tag, kind, count)
        directory += struct.pack(
            order + ("HH" if kind == 3 else "I"), *([value, 0] if kind == 3 else [value])
        )
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(order + "HI", 42, 8) + directory
    return head.ljust(64, b"\0") + bytes(18)


def big_endian_tiff(width: int = 3, height: int = 2) -> bytes:
    return tiff(width, height, order=">")


def box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I", 8 + sum(map(len, content))) + kind + b"".join(content)


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    return box(b"ftyp", major, bytes(4), *compatible)


def still(major: bytes, *compatible: bytes, width: int = 3, height: int = 2) -> bytes:
    def ispe(width: int, height: int) -> bytes:
        return box(b"ispe", bytes(4), struct.pack(">II", width, height))

    properties = box(b"iprp", box(b"ipco", ispe(1, 1), ispe(width, height), ispe(1, 2)))
    return ftyp(major, *compatible) + box(b"meta", bytes(4), properties) + box(b"mdat", bytes(40))


def avif(width: int = 3, height: int = 2) -> bytes:
    return still(b"avif", b"mif1", width=width, height=height)


def heic(width: int = 3, height: int = 2) -> bytes:
    return still(b"heic", b"mif1", width=width, height=height)


def movie(width: int = 3, height: int = 2) -> bytes:
    picture = box(b"tkhd", bytes(76), struct.pack(">II", width << 16, height << 16))
    sound = box(b"tkhd", bytes(84))
    tracks = box(b"trak", sound), box(b"trak", picture)
    return box(b"moov", box(b"mvhd", bytes(100)), *tracks) + box(b"mdat", bytes(40))


def mp4(width: int = 3, height: int = 2) -> bytes:
    return ftyp(b"isom", b"mp42") + movie(width, height)


def mov(width: int = 3, height: int = 2) -> bytes:
    return ftyp(b"qt  ") + movie(width, height)


def element(name: int, *content: bytes) -> bytes:
    length = sum(map(len, content))
    return (
        name.to_bytes((name.bit_length() + 7) // 8, "big")
        + (length | 1 << 28).to_bytes(4, "big")
        + b"".join(content)
    )


def ebml(doctype: bytes) -> bytes:
    return element(0x1A45DFA3, element(0x4286, b"\x01"), element(0x4282, doctype), element(0x4287, b"\x02"))


def tracks(width: int, height: int) -> bytes:
    video = element(0xE0, element(0xB0, width.to_bytes(4, "big")), element(0xBA, height.to_bytes(4, "big")))
    return element(0x1654AE6B, element(0xAE, element(0xD7, b"\x01"), video))


def webm(width: int = 3, height: int = 2) -> bytes:
    return ebml(b"webm") + element(0x18538067, tracks(width, height), element(0x1F43B675, bytes(40)))


def webm_live(width: int = 3, height: int = 2) -> bytes:
    head = ebml(b"webm\0") + b"\x18\x53\x80\x67\x01" + b"\xff" * 7
    return head + tracks(width, height) + element(0x1F43B675, bytes(40))


MP3_FRAME = b"\xff\xfb\x90\x00" + bytes(413)
"""MPEG 1 layer III, 128 kbit/s, 44.1 kHz: 417 bytes."""


def mp3() -> bytes:
    return MP3_FRAME * 3


def mp3_tagged() -> bytes:
    return b"ID3\x04\0\0\0\0\x01\x00" + b"\xff\xd8\xff".ljust(128, b"\0") + MP3_FRAME * 2


def mp3_low() -> bytes:
    return (b"\xff\xf3\x40\xc4" + bytes(100)) * 3


PICTURES: list[tuple[Callable[[int, int], bytes], str, str]] = [
    (png, "png", "image/png"),
    (jpeg, "jpg", "image/jpeg"),
    (gif, "gif", "image/gif"),
    (webp_lossy, "webp", "image/webp"),
    (webp_lossless, "webp", "image/webp"),
    (webp_extended, "webp", "image/webp"),
    (bmp, "bmp", "image/bmp"),
    (tiff, "tiff", "image/tiff"),
    (big_endian_tiff, "tiff", "image/tiff"),
    (avif, "avif", "image/avif"),
    (heic, "heic", "image/heic"),
    (mp4, "mp4", "video/mp4"),
    (mov, "mov", "video/quicktime"),
    (webm, "webm", "video/webm"),
    (webm_live, "webm", "video/webm"),
]


SOUNDS: list[tuple[Callable[[], bytes], str, str]] = [
    (wav, "wav", "audio/wav"),
    (mp3, "mp3", "audio/mpeg"),
    (mp3_tagged, "mp3", "audio/mpeg"),
    (mp3_low, "mp3", "audio/mpeg"),
]


SAMPLES = [make(3, 2) for make, _, _ in PICTURES] + [sound() for sound, _, _ in SOUNDS]


NAMES = [make.__name__ for make, _, _ in PICTURES] + [sound.__name__ for sound, _, _ in SOUNDS]
