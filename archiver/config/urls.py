"""From a written URL, host or network to its value. Pure functions, no I/O.

The rule of `values` for messages holds here too.
"""

import ipaddress
import re
import urllib.parse
from collections.abc import Sequence

from archiver.config import values
from archiver.fetch.urls import ConsumerPolicy, EgressPolicy

LINK_MODES = ("redirect", "stream")
FORWARD_LINKS = ("links", "s3", "presigned")
_URL = re.compile(r"[\x21-\x7e]{1,2000}")
_HOST = re.compile(r"[A-Za-z0-9.:_%-]{1,253}")
_DATABASE = re.compile(r"/[^/]{1,63}")


def base_url(written: str) -> str:
    """An https URL, or http to this machine only; without the `/v1` that the client adds itself."""
    parts = _split(written)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ValueError("must begin with https:// (plain http is for this machine only, 127.0.0.1)")
    return re.sub(r"(/+v1)*/*$", "", written)


def web_url(written: str) -> str:
    """A URL without credentials, query or fragment."""
    _split(written)
    return written.rstrip("/")


def hook_url(value: object) -> str:
    """As `web_url`, but with the query that some chat hooks have. The path may be a secret."""
    written = values.secret(value)
    _split(written.partition("?")[0])
    return written


def link_mode(written: str) -> str:
    """`redirect`, `stream`, or the URL of the server in front of the bucket."""
    return _word_or_url(written, LINK_MODES)


def forward_links(written: str) -> str:
    """`links`, `s3`, `presigned`, or the URL of the server in front of the bucket."""
    return _word_or_url(written, FORWARD_LINKS)


def _word_or_url(written: str, words: Sequence[str]) -> str:
    """One of `words`, or a URL with a slash at its end: without one, a key could become part of the host."""
    if written.lower() in words:
        return written.lower()
    if not written.startswith("https://"):
        raise ValueError(f"must be {', '.join(words)} or a URL such as https://cdn.example.com/")
    return f"{web_url(written)}/"


def ledger_url(written: str) -> str:
    """`sqlite:///` and the path of a file, or `postgresql://` and where a database is."""
    scheme, _, path = written.partition("://")
    if scheme == "postgresql":
        return _database_url(written)
    if scheme.startswith("postgres"):
        raise ValueError("must begin with postgresql:// to name a PostgreSQL database")
    if scheme != "sqlite" or not path.startswith("/") or len(path) < 2 or not _is_file(path[1:]):
        raise ValueError(
            "must be sqlite:/// and the path of a file, for example sqlite:////data/ledger.db, or "
            "postgresql://user:password@host/database"
        )
    return f"sqlite:///{values.at_home(path[1:])}"


def _database_url(written: str) -> str:
    try:
        parts = urllib.parse.urlsplit(written)
        is_sound = _URL.fullmatch(written) and _DATABASE.fullmatch(parts.path) and not parts.fragment
        hosts = parts.netloc.rpartition("@")[2].split(",")
        places = [urllib.parse.urlsplit(f"//{host}") for host in hosts]
        is_sound = is_sound and all(place.port is None or place.port > 0 for place in places)
        is_sound = is_sound and all(_is_host(place.hostname) for place in places if place.hostname)
    except ValueError:  # an invalid port or address
        is_sound = False
    if not is_sound:
        raise ValueError(
            "must be postgresql://user:password@host/database (in a password, write %40 for @, %2F for /, %3F for ? "
            "and %23 for #)"
        )
    return written


def listen_url(written: str) -> str:
    """`postgresql://` and where a database is."""
    if not written.startswith("postgresql://"):
        raise ValueError("must begin with postgresql://")
    return _database_url(written)


def passwords(url: str) -> tuple[str, ...]:
    """The passwords in the URL of a database, both percent-encoded and decoded."""
    parts = urllib.parse.urlsplit(url)
    written = [parts.password or "", *urllib.parse.parse_qs(parts.query).get("password", ())]
    return tuple(
        dict.fromkeys(form for text in written if text for form in (text, urllib.parse.unquote(text)))
    )


def host(written: str) -> str:
    """An IP address or a host name, without a port."""
    name, _, port_ = written.rpartition(":")
    if port_.isdecimal() and (":" not in name or name.endswith("]")):
        raise ValueError("must be an IP address or a host name alone: write the port into KLING_PORT")
    is_name = ":" not in written
    if not _HOST.fullmatch(written) or not (is_name or _is_address(written)):
        raise ValueError("must be an IP address or a host name, for example 0.0.0.0 or ::")
    return written


def origins(value: object) -> list[str]:
    """Exact origins."""
    entries = values.comma_list(value)
    try:
        ConsumerPolicy.parse(entries)
    except ValueError:  # its message quotes the entry, which may have a password
        raise ValueError(
            "must be a comma-separated list of origins: scheme, host and port, such as http://10.0.0.5:8000"
        ) from None
    return entries


def networks(value: object) -> list[str]:
    """Addresses and networks: `192.0.2.1`, `10.0.0.0/8`."""
    entries = values.comma_list(value)
    for entry in entries:
        try:
            ipaddress.ip_network(entry)
        except ValueError as error:
            raise ValueError(f"must name IP addresses or networks such as 10.0.0.0/8: {error}") from None
    return entries


def asset_hosts(value: object) -> list[str]:
    """Domains and exact http origins."""
    entries = values.comma_list(value)
    try:
        EgressPolicy.parse(entries)
    except ValueError as error:
        raise ValueError(f"is not usable: {error}") from error
    return entries


def _split(written: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(written)
        port_is_sound = parts.port is None or parts.port > 0
    except ValueError as error:  # an unclosed bracket, an invalid port
        raise ValueError("must be a URL such as https://host/path") from error
    if (
        not _URL.fullmatch(written)
        or parts.scheme not in {"http", "https"}
        or not _is_host(parts.hostname or "")
        or not port_is_sound
    ):
        raise ValueError("must be a URL such as https://host/path")
    if "@" in parts.netloc or "?" in written or "#" in written:
        raise ValueError("must be a URL without user name, password, query and fragment")
    return parts


def _is_host(name: str) -> bool:
    """Whether DNS can look the name up: in its DNS form, no label is empty or longer than 63 characters."""
    labels = name.removesuffix(".").split(".")
    try:
        return all(label.isascii() or label.encode("idna") for label in labels) and all(
            0 < len(label) <= 63 for label in labels
        )
    except UnicodeError:
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_file(path: str) -> bool:
    return not path.endswith("/") and ":memory:" not in path and values.without(path, "\0?#")
