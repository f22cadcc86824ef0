"""A URL becomes a checked file in the spool, or a `Failure` that says why not. Two rules:

1. Nothing is handed out before it is whole: length, digest, type and wholeness are known when `fetch` returns.
2. Every wait ends. Each blocking call may take the idle time at most and never past the deadline of the whole
   fetch, headers and redirects included, so a server that drips a byte now and then gains nothing.

Every failure but one carries the host it is about. `SpoolFull` does not: it holds the whole stage, and with a
host on it would hold only that one.

A crash here leaves nothing: the spool file has no name, and the next attempt fetches afresh. Resuming with
`Range` is left out on purpose; a file glued together from two answers is what this program exists to avoid.
"""

import contextlib
import dataclasses
import hashlib
import re
import ssl
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import BinaryIO, Self

import httpcore2

from archiver.failures import (
    AssetGone,
    BodyIncomplete,
    Failure,
    FetchFailed,
    FetchTimeout,
    SpoolFull,
    TooLarge,
)
from archiver.fetch.egress import Allowance, EgressTransport, HttpExchange, Resolver, resolve
from archiver.fetch.spool import BLOCK_BYTES, Reservation, Spool
from archiver.fetch.urls import Cause, EgressPolicy, Refused, VettedUrl, redirected
from archiver.media.identify import Media, identify

GROWTH_BYTES = 4 * 1024 * 1024
"""How much more is reserved at a time for a body whose length nobody announced."""

SUSPECT_INCOMPLETE = "incomplete_upstream"

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({403, 404, 410})
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_LENGTH = re.compile(rb"[0-9]{1,20}")


@dataclasses.dataclass(frozen=True, slots=True)
class FetchLimits:
    """Seconds for resolving, connecting and TLS together; seconds of silence; redirects followed."""

    connect_seconds: float = 5.0
    idle_seconds: float = 15.0
    redirects_max: int = 3


class Fetched:
    """A whole file in the spool, positioned at its start. Closing it gives the spool its room back."""

    def __init__(
        self, reservation: Reservation, *, digests: "_Digests", media: Media, suspect: str | None, host: str
    ) -> None:
        self._reservation = reservation
        self.bytes = digests.bytes
        self.sha256 = digests.sha256
        """Lower-case hexadecimal, as is `md5`."""
        self.md5 = digests.md5
        self.media = media
        self.suspect = suspect
        """`incomplete_upstream` where the file is not whole and upstream has no better; else None."""
        self.host = host
        """Who sent it, after redirects."""

    @property
    def file(self) -> BinaryIO:
        """Seekable; gone when this object is closed."""
        return self._reservation.file

    def close(self) -> None:
        self._reservation.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Fetcher:
    """Fetches files by the policy's rules. One object serves any number of threads."""

    def __init__(
        self,
        *,
        policy: EgressPolicy,
        spool: Spool,
        limits: FetchLimits | None = None,
        resolver: Resolver = resolve,
        clock: Callable[[], float] = time.monotonic,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy
        self._spool = spool
        self._limits = limits or FetchLimits()
        self._clock = clock
        self._transport = EgressTransport(resolver=resolver, ssl_context=ssl_context)

    def close(self) -> None:
        """Closes all connections. For when the threads have stopped: closing a socket does not wake its reader."""
        self._transport.close()

    def fetch(
        self, url: str, *, bytes_max: int, seconds_max: float = 120.0, suspect_sha256: str | None = None
    ) -> Fetched:
        """The file behind `url`, at most `bytes_max` long, within `seconds_max` in all. Close what you get.

        `suspect_sha256` is the digest that an earlier BodyIncomplete carried: the same bytes again are taken
        for what upstream has, and returned marked as suspect.

        Raises UrlRefused, AssetGone, FetchTimeout, FetchFailed, BodyIncomplete, NotMedia, TooLarge, SpoolFull.
        """
        deadline = self._clock() + seconds_max
        vetted = self._policy.vet(url)
        for _ in range(self._limits.redirects_max + 1):
            with _named_after(vetted.origin.host), self._get(vetted, deadline) as answer:
                if answer.status not in _REDIRECTS:
                    return self._receive(
                        answer,
                        host=vetted.origin.host,
                        bytes_max=bytes_max,
                        suspect_sha256=suspect_sha256,
                        deadline=deadline,
                    )
                vetted = self._follow(vetted, answer)
        host = vetted.origin.host
        raise FetchFailed(f"more than {self._limits.redirects_max} redirects, the last to {host}", host=host)

    def _get(self, vetted: VettedUrl, deadline: float) -> contextlib.AbstractContextManager[HttpExchange]:
        transfer = Allowance(until=deadline, idle_seconds=self._limits.idle_seconds, clock=self._clock)
        return self._transport.get(vetted, connect_seconds=self._limits.connect_seconds, transfer=transfer)

    def _follow(self, vetted: VettedUrl, answer: HttpExchange) -> VettedUrl:
        """Through the same gate, and never from https to http, listed or not."""
        location = _header(answer, b"location")
        if not location:
            raise FetchFailed(f"{vetted.origin.host} redirects (HTTP {answer.status}) to nowhere")
        # Bytes outside ASCII are what browsers send percent-encoded, whichever charset they were meant in.
        ascii_ = _NOT_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], location).decode("ascii")
        following = self._policy.vet(redirected(vetted, ascii_))
        if vetted.origin.scheme == "https" and following.origin.scheme != "https":
            raise Refused(Cause.DOWNGRADE, f"{vetted.origin.host} redirects from https to http")
        return following

    def _receive(
        self,
        answer: HttpExchange,
        *,
        host: str,
        bytes_max: int,
        suspect_sha256: str | None,
        deadline: float,
    ) -> Fetched:
        announced = _announced(answer, host=host, bytes_max=bytes_max)
        with contextlib.ExitStack() as on_failure:
            reservation = on_failure.enter_context(
                self._spool.reserve(min(bytes_max, GROWTH_BYTES) if announced is None else announced)
            )
            if announced is None:
                digests = self._store_pieces(answer, reservation, bytes_max=bytes_max, deadline=deadline)
            else:
                digests = _store_announced(answer, reservation, length=announced)
            media, suspect = _judge(reservation.file, digests, suspect_sha256=suspect_sha256)
            on_failure.pop_all()
        return Fetched(reservation, digests=digests, media=media, suspect=suspect, host=host)

    def _store_pieces(
        self,
        answer: HttpExchange,
        reservation: Reservation,
        *,
        bytes_max: int,
        deadline: float,
    ) -> "_Digests":
        """A body of unknown length goes through the digests into the spool, a block at a time."""
        digests = _Digests()
        came, block = 0, list[bytes]()
        for chunk in _body(answer):
            came += len(chunk)
            if self._clock() >= deadline:
                raise FetchTimeout(f"{came} bytes had come when the time for the whole fetch was up")
            if came > bytes_max:
                raise TooLarge(f"the body is larger than {bytes_max} bytes")
            block.append(chunk)
            if came - digests.bytes >= BLOCK_BYTES:
                _write(b"".join(block), reservation, digests, bytes_max=bytes_max)
                block.clear()
        _write(b"".join(block), reservation, digests, bytes_max=bytes_max)
        if not digests.bytes:
            raise BodyIncomplete("the body is empty")
        reservation.resize(0)  # down to what was written
        return digests


def _store_announced(answer: HttpExchange, reservation: Reservation, *, length: int) -> "_Digests":
    """A body of known length goes from the socket into the spool's own memory, or through one block to disk."""
    if not length:
        raise BodyIncomplete("the body is empty")
    digests = _Digests()
    if reservation.is_in_memory:
        with reservation.in_place() as room:
            _fill(room, answer)
            digests.update(room)
        return digests
    block = memoryview(bytearray(min(length, BLOCK_BYTES)))
    while digests.bytes < length:
        part = block[: length - digests.bytes]
        _fill(part, answer)
        reservation.write(part)
        digests.update(part)
    return digests


def _fill(view: memoryview, answer: HttpExchange) -> None:
    filled = 0
    while filled < len(view):
        count = answer.read_into(view[filled:])
        if not count:
            raise BodyIncomplete("the connection ended before the body did")
        filled += count


def _write(block: bytes, reservation: Reservation, digests: "_Digests", *, bytes_max: int) -> None:
    wanted = digests.bytes + len(block)
    if wanted > reservation.bytes_reserved:
        reservation.resize(min(bytes_max, wanted + GROWTH_BYTES))
    reservation.write(block)
    digests.update(block)


class _Digests:
    """Length, SHA-256 and MD5 of what has passed; MD5 is what stores check an upload by."""

    def __init__(self) -> None:
        self.bytes = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def update(self, block: bytes | memoryview) -> None:
        self.bytes += len(block)
        self._sha256.update(block)
        self._md5.update(block)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()


@contextlib.contextmanager
def _named_after(host: str) -> Iterator[None]:
    """Failures leave with their host; what the HTTP library raises leaves as a failure.

    The library's own words are kept for network errors only: protocol errors quote what the peer sent.
    """
    try:
        yield
    except SpoolFull:
        raise
    except Failure as failure:
        failure.host = failure.host or host
        raise
    except (httpcore2.TimeoutException, TimeoutError) as error:
        raise FetchTimeout(f"{host} was too slow: {str(error) or type(error).__name__}", host=host) from error
    except (httpcore2.NetworkError, OSError) as error:
        raise FetchFailed(f"{host} cannot be read: {str(error)[:200]}", host=host) from error
    except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol, httpcore2.ProxyError) as error:
        raise FetchFailed(f"{host} does not speak HTTP ({type(error).__name__})", host=host) from error
    except ValueError as error:  # ssl and the IDNA codec say so of names that they do not take
        raise FetchFailed(f"{host} cannot be asked ({type(error).__name__})", host=host) from error


def _announced(answer: HttpExchange, *, host: str, bytes_max: int) -> int | None:
    """The length that the headers promise, once they have been found acceptable; None where they do not say.

    Raises AssetGone, FetchFailed, TooLarge.
    """
    if answer.status in _GONE:
        raise AssetGone(f"{host} no longer has the file (HTTP {answer.status})")
    if answer.status != 200:
        raise FetchFailed(f"{host} answers HTTP {answer.status}")
    if (_header(answer, b"content-encoding") or b"identity").strip().lower() != b"identity":
        raise FetchFailed(f"{host} sends an encoding that was not asked for")
    length = _header(answer, b"content-length")
    if length is None or _header(answer, b"transfer-encoding") is not None:
        return None
    if not _LENGTH.fullmatch(length):
        raise FetchFailed(f"{host} announces a length that is no number")
    if int(length) > bytes_max:
        raise TooLarge(f"{int(length)} bytes announced, {bytes_max} are allowed")
    return int(length)


def _header(answer: HttpExchange, name: bytes) -> bytes | None:
    """All values of a header joined by commas, or None."""
    values = [value for key, value in answer.headers if key.lower() == name]
    return b", ".join(values) if values else None


def _body(answer: HttpExchange) -> Iterator[bytes]:
    """The body; a transfer that the peer cut raises BodyIncomplete (without a digest) from inside the loop."""
    try:
        yield from answer.pieces()
    except httpcore2.RemoteProtocolError as error:
        raise BodyIncomplete("the connection ended before the body did") from error


def _judge(file: BinaryIO, digests: _Digests, *, suspect_sha256: str | None) -> tuple[Media, str | None]:
    """What the spooled bytes are, and why they are doubted. Leaves the file at its start.

    Raises NotMedia, TooLarge, BodyIncomplete with the digest, SpoolFull.
    """
    try:
        media = identify(file)
        file.seek(0)
    except OSError as error:
        raise SpoolFull(f"the spool cannot be read back ({error.strerror})") from error
    if media.whole:
        return media, None
    if digests.sha256 != suspect_sha256:
        raise BodyIncomplete(
            f"the {media.extension} file ends before its own end, after {digests.bytes} bytes",
            sha256=digests.sha256,
        )
    return media, SUSPECT_INCOMPLETE
