"""What a file is, by its own bytes. Two rules:

1. Only structure is read, never a pixel. There is no decoder to exploit, and a decompression bomb shows in the size
   that its header declares.
2. No file crashes or hangs it (see `reader`).

`Media.whole` is False if the file ends before its structure does. That reveals a cut transfer where HTTP cannot:
without Content-Length, or behind a proxy that stored half. Bytes after the end are common and harmless. A structure
too long to walk counts as whole: a wrong doubt delays a good file by an hour.
"""

import dataclasses
import re
from typing import BinaryIO

from archiver.failures import NotMedia, TooLarge
from archiver.media import iso, mp3, raster, riff, webm
from archiver.media.reader import FileReader, Format

PIXELS_MAX = 100_000_000
READS_MAX = 500_000
"""Less than a second. The worst genuine file, a GIF of 64 MiB, takes 263,000: one for each 255 bytes."""

_HEAD_BYTES = 64

_MAGIC = tuple(
    (re.compile(pattern, re.DOTALL), format_)
    for pattern, format_ in (
        (rb"\x89PNG\r\n\x1a\n", raster.PNG),
        (rb"\xff\xd8\xff", raster.JPEG),
        (rb"RIFF....WEBP", riff.WEBP),
        (rb"RIFF....WAVE", riff.WAV),
        (rb"GIF8[79]a", raster.GIF),
        # "BM" alone may begin a text: the header's length and its one colour plane must fit too.
        (rb"BM.{12}[\x28\x34\x38\x40\x6c\x7c]\0\0\0.{8}\x01\0", raster.BMP),
        (rb"II\x2a\0|MM\0\x2a", raster.TIFF),
        # QuickTime before `ftyp` existed; a length below 512 MiB cannot be text.
        (rb"[\0-\x1f]...(moov|mdat|wide|pnot)", iso.MOV),
    )
)


@dataclasses.dataclass(frozen=True, slots=True)
class Media:
    """Width and height are declared pixels."""

    content_type: str
    extension: str
    width: int | None
    height: int | None
    whole: bool


def identify(file: BinaryIO, *, reads_max: int = READS_MAX) -> Media:
    """`file` must be seekable; its position afterwards is undefined.

    Raises NotMedia (for HTML, SVG and JSON too), TooLarge beyond 100 megapixels.
    """
    reader = FileReader(file, reads_max=reads_max)
    format_ = _format(reader)
    if format_ is None:
        raise NotMedia("the bytes are no image, video or audio file of a known type")
    shape = format_.read_shape(reader)
    if (shape.width or 0) * (shape.height or 0) > PIXELS_MAX:
        raise TooLarge(f"{shape.width}×{shape.height} pixels declared, more than 100 megapixels")
    return Media(
        content_type=format_.content_type,
        extension=format_.extension,
        width=shape.width or None,
        height=shape.height or None,
        whole=shape.whole or reader.reads_left < 0,
    )


def _format(reader: FileReader) -> Format | None:
    """By magic bytes at offset 0: a file that begins as something else is that."""
    head = reader.read(0, _HEAD_BYTES)
    for pattern, format_ in _MAGIC:
        if pattern.match(head):
            return format_
    if head[4:8] == b"ftyp" and head.startswith(b"\0\0"):  # `<!--ftyp` is the beginning of a page
        return iso.format_by_brand(reader)
    if head.startswith(webm.MAGIC):
        return webm.WEBM if webm.is_webm(reader) else None
    return mp3.MP3 if mp3.is_mp3(reader) else None
