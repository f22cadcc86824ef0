"""Bytes of real files, made on the fly and the same every time for the same seed. No I/O.

Every file is whole by the rules of its format (checksums, lengths, end markers), so that a checker which
refuses one is wrong; noise makes each one different and incompressible. JPEG noise sits in comment segments and
WebP noise in an unknown chunk, because an encoder for either would be longer than the rest of the simulator.
"""

import functools
import random
import struct
import zlib
from typing import Literal

ImageFormat = Literal["png", "jpeg", "webp"]
MediaFormat = Literal["png", "jpeg", "webp", "mp4", "mp3", "wav"]

CONTENT_TYPES: dict[MediaFormat, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
}
NAME_EXTENSIONS: dict[MediaFormat, str] = {
    "png": "png",
    "jpeg": "jpg",
    "webp": "webp",
    "mp4": "mp4",
    "mp3": "mp3",
    "wav": "wav",
}


@functools.lru_cache(maxsize=64)
def media(seed: str, media_format: MediaFormat, size: tuple[int, int]) -> bytes:
    """A whole file. `size` is pixels for images, and sets the amount of noise (3 bytes a pixel) for all."""
    noise = random.Random(seed).randbytes(size[0] * size[1] * 3)
    match media_format:
        case "png":
            return _png(noise, size)
        case "jpeg":
            return _jpeg(noise, size)
        case "webp":
            return _webp(noise)
        case "mp4":
            return _mp4(noise)
        case "mp3":
            return _mp3(noise)
        case "wav":
            return _wav(noise)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(noise: bytes, size: tuple[int, int]) -> bytes:
    width, height = size
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    stride = width * 3
    rows = b"".join(b"\0" + noise[at : at + stride] for at in range(0, len(noise), stride))
    # Level 0: noise does not shrink, and a megabyte of it is served in milliseconds.
    pixels = zlib.compress(rows, 0)
    chunks = _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", pixels) + _png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _jpeg_segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _jpeg(noise: bytes, size: tuple[int, int]) -> bytes:
    """Flat grey: one Huffman code of one bit for "same as before" and one for "end of block"."""
    width, height = size
    one_code = bytes([1, *([0] * 15), 0])
    blocks = -(-width // 8) * -(-height // 8)
    scan = bytes(2 * blocks // 8) + (bytes([0xFF >> (2 * blocks % 8)]) if 2 * blocks % 8 else b"")
    comments = (_jpeg_segment(0xFE, noise[at : at + 65000]) for at in range(0, len(noise), 65000))
    return b"".join(
        [
            b"\xff\xd8",
            _jpeg_segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
            *comments,
            _jpeg_segment(0xDB, b"\0" + b"\1" * 64),
            _jpeg_segment(0xC0, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"),
            _jpeg_segment(0xC4, b"\0" + one_code),
            _jpeg_segment(0xC4, b"\x10" + one_code),
            _jpeg_segment(0xDA, b"\1\1\0\0\x3f\0"),
            scan,
            b"\xff\xd9",
        ]
    )


def _riff_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _webp(noise: bytes) -> bytes:
    """One transparent pixel in the extended format, which allows unknown chunks."""
    extended = _riff_chunk(b"VP8X", b"\x10" + bytes(9))
    pixel = _riff_chunk(b"VP8L", bytes.fromhex("2f00000010071011118888fe07"))
    return _riff_chunk(b"RIFF", b"WEBP" + extended + pixel + _riff_chunk(b"NOIS", noise))


def _mp4_box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + kind + data


def _full_box(kind: bytes, data: bytes) -> bytes:
    return _mp4_box(kind, bytes(4) + data)


def _mp4(noise: bytes) -> bytes:
    """A sound of 16-bit samples in one chunk."""
    samples = noise[: len(noise) // 2 * 2]
    brands = _mp4_box(b"ftyp", b"isom" + struct.pack(">I", 512) + b"isomiso2mp41")
    offset = len(brands) + len(_movie(len(samples) // 2, 0)) + 8
    return brands + _movie(len(samples) // 2, offset) + _mp4_box(b"mdat", samples)


def _movie(count: int, offset: int) -> bytes:
    """`count` samples in one chunk at `offset`."""
    fixed = struct.pack(">IH10x", 0x00010000, 0x0100)
    matrix = struct.pack(">9I", 0x00010000, 0, 0, 0, 0x00010000, 0, 0, 0, 0x40000000)
    header = struct.pack(">IIII", 0, 0, 44100, count)
    entry = _mp4_box(b"sowt", struct.pack(">6xH8xHHHHI", 1, 1, 16, 0, 0, 44100 << 16))
    table = (
        _full_box(b"stsd", struct.pack(">I", 1) + entry)
        + _full_box(b"stts", struct.pack(">III", 1, count, 1))
        + _full_box(b"stsc", struct.pack(">IIII", 1, 1, count, 1))
        + _full_box(b"stsz", struct.pack(">II", 2, count))
        + _full_box(b"stco", struct.pack(">II", 1, offset))
    )
    reference = _full_box(b"dref", struct.pack(">I", 1) + struct.pack(">I4sI", 12, b"url ", 1))
    information = _full_box(b"smhd", bytes(4)) + _mp4_box(b"dinf", reference) + _mp4_box(b"stbl", table)
    media = (
        _full_box(b"mdhd", header + struct.pack(">HH", 0x55C4, 0))
        + _full_box(b"hdlr", bytes(4) + b"soun" + bytes(13))
        + _mp4_box(b"minf", information)
    )
    placed = struct.pack(">IIIIII8xHHHH", 3, 0, 0, 1, 0, count, 0, 0, 0x0100, 0)
    track = _mp4_box(b"tkhd", placed + matrix + bytes(8))
    return _mp4_box(
        b"moov",
        _full_box(b"mvhd", header + fixed + matrix + bytes(24) + struct.pack(">I", 2))
        + _mp4_box(b"trak", track + _mp4_box(b"mdia", media)),
    )


def _mp3(noise: bytes) -> bytes:
    """MPEG-1 layer III, 128 kbit/s, 44.1 kHz: frames of 417 bytes, the last one filled up with zeros."""
    payloads = (noise[at : at + 413].ljust(413, b"\0") for at in range(0, len(noise), 413))
    return b"".join(b"\xff\xfb\x90\x00" + payload for payload in payloads)


def _wav(noise: bytes) -> bytes:
    samples = noise[: len(noise) // 2 * 2]
    form = struct.pack("<HHIIHH", 1, 1, 44100, 88200, 2, 16)
    return _riff_chunk(b"RIFF", b"WAVE" + _riff_chunk(b"fmt ", form) + _riff_chunk(b"data", samples))
