"""Where the samples of one track of a film lie, by its tables (`stbl`): stsz (how long each is), stsc (how many are in
a chunk) and stco (where each chunk starts).

The tables are read in windows of 64 KiB side by side, so a film of 2 GiB costs as much memory as a short one. Every
sample must lie in the file. Some are looked at, since what is missing of a file is often zeros: their first bytes, and
all of H.264 and HEVC.
"""

import itertools
from collections.abc import Iterator

from archiver.media.boxes import Box, below, inside
from archiver.media.reader import FileReader

GLANCES_MAX = 2048
"""Samples looked at in one track, evenly spread."""
SCAN_BYTES_MAX = 64 * 1024 * 1024
"""How many bytes of H.264 and HEVC are searched for holes. A film of 50 MB takes 20 ms, beside 95 for its digests."""
_BLOCK = 4096
_ZEROS = 16
_SAMPLE_BYTES_MIN = 4
_COMPRESSED = frozenset(
    b"avc1 avc2 avc3 avc4 hvc1 hev1 dvh1 dvhe dvav dva1 av01 vp08 vp09 mp4v mp4a .mp3 ac-3 ec-3 Opus jpeg mjpa".split()
)
"""No sample of these begins with 16 zeros. Samples of PCM, text and time codes may be all zeros."""
_NAL = frozenset(b"avc1 avc2 avc3 avc4 hvc1 hev1 dvh1 dvhe dvav dva1".split())
"""Nor have these three zeros anywhere but in the lengths of their parts, and padding is shorter than 64 bytes."""
_NAL_ZEROS = 64
_CONFIGURATIONS = {
    b"avc1": b"avcC",
    b"avc3": b"avcC",
    b"hvc1": b"hvcC",
    b"hev1": b"hvcC",
    b"av01": b"av1C",
    b"mp4a": b"esds",
}
"""Without its own, no decoder can start."""
_NEEDED = (b"stsd", b"stts", b"stsc")
_TABLES = frozenset((*_NEEDED, b"stsz", b"stz2", b"stco", b"co64"))


class _Sizes:
    """The lengths of the samples, in their order."""

    def __init__(self, reader: FileReader, box: Box) -> None:
        head = reader.read(box.content_start + 4, 8)
        self.left = int.from_bytes(head[4:], "big") if len(head) == 8 else 0
        first = int.from_bytes(head[:4], "big")
        self._each: int | None
        self._table: Iterator[int] = iter(())
        if box.kind == b"stz2" or first == 1:
            self._each = 0  # 1: QuickTime means "as the sound's description says"
        elif first:
            self._each = first
        else:
            self._each = None
            self.left = min(self.left, max((min(box.end, reader.size) - box.content_start - 12) // 4, 0))
            self._table = reader.table(box.content_start + 12, self.left, bytes_each=4)

    def take(self, count: int) -> tuple[int, list[int]]:
        """How many were taken of `count`, and their lengths; where all are equal, one in place of all."""
        count = min(count, self.left)
        if self._each is None:
            count = min(count, _BLOCK)
            lengths = list(itertools.islice(self._table, count))
        else:
            lengths = [self._each * count]
        self.left -= count
        return count, lengths


class Track:
    """One track of film or sound. `count` is how many samples its tables have."""

    def __init__(self, reader: FileReader, track: Box) -> None:
        self._reader = reader
        table = below(reader, track, b"mdia", b"minf", b"stbl")
        found = inside(reader, table) if table else ()
        self._boxes = {box.kind: box for box in found if box.kind in _TABLES}
        sizes = self._boxes.get(b"stsz") or self._boxes.get(b"stz2")
        self._sizes = _Sizes(reader, sizes) if sizes else None
        self.count = self._sizes.left if self._sizes else 0
        self.codec = self._describe()
        self._every = max((self.count + GLANCES_MAX - 1) // GLANCES_MAX, 1)
        self._seen = 0
        self._scan_bytes_left = SCAN_BYTES_MAX

    def _describe(self) -> bytes:
        box = self._boxes.get(b"stsd")
        return self._reader.read(box.content_start + 12, 4) if box else b""

    def flaws(self) -> Iterator[str]:
        """Nothing of a track whose samples are in fragments, but that its tables are there."""
        for kind in _NEEDED:
            if kind not in self._boxes:
                yield f"a track without {kind.decode()}"
        if self._sizes is None:
            yield "a track without stsz"
        if not self.codec.strip(b"\0"):
            yield "a track that nothing describes"
        yield from self._configuration_flaws()
        if self.count:
            yield from self._placed()

    def _configuration_flaws(self) -> Iterator[str]:
        box, wanted = self._boxes.get(b"stsd"), _CONFIGURATIONS.get(self.codec)
        if box and wanted and wanted not in self._reader.read(box.start, min(box.end - box.start, 32768)):
            yield f"a track without {wanted.decode()}"

    def _placed(self) -> Iterator[str]:
        """Walks all chunks."""
        sizes = self._sizes
        chunks = self._boxes.get(b"stco") or self._boxes.get(b"co64")
        if sizes is None or chunks is None or b"stsc" not in self._boxes:
            yield "a track without stco"
            return
        for offset, count in self._chunks(chunks):
            yield from self._chunk_flaws(offset, count, sizes)
        if sizes.left:
            yield "samples have no place"

    def _chunk_flaws(self, offset: int, count: int, sizes: _Sizes) -> Iterator[str]:
        while count > 0:
            taken, block = sizes.take(count)
            if not taken:
                return
            count -= taken
            end = offset + sum(block)
            if end > self._reader.size:
                yield "samples lie outside the file"
            if self.codec in _COMPRESSED:
                yield from self._glance(offset, block)
            offset = end

    def _chunks(self, chunks: Box) -> Iterator[tuple[int, int]]:
        """Offset and number of samples of each chunk."""
        reader = self._reader
        runs_box = self._boxes[b"stsc"]
        bytes_each = 8 if chunks.kind == b"co64" else 4
        count = reader.number(chunks.content_start + 4, 4) or 0
        offsets = reader.table(chunks.content_start + 8, count, bytes_each=bytes_each)
        fields = reader.table(
            runs_box.content_start + 8, 3 * (reader.number(runs_box.content_start + 4, 4) or 0), bytes_each=4
        )
        runs = zip(fields, fields, fields, strict=False)
        _, samples, _ = next(runs, (1, 0, 0))
        following = next(runs, None)
        for number, offset in enumerate(offsets, 1):
            while following is not None and number >= following[0]:
                samples, following = following[1], next(runs, None)
            yield offset, samples

    def _glance(self, offset: int, block: list[int]) -> Iterator[str]:
        """At every so-many-th sample of these, which follow each other."""
        starts = list(itertools.accumulate(block, initial=offset))
        for index in range(-self._seen % self._every, len(block), self._every):
            start, size = starts[index], block[index]
            if size >= _SAMPLE_BYTES_MIN and not any(self._reader.glance(start, min(size, _ZEROS))):
                yield f"zeros in place of a sample at byte {start}"
            if self.codec in _NAL and self._scan_bytes_left >= size:
                self._scan_bytes_left -= size
                if self._reader.has(bytes(_NAL_ZEROS), start, size):
                    yield f"zeros in the sample at byte {start}"
        self._seen += len(block)
