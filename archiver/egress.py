"""Where a download may go. Two rules:

1. A URL is judged as text before anything is looked up (`EgressPolicy.vet`), and the address is judged again
   at the moment of connecting (`PinnedBackend`), on every connection. Judging a name earlier and letting the
   library resolve it again would be a race that whoever owns the DNS answer wins.
2. Whatever no table knows is refused. IPv6 outside 2000::/3 is not public, whoever it belongs to.

`EgressTransport` is httpcore2's pool and not an httpx2 client: a client would write every URL, signature
included, to the log at level info, keep a cookie jar and normalise the request target. The pool does none of
that; signatures cover the target's bytes, so they are sent as they came.

A crash here loses nothing: there is no state but open sockets.
"""

import _thread
import contextlib
import dataclasses
import enum
import importlib.metadata
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Self

import httpcore2

from archiver.failures import UrlRefused

URL_CHARACTERS_MAX = 16_384
READ_BYTES = 128 * 1024
KEEPALIVE_SECONDS = 15.0
KEEPALIVE_CONNECTIONS_MAX = 4
RESOLUTIONS_MAX = 64
"""Name look-ups under way at once. getaddrinfo knows no timeout, so each runs in a thread that may outlive
the fetch that asked; while DNS is dead this is where they stop piling up."""

USER_AGENT = f"kling-archiver/{importlib.metadata.version('kling-archiver')}"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


# --- addresses ------------------------------------------------------------------------------------------


class Verdict(enum.StrEnum):
    """What an address is. Only `PUBLIC` is connected to; the others say in one word why not."""

    PUBLIC = "public"
    UNSPECIFIED = "unspecified"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link_local"
    SITE_LOCAL = "site_local"
    METADATA = "metadata"
    CGNAT = "cgnat"
    MULTICAST = "multicast"
    BROADCAST = "broadcast"
    BENCHMARKING = "benchmarking"
    DOCUMENTATION = "documentation"
    PROTOCOL = "protocol"
    TUNNEL = "tunnel"
    RESERVED = "reserved"


# First match wins, so the narrow rows stand above the wide ones they are cut from.
# https://www.iana.org/assignments/iana-ipv4-special-registry
_IPV4 = tuple(
    (ipaddress.IPv4Network(network), verdict)
    for network, verdict in (
        ("169.254.169.254/32", Verdict.METADATA),  # AWS, GCP, Azure and nearly everybody else
        ("169.254.170.2/32", Verdict.METADATA),  # AWS ECS task credentials
        ("169.254.170.23/32", Verdict.METADATA),  # AWS EKS pod identity
        ("100.100.100.200/32", Verdict.METADATA),  # Alibaba Cloud, inside CGNAT space
        ("168.63.129.16/32", Verdict.METADATA),  # Azure's wire server: a public address to any registry
        ("192.0.0.192/32", Verdict.METADATA),  # Oracle Cloud
        ("0.0.0.0/32", Verdict.UNSPECIFIED),
        ("0.0.0.0/8", Verdict.RESERVED),  # "this network"; Linux connects 0.x to itself
        ("10.0.0.0/8", Verdict.PRIVATE),
        ("100.64.0.0/10", Verdict.CGNAT),
        ("127.0.0.0/8", Verdict.LOOPBACK),
        ("169.254.0.0/16", Verdict.LINK_LOCAL),
        ("172.16.0.0/12", Verdict.PRIVATE),
        ("192.0.0.0/24", Verdict.PROTOCOL),
        ("192.0.2.0/24", Verdict.DOCUMENTATION),
        ("192.31.196.0/24", Verdict.PROTOCOL),  # AS112
        ("192.52.193.0/24", Verdict.PROTOCOL),  # AMT
        ("192.88.99.0/24", Verdict.TUNNEL),  # 6to4 relay anycast, withdrawn by RFC 7526
        ("192.168.0.0/16", Verdict.PRIVATE),
        ("192.175.48.0/24", Verdict.PROTOCOL),  # AS112
        ("198.18.0.0/15", Verdict.BENCHMARKING),
        ("198.51.100.0/24", Verdict.DOCUMENTATION),
        ("203.0.113.0/24", Verdict.DOCUMENTATION),
        ("233.252.0.0/24", Verdict.DOCUMENTATION),  # MCAST-TEST-NET
        ("224.0.0.0/4", Verdict.MULTICAST),
        ("255.255.255.255/32", Verdict.BROADCAST),
        ("240.0.0.0/4", Verdict.RESERVED),
    )
)

# https://www.iana.org/assignments/iana-ipv6-special-registry
_IPV6 = tuple(
    (ipaddress.IPv6Network(network), verdict)
    for network, verdict in (
        ("::/128", Verdict.UNSPECIFIED),
        ("::1/128", Verdict.LOOPBACK),
        ("fd00:ec2::/32", Verdict.METADATA),  # AWS: fd00:ec2::254 and its siblings
        ("fd20:ce::254/128", Verdict.METADATA),  # GCP
        ("100::/64", Verdict.RESERVED),  # discard-only
        ("100:0:0:1::/64", Verdict.RESERVED),  # dummy prefix, RFC 9780
        ("2001:2::/48", Verdict.BENCHMARKING),
        ("2001:10::/28", Verdict.PROTOCOL),  # ORCHID
        ("2001:20::/28", Verdict.PROTOCOL),  # ORCHIDv2
        ("2001::/32", Verdict.TUNNEL),  # Teredo
        ("2001::/23", Verdict.PROTOCOL),
        ("2001:db8::/32", Verdict.DOCUMENTATION),
        ("2002::/16", Verdict.TUNNEL),  # 6to4
        ("2620:4f:8000::/48", Verdict.PROTOCOL),  # AS112
        ("3fff::/20", Verdict.DOCUMENTATION),
        ("64:ff9b:1::/48", Verdict.TUNNEL),  # NAT64 inside one network, RFC 8215
        ("5f00::/16", Verdict.PROTOCOL),  # segment routing
        ("fc00::/7", Verdict.PRIVATE),
        ("fe80::/10", Verdict.LINK_LOCAL),
        ("fec0::/10", Verdict.SITE_LOCAL),
        ("ff00::/8", Verdict.MULTICAST),
        ("2000::/3", Verdict.PUBLIC),
    )
)

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})


def classify(address: Address) -> Verdict:
    """Total: every address has exactly one verdict.

    An IPv6 address that carries an IPv4 one is worth no more than that one: mapped and NAT64 addresses get
    its verdict. The other wrappings (6to4, Teredo, ISATAP and so on) get it when it is not public, and the
    tunnels are not public even when it is: no CDN lives behind one that died a decade ago.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return next((verdict for network, verdict in _IPV4 if address in network), Verdict.PUBLIC)
    if address.ipv4_mapped is not None:
        return classify(address.ipv4_mapped)
    if address in _NAT64:
        return classify(_low_ipv4(address))
    outer = next((verdict for network, verdict in _IPV6 if address in network), Verdict.RESERVED)
    if outer in (Verdict.UNSPECIFIED, Verdict.LOOPBACK):
        return outer
    inner = (classify(carried) for carried in _carried(address))
    return next((verdict for verdict in inner if verdict is not Verdict.PUBLIC), outer)


def _carried(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses inside. Teredo has two: the relay's server and the client it stands for."""
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    wraps_low_bits = address in _IPV4_COMPATIBLE or address in _NAT64_LOCAL
    if wraps_low_bits or (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        yield _low_ipv4(address)


def _low_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)


# --- URLs -----------------------------------------------------------------------------------------------


class Cause(enum.StrEnum):
    """Why a URL was refused."""

    MALFORMED = "malformed"
    TOO_LONG = "too_long"
    CHARACTERS = "characters"
    SCHEME = "scheme"
    USER_INFO = "user_info"
    HOST_NAME = "host_name"
    IP_LITERAL = "ip_literal"
    HOST_NOT_ALLOWED = "host_not_allowed"
    PORT = "port"
    DOWNGRADE = "downgrade"
    ADDRESS = "address"


class Refused(UrlRefused):
    """A refusal and its `cause`. The message never quotes more of the URL than a well-formed host."""

    def __init__(self, cause: Cause, message: str, *, host: str | None = None) -> None:
        super().__init__(f"{message} ({cause})", host=host)
        self.cause = cause


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, lower-case host (IPv6 without brackets) and port."""

    scheme: str
    host: str
    port: int

    @property
    def host_header(self) -> bytes:
        """The host as it stands in a URL; the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        bare = self.port == _DEFAULT_PORTS[self.scheme]
        return (host if bare else f"{host}:{self.port}").encode("ascii")


@dataclasses.dataclass(frozen=True, slots=True)
class VettedUrl:
    """A URL that the policy lets through; what is left to judge is the address."""

    origin: Origin
    target: bytes
    """Path and query, byte for byte. A secret: it may carry a signature."""
    listed: bool
    """The origin stands in the settings as such: plain http and private addresses are meant."""


_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_URL = re.compile(r"(?P<scheme>[A-Za-z]+)://(?P<authority>[^/?#]*)(?P<target>[^#]*)(?:#.*)?")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[^\[\]:]+)(?::(?P<port>[0-9]{0,5}))?")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclasses.dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Who may be asked for a file: every host under a suffix by https on port 443, and single origins."""

    suffixes: frozenset[str]
    origins: frozenset[Origin]

    @classmethod
    def parse(cls, entries: Sequence[str]) -> Self:
        """From `klingai.com` (a suffix) and `http://127.0.0.1:9000` (exactly that origin).

        Raises ValueError with a sentence for the operator.
        """
        suffixes = set[str]()
        origins = set[Origin]()
        for entry in (entry.strip() for entry in entries):
            if "://" in entry:
                origins.add(_parse_origin(entry))
            else:
                suffixes.add(_parse_suffix(entry))
        return cls(suffixes=frozenset(suffixes), origins=frozenset(origins))

    def vet(self, url: str) -> VettedUrl:
        """Raises `Refused`. Pure: nothing is resolved."""
        parts = _split(url)
        origin = _origin(parts["scheme"], parts["authority"])
        target = parts["target"]
        if not target.startswith("/"):
            target = "/" + target
        listed = origin in self.origins
        if not listed:
            self._check_unlisted(origin)
        return VettedUrl(origin=origin, target=_target_bytes(target), listed=listed)

    def _check_unlisted(self, origin: Origin) -> None:
        host = origin.host
        if _is_address(host):
            raise Refused(Cause.IP_LITERAL, "the URL names an IP address instead of a host", host=host)
        if not any(host == suffix or host.endswith("." + suffix) for suffix in self.suffixes):
            raise Refused(Cause.HOST_NOT_ALLOWED, f"{host} is not among the allowed hosts", host=host)
        if origin.scheme != "https":
            raise Refused(Cause.SCHEME, f"{host} is asked for over plain {origin.scheme}", host=host)
        if origin.port != 443:
            raise Refused(Cause.PORT, f"{host} is asked for on port {origin.port}", host=host)


def redirected(vetted: VettedUrl, location: str) -> str:
    """The URL that a `Location` header means, not vetted yet. Raises `Refused`.

    An absolute one is kept as it is written; only a relative one is resolved against `vetted`.
    """
    _check_characters(location)
    if _SCHEME.match(location):
        return location
    base = f"{vetted.origin.scheme}://{vetted.origin.host_header.decode('ascii')}"
    if location.startswith("//"):
        return f"{vetted.origin.scheme}:{location}"
    if location.startswith("/"):
        return base + location
    path = vetted.target.decode("ascii").partition("?")[0]
    if location.startswith(("?", "#")) or not location:
        return base + path + location
    # Dot segments are left for the server: RFC 3986 would remove them, and no gate here reads paths.
    return f"{base}{path[: path.rindex('/') + 1]}{location}"


def _split(url: str) -> re.Match[str]:
    if len(url) > URL_CHARACTERS_MAX:
        raise Refused(Cause.TOO_LONG, f"the URL has more than {URL_CHARACTERS_MAX} characters")
    _check_characters(url)
    parts = _URL.fullmatch(url)
    if parts is None:
        raise Refused(Cause.MALFORMED, "this is no absolute http or https URL")
    return parts


def _check_characters(url: str) -> None:
    """No control characters, whitespace, backslashes or lone surrogates: no two parsers agree on them."""
    if not url.isprintable() or any(character.isspace() or character == "\\" for character in url):
        raise Refused(Cause.CHARACTERS, "the URL has characters that no URL may have")


def _target_bytes(target: str) -> bytes:
    """Byte for byte, but for characters outside ASCII: these every client sends percent-encoded."""
    return "".join(
        character if character.isascii() else "".join(f"%{byte:02X}" for byte in character.encode("utf-8"))
        for character in target
    ).encode("ascii")


def _origin(scheme: str, authority: str) -> Origin:
    scheme = scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise Refused(Cause.SCHEME, "the URL is neither https nor http")
    if "@" in authority:
        raise Refused(Cause.USER_INFO, "the URL carries a user name or password")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise Refused(Cause.MALFORMED, "the URL's host or port cannot be read")
    port = int(parts["port"] or _DEFAULT_PORTS[scheme])
    if not 1 <= port <= 65535:
        raise Refused(Cause.PORT, "the URL's port does not exist")
    return Origin(scheme=scheme, host=_host(parts["host"]), port=port)


def _host(written: str) -> str:
    """Lower case, without brackets or the one trailing dot that means the same name.

    Names outside ASCII are refused rather than encoded: two encoders need not agree which host is meant.
    """
    if written.startswith("["):
        try:
            return str(ipaddress.IPv6Address(written[1:-1]))
        except ValueError:
            raise Refused(Cause.MALFORMED, "the URL's IPv6 address cannot be read") from None
    host = written.lower().removesuffix(".") if written.isascii() else ""
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise Refused(Cause.HOST_NAME, "the URL's host is no ASCII host name")
    return host


def _is_address(host: str) -> bool:
    """In any spelling that some resolver takes: `1.2.3.4`, `0x7f.1`, `017700000001`, `2130706433`, IPv6."""
    return ":" in host or _NUMBER.fullmatch(host.rpartition(".")[2]) is not None


def _parse_origin(entry: str) -> Origin:
    try:
        parts = _split(entry)
        origin = _origin(parts["scheme"], parts["authority"])
    except Refused as refused:
        raise ValueError(f"{entry!r} is no origin: {refused}") from None
    if parts["target"] not in ("", "/") or "#" in entry:
        raise ValueError(f"{entry!r} must end after host and port: an origin has no path")
    if ":" not in origin.host and _is_address(origin.host):
        try:
            ipaddress.IPv4Address(origin.host)
        except ValueError:
            raise ValueError(f"{entry!r} must write its IPv4 address as four decimal numbers") from None
    return origin


def _parse_suffix(entry: str) -> str:
    try:
        host = _host(entry)
    except Refused:
        raise ValueError(
            f"{entry!r} is no host suffix: write example.com, which covers its subdomains too, "
            "or an origin such as http://127.0.0.1:9000"
        ) from None
    if _is_address(host):
        raise ValueError(f"{entry!r} is an IP address: write the whole origin, such as https://{entry}")
    if "." not in host:
        raise ValueError(f"{entry!r} would allow a whole top-level domain: write at least two labels")
    return host


# --- connecting -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Allowance:
    """How long a single blocking call may take: `idle_seconds`, and never past `until`.

    It travels through httpcore2 in place of a number of seconds and is asked before each call, which is what
    keeps a server that drips one byte at a time, in headers or body, within the deadline.
    """

    until: float
    idle_seconds: float
    clock: Callable[[], float]

    def seconds(self) -> float:
        """More than 0. Raises httpcore2.TimeoutException when nothing is left."""
        left = min(self.idle_seconds, self.until - self.clock())
        if left <= 0:
            raise httpcore2.TimeoutException("the time allowed is used up")
        return left


Resolver = Callable[[str, int], Sequence[str]]
"""Host and port to addresses as text, most preferred first. May raise OSError or UnicodeError."""


def resolve(host: str, port: int) -> Sequence[str]:
    """The system's resolver. Blocks for as long as the system likes; raises OSError, UnicodeError."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class BoundedStream(httpcore2.NetworkStream):
    """A socket that asks the `Allowance` before every call."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | Allowance | None = None) -> bytes:
        # The library asks for 64 KiB and takes more: each call hands the interpreter to another thread.
        return self._stream.read(max(max_bytes, READ_BYTES), timeout=_seconds(timeout))

    def write(self, buffer: bytes, timeout: float | Allowance | None = None) -> None:
        self._stream.write(buffer, timeout=_seconds(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | Allowance | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            seconds = _seconds(timeout)
        except httpcore2.TimeoutException:
            self.close()
            raise
        return BoundedStream(
            self._stream.start_tls(ssl_context, server_hostname=server_hostname, timeout=seconds)
        )

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _seconds(timeout: float | Allowance | None) -> float | None:
    return timeout.seconds() if isinstance(timeout, Allowance) else timeout


class PinnedBackend(httpcore2.NetworkBackend):
    """Opens connections to vetted addresses only: resolves once, judges every answer, connects to one.

    One bad answer refuses the name as a whole: a name that resolves to both a public and a private address is
    an attack or a mistake, and which of the two a connection takes would be chance.
    """

    def __init__(self, *, resolver: Resolver, private_allowed: bool) -> None:
        self._resolver = resolver
        self._private_allowed = private_allowed
        self._sockets = httpcore2.SyncBackend()
        self._resolutions = threading.BoundedSemaphore(RESOLUTIONS_MAX)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | Allowance | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Tries the addresses in turn; each may take its share of the time that is left.

        Raises `Refused`, httpcore2.ConnectError, httpcore2.TimeoutException.
        """
        addresses = self._vetted_addresses(host, port, timeout)
        for untried in range(len(addresses), 0, -1):
            seconds = _seconds(timeout)
            try:
                stream = self._sockets.connect_tcp(
                    addresses[-untried],
                    port,
                    timeout=None if seconds is None else seconds / untried,
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if untried == 1:
                    raise
            else:
                return BoundedStream(stream)
        raise httpcore2.ConnectError(f"{host} has no address")

    def _vetted_addresses(self, host: str, port: int, timeout: float | Allowance | None) -> list[str]:
        addresses = []
        for answer in self._resolve(host, port, timeout):
            try:
                address = ipaddress.ip_address(answer)
            except ValueError:
                raise Refused(
                    Cause.ADDRESS, f"{host} resolves to something that is no address", host=host
                ) from None
            verdict = classify(address)
            if verdict is not Verdict.PUBLIC and not self._private_allowed:
                raise Refused(Cause.ADDRESS, f"{host} resolves to {address}, which is {verdict}", host=host)
            addresses.append(str(address))
        return addresses

    def _resolve(self, host: str, port: int, timeout: float | Allowance | None) -> Sequence[str]:
        """In a daemon thread, because getaddrinfo can take minutes and cannot be interrupted."""
        if not self._resolutions.acquire(timeout=_seconds(timeout)):
            raise httpcore2.ConnectTimeout("too many name look-ups are waiting for an answer")
        resolution = _Resolution(self._resolver, host=host, port=port, finished=self._resolutions.release)
        try:
            resolution.start()
        except RuntimeError as error:
            self._resolutions.release()
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {error}") from error
        resolution.join(_seconds(timeout))
        return resolution.answer()


def _do_nothing() -> None:
    """Nothing is left to be said."""


class _Resolution:
    """One name look-up in a thread of its own. Not a `threading.Thread`: its `start` waits until the thread has begun,
    and one that finds no memory for its first steps never does."""

    def __init__(self, resolver: Resolver, *, host: str, port: int, finished: Callable[[], None]) -> None:
        self._resolver = resolver
        self._host = host
        self._port = port
        self._finished = finished
        self._lock = threading.Lock()
        self._began = False
        self._over = threading.Event()
        self._addresses: Sequence[str] | None = None
        self._error: OSError | UnicodeError | None = None

    def start(self) -> None:
        """Raises RuntimeError where there is no thread to be had."""
        _thread.start_new_thread(self._run, ())

    def join(self, seconds: float | None) -> None:
        """Return when it is over, or after so many seconds; one that has not begun by then does not count as under
        way any more."""
        if not self._over.wait(seconds) and not self._began:
            self._finish()

    def _finish(self) -> None:
        """Say so, once: a thread may begin after everybody has given it up for dead."""
        with self._lock:
            finished, self._finished = self._finished, _do_nothing
        finished()

    def _run(self) -> None:
        self._began = True
        try:
            self._addresses = list(self._resolver(self._host, self._port))
        except (OSError, UnicodeError) as error:
            self._error = error
        finally:
            self._finish()
            self._over.set()

    def answer(self) -> Sequence[str]:
        if self._error is not None:
            raise httpcore2.ConnectError(f"{self._host} cannot be resolved: {self._error}") from self._error
        if self._addresses is None:
            raise httpcore2.ConnectTimeout(f"resolving {self._host} took too long")
        return self._addresses


class EgressTransport:
    """Sends GET requests for vetted URLs over kept-alive HTTP/1.1 connections. Safe to share between threads.

    Two pools for each thread. Two, so that a connection which was allowed to be private can never serve a host
    that was not. For each thread, because a pool asks, under its lock, every idle connection of everybody
    whether it is still alive before it hands one out: with sixteen threads that lock cost more than hashing.
    """

    def __init__(self, *, resolver: Resolver = resolve, ssl_context: ssl.SSLContext | None = None) -> None:
        self._context = ssl_context or httpcore2.default_ssl_context()
        self._backends = {
            listed: PinnedBackend(resolver=resolver, private_allowed=listed) for listed in (False, True)
        }
        self._of_thread = threading.local()
        self._lock = threading.Lock()
        self._pools: list[httpcore2.ConnectionPool] = []

    def _pool(self, *, listed: bool) -> httpcore2.ConnectionPool:
        """This thread's pool."""
        pools: dict[bool, httpcore2.ConnectionPool] = self._of_thread.__dict__.setdefault("pools", {})
        if listed not in pools:
            pools[listed] = httpcore2.ConnectionPool(
                ssl_context=self._context,
                max_connections=None,  # the callers' threads are the bound
                max_keepalive_connections=KEEPALIVE_CONNECTIONS_MAX,
                keepalive_expiry=KEEPALIVE_SECONDS,
                network_backend=self._backends[listed],
            )
            with self._lock:
                self._pools.append(pools[listed])
        return pools[listed]

    @contextlib.contextmanager
    def get(
        self, vetted: VettedUrl, *, connect: Allowance, transfer: Allowance
    ) -> Iterator[httpcore2.Response]:
        """The response with its body unread; leaving the block gives the connection back or closes it.

        Raises `Refused` and whatever httpcore2 raises, also while the body is being read.
        """
        origin = vetted.origin
        request = httpcore2.Request(
            method=b"GET",
            url=httpcore2.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=vetted.target),
            headers=[
                (b"Host", origin.host_header),
                (b"User-Agent", USER_AGENT.encode("ascii")),
                (b"Accept", b"*/*"),
                (b"Accept-Encoding", b"identity"),
            ],
            extensions={"timeout": {"connect": connect, "read": transfer, "write": transfer}},
        )
        response = self._pool(listed=vetted.listed).handle_request(request)
        try:
            yield response
        finally:
            response.close()

    def close(self) -> None:
        """Closes every connection. No request may be under way."""
        with self._lock:
            for pool in self._pools:
                pool.close()
