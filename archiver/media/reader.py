"""Bounded access to a file, and what the formats report.

`FileReader` does not raise at the end of the file, and acts as if the file ended after `reads_max` reads. Every step of
every loop in this package reads or spends, so no file can crash or hang it.
"""

import dataclasses
import itertools
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Self

WINDOW_BYTES = 64 * 1024

PIXELS_MAX = 200_000_000
"""Far above 8K (33 megapixels) and the tallest page that a side of 65,535 allows at 3,000 pixels of width."""
SIDE_MAX = 65_535
"""What JPEG and GIF can declare at all. More is a damaged or hostile header: decoders allocate by it."""

_READS_A_WINDOW = 10
"""What it costs to fill the window, as many reads of a few bytes from it do: 10 to 20 µs."""
_BYTES_A_TABLE_READ = 8
"""A table costs as many reads as it has this many bytes: all tables of a file have at most 2 million entries of 4
bytes. A film of two hours at 60 pictures a second has 0.8 million."""


class FileReader:
    """Random access to a seekable file of `size` bytes through one window."""

    def __init__(self, file: BinaryIO, *, reads_max: int) -> None:
        self._file = file
        self.size = file.seek(0, 2)
        self.reads_left = reads_max
        self._start = 0
        self._window = b""

    def read(self, offset: int, count: int) -> bytes:
        """Fewer bytes at the end of the file. `count` ≤ `WINDOW_BYTES`."""
        self.reads_left -= 1
        if not 0 <= offset < self.size or self.reads_left < 0:
            return b""
        if not self._start <= offset <= offset + count <= self._start + len(self._window):
            self.reads_left -= _READS_A_WINDOW
            self._file.seek(offset)
            self._start, self._window = offset, self._file.read(WINDOW_BYTES)
        return self._window[offset - self._start : offset - self._start + count]

    def spend(self, reads: int) -> None:
        """For steps that do not read."""
        self.reads_left -= reads

    def glance(self, offset: int, count: int) -> bytes:
        """As `read`, past the window: for a few bytes here and there (2 µs each; filling the window takes 20)."""
        self.reads_left -= 1
        if not 0 <= offset < self.size or self.reads_left < 0:
            return b""
        self._file.seek(offset)
        return self._file.read(count)

    def number(self, offset: int, count: int, *, little: bool = False) -> int | None:
        """An unsigned integer, or None where the file ends first."""
        data = self.read(offset, count)
        return int.from_bytes(data, "little" if little else "big") if len(data) == count else None

    def pieces(self, offset: int, count: int) -> Iterator[bytes]:
        """`count` bytes in pieces of at most `WINDOW_BYTES`; fewer bytes at the end of the file."""
        end = offset + count
        while offset < end and (piece := self.read(offset, min(end - offset, WINDOW_BYTES))):
            yield piece
            offset += len(piece)

    def has(self, wanted: bytes, offset: int, count: int) -> bool:
        """Whether `wanted` stands somewhere in these bytes. Costs 0.2 ns a byte."""
        tail = b""
        for piece in self.pieces(offset, count):
            if wanted in piece or wanted in tail + piece[: len(wanted)]:
                return True
            tail = piece[-len(wanted) :]
        return False

    def table(self, offset: int, count: int, *, bytes_each: int) -> Iterator[int]:
        """`count` big-endian integers of 4 or 8 bytes. Only one window of them is in memory."""
        code = "I" if bytes_each == 4 else "Q"
        return itertools.chain.from_iterable(
            struct.unpack(
                f">{len(piece) // bytes_each}{code}", piece[: len(piece) // bytes_each * bytes_each]
            )
            for piece in self._table_pieces(offset, count * bytes_each)
        )

    def _table_pieces(self, offset: int, count: int) -> Iterator[bytes]:
        for piece in self.pieces(offset, count):
            self.spend(len(piece) // _BYTES_A_TABLE_READ)
            yield piece


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """`flaw` says what the file lacks to be whole."""

    flaw: str | None
    width: int | None = None
    height: int | None = None

    @classmethod
    def of_largest(cls, sizes: Iterable[tuple[int, int]], *, flaw: str | None) -> Self:
        """The picture is the largest: thumbnails, tiles and alpha planes declare sizes too."""
        width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
        return cls(flaw, width or None, height or None)


def is_too_large(width: int | None, height: int | None) -> bool:
    """By what the header declares."""
    return (width or 0) * (height or 0) > PIXELS_MAX or max(width or 0, height or 0) > SIDE_MAX


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    extension: str
    content_type: str
    read_shape: Callable[[FileReader], Shape]
