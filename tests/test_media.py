"""What a file is by its own bytes, and whether all of it is there. The samples are built here, box by box."""

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.failures import NotMedia, TooLarge
from archiver.media.identify import WINDOW_BYTES, Media, identify


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


def of(data: bytes) -> Media:
    return identify(io.BytesIO(data))


@pytest.mark.parametrize(("make", "extension", "content_type"), PICTURES, ids=NAMES[: len(PICTURES)])
def test_a_picture_is_known_by_its_bytes(
    make: Callable[[int, int], bytes], extension: str, content_type: str
) -> None:
    expected = Media(content_type=content_type, extension=extension, width=321, height=123, whole=True)

    assert of(make(321, 123)) == expected


@pytest.mark.parametrize(("make", "extension", "content_type"), SOUNDS, ids=NAMES[len(PICTURES) :])
def test_a_sound_is_known_by_its_bytes(make: Callable[[], bytes], extension: str, content_type: str) -> None:
    expected = Media(content_type=content_type, extension=extension, width=None, height=None, whole=True)

    assert of(make()) == expected


@pytest.mark.parametrize("data", SAMPLES, ids=NAMES)
def test_a_file_without_its_last_byte_is_not_whole(data: bytes) -> None:
    assert not of(data[:-1]).whole


@pytest.mark.parametrize(
    "data",
    [
        sample
        for sample, name in zip(SAMPLES, NAMES, strict=True)
        # These may end between two frames, boxes or clusters and say nowhere how many there are.
        if name not in {"mp3", "mp3_tagged", "mp3_low", "mp4", "mov", "avif", "heic", "webm_live"}
    ],
)
def test_no_cut_file_is_ever_taken_for_whole(data: bytes) -> None:
    for length in range(len(data)):
        try:
            whole = of(data[:length]).whole
        except NotMedia:
            whole = False
        assert not whole, length


@pytest.mark.parametrize("data", SAMPLES, ids=NAMES)
def test_zeros_after_the_end_are_harmless(data: bytes) -> None:
    assert of(data + bytes(16)).whole


def test_a_thumbnails_end_is_not_the_pictures_end() -> None:
    data = jpeg()

    assert b"\xff\xd9" in data[:40]
    assert not of(data[:60]).whole


@pytest.mark.parametrize(
    ("brands", "extension"),
    [
        ((b"mif1", b"avif"), "avif"),
        ((b"mif1", b"heic"), "heic"),
        ((b"avis",), "avif"),
        ((b"hevc",), "heic"),
        ((b"M4V ",), "mp4"),
        ((b"iso6", b"dash"), "mp4"),
        ((b"zzzz",), "mp4"),
    ],
)
def test_the_brands_decide_what_an_iso_file_is(brands: tuple[bytes, ...], extension: str) -> None:
    assert of(ftyp(*brands) + box(b"mdat", bytes(40))).extension == extension


def test_a_movie_from_before_file_types_is_quicktime() -> None:
    assert of(box(b"mdat", bytes(40)) + movie()).extension == "mov"


def test_a_box_may_have_a_long_length_or_reach_to_the_end() -> None:
    long = struct.pack(">I4sQ", 1, b"mdat", 56) + bytes(40)

    assert of(ftyp(b"isom") + long).whole
    assert not of(ftyp(b"isom") + long[:-1]).whole
    assert of(ftyp(b"isom") + struct.pack(">I4s", 0, b"mdat") + bytes(40)).whole


def test_a_file_type_box_alone_is_no_whole_movie() -> None:
    assert not of(ftyp(b"isom")).whole


def test_a_wav_written_into_a_pipe_does_not_know_its_length() -> None:
    data = wav()

    assert of(data[:4] + b"\xff\xff\xff\xff" + data[8:]).whole


@pytest.mark.parametrize(
    "make", [make for make, _, _ in PICTURES if make is not bmp and make is not webp_lossy]
)
def test_more_than_100_megapixels_are_refused(make: Callable[[int, int], bytes]) -> None:
    assert of(make(10_000, 10_000)).width == 10_000
    with pytest.raises(TooLarge, match="megapixels"):
        of(make(10_001, 10_000))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"<!DOCTYPE html><html><body>404</body></html>",
        b"<html>" + png(),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<?xml version='1.0'?><svg/>",
        b'{"code": 403}',
        b"AccessDenied",
        b"BM is how this sentence starts, and it is no bitmap",
        b"RIFFxxxxAVI LIST",
        b"ID3 is the name of a tag, and this is text that goes on",
        b" " + png(),
        b"\n" + jpeg(),
        b"\xef\xbb\xbf" + gif(),
        b"\x89PNG\n\x1a\n" + png()[8:],
        b"GIF90a" + gif()[6:],
        b"%PDF-1.7\n",
        b"PK\x03\x04" + bytes(40),
        b"\x7fELF" + bytes(40),
        b"#!/bin/sh\n",
        b"\xff\xf1\x50\x80" + bytes(400),
        b"\xff\xfb\x90\x00" + bytes(413) + b"no frame follows",
        b"\xff\xfe<\0h\0t\0m\0l\0>\0",
        b"OggS" + bytes(40),
        b"fLaC" + bytes(40),
        ebml(b"matroska") + webm()[len(ebml(b"webm")) :],
        ftyp(b"crx ") + box(b"mdat", bytes(40)),
        b"<!--mdat-->",
        bytes(1000),
    ],
)
def test_everything_else_is_not_media(data: bytes) -> None:
    with pytest.raises(NotMedia):
        of(data)


@given(st.sampled_from(SAMPLES), st.binary(max_size=200), st.integers(0, 200), st.integers(0, 20))
def test_no_bytes_crash_it(sample: bytes, noise: bytes, start: int, gap: int) -> None:
    for data in (noise, sample[:start] + noise + sample[start + gap :]):
        try:
            found = of(data)
        except (NotMedia, TooLarge):
            continue
        assert found.extension in {
            "png", "jpg", "webp", "gif", "avif", "heic", "bmp", "tiff", "mp4", "webm", "mov", "mp3", "wav"
        }  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0abcdCRCC" * 3000,
        b"\xff\xd8" + b"\xff\xfe\0\x02" * 9000,
        b"GIF89a\1\0\1\0\0\0\0" + b"\x21\xfe" + b"\x01a" * 9000,
        b"GIF89a\1\0\1\0\0\0\0" + bytes(9000),
        ftyp(b"isom") + b"\0\0\0\x08free" * 3000 + b"\0\0\0\x09free",
        ftyp(b"isom") + struct.pack(">I4s", 24_009, b"moov") + b"\0\0\0\x08trak" * 3000,
        b"II\x2a\0\x08\0\0\0\x0b\0"
        + struct.pack("<HHII", 273, 1, 2**32 - 1, 0) * 10
        + struct.pack("<HHII", 279, 4, 1, 2**32 - 1)
        + bytes(9000),
        MP3_FRAME * 2000 + MP3_FRAME[:-1],
        ebml(b"webm") + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + b"\xec\x80" * 3000 + b"\xec\x81",
        ebml(b"webm") + element(0x18538067, element(0x1654AE6B, b"\xae\x80" * 3000))[:-1],
    ],
)
def test_a_walk_without_end_stops_and_gives_the_benefit_of_the_doubt(data: bytes) -> None:
    assert not of(data).whole
    assert identify(io.BytesIO(data), reads_max=1000).whole


def test_a_tiff_whose_pages_go_round_in_a_circle_is_read_to_an_end() -> None:
    data = tiff()
    circle = data[:58] + struct.pack("<I", 8) + data[62:]

    assert of(circle) == of(data)


def test_a_large_file_is_not_read_into_memory() -> None:
    class Largest(io.BytesIO):
        largest = 0

        def read(self, count: int | None = -1, /) -> bytes:
            assert count is not None
            self.largest = max(self.largest, count)
            assert count > 0
            return super().read(count)

    file = Largest(jpeg()[:-3] + b"\x12" * 1_000_000 + b"\xff\xd9")

    assert identify(file).whole
    assert file.largest <= WINDOW_BYTES
