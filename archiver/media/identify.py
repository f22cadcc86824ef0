"""Identifies a file by its own bytes. Two rules:

1. Only structure is read, never a pixel. There is no decoder to exploit, and a decompression bomb shows in the size
   that its header declares.
2. No file crashes or hangs it (see `reader`).

`Media.flaw` says what a file lacks to be a whole picture, film or sound; each format's module says what that is. So a
truncated transfer is found where HTTP cannot tell: without Content-Length, or behind a proxy that stored half. So is a
file whose encoder was killed. Bytes after the end are common and harmless. A structure too long to walk counts as
whole: a wrong doubt would delay a good file by an hour.

A header may declare 200 megapixels, and 65,535 on a side (`reader`). The tallest page is then still whole: 3,000 wide
and 65,535 high. Nothing here allocates by these numbers, but a program that opens the file later does.
"""

import dataclasses
import re
from typing import BinaryIO

from archiver.failures import NotMedia, TooLarge
from archiver.media import iso, jpeg, mp3, png, raster, riff, webm
from archiver.media.reader import PIXELS_MAX, SIDE_MAX, FileReader, Format, is_too_large

READS_MAX = 1_000_000
"""About a second. A GIF takes the most, one for each 255 bytes: 240 MB of it are walked."""

_HEAD_BYTES = 64
_BOX = re.compile(rb"\0\0..ftyp|[\0-\x1f]...(moov|mdat|wide|pnot|free|skip|uuid)", re.DOTALL)
"""A length below 512 MiB cannot be text; `<!--ftyp` is the beginning of a page."""

_MAGIC = tuple(
    (re.compile(pattern, re.DOTALL), format_)
    for pattern, format_ in (
        (rb"\x89PNG\r\n\x1a\n", png.PNG),
        (rb"\xff\xd8\xff", jpeg.JPEG),
        (rb"RIFF....WEBP", riff.WEBP),
        (rb"(RIFF|RF64|BW64)....WAVE", riff.WAV),
        (rb"GIF8[79]a", raster.GIF),
        # "BM" alone may begin a text: the header's length and its one colour plane must fit too.
        (rb"BM.{12}[\x28\x34\x38\x40\x6c\x7c]\0\0\0.{8}\x01\0", raster.BMP),
        (rb"BM.{12}\x0c\0\0\0.{4}\x01\0", raster.BMP),  # of OS/2
        (rb"II\x2a\0|MM\0\x2a", raster.TIFF),
    )
)


@dataclasses.dataclass(frozen=True, slots=True)
class Media:
    """Width and height are declared pixels. `flaw` is None if the file is whole."""

    content_type: str
    extension: str
    width: int | None
    height: int | None
    flaw: str | None

    @property
    def whole(self) -> bool:
        return self.flaw is None


def identify(file: BinaryIO, *, reads_max: int = READS_MAX) -> Media:
    """`file` must be seekable; its position afterwards is undefined.

    Raises NotMedia (for HTML, SVG and JSON too), TooLarge beyond 200 megapixels or 65,535 on a side.
    """
    reader = FileReader(file, reads_max=reads_max)
    format_ = _format(reader)
    if format_ is None:
        raise NotMedia("the bytes are no image, video or audio file of a known type")
    shape = format_.read_shape(reader)
    if is_too_large(shape.width, shape.height):
        raise TooLarge(
            f"{shape.width}×{shape.height} pixels declared, more than "
            f"{PIXELS_MAX // 1_000_000} megapixels or {SIDE_MAX} on a side"
        )
    return Media(
        content_type=format_.content_type,
        extension=format_.extension,
        width=shape.width or None,
        height=shape.height or None,
        flaw=shape.flaw if reader.reads_left >= 0 else None,
    )


def _format(reader: FileReader) -> Format | None:
    """By magic bytes at offset 0: a file that begins as something else is that."""
    head = reader.read(0, _HEAD_BYTES)
    for pattern, format_ in _MAGIC:
        if pattern.match(head):
            return format_
    if _BOX.match(head):
        return iso.format_of(reader)
    if head.startswith(webm.MAGIC):
        return webm.WEBM if webm.is_webm(reader) else None
    return mp3.MP3 if mp3.is_mp3(reader) else None
