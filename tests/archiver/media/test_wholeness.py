"""What makes a file whole, and what may be odd about it. The files are those of real encoders, changed."""

import io
import pathlib
import struct
import time
import tracemalloc
import zlib

import pytest

from archiver.failures import NotMedia
from archiver.media.identify import Media, identify
from tests.harness.media_samples import PAYLOAD, box, chunk, ftyp, full_box, movie, png, still, tables, track
from tests.media_corpus.table import FOLDER

ID3 = b"ID3\x03\0\0\0\0\0\x10TIT2\0\0\0\x06\0\0\0hello"
APE_HEADER = b"APETAGEX" + struct.pack("<IIII8x", 2000, 32 + 40, 1, 0xA000_0000)
APE_FOOTER = b"APETAGEX" + struct.pack("<IIII8x", 2000, 32 + 40, 1, 0x8000_0000)
JUNK = bytes(range(1, 200)) * 41


ENDLESS = box(
    b"stbl",
    full_box(b"stsd", struct.pack(">I", 1), box(b"raw ", bytes(28))),
    full_box(b"stts", bytes(4)),
    full_box(b"stsc", struct.pack(">IIII", 1, 1, 2**32 - 1, 1)),
    full_box(b"stsz", struct.pack(">II", 1, 2**32 - 1)),
    full_box(b"stco", struct.pack(">II", 1, 0)),
)
SECONDS_MAX = 2.0
"""Ten times what it takes: each was a loop without end, or of minutes."""


def encoded(name: str) -> bytes:
    return (FOLDER / "encoded" / name).read_bytes()


def of(data: bytes) -> Media:
    return identify(io.BytesIO(data))


def resized(data: bytes, riff: int, chunk_length: int | None = None) -> bytes:
    """With other lengths of the RIFF and of its chunk `data`."""
    data = data[:4] + struct.pack("<I", riff) + data[8:]
    at = data.find(b"data") + 4
    return data if chunk_length is None else data[:at] + struct.pack("<I", chunk_length) + data[at + 4 :]


def without(data: bytes, kind: bytes) -> bytes:
    """With a box or chunk of that kind under another name."""
    return data.replace(kind, b"free", 1)


MP3, WAV, WEBP = encoded("mp3_ffmpeg_bare.mp3"), encoded("wav_ffmpeg.wav"), encoded("webp_cwebp.webp")
MP4, AVIF, HEIC = encoded("mp4_x264_aac.mp4"), encoded("avif_avifenc.avif"), encoded("heic_heif_enc.heic")
CMAF = encoded("mp4_x264_cmaf.mp4")
JPEG, GIF = encoded("jpg_cjpeg.jpg"), encoded("gif_imagemagick.gif")
SCAN = JPEG.index(b"\xff\xda")

ODD_BUT_WHOLE = {
    "MP3 behind two tags": (ID3 + ID3 + MP3, "mp3"),
    "MP3 behind an APE tag": (APE_HEADER + bytes(40) + APE_FOOTER + MP3, "mp3"),
    "MP3 before an APE tag": (MP3 + APE_HEADER + bytes(40) + APE_FOOTER, "mp3"),
    "MP3 before an ID3v1 tag": (MP3 + b"TAG" + bytes(125), "mp3"),
    "MP3 behind kilobytes of junk": (JUNK + MP3, "mp3"),
    "MP3 behind a tag and kilobytes of junk": (ID3 + JUNK + MP3, "mp3"),
    "MP3 behind kilobytes of zeros": (bytes(9000) + MP3, "mp3"),
    "MP3 behind a tag and kilobytes of zeros": (ID3 + bytes(9000) + MP3, "mp3"),
    "MP3 that starts in mid-frame": (MP3[50:], "mp3"),
    "two MP3, joined": (MP3 + ID3 + MP3, "mp3"),
    "WAV of length 0": (resized(WAV, 0), "wav"),
    "WAV of length 0, and its samples": (resized(WAV, 0, 0), "wav"),
    "WAV of a pipe": (resized(WAV, 2**32 - 1, 2**32 - 1), "wav"),
    "WAV of a pipe, less its header": (resized(WAV, 2**31 - 1, 2**31 - 1 - 36), "wav"),
    "WAV of a pipe, and its header": (resized(WAV, 2**31 + 35, 2**31 - 1), "wav"),
    "WAV whose length is the file's": (resized(WAV, len(WAV)), "wav"),
    "WAV whose lengths are the file's": (resized(WAV, len(WAV), len(WAV)), "wav"),
    "WAV without its pad byte": (resized(WAV[:-1], len(WAV) - 8, len(WAV) - 45), "wav"),
    "WebP of length 0": (resized(WEBP, 0), "webp"),
    "WebP of a pipe": (resized(WEBP, 2**32 - 1), "webp"),
    "WebP of half a pipe": (resized(WEBP, 2**31 - 1), "webp"),
    "WebP whose length is the file's": (resized(WEBP, len(WEBP)), "webp"),
    "MP4 behind free": (box(b"free", b"x") + ftyp(b"isom") + movie(at=25), "mp4"),
    "MP4 behind skip": (box(b"skip") + ftyp(b"isom") + movie(at=24), "mp4"),
    "MP4 behind wide": (box(b"wide") + ftyp(b"isom") + movie(at=24), "mp4"),
    "MP4 behind uuid": (box(b"uuid", bytes(16)) + ftyp(b"isom") + movie(at=40), "mp4"),
    "MP4 before a few bytes": (MP4 + b"abc", "mp4"),
    "MP4 before a few zeros": (MP4 + bytes(100), "mp4"),
    "MP4 before a page": (MP4 + b"<!DOCTYPE html><html></html>", "mp4"),
    "MP4 with a list of kilobytes of free": (ftyp(b"isom") + movie(at=16) + box(b"free", bytes(5000)), "mp4"),
    "AVIF before a few bytes": (AVIF + b"abc", "avif"),
    "HEIC of a brand that nobody knows": (HEIC[:8] + b"MiHE" + HEIC[12:], "heic"),
    "AVIF of the neutral brand": (AVIF[:8] + b"mif1" + AVIF[12:], "avif"),
    "AVIF that calls itself a film": (still(b"isom", codec=b"av01"), "avif"),
    "HEIC that calls itself a film": (still(b"mp42", codec=b"hvc1"), "heic"),
    "HEIC of pictures that are JPEG": (still(b"jpeg", b"mif1", codec=b"jpeg"), "heic"),
    "JPEG before a second picture": (JPEG + JPEG, "jpg"),
    "GIF with a zero between blocks": (GIF[:-1] + b"\0;", "gif"),
    "PNG before kilobytes of zeros": (png() + bytes(5000), "png"),
    "PNG in chunks of a byte": (
        png()[:33] + b"".join(chunk(b"IDAT", bytes([byte])) for byte in zlib.compress(bytes(20))) + chunk(b"IEND"),
        "png",
    ),
}  # fmt: skip

NOT_WHOLE = {
    "PNG without IDAT": png()[:33] + chunk(b"IEND"),
    "PNG with a wrong CRC": png()[:45] + bytes([png()[45] ^ 1]) + png()[46:],
    "PNG with a wrong CRC in its header": png()[:29] + b"\0\0\0\0" + png()[33:],
    "PNG whose rows are not all there": png()[:33] + chunk(b"IDAT", zlib.compress(bytes(19))) + chunk(b"IEND"),
    "PNG whose pixels end early": png()[:33] + chunk(b"IDAT", zlib.compress(bytes(20))[:5]) + chunk(b"IEND"),
    "PNG whose pixels are noise": png()[:33] + chunk(b"IDAT", b"pixels") + chunk(b"IEND"),
    "JPEG of two markers": b"\xff\xd8\xff\xd9",
    "JPEG without a scan": JPEG[:SCAN] + b"\xff\xd9",
    "JPEG without a frame": JPEG.replace(b"\xff\xc0", b"\xff\xef"),
    "JPEG without data in its scan": JPEG[: SCAN + 14] + b"\xff\xd9",
    "JPEG with little data in its scan": JPEG[: SCAN + 30] + b"\xff\xd9",
    "JPEG without quantization": JPEG.replace(b"\xff\xdb", b"\xff\xef"),
    "JPEG without one Huffman table": JPEG.replace(b"\xff\xc4", b"\xff\xef", 1),
    "progressive JPEG of its first scan": (
        (data := encoded("jpg_cjpeg_progressive.jpg"))[: data.index(b"\xff\xc4", data.index(b"\xff\xda"))] + b"\xff\xd9"
    ),
    "WebP of length 0 that is cut": resized(WEBP, 0)[:-20],
    "WebP of a pipe that is cut": resized(WEBP, 2**32 - 1)[:-20],
    "WebP without a picture": WEBP[:12] + b"EXIF" + WEBP[16:],
    "animated WebP with a frame that is none": encoded("webp_img2webp_animated.webp").replace(b"VP8 ", b"EXIF"),
    "MP4 without moov": without(MP4, b"moov"),
    "MP4 without mdat": without(MP4, b"mdat"),
    "MP4 without stco": without(MP4, b"stco"),
    "MP4 without stsd": without(MP4, b"stsd"),
    "MP4 without avcC": without(MP4, b"avcC"),
    "MP4 of ftyp and mdat": ftyp(b"isom") + box(b"mdat", PAYLOAD),
    "MP4 whose samples are zeros": ftyp(b"isom") + movie(at=16)[: -len(PAYLOAD)] + bytes(len(PAYLOAD)),
    "MP4 whose samples lie behind its end": ftyp(b"isom") + movie(at=40),
    "fragments without moov": without(encoded("mp4_x264_fragmented.mp4"), b"moov"),
    "fragments without one": without(encoded("mp4_x264_fragmented.mp4"), b"moof"),
    "fragments that are fewer than their index says": CMAF[: CMAF.rindex(b"moof") - 4],
    "AVIF without meta": without(AVIF, b"meta"),
    "AVIF of ftyp and mdat": ftyp(b"avif") + box(b"mdat", PAYLOAD),
    "AVIF without iloc": without(AVIF, b"iloc"),
    "AVIF without av1C": without(AVIF, b"av1C"),
    "AVIF whose item is zeros": AVIF[: AVIF.index(b"mdat") + 4].ljust(len(AVIF), b"\0"),
    "HEIC whose item lies outside": HEIC[:-40],
    "GIF without a frame": b"GIF89a\1\0\1\0\0\0\0;",
    "GIF whose frame has no data": b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\0;",
    "WAV without samples": resized(WAV, 36, 0)[:44],
    "WAV without samples, before another chunk": resized(WAV, 48, 0)[:44] + b"LIST\4\0\0\0INFO",
    "WAV without its format": WAV.replace(b"fmt ", b"junk"),
    "WAV that is cut": WAV[:-100],
    "MP3 of a tag": ID3[:-1],
    "MP3 whose frames are fewer than it says": encoded("mp3_lame.mp3")[:-1000],
    "MP3 whose second half is zeros": MP3 + bytes(5000),
    "WebM without a cluster": encoded("webm_vp9_opus.webm").replace(b"\x1f\x43\xb6\x75", b"\x1f\x43\xb6\x76"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_BUT_WHOLE)
def test_an_odd_file_that_plays_is_whole(name: str) -> None:
    data, extension = ODD_BUT_WHOLE[name]
    found = of(data)

    assert (found.extension, found.flaw) == (extension, None)


@pytest.mark.parametrize("name", NOT_WHOLE)
def test_a_file_without_what_makes_it_one_is_not_whole(name: str) -> None:
    assert of(NOT_WHOLE[name]).flaw is not None


@pytest.mark.parametrize(
    "head", [b"<html>", b"\0\0\1\xba", b"MZ\x90\0", b"text, and nothing but text" * 3, b"\0\0mdat"]
)
def test_frames_of_mp3_in_something_else_are_no_mp3(head: bytes) -> None:
    with pytest.raises(NotMedia):
        of(head + JUNK + MP3)


def test_a_film_of_two_gibibytes_costs_little_memory(tmp_path: pathlib.Path) -> None:
    """100,000 samples in 25,000 chunks, `moov` at the end; the file is a hole."""
    count, each = 100_000, 20_000
    head = ftyp(b"isom") + struct.pack(">I4sQ", 1, b"mdat", 16 + count * each)
    offsets = struct.pack(">25000I", *range(len(head), len(head) + count * each, 4 * each))
    sizes = struct.pack(">I", each) * count
    picture = track(b"vide", tables(b"raw ", sizes=sizes, per_chunk=4, offsets=offsets))
    file = tmp_path / "film.mp4"
    with file.open("wb") as film:
        film.write(head)
        film.seek(count * each, 1)
        film.write(box(b"moov", box(b"mvhd", bytes(100)), picture))
    tracemalloc.start()
    try:
        with file.open("rb") as film:
            found = identify(film)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert found.flaw is None
    assert file.stat().st_size > 2_000_000_000
    assert peak < 2_000_000


@pytest.mark.parametrize(("width", "height"), [(1, 65_535), (7680, 4320)])
def test_a_very_tall_page_and_a_picture_of_8k_are_taken(width: int, height: int) -> None:
    rows = zlib.compressobj(1)
    pixels = b"".join(rows.compress(bytes(1 + 3 * width)) for _ in range(height)) + rows.flush()
    found = of(png(width, height, pixels=pixels))

    assert (found.width, found.height, found.flaw) == (width, height, None)


HOSTILE = {
    "MP4 of tracks that claim four thousand million samples": ftyp(b"isom")
    + box(b"mdat", b"x")
    + box(b"moov", box(b"mvhd", bytes(100)), *[track(b"vide", ENDLESS)] * 3000),
    "HEIC of extents without fields": still(
        b"heic",
        places=full_box(
            b"iloc",
            struct.pack(">BBH", 0, 0, 65_535),
            struct.pack(">HHHH", 1, 2, 0, 65_535) * 65_535,
            version=1,
        ),
    ),
    "MP3 of gaps full of free headers": (encoded("mp3_ffmpeg_bare.mp3")[:2000] + b"\xff\xfb\0\0" * 2048)
    * 1000,
    "MP3 of free headers": ID3 + b"\xff\xfb\0\0\xff\xfb\2\1" * 1_000_000,
    "JPEG of scans": JPEG[:SCAN] + JPEG[SCAN : SCAN + 30] * 300_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_file_keeps_the_processor_busy(name: str) -> None:
    began = time.process_time()
    identify(io.BytesIO(HOSTILE[name]), reads_max=100_000)

    assert time.process_time() - began < SECONDS_MAX
