"""A JSON text of any size → the same text without its long strings. No I/O.

Bodies of creates are images in Base64 with a little JSON around them. Only that little matters to us: it is read as
JSON, while the long strings are only hashed. 100 MiB cost about as much as their SHA-256, one chunk at a time, so that
the event loop goes on in between.
"""

import bisect
import codecs
import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

LONG_STRING_BYTES = 8192
"""A longer string is image data: the longest prompt has 2500 characters."""
SKIMMED_BYTES_MAX = 256 * 1024

_QUOTE, _BACKSLASH = b'"', b"\\"
_INSIDE = re.compile(rb'(?:[^"\\]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+')
_ESCAPE_BYTES_MAX = 6


class Unreadable(ValueError):
    """The text is not UTF-8, not JSON, or longer than `SKIMMED_BYTES_MAX` without its long strings."""


class Skimmed:
    """`text` has the objects {"sha256", "bytes"} in place of long strings: the digest and length of each, as it was
    written."""

    def __init__(self, text: bytes, cuts: list[tuple[int, int]]) -> None:
        """`cuts`: ends of long strings, in `text` and in the whole text."""
        self.text = text
        self._short = [short for short, _ in cuts]
        self._whole = [whole for _, whole in cuts]

    def offset(self, at: int) -> int:
        """The offset in the whole text of the byte `at` of `text`, which must be outside of what was cut."""
        number = bisect.bisect_right(self._short, at) - 1
        return at if number < 0 else self._whole[number] + at - self._short[number]


class Skimmer:
    """Takes a text chunk by chunk."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = bytearray()
        self._cuts: list[tuple[int, int]] = []
        self._taken = 0
        """Bytes of the whole text before `feed`'s data."""
        self._left_over = b""
        """The beginning of an escape."""
        self._is_inside = False
        self._opened_at = 0
        """The current string's opening quote in `_text`."""
        self._string_bytes = 0
        self._digest: _Hash | None = None
        """The digest of the current string, once the string is long."""

    def feed(self, chunk: bytes) -> None:
        """The next bytes. Raises Unreadable."""
        if not chunk.isascii() or self._decoder.getstate()[0]:
            try:
                self._decoder.decode(chunk)
            except UnicodeDecodeError as error:
                raise Unreadable("not UTF-8") from error
        data = self._left_over + chunk
        self._left_over = b""
        at = 0
        while at < len(data):
            at = self._inside(data, at) if self._is_inside else self._outside(data, at)
        self._taken += len(data) - len(self._left_over)

    def finish(self) -> Skimmed:
        """After the last chunk. Raises Unreadable."""
        if self._is_inside or self._left_over or self._decoder.getstate()[0]:
            raise Unreadable("cut")
        return Skimmed(bytes(self._text), self._cuts)

    def _outside(self, data: bytes, at: int) -> int:
        quote = data.find(_QUOTE, at)
        end = len(data) if quote < 0 else quote + 1
        self._keep(data[at:end])
        if quote >= 0:
            self._is_inside, self._string_bytes = True, 0
            self._opened_at = len(self._text) - 1
        return end

    def _inside(self, data: bytes, at: int) -> int:
        quote = data.find(_QUOTE, at)
        end = len(data) if quote < 0 else quote
        if data.find(_BACKSLASH, at, end) >= 0:
            found = _INSIDE.match(data, at)
            end = at if found is None else found.end()
        self._keep_inside(data[at:end])
        if end == len(data):
            return end
        if data[end : end + 1] == _QUOTE:
            self._close(self._taken + end + 1)
            return end + 1
        if len(data) - end >= _ESCAPE_BYTES_MAX:
            raise Unreadable("a broken escape")
        self._left_over = data[end:]
        return len(data)

    def _keep_inside(self, piece: bytes) -> None:
        self._string_bytes += len(piece)
        if self._digest is not None:
            self._digest.update(piece)
            return
        self._text += piece[: LONG_STRING_BYTES + 1]
        if self._string_bytes > LONG_STRING_BYTES:
            before = self._string_bytes - len(piece)
            self._digest = hashlib.sha256(self._text[self._opened_at + 1 : self._opened_at + 1 + before])
            self._digest.update(piece)
            del self._text[self._opened_at :]
        elif len(self._text) > SKIMMED_BYTES_MAX:
            raise Unreadable("too much beside its long strings")

    def _close(self, end: int) -> None:
        """`end`: behind the closing quote, in the whole text."""
        self._is_inside = False
        if self._digest is None:
            self._keep(_QUOTE)
            return
        self._keep(b'{"sha256":"%b","bytes":%d}' % (self._digest.hexdigest().encode(), self._string_bytes))
        self._cuts.append((len(self._text), end))
        self._digest = None

    def _keep(self, piece: bytes) -> None:
        self._text += piece[: SKIMMED_BYTES_MAX + 1]
        if len(self._text) > SKIMMED_BYTES_MAX:
            raise Unreadable("too much beside its long strings")
