"""Small whole files of every format that we know, made by hand."""

import struct
import zlib
from collections.abc import Callable


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int = 3, height: int = 2, *, pixels: bytes = b"") -> bytes:
    """Without its pixels where they are many, unless they are given."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = bytes((1 + 3 * width) * height) if width * height < 1_000_000 else b""
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels or zlib.compress(rows)) + chunk(b"IEND")


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg(width: int = 3, height: int = 2) -> bytes:
    thumbnail = b"\xff\xd8\xff\xd9"
    frame = struct.pack(">BHHB", 8, height, width, 3) + b"\x01\x11\x00\x02\x11\x00\x03\x11\x00"
    scan = b"\x12\xff\x00\x34\xff\xd0\x56" * (
        9 + (width * height // 100 if width * height < 1_000_000 else 0)
    )
    one_code = b"\x01" + bytes(16)
    return (
        b"\xff\xd8"
        + segment(0xE1, b"Exif\0\0" + thumbnail)
        + segment(0xDB, b"\0" + b"\1" * 64)
        + segment(0xC4, b"\x00" + one_code + b"\x10" + one_code)
        + segment(0xC2, frame)
        + segment(0xDA, b"\x03\x01\x00\x02\x00\x03\x00\x00\x00\x00")
        + scan
        + b"".join(segment(0xDA, b"\x01%c\x00\x01\x3f\x00" % component) + scan for component in (1, 2, 3))
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
    return riff(b"WEBP", b"VP8X\x0a\0\0\0\x10\0\0\0" + sizes + webp_lossless(width, height)[12:])


def wav(samples: bytes = b"\1\2\3\4\5\6\7\x08") -> bytes:
    form = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
    return riff(b"WAVE", b"fmt \x10\0\0\0" + form + b"data" + struct.pack("<I", len(samples)) + samples)


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


def full_box(kind: bytes, *content: bytes, version: int = 0) -> bytes:
    """With version and flags."""
    return box(kind, struct.pack(">B3x", version), *content)


PAYLOAD = b"\x12" * 40


def still(
    major: bytes, *compatible: bytes, width: int = 3, height: int = 2, codec: bytes = b"", places: bytes = b""
) -> bytes:
    """One coded item, after a thumbnail's size and before an alpha plane's. `places`: another box `iloc`."""
    codec = codec or (b"av01" if major == b"avif" else b"hvc1")

    def ispe(width: int, height: int) -> bytes:
        return full_box(b"ispe", struct.pack(">II", width, height))

    def meta(offset: int) -> bytes:
        configuration = box({b"av01": b"av1C", b"hvc1": b"hvcC"}.get(codec, b"jpgC"), bytes(4))
        sizes = box(b"ipco", ispe(1, 1), ispe(width, height), ispe(1, 2), configuration)
        entry = full_box(b"infe", struct.pack(">HH", 1, 0), codec, b"\0", version=2)
        place = struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, offset, len(PAYLOAD))
        return full_box(
            b"meta",
            full_box(b"hdlr", bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", struct.pack(">H", 1)),
            places or full_box(b"iloc", place),
            full_box(b"iinf", struct.pack(">H", 1), entry),
            box(b"iprp", sizes, full_box(b"ipma", struct.pack(">IHBBB", 1, 1, 2, 2, 4))),
        )

    head = ftyp(major, *compatible)
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", PAYLOAD)


def avif(width: int = 3, height: int = 2) -> bytes:
    return still(b"avif", b"mif1", width=width, height=height)


def heic(width: int = 3, height: int = 2) -> bytes:
    return still(b"heic", b"mif1", width=width, height=height)


def tables(codec: bytes, *, sizes: bytes, per_chunk: int, offsets: bytes) -> bytes:
    """Of one track: `sizes` and `offsets` as they stand in the file, 4 bytes each."""
    count = len(sizes) // 4
    return box(
        b"stbl",
        full_box(b"stsd", struct.pack(">I", 1), box(codec, bytes(28))),
        full_box(b"stts", struct.pack(">III", 1, count, 100)),
        full_box(b"stsc", struct.pack(">IIII", 1, 1, per_chunk, 1)),
        full_box(b"stsz", struct.pack(">II", 0, count), sizes),
        full_box(b"stco", struct.pack(">I", len(offsets) // 4), offsets),
    )


def track(handler: bytes, table: bytes, *, width: int = 0, height: int = 0) -> bytes:
    media = box(
        b"mdia",
        full_box(b"mdhd", bytes(20)),
        full_box(b"hdlr", bytes(4), handler, bytes(13)),
        box(b"minf", table),
    )
    header = box(b"tkhd", bytes(76), struct.pack(">II", width << 16, height << 16))
    return box(b"trak", header, media)


def one_sample(codec: bytes, offset: int) -> bytes:
    """The tables of a track with one sample, of 20 bytes."""
    return tables(codec, sizes=struct.pack(">I", 20), per_chunk=1, offsets=struct.pack(">I", offset))


def movie(width: int = 3, height: int = 2, *, at: int = 0) -> bytes:
    """Sound and picture. `at` is how many bytes of the file stand before it."""

    def moov(offset: int) -> bytes:
        sound = track(b"soun", one_sample(b"sowt", offset))
        picture = track(b"vide", one_sample(b"mjpa", offset + 20), width=width, height=height)
        return box(b"moov", box(b"mvhd", bytes(100)), sound, picture)

    return moov(at + len(moov(0)) + 8) + box(b"mdat", PAYLOAD)


def mp4(width: int = 3, height: int = 2) -> bytes:
    head = ftyp(b"isom", b"mp42")
    return head + movie(width, height, at=len(head))


def mov(width: int = 3, height: int = 2) -> bytes:
    head = ftyp(b"qt  ")
    return head + movie(width, height, at=len(head))


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


CLUSTER = element(0x1F43B675, element(0xE7, b"\0"), element(0xA3, b"\x81\0\0\x80frame"))


def webm(width: int = 3, height: int = 2) -> bytes:
    return ebml(b"webm") + element(0x18538067, tracks(width, height), CLUSTER)


def webm_live(width: int = 3, height: int = 2) -> bytes:
    head = ebml(b"webm\0") + b"\x18\x53\x80\x67\x01" + b"\xff" * 7
    return head + tracks(width, height) + CLUSTER


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
