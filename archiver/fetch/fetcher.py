"""A URL becomes a checked file in the spool, or a `Failure` that says why not. Two rules:

1. `fetch` returns when length, digests, format and wholeness are known.
2. Every wait ends: each blocking call after the idle time, a body that does not keep the pace after two minutes, the
   whole fetch, redirects included, after half an hour.

Every failure carries its host, except `SpoolFull`: it holds the whole stage, and a host would narrow that hold.

A crash leaves nothing, and the next attempt starts again. It does not resume with `Range`: the file would be glued
together from two responses.
"""

import contextlib
import dataclasses
import re
import ssl
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import BinaryIO, Self

import httpcore2

from archiver.failures import (
    AssetAddressRefused,
    AssetGone,
    AssetHostUnlisted,
    BodyIncomplete,
    Failure,
    FetchEnded,
    FetchFailed,
    FetchRefused,
    FetchTimeout,
    FileUnusable,
    NotMedia,
    ProxyFailed,
    RedirectRefused,
    SpoolFull,
    SpoolUnreadable,
    TooLarge,
)
from archiver.fetch.body import GROWTH_BYTES, RunningDigests, store_announced, store_unannounced
from archiver.fetch.connecting import Resolver, resolve
from archiver.fetch.connections import HttpExchange
from archiver.fetch.egress import EgressTransport
from archiver.fetch.heads import HeadRefused
from archiver.fetch.pace import Allowance
from archiver.fetch.proxy import Proxy
from archiver.fetch.spool import Reservation, Spool
from archiver.fetch.urls import EgressPolicy, PolicyRefusal, RefusalCause, VettedUrl, redirected
from archiver.media.identify import Media, identify

SECONDS_MAX = 1800.0
"""The limit of one fetch. At the slowest permitted pace 18 MB have come by then."""
SUSPECT_INCOMPLETE = "incomplete_upstream"

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({404, 410})
_TOO_MANY_REQUESTS = 429
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_WHOLE_RANGE = re.compile(rb"bytes +0-([0-9]{1,20})/([0-9]{1,20})", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9_-]{1,20}")
_ENCODED = frozenset({"gzip", "x-gzip", "br", "deflate", "zstd"})
"""The bytes decide what any other label of Content-Encoding is worth, as with Content-Type."""


@dataclasses.dataclass(frozen=True, slots=True)
class FetchLimits:
    """`connect_seconds` is for resolving, connecting and TLS together."""

    connect_seconds: float = 5.0
    idle_seconds: float = 15.0
    redirects_max: int = 3


class FetchedFile:
    """A file in the spool, positioned at its start. Closing it frees its room."""

    def __init__(
        self,
        reservation: Reservation,
        *,
        digests: RunningDigests,
        media: Media,
        suspect: str | None,
        host: str,
    ) -> None:
        self._reservation = reservation
        self.bytes = digests.bytes
        self.sha256 = digests.sha256
        """Lower-case hexadecimal, as is `md5`."""
        self.md5 = digests.md5
        self.media = media
        self.suspect = suspect
        """`incomplete_upstream` if the file is cut and the CDN has no better one."""
        self.host = host
        """After redirects."""

    @property
    def file(self) -> BinaryIO:
        """Seekable; closed with this object."""
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
    """Thread-safe."""

    def __init__(
        self,
        *,
        policy: EgressPolicy,
        spool: Spool,
        limits: FetchLimits | None = None,
        resolver: Resolver = resolve,
        clock: Callable[[], float] = time.monotonic,
        ssl_context: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._policy = policy
        self._spool = spool
        self._limits = limits or FetchLimits()
        self._clock = clock
        self._transport = EgressTransport(resolver=resolver, ssl_context=ssl_context, proxy=proxy)

    def close(self) -> None:
        """Stop the threads first: closing a socket does not wake its reader."""
        self._transport.close()

    def fetch(
        self, url: str, *, bytes_max: int, seconds_max: float = SECONDS_MAX, suspect_sha256: str | None = None
    ) -> FetchedFile:
        """The file at `url`. The caller closes it.

        `suspect_sha256` is the digest of an earlier BodyIncomplete. The same bytes again are all that the CDN has, and
        are returned as suspect.

        Raises the failures of `failures.cdn` except those of a host as a whole, and UrlRefused.
        """
        transfer = Allowance(
            until=self._clock() + seconds_max, idle_seconds=self._limits.idle_seconds, clock=self._clock
        )
        with _refusals_told():
            vetted = self._policy.vet(url)
        for hop in range(self._limits.redirects_max + 1):
            with (
                _refusals_told(is_redirect=hop > 0),
                _failures_of(vetted.origin.host, transfer),
                self._get(vetted, transfer) as exchange,
            ):
                if exchange.status not in _REDIRECTS:
                    return self._receive(
                        exchange,
                        host=vetted.origin.host,
                        bytes_max=bytes_max,
                        suspect_sha256=suspect_sha256,
                        transfer=transfer,
                    )
                vetted = self._follow(vetted, exchange)
        host = vetted.origin.host
        raise FileUnusable(f"more than {self._limits.redirects_max} redirects, the last to {host}", host=host)

    def _get(self, vetted: VettedUrl, transfer: Allowance) -> contextlib.AbstractContextManager[HttpExchange]:
        return self._transport.get(vetted, connect_seconds=self._limits.connect_seconds, transfer=transfer)

    def _follow(self, vetted: VettedUrl, exchange: HttpExchange) -> VettedUrl:
        """Vetted like the first URL. From https to http is refused even to a listed origin."""
        location = exchange.head.value(b"location")
        if not location:
            raise FileUnusable(f"{vetted.origin.host} redirects (HTTP {exchange.status}) to nowhere")
        with _refusals_told(is_redirect=True):
            following = self._policy.vet(redirected(vetted, _text(location)))
            if vetted.origin.scheme == "https" and following.origin.scheme != "https":
                raise PolicyRefusal(
                    RefusalCause.DOWNGRADE, f"{vetted.origin.host} redirects from https to http"
                )
        return following

    def _receive(
        self,
        exchange: HttpExchange,
        *,
        host: str,
        bytes_max: int,
        suspect_sha256: str | None,
        transfer: Allowance,
    ) -> FetchedFile:
        length = _announced_length(exchange, host=host, bytes_max=bytes_max)
        transfer.begin_body()
        with contextlib.ExitStack() as on_failure:
            reservation = on_failure.enter_context(
                self._spool.reserve(min(bytes_max, GROWTH_BYTES) if length is None else length)
            )
            if length is None:
                digests = store_unannounced(
                    exchange,
                    reservation,
                    bytes_max=bytes_max,
                    check=transfer.seconds,
                )
            else:
                digests = store_announced(exchange, reservation, length=length)
            with _named_if_no_media(_encodings(exchange)):
                media, suspect = _judge(reservation.file, digests, suspect_sha256=suspect_sha256)
            on_failure.pop_all()
        return FetchedFile(reservation, digests=digests, media=media, suspect=suspect, host=host)


def _text(location: bytes) -> str:
    """Decode a header as browsers do: UTF-8, or else each byte is percent-encoded."""
    try:
        return location.decode("utf-8")
    except UnicodeDecodeError:
        return _NOT_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], location).decode("ascii")


@contextlib.contextmanager
def _refusals_told(*, is_redirect: bool = False) -> Iterator[None]:
    """Turns a refusal by the policy into the task's failure."""
    try:
        yield
    except PolicyRefusal as refusal:
        if is_redirect:
            raise RedirectRefused(str(refusal), host=refusal.host) from refusal
        if refusal.cause is RefusalCause.HOST_NOT_ALLOWED and refusal.host is not None:
            raise AssetHostUnlisted([refusal.host]) from refusal
        if refusal.cause is RefusalCause.ADDRESS:
            raise AssetAddressRefused(str(refusal), host=refusal.host) from refusal
        raise


@contextlib.contextmanager
def _failures_of(host: str, transfer: Allowance) -> Iterator[None]:
    """Adds the host to failures, and turns other exceptions into failures.

    Only network errors keep their message: protocol errors quote the peer.
    """
    try:
        yield
    except SpoolFull:
        raise
    except Failure as failure:
        failure.host = failure.host or host
        raise
    except (httpcore2.TimeoutException, TimeoutError) as error:
        if transfer.ended_alive:
            came = f"{transfer.bytes} bytes had come from {host}"
            raise FetchEnded(f"{came} when the time for one file was up", host=host) from error
        raise FetchTimeout(f"{host} was too slow: {str(error) or type(error).__name__}", host=host) from error
    except (httpcore2.NetworkError, OSError) as error:
        raise FetchFailed(f"{host} cannot be read: {str(error)[:200]}", host=host) from error
    except HeadRefused as error:
        raise FetchFailed(f"{host} sends {error}", host=host) from error
    except httpcore2.ProxyError as error:
        raise ProxyFailed(f"{host} cannot be asked: {str(error)[:250]}", host=host) from error
    except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol) as error:
        raise FetchFailed(f"{host} does not speak HTTP ({type(error).__name__})", host=host) from error
    except ValueError as error:  # ssl and the IDNA codec raise it for names that they refuse
        raise FetchFailed(f"{host} cannot be asked ({type(error).__name__})", host=host) from error


def _announced_length(exchange: HttpExchange, *, host: str, bytes_max: int) -> int | None:
    """Checks status and headers first.

    Raises AssetGone, FetchRefused, FetchFailed, FileUnusable, TooLarge.
    """
    _require_success(exchange, host=host)
    encodings = _encodings(exchange)
    if refused := next((encoding for encoding in encodings if encoding in _ENCODED), None):
        raise FileUnusable(f"{host} sends Content-Encoding: {refused}, which was not asked for")
    length = exchange.head.length
    if length is not None and length > bytes_max:
        raise TooLarge(f"{length} bytes announced, {bytes_max} are allowed")
    return length


def _encodings(exchange: HttpExchange) -> list[str]:
    """The codings that Content-Encoding names, without `identity`."""
    value = exchange.head.value(b"content-encoding") or b""
    labels = (label.strip().lower() for label in value.decode("ascii", "replace").split(","))
    return [label for label in labels if label not in ("", "identity")]


@contextlib.contextmanager
def _named_if_no_media(encodings: list[str]) -> Iterator[None]:
    """Names Content-Encoding where the body is no media: its bytes may well be encoded."""
    try:
        yield
    except NotMedia as error:
        labels = ", ".join(label for label in encodings if _LABEL.fullmatch(label))
        if not labels:
            raise
        raise NotMedia(f"{error} (Content-Encoding: {labels})") from error


def _require_success(exchange: HttpExchange, *, host: str) -> None:
    status = exchange.status
    if status in (200, 203) or (status == 206 and _is_whole(exchange)):
        return
    if status in _GONE:
        raise AssetGone(f"{host} no longer has the file (HTTP {status})")
    if status == _TOO_MANY_REQUESTS or status >= 500:
        raise FetchFailed(f"{host} answers HTTP {status}")
    if status >= 400:
        raise FetchRefused(f"{host} refuses the file (HTTP {status})")
    raise FileUnusable(f"{host} answers HTTP {status}")


def _is_whole(exchange: HttpExchange) -> bool:
    """Whether a 206 covers the whole file: `bytes 0-(N-1)/N`."""
    covered = _WHOLE_RANGE.fullmatch(exchange.head.value(b"content-range") or b"")
    return covered is not None and int(covered[1]) + 1 == int(covered[2])


def _judge(
    file: BinaryIO, digests: RunningDigests, *, suspect_sha256: str | None
) -> tuple[Media, str | None]:
    """The format, and `suspect`. Leaves the file at its start.

    Raises NotMedia, TooLarge, BodyIncomplete with the digest, SpoolFull.
    """
    try:
        media = identify(file)
        file.seek(0)
    except OSError as error:
        raise SpoolUnreadable(f"the spool cannot be read back ({error.strerror})") from error
    if media.whole:
        return media, None
    if digests.sha256 != suspect_sha256:
        raise BodyIncomplete(
            f"the {media.extension} file of {digests.bytes} bytes is not whole: {media.flaw}",
            sha256=digests.sha256,
        )
    return media, SUSPECT_INCOMPLETE
