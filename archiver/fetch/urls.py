"""Decides by its text whether a URL may be fetched. `connecting.PinnedBackend` judges the addresses behind the name."""

import dataclasses
import enum
import ipaddress
import re
from collections.abc import Sequence, Set
from typing import Self

import idna

from archiver.failures import UrlRefused

URL_CHARACTERS_MAX = 16_384


class RefusalCause(enum.StrEnum):
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


class PolicyRefusal(UrlRefused):
    """The policy refuses a URL; `Fetcher` turns this into the task's failure.

    The message quotes nothing of the URL except a well-formed host.
    """

    def __init__(self, cause: RefusalCause, message: str, *, host: str | None = None) -> None:
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
        """The host as URLs write it, and the port unless it is the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        bare = self.port == _DEFAULT_PORTS[self.scheme]
        return (host if bare else f"{host}:{self.port}").encode("ascii")


@dataclasses.dataclass(frozen=True, slots=True)
class VettedUrl:
    """A URL that the policy allows."""

    origin: Origin
    target: bytes
    """Path and query. Secret: it may contain a signature."""
    listed: bool
    """The settings name this origin, so plain http and private addresses are intended."""


_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_URL = re.compile(r"(?P<scheme>[A-Za-z]+)://(?P<authority>[^/?#]*)(?P<target>[^#]*)(?:#.*)?")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[^\[\]:]+)(?::(?P<port>[0-9]{0,5}))?")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_EXPIRES = re.compile(r"[?&]Expires=([0-9]{10})(?![0-9])")
_KS_TIME = re.compile(r"[?&]ksTime=([0-9a-f]{8})(?![0-9a-f])")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
_REFUSED_CHARACTERS = re.compile("[\\x00-\\x1f\\x7f\\\\\ud800-\udfff]")
"""Control characters, backslashes and lone surrogates: parsers disagree on them."""


@dataclasses.dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Allows every host under a suffix, by https on port 443, and single origins."""

    suffixes: frozenset[str]
    origins: frozenset[Origin]

    @classmethod
    def parse(cls, entries: Sequence[str]) -> Self:
        """Entries are suffixes (`klingai.com`) and origins (`http://127.0.0.1:9000`).

        Raises ValueError with a message for the operator.
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
        """Raises PolicyRefusal."""
        vetted = _vetted(url.strip(" \t\r\n"), listed=self.origins)
        if not vetted.listed:
            self._check_unlisted(vetted.origin)
        return vetted

    def _check_unlisted(self, origin: Origin) -> None:
        host = origin.host
        _require_name(host)
        if origin.scheme != "https":
            raise PolicyRefusal(
                RefusalCause.SCHEME, f"{host} is asked for over plain {origin.scheme}", host=host
            )
        if origin.port != 443:
            raise PolicyRefusal(RefusalCause.PORT, f"{host} is asked for on port {origin.port}", host=host)
        if not any(host == suffix or host.endswith("." + suffix) for suffix in self.suffixes):
            # The last check: a URL that fails only here needs just one entry in the settings.
            raise PolicyRefusal(
                RefusalCause.HOST_NOT_ALLOWED, f"{host} is not among the allowed hosts", host=host
            )


@dataclasses.dataclass(frozen=True, slots=True)
class ConsumerPolicy:
    """Allows callback URLs that clients of the gateway name: any public host by https, and single origins.

    The addresses behind the name are judged at each delivery.
    """

    origins: frozenset[Origin]

    @classmethod
    def parse(cls, entries: Sequence[str]) -> Self:
        """Entries are origins. Raises ValueError with a message for the operator."""
        return cls(origins=frozenset(_parse_origin(entry.strip()) for entry in entries))

    def vet(self, url: str) -> VettedUrl:
        """Raises PolicyRefusal."""
        vetted = _vetted(url, listed=self.origins)
        if not vetted.listed:
            self._check_unlisted(vetted.origin)
        return vetted

    def _check_unlisted(self, origin: Origin) -> None:
        host = origin.host
        _require_name(host)
        if host in _LOCAL_NAMES or host.endswith(".localhost"):
            raise PolicyRefusal(RefusalCause.ADDRESS, "the URL names this machine", host=host)
        if origin.scheme != "https":
            raise PolicyRefusal(RefusalCause.SCHEME, f"{host} is named over plain {origin.scheme}", host=host)


def vet_own(url: str) -> VettedUrl:
    """A URL that the operator has set may lead anywhere. Raises PolicyRefusal if it is not a URL."""
    return dataclasses.replace(_vetted(url, listed=frozenset()), listed=True)


def redirected(vetted: VettedUrl, location: str) -> str:
    """The URL that a `Location` header means, not vetted yet. Raises PolicyRefusal.

    Only a relative location is resolved; an absolute one is kept as written.
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
    # RFC 3986 would remove dot segments. They are left to the server: the policy does not judge paths.
    return f"{base}{path[: path.rindex('/') + 1]}{location}"


def expires_at(url: str) -> int | None:
    """When the URL's own signature ends (Unix ms); None where it does not say. API.md 8.3 has the two ways."""
    for pattern, base in ((_EXPIRES, 10), (_KS_TIME, 16)):
        if found := pattern.search(url):
            return int(found[1], base) * 1000
    return None


def _vetted(url: str, *, listed: Set[Origin]) -> VettedUrl:
    parts = _split(url)
    origin = _origin(parts["scheme"], parts["authority"])
    target = parts["target"]
    if not target.startswith("/"):
        target = "/" + target
    return VettedUrl(origin=origin, target=_target_bytes(target), listed=origin in listed)


def _split(url: str) -> re.Match[str]:
    if len(url) > URL_CHARACTERS_MAX:
        raise PolicyRefusal(RefusalCause.TOO_LONG, f"the URL has more than {URL_CHARACTERS_MAX} characters")
    _check_characters(url)
    parts = _URL.fullmatch(url)
    if parts is None:
        raise PolicyRefusal(RefusalCause.MALFORMED, "this is no absolute http or https URL")
    return parts


def _check_characters(url: str) -> None:
    found = _REFUSED_CHARACTERS.search(url)
    if found is not None:
        name = {"\\": "a backslash"}.get(
            found[0], "a control character" if found[0] <= "\x7f" else "half a character"
        )
        raise PolicyRefusal(RefusalCause.CHARACTERS, f"the URL has {name}")


def _target_bytes(target: str) -> bytes:
    """Percent-encodes blanks and characters outside ASCII, as browsers do, and changes nothing else."""
    if target.isascii() and " " not in target:
        return target.encode("ascii")
    return "".join(
        character
        if "!" <= character <= "~"
        else "".join(f"%{byte:02X}" for byte in character.encode("utf-8"))
        for character in target
    ).encode("ascii")


def _origin(scheme: str, authority: str) -> Origin:
    scheme = scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise PolicyRefusal(RefusalCause.SCHEME, "the URL is neither https nor http")
    if "@" in authority:
        raise PolicyRefusal(RefusalCause.USER_INFO, "the URL carries a user name or password")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise PolicyRefusal(RefusalCause.MALFORMED, "the URL's host or port cannot be read")
    port = int(parts["port"] or _DEFAULT_PORTS[scheme])
    if not 1 <= port <= 65535:
        raise PolicyRefusal(RefusalCause.PORT, "the URL's port does not exist")
    return Origin(scheme=scheme, host=_host(parts["host"]), port=port)


def _host(text: str) -> str:
    """Lower case, without brackets and without one trailing dot, which means the same name."""
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            raise PolicyRefusal(RefusalCause.MALFORMED, "the URL's IPv6 address cannot be read") from None
    host = _ascii_name(text).removesuffix(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise PolicyRefusal(RefusalCause.HOST_NAME, "the URL's host is no host name")
    return host


def _ascii_name(name: str) -> str:
    """As browsers ask DNS for it (UTS 46). Every check below sees this name, and so does the server."""
    if name.isascii():
        return name.lower()
    try:
        labels = idna.uts46_remap(name, std3_rules=False).split(".")
    except (idna.IDNAError, UnicodeError):
        raise PolicyRefusal(
            RefusalCause.HOST_NAME, "the URL's host has characters that no host name may have"
        ) from None
    return ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii") for label in labels
    )


def _require_name(host: str) -> None:
    """Raises PolicyRefusal for an address in place of a name."""
    if _is_address(host):
        raise PolicyRefusal(
            RefusalCause.IP_LITERAL, "the URL names an IP address instead of a host", host=host
        )


def _is_address(host: str) -> bool:
    """In any spelling that a resolver accepts: `1.2.3.4`, `0x7f.1`, `017700000001`, `2130706433`, IPv6."""
    return ":" in host or _NUMBER.fullmatch(host.rpartition(".")[2]) is not None


def _parse_origin(entry: str) -> Origin:
    try:
        parts = _split(entry)
        origin = _origin(parts["scheme"], parts["authority"])
    except PolicyRefusal as refused:
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
    except PolicyRefusal:
        raise ValueError(
            f"{entry!r} is no host suffix: write example.com, which covers its subdomains too, "
            "or an origin such as http://127.0.0.1:9000"
        ) from None
    if _is_address(host):
        raise ValueError(f"{entry!r} is an IP address: write the whole origin, such as https://{entry}")
    if "." not in host:
        raise ValueError(f"{entry!r} would allow a whole top-level domain: write at least two labels")
    return host
