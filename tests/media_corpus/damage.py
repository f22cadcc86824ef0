"""Twenty ways to damage a file: the same bytes, the same damage. Truncated, zeroed, and bits flipped in structure."""

import re
from collections.abc import Iterator

CUTS = (0.02, 0.25, 0.5, 0.75, 0.9, 0.98)
ZEROED = ((0.02, 0.1), (0.3, 0.4), (0.33, 0.67), (0.5, 1.0), (0.9, 1.0))
HEAD_BYTES = 16
FLIPS = 7

_STRUCTURE = {
    "png": rb"IHDR|PLTE|IDAT|IEND|fcTL|fdAT",
    "jpg": rb"\xff[\xc0-\xc4\xc9\xda\xdb\xd9]",
    "webp": rb"VP8[ XL]|ANMF|ALPH|\x9d\x01\x2a",
    "gif": rb"\x21\xf9\x04|\x00\x2c\x00\x00\x00\x00",
    "bmp": rb"(?s)(?<=\A.{10}).|(?<=\A.{14}).|(?<=\A.{18}).|(?<=\A.{26}).",
    "tiff": rb"(?s)(?<=\A.{4}).|[\x01\x11]\x01[\x03\x04]\x00|\x01[\x01\x11]\x00[\x03\x04]",
    "avif": rb"ftyp|meta|hdlr|pitm|iloc|iinf|infe|iprp|ipco|ispe|av1C|ipma|mdat|moov|stbl",
    "heic": rb"ftyp|meta|hdlr|pitm|iloc|iinf|infe|iprp|ipco|ispe|hvcC|ipma|mdat",
    "mp4": rb"ftyp|moov|trak|mdia|hdlr|minf|stbl|stsd|stsz|stsc|stco|avcC|hvcC|esds|mdat|moof|trun",
    "mov": rb"moov|trak|mdia|hdlr|minf|stbl|stsd|stsz|stsc|stco|mdat",
    "webm": rb"\x1a\x45\xdf\xa3|\x18\x53\x80\x67|\x16\x54\xae\x6b|\xae|\x1f\x43\xb6\x75|\xa3",
    "mp3": rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]",
    "wav": rb"RIFF|RF64|WAVE|fmt |data|ds64",
}


def damages(data: bytes, extension: str) -> Iterator[tuple[str, bytes]]:
    """A name and the damaged bytes, twenty times."""
    size = len(data)
    for share in CUTS:
        yield f"cut at {share:.0%}", data[: int(size * share)]
    yield "without its last byte", data[:-1]
    yield f"its first {HEAD_BYTES} bytes zeroed", bytes(min(HEAD_BYTES, size)) + data[HEAD_BYTES:]
    for first, last in ZEROED:
        start, end = int(size * first), int(size * last)
        yield f"zeroed from {first:.0%} to {last:.0%}", data[:start] + bytes(end - start) + data[end:]
    places = [found.start() for found in re.finditer(_STRUCTURE[extension], data)] or [0]
    for number in range(FLIPS):
        place = places[number * len(places) // FLIPS]
        bit = 1 << number % 8 if len(places) < FLIPS else 0x20
        yield f"bit {bit:#x} flipped at byte {place}", _flipped(data, place, bit)


def _flipped(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]
