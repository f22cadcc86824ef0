"""MP4, MOV, AVIF and HEIC: which one a file of ISO boxes is."""

from archiver.media import movie, still
from archiver.media.boxes import boxes
from archiver.media.reader import FileReader, Format, Shape

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_SEQUENCE_BRANDS = frozenset({b"avis", b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"})
_NEUTRAL_BRANDS = frozenset({b"mif1", b"mif2", b"msf1", b"miaf"})
"""Still pictures of any codec: the compatible brands and the items decide."""
_OTHER_STILL_BRANDS = frozenset({b"crx ", b"jp2 ", b"jpx ", b"jxl "})
"""Still pictures in formats that we do not store."""
_LEADING = frozenset({b"free", b"skip", b"wide", b"uuid"})
"""May stand in front of everything."""
_LEADING_MAX = 16


def _still(reader: FileReader) -> Shape:
    """A sequence of pictures is a film too."""
    kinds = {box.kind for box in boxes(reader, 0, reader.size) if box.kind in (b"moov", b"meta")}
    meta = still.meta_of(reader)
    if meta is None:
        # A box without its handler is damaged.
        return movie.read_shape(reader) if b"moov" in kinds and b"meta" not in kinds else Shape("no meta box")
    shape = still.read_shape(reader, meta)
    if shape.flaw is None and (b"moov" in kinds or reader.read(8, 4) in _SEQUENCE_BRANDS):
        return Shape(next(movie.flaws(reader), None), shape.width, shape.height)
    return shape


AVIF = Format("avif", "image/avif", _still)
HEIC = Format("heic", "image/heic", _still)
MOV = Format("mov", "video/quicktime", movie.read_shape)
MP4 = Format("mp4", "video/mp4", movie.read_shape)


def format_of(reader: FileReader) -> Format | None:
    """None if no box tells. Without `ftyp` it is QuickTime, which is older."""
    for number, box in enumerate(boxes(reader, 0, reader.size)):
        if box.kind == b"ftyp":
            return _by_brand(reader, box.content_start, min(box.end, box.start + 1024))
        if box.kind not in _LEADING:
            return MOV if box.kind in (b"moov", b"mdat", b"pnot") else None
        if number >= _LEADING_MAX:
            break
    return None


def _by_brand(reader: FileReader, start: int, end: int) -> Format | None:
    brands = reader.read(start, max(end - start, 8))
    major = brands[:4]
    compatible = {brands[at : at + 4] for at in range(8, len(brands), 4)}
    if major in _AVIF_BRANDS or (major in _NEUTRAL_BRANDS and compatible & _AVIF_BRANDS):
        return AVIF
    if major in _HEIC_BRANDS:
        return HEIC
    if major in _OTHER_STILL_BRANDS:
        return None
    meta = still.meta_of(reader)
    if major in _NEUTRAL_BRANDS or (
        meta and not any(box.kind == b"moov" for box in boxes(reader, 0, reader.size))
    ):
        return AVIF if compatible & _AVIF_BRANDS or (meta and still.has_item(reader, meta, b"av01")) else HEIC
    return MOV if major == b"qt  " else MP4
