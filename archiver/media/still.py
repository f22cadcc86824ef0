"""AVIF and HEIC stills (HEIF, ISO/IEC 23008-12): `meta` lists items, `iloc` says where the bytes of each are.

Whole: a primary item, a size (`ispe`) and the decoder's configuration; every item's bytes in the file; and a coded item
that is not zeros. The primary item of a large picture is a grid of others.
"""

import dataclasses
import itertools
from collections.abc import Iterator

from archiver.media.boxes import Box, below, boxes, inside
from archiver.media.reader import FileReader, Shape

_CONFIGURATIONS = {b"av01": b"av1C", b"hvc1": b"hvcC", b"avc1": b"avcC"}
_DERIVED = frozenset((b"grid", b"iovl", b"iden"))
_NEEDED = (b"pitm", b"iinf", b"iloc", b"iprp")
_ZEROS = 64
_PARTS = frozenset((*_NEEDED, b"idat", b"iref"))
_ITEMS_MAX = 65_536
_PROPERTIES_MAX = 32_767
_IN_FILE, _IN_META = 0, 1


@dataclasses.dataclass(frozen=True, slots=True)
class _Item:
    id: int
    extents: list[tuple[int, int]]
    """Start and end in the file."""

    @property
    def bytes(self) -> int:
        return sum(end - start for start, end in self.extents)


def meta_of(reader: FileReader) -> Box | None:
    """The box `meta` of a still picture: its handler is `pict`."""
    for box in boxes(reader, 0, reader.size):
        if box.kind == b"meta":
            handler = next((inner for inner in inside(reader, box, skip=4) if inner.kind == b"hdlr"), None)
            if handler is not None and reader.read(handler.content_start + 8, 4) == b"pict":
                return box
    return None


def has_item(reader: FileReader, meta: Box, kind: bytes) -> bool:
    """Whether an item of this type is listed."""
    box = next((inner for inner in inside(reader, meta, skip=4) if inner.kind == b"iinf"), None)
    return box is not None and kind in _kinds(reader, box).values()


def read_shape(reader: FileReader, meta: Box) -> Shape:
    """The `ispe` properties hold the sizes."""
    parts = {box.kind: box for box in inside(reader, meta, skip=4) if box.kind in _PARTS}
    properties = below(reader, parts[b"iprp"], b"ipco") if b"iprp" in parts else None
    listed = list(itertools.islice(inside(reader, properties), _PROPERTIES_MAX)) if properties else []
    sizes = [
        (reader.number(box.content_start + 4, 4) or 0, reader.number(box.content_start + 8, 4) or 0)
        for box in listed
        if box.kind == b"ispe"
    ]
    flaw = next(_flaws(reader, parts, [box.kind for box in listed]), None)
    return Shape.of_largest(sizes, flaw=flaw)


def _flaws(reader: FileReader, parts: dict[bytes, Box], listed: list[bytes]) -> Iterator[str]:
    missing = [kind.decode() for kind in _NEEDED if kind not in parts]
    if missing:
        yield f"no {missing[0]} box"
        return
    if any(box.end > reader.size for box in parts.values()):
        yield "its meta box is cut"
    kinds = _kinds(reader, parts[b"iinf"])
    primary = _primary(reader, parts[b"pitm"])
    if primary not in kinds:
        yield "no primary item"
        return
    yield from _properties_flaws(reader, parts[b"iprp"], listed, kinds, primary)
    coded: set[int] = set()
    for item in _items(reader, parts[b"iloc"], parts.get(b"idat")):
        if item.bytes and kinds.get(item.id) not in _DERIVED:
            coded.add(item.id)
        yield from _item_flaws(reader, item, kinds)
    if kinds[primary] in _DERIVED:
        if not coded or b"iref" not in parts:
            yield "no item has data"
    elif primary not in coded:
        yield "the primary item has no data"


def _item_flaws(reader: FileReader, item: _Item, kinds: dict[int, bytes]) -> Iterator[str]:
    """Compressed pictures have no long runs of zeros. Items of other kinds (Exif, XMP) may."""
    if item.id not in kinds:
        yield "an item that is not listed"
    for start, end in item.extents:
        if end > reader.size:
            yield "an item lies outside the file"
        if kinds.get(item.id) in _CONFIGURATIONS and reader.has(bytes(_ZEROS), start, end - start):
            yield f"zeros in place of an item at byte {start}"


def _properties_flaws(
    reader: FileReader, box: Box, listed: list[bytes], kinds: dict[int, bytes], primary: int
) -> Iterator[str]:
    """The primary item needs a size, each coded item its decoder's configuration."""
    named = _named_properties(reader, box, listed, kinds)
    if b"ispe" not in named.get(primary, ()):
        yield "no size of the picture"
    for item, kind in kinds.items():
        configuration = _CONFIGURATIONS.get(kind)
        if configuration and configuration not in named.get(item, ()):
            yield f"an item without {configuration.decode()}"


def _named_properties(
    reader: FileReader, parent: Box, listed: list[bytes], kinds: dict[int, bytes]
) -> dict[int, set[bytes]]:
    """The kinds of the properties of each item, by `ipma`."""
    named: dict[int, set[bytes]] = {}
    for box in inside(reader, parent):
        if box.kind != b"ipma":
            continue
        head = reader.read(box.content_start, 4)
        id_bytes, index_bytes = (4 if head[:1] != b"\0" else 2), 2 if head[3:] and head[3] & 1 else 1
        fields = _Fields(reader, box.content_start + 4, min(box.end, reader.size))
        for _ in range(fields.take(4)):
            item = fields.take(id_bytes)
            for _ in range(fields.take(1)):
                index = fields.take(index_bytes) & (0x7FFF if index_bytes == 2 else 0x7F)
                if 0 < index <= len(listed) and item in kinds:
                    named.setdefault(item, set()).add(listed[index - 1])
            if fields.is_over:
                break
    return named


def _primary(reader: FileReader, box: Box) -> int:
    version = reader.number(box.content_start, 1)
    return reader.number(box.content_start + 4, 2 if version == 0 else 4) or 0


def _kinds(reader: FileReader, box: Box) -> dict[int, bytes]:
    """The type of each item."""
    kinds = {}
    skip = 6 if reader.number(box.content_start, 1) == 0 else 8
    for entry in inside(reader, box, skip=skip):
        version = reader.number(entry.content_start, 1)
        if entry.kind == b"infe" and version in (2, 3):
            id_bytes = 2 if version == 2 else 4
            number = reader.number(entry.content_start + 4, id_bytes) or 0
            kinds[number] = reader.read(entry.content_start + 6 + id_bytes, 4)
        if len(kinds) > _ITEMS_MAX:
            break
    return kinds


def _items(reader: FileReader, box: Box, data: Box | None) -> Iterator[_Item]:
    """The entries of `iloc`, whose fields are as long as its first bytes say."""
    head = reader.read(box.content_start, 6)
    if len(head) < 6:
        return
    version = head[0]
    offset_bytes, length_bytes, base_bytes = head[4] >> 4, head[4] & 15, head[5] >> 4
    index_bytes = head[5] & 15 if version else 0
    id_bytes = 4 if version == 2 else 2
    fields = _Fields(reader, box.content_start + 6, min(box.end, reader.size))
    for _ in range(fields.take(id_bytes)):
        number = fields.take(id_bytes)
        method = fields.take(2) & 15 if version else _IN_FILE
        fields.take(2)  # which file
        base = fields.take(base_bytes)
        extents = []
        for _ in range(fields.take(2)):
            if fields.is_over:
                return
            fields.take(index_bytes)
            start, length = base + fields.take(offset_bytes), fields.take(length_bytes)
            if method == _IN_META and data is not None:
                start += data.content_start
            if method in (_IN_FILE, _IN_META):
                extents.append((start, start + length if length else max(start, reader.size)))
        if fields.is_over:
            return
        yield _Item(number, extents)


class _Fields:
    """Numbers one after the other; zeros after the end."""

    def __init__(self, reader: FileReader, start: int, end: int) -> None:
        self._reader = reader
        self._at = start
        self._end = end

    @property
    def is_over(self) -> bool:
        return self._at > self._end or self._reader.reads_left < 0

    def take(self, bytes_: int) -> int:
        at, self._at = self._at, self._at + bytes_
        if not bytes_ or self._at > self._end:
            self._reader.spend(1)
            return 0
        return self._reader.number(at, bytes_) or 0
