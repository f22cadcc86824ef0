"""The head of a response, reduced to the lines that this program reads. No I/O.

h11 refuses a whole response because of one malformed line. CDN nodes send such lines: names with blanks or slashes, or
no name at all. So h11 gets only the lines that frame the body, and this module checks them first.

Framing is strict. A line that may concern the framing and is malformed refuses the response; the message names the
line.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Self

import httpcore2

HEAD_BYTES_MAX = 128 * 1024

_STATUS = re.compile(rb"HTTP/[0-9]\.[0-9] [0-9]{3}(?![^ \t])")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH = re.compile(rb"[0-9]{1,20}")
_NO_LETTERS = re.compile(rb"[^a-z]+")
_CONTENT_LENGTH, _TRANSFER_ENCODING = b"content-length", b"transfer-encoding"
_FRAMING = {b"contentlength": "Content-Length", b"transferencoding": "Transfer-Encoding"}
_TRAILER_REFUSALS = (
    "illegal header line",
    "Illegal header",
    "continuation line at start of headers",
    "conflicting Content-Length",
    "bad Content-Length",
    "multiple Transfer-Encoding",
    "Only Transfer-Encoding",
)
"""The messages of h11 0.16."""
_READ = frozenset(
    {
        _CONTENT_LENGTH,
        _TRANSFER_ENCODING,
        b"connection",
        b"content-encoding",
        b"content-range",
        b"location",
    }
)


class HeadRefused(httpcore2.RemoteProtocolError):
    """The message names the header and quotes nothing of it. `status` is that of the status line, None without one."""

    status: int | None = None

    def of(self, head: bytes) -> Self:
        """This refusal, of this head."""
        found = _STATUS.match(head)
        self.status = None if found is None else int(found[0][-3:])
        return self


class HeadTooLong(HeadRefused):
    """The head does not end within the permitted bytes."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"headers of more than {bytes_max} bytes")


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    headers: Sequence[tuple[bytes, bytes]] = ()
    """Names (in lower case) and values of the lines that this program reads."""
    length: int | None = None
    """The body's length in bytes; None if no length is announced, or if chunks override it."""

    def value(self, name: bytes) -> bytes | None:
        """All values, joined by commas."""
        values = [value for key, value in self.headers if key == name]
        return b", ".join(values) if values else None


def read_head(raw: bytes) -> tuple[Head, bytes]:
    """The head, and what h11 is to read in its place. Raises HeadRefused."""
    status_line, *lines = raw.replace(b"\r\n", b"\n").split(b"\n")
    status = _STATUS.match(status_line)
    if status is None:
        return Head(), raw  # h11 refuses it
    try:
        return _read_lines(status[0], lines)
    except HeadRefused as refused:
        raise refused.of(raw) from None


def _read_lines(status_line: bytes, lines: Sequence[bytes]) -> tuple[Head, bytes]:
    headers = [header for line in _unfolded(lines) if (header := _header(line)) is not None]
    chunked = _is_chunked([value for name, value in headers if name == _TRANSFER_ENCODING])
    length = _length([value for name, value in headers if name == _CONTENT_LENGTH])
    return (
        Head(headers, None if chunked else length),
        b"\r\n".join([status_line, *_framing(headers, chunked=chunked, length=length), b"", b""]),
    )


def _unfolded(lines: Sequence[bytes]) -> Iterator[bytes]:
    """A line that begins with a blank continues the one before."""
    header = b""
    for line in lines:
        if header and line[:1] in (b" ", b"\t"):
            header += b" " + line.strip()
        else:
            yield header
            header = line
    yield header


def _header(line: bytes) -> tuple[bytes, bytes] | None:
    """None for a line that this program does not read. Blanks before the colon do not belong to the name."""
    name, colon, value = line.partition(b":")
    name = name.rstrip(b" \t").lower()
    if colon and name in _READ:
        return name, value.strip(b" \t")
    framing = _FRAMING.get(_NO_LETTERS.sub(b"", name))
    if framing is not None and not (colon and _TOKEN.fullmatch(name)):
        raise HeadRefused(f"a malformed {framing} header")
    return None


def _is_chunked(values: Sequence[bytes]) -> bool:
    """ "chunked" twice is chunked once: no sender may apply it twice (RFC 9112, 6.1)."""
    codings = [coding.strip(b" \t").lower() for value in values for coding in value.split(b",")]
    if any(coding != b"chunked" for coding in codings):
        raise HeadRefused("a Transfer-Encoding other than chunked")
    return bool(codings)


def _length(values: Sequence[bytes]) -> int | None:
    lengths = {length.strip(b" \t") for value in values for length in value.split(b",")}
    if len(lengths) > 1:
        raise HeadRefused("different Content-Length headers")
    if not all(_LENGTH.fullmatch(length) for length in lengths):
        raise HeadRefused("a Content-Length that is no number")
    return int(lengths.pop()) if lengths else None


def _framing(headers: Sequence[tuple[bytes, bytes]], *, chunked: bool, length: int | None) -> Iterator[bytes]:
    if chunked:
        yield b"Transfer-Encoding: chunked"
    elif length is not None:
        yield b"Content-Length: %d" % length
    # Chunks override a length (RFC 9112, 6.3). Such a server is not trusted with a second request.
    if (chunked and length is not None) or says_close(headers):
        yield b"Connection: close"


def says_close(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    tokens = b",".join(value for name, value in headers if name == b"connection").lower().split(b",")
    return b"close" in {token.strip() for token in tokens}


def is_about_trailers(error: httpcore2.RemoteProtocolError) -> bool:
    """Whether h11's refusal concerns the trailers behind the last chunk: it has accepted the head before."""
    return str(error).startswith(_TRAILER_REFUSALS)
