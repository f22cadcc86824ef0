"""Bounded access to a file, and what the formats report.

`FileReader` does not raise at the end of the file, and acts as if the file ended after `reads_max` reads. Every step of
every loop in this package reads, so no file can crash or hang it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import BinaryIO, Self

WINDOW_BYTES = 64 * 1024


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
            self._file.seek(offset)
            self._start, self._window = offset, self._file.read(WINDOW_BYTES)
        return self._window[offset - self._start : offset - self._start + count]

    def number(self, offset: int, count: int, *, little: bool = False) -> int | None:
        """An unsigned integer, or None where the file ends first."""
        data = self.read(offset, count)
        return int.from_bytes(data, "little" if little else "big") if len(data) == count else None


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    whole: bool
    width: int | None = None
    height: int | None = None

    @classmethod
    def of_largest(cls, sizes: Sequence[tuple[int, int]], *, whole: bool) -> Self:
        """The picture is the largest: thumbnails, tiles and alpha planes declare sizes too."""
        width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
        return cls(whole, width or None, height or None)


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    extension: str
    content_type: str
    read_shape: Callable[[FileReader], Shape]
