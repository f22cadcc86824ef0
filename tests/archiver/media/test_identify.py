"""What a file is by its own bytes, and whether all of it is there. The samples are built here, box by box."""

import io
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.failures import NotMedia, TooLarge
from archiver.media.identify import Media, identify
from archiver.media.reader import WINDOW_BYTES
from tests.harness.media_samples import (
    MP3_FRAME,
    NAMES,
    PAYLOAD,
    PICTURES,
    SAMPLES,
    SOUNDS,
    bmp,
    box,
    chunk,
    ebml,
    element,
    ftyp,
    gif,
    jpeg,
    movie,
    mp4,
    png,
    tiff,
    webm,
    webp_lossy,
)


def of(data: bytes) -> Media:
    return identify(io.BytesIO(data))


@pytest.mark.parametrize(("make", "extension", "content_type"), PICTURES, ids=NAMES[: len(PICTURES)])
def test_a_picture_is_known_by_its_bytes(
    make: Callable[[int, int], bytes], extension: str, content_type: str
) -> None:
    expected = Media(content_type=content_type, extension=extension, width=321, height=123, flaw=None)

    assert of(make(321, 123)) == expected


@pytest.mark.parametrize(("make", "extension", "content_type"), SOUNDS, ids=NAMES[len(PICTURES) :])
def test_a_sound_is_known_by_its_bytes(make: Callable[[], bytes], extension: str, content_type: str) -> None:
    expected = Media(content_type=content_type, extension=extension, width=None, height=None, flaw=None)

    assert of(make()) == expected


@pytest.mark.parametrize("data", SAMPLES, ids=NAMES)
def test_a_file_without_its_last_byte_is_not_whole(data: bytes) -> None:
    assert not of(data[:-1]).whole


@pytest.mark.parametrize(
    "data",
    [
        sample
        for sample, name in zip(SAMPLES, NAMES, strict=True)
        # These may end between two frames and say nowhere how many there are.
        if name not in {"mp3", "mp3_tagged", "mp3_low"}
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
    found = of(box(b"wide") + movie(at=8))

    assert (found.extension, found.flaw) == ("mov", None)


def test_a_box_may_have_a_long_length_or_reach_to_the_end() -> None:
    data = mp4()[: -len(PAYLOAD) - 8]
    long = data.replace(struct.pack(">I", len(data) + 8), struct.pack(">I", len(data) + 16))
    long = long.replace(struct.pack(">I", len(data) + 28), struct.pack(">I", len(data) + 36))
    long += struct.pack(">I4sQ", 1, b"mdat", 16 + len(PAYLOAD)) + PAYLOAD

    assert of(long).whole
    assert not of(long[:-1]).whole
    assert of(data + struct.pack(">I4s", 0, b"mdat") + PAYLOAD).whole


@pytest.mark.parametrize(
    "make", [make for make, _, _ in PICTURES if make is not bmp and make is not webp_lossy]
)
def test_more_than_200_megapixels_are_refused(make: Callable[[int, int], bytes]) -> None:
    assert of(make(16_000, 12_500)).width == 16_000
    with pytest.raises(TooLarge, match="megapixels"):
        of(make(16_000, 12_501))


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
        png()[:33] + chunk(b"tEXt") * 3000,
        b"\xff\xd8" + b"\xff\xfe\0\x02" * 9000,
        b"GIF89a\1\0\1\0\0\0\0" + b"\x21\xfe" + b"\x01a" * 9000,
        ftyp(b"isom") + b"\0\0\0\x08free" * 3000 + b"\0\0\0\x09free",
        ftyp(b"isom") + struct.pack(">I4s", 24_008, b"moov") + b"\0\0\0\x08trak" * 3000 + b"\0\0\0\x09mdat",
        b"II\x2a\0\x08\0\0\0\x0b\0"
        + struct.pack("<HHII", 273, 1, 9000, 8) * 10
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
