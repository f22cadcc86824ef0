"""From a written setting to its value. Pure functions, no I/O.

Each returns the value or raises `ValueError`. The message completes a sentence whose subject is the setting ("must be
…"). It never repeats what could be a secret: a credential, a token, or a URL with a password.
"""

import base64
import binascii
import ipaddress
import pathlib
import re
import urllib.parse
from collections.abc import Iterable

from archiver import model
from archiver.families import FAMILIES, misspelled
from archiver.fetch.urls import ConsumerPolicy, EgressPolicy

TOKEN_LENGTH_MIN = 16
MAKE_A_TOKEN = "python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"  # noqa: S105 - a command, not a token
GATEWAY_KEY_LENGTH_MIN = 24
LINK_MODES = ("redirect", "stream")
FORWARD_LINKS = ("links", "s3", "presigned")
LINK_SECRET_LENGTH_MIN = 32
MAKE_A_LINK_SECRET = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"  # noqa: S105 - a command
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"([0-9]{1,15})\s*(KB|MB|GB|KiB|MiB|GiB|)", re.IGNORECASE)
_URL = re.compile(r"[\x21-\x7e]{1,2000}")
_TOKEN = re.compile(rf"[A-Za-z0-9_~.-]{{{TOKEN_LENGTH_MIN},256}}")
_SECRET = re.compile(r"[\x21\x23-\x26\x28-\x7e]{1,4096}")
"""Visible ASCII without quotes, which are a mistake in an env file."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}|arn:[A-Za-z0-9:/._-]{1,1000}")
_HOST = re.compile(r"[A-Za-z0-9.:_%-]{1,253}")
_DATABASE = re.compile(r"/[^/]{1,63}")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()=@+,:/-]{0,400}")


def comma_list(value: object) -> list[str]:
    """`a, b`, or lines, or a TOML array → `["a", "b"]`, each once."""
    if isinstance(value, str):
        value = re.split(r"[,\n]", value)
    if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
        raise ValueError("must be a comma-separated list")
    entries = list(dict.fromkeys(entry.strip() for entry in value if entry.strip()))
    if not entries:
        raise ValueError("must name at least one, or be left out")
    return entries


def size_bytes(value: object) -> int:
    """`64 MiB`, `65536` or 65536 → a number of bytes."""
    written = _SIZE.fullmatch(str(value).strip()) if isinstance(value, str | int) else None
    if isinstance(value, bool) or written is None:
        raise ValueError(
            "must be a number of bytes, also with KB, KiB, MB, MiB, GB or GiB: for example 64 MiB"
        )
    return int(written[1]) * _UNITS[written[2].lower()]


def not_a_bool(value: object) -> object:
    """Refuse TOML's `true`: Python would read it as 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 - pydantic does not catch TypeError
    return value


def port(value: object) -> object:
    """Kubernetes may set a variable of this name to a URL."""
    if isinstance(value, str) and value.startswith("tcp://"):
        raise ValueError(
            "was set by Kubernetes, for a Service named kling: give the pod enableServiceLinks: false, or rename the "
            "Service"
        )
    return not_a_bool(value)


def folder(value: object) -> object:
    """Whether the folder exists is checked when it is used."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be the path of a folder")
    return at_home(value)


def at_home(path: str) -> str:
    """`~/x` as a shell reads it: no shell has read a unit file, a compose file or TOML."""
    try:
        return str(pathlib.Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError as error:
        raise ValueError("begins with ~, and the home folder is not known: write the whole path") from error


def host(written: str) -> str:
    """An IP address or a host name, without a port."""
    name, _, port_ = written.rpartition(":")
    if port_.isdecimal() and (":" not in name or name.endswith("]")):
        raise ValueError("must be an IP address or a host name alone: write the port into KLING_PORT")
    is_name = ":" not in written
    if not _HOST.fullmatch(written) or not (is_name or _is_address(written)):
        raise ValueError("must be an IP address or a host name, for example 0.0.0.0 or ::")
    return written


def in_lower_case(value: object) -> object:
    """`INFO` → `info`."""
    return value.lower() if isinstance(value, str) else value


def off_or_on(value: object) -> object:
    """TOML's own words too, and `ON`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return in_lower_case(value)


def families(value: object) -> list[str]:
    """API paths of families, each as in the callback URL."""
    entries = comma_list(value)
    if entries == ["all"]:
        return list(FAMILIES)
    for entry in entries:
        bare = entry.strip("/").removeprefix("v1/")
        if model.FAMILY.fullmatch(entry) and bare == entry and not misspelled(entry):
            continue
        if model.FAMILY.fullmatch(bare) and bare != entry:
            raise ValueError(f"must name families without /v1: write {bare}, not {entry[:100]!r}")
        if meant := misspelled(bare):
            raise ValueError(f"must name families as Kling does: write {meant}, not {entry[:100]!r}")
        raise ValueError(
            f"must be a comma-separated list of families such as images/generations; {entry[:100]!r} is not a family"
        )
    return entries


def account_names(value: object) -> list[str]:
    entries = comma_list(value)
    for entry in entries:
        if not model.ACCOUNT_NAME.fullmatch(entry):
            raise ValueError(
                f"must be names of 1 to 64 letters, digits, `.`, `_` or `-`; {entry[:100]!r} is not one"
            )
    return entries


def callback_tokens(value: object) -> list[str]:
    entries = comma_list(value)
    if not all(_TOKEN.fullmatch(entry) for entry in entries):
        raise ValueError(
            f"must be one token or several (separated by commas), each of at least {TOKEN_LENGTH_MIN} letters, digits, "
            f"`-`, `_`, `.` or `~`; make one with: {MAKE_A_TOKEN}"
        )
    return entries


def signing_secrets(value: object) -> list[str]:
    """`whsec_` and base64, as Kling's console shows them."""
    entries = comma_list(value)
    for entry in entries:
        try:
            key = base64.b64decode(entry.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not entry.startswith("whsec_") or not key:
            raise ValueError("must be `whsec_` followed by base64, copied completely")
    return entries


def secret(value: object) -> str:
    if not isinstance(value, str) or not _SECRET.fullmatch(value):
        raise ValueError("must be plain characters without spaces or quotes: copy it again, unquoted")
    return value


def admin_token(value: object) -> str:
    """It guards the whole API, hence a minimum length."""
    if len(token := secret(value)) < TOKEN_LENGTH_MIN:
        raise ValueError(f"must have at least {TOKEN_LENGTH_MIN} characters; make one with: {MAKE_A_TOKEN}")
    return token


def link_secrets(value: object) -> list[str]:
    """A program that knows one can make a link to every file."""
    entries = comma_list(value)
    if not all(len(entry) >= LINK_SECRET_LENGTH_MIN and _is_plain(entry) for entry in entries):
        raise ValueError(
            f"must be one secret or several (separated by commas), each of at least {LINK_SECRET_LENGTH_MIN} plain "
            f"characters without spaces or quotes; make one with: {MAKE_A_LINK_SECRET}"
        )
    return entries


def _is_plain(text: str) -> bool:
    return text.isprintable() and _without(text, " \"'")


def link_mode(written: str) -> str:
    """`redirect`, `stream`, or a URL with a slash at its end: without one, a key could become part of the host."""
    if written.lower() in LINK_MODES:
        return written.lower()
    if not written.startswith("https://"):
        raise ValueError("must be redirect, stream or a URL such as https://cdn.example.com/")
    return f"{web_url(written)}/"


def gateway_keys(value: object) -> list[str]:
    """`name:key` for each application. Clients that only know key pairs use the name as access key."""
    entries = comma_list(value)
    pairs = [entry.partition(":") for entry in entries]
    if not all(
        model.ACCOUNT_NAME.fullmatch(name) and len(key) >= GATEWAY_KEY_LENGTH_MIN and _SECRET.fullmatch(key)
        for name, _, key in pairs
    ):
        raise ValueError(
            f"must be name:key or several (separated by commas), each key of at least {GATEWAY_KEY_LENGTH_MIN} plain "
            f"characters without spaces or quotes; make one with: {MAKE_A_TOKEN}"
        )
    for what, ours in (("name", [name for name, _, _ in pairs]), ("key", [key for _, _, key in pairs])):
        if len(set(ours)) < len(ours):
            raise ValueError(f"must have a {what} of its own for each application")
    return entries


def client_api_keys(value: object) -> list[str]:
    return [secret(entry) for entry in comma_list(value)]


def base_url(written: str) -> str:
    """https, or http to this machine only; without the `/v1` that the client adds itself."""
    parts = _split(written)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ValueError("must begin with https:// (plain http is for this machine only, 127.0.0.1)")
    return re.sub(r"(/+v1)*/*$", "", written)


def web_url(written: str) -> str:
    """Without credentials, query or fragment."""
    _split(written)
    return written.rstrip("/")


def hook_url(value: object) -> str:
    """As `web_url`, but with the query that some chat hooks have. The path may be a secret."""
    written = secret(value)
    _split(written.partition("?")[0])
    return written


def bucket(written: str) -> str:
    if not _BUCKET.fullmatch(written):
        raise ValueError("must be the name of a bucket alone, for example my-results (no s3://, no slash)")
    return written


def prefix(written: str) -> str:
    segments = written.removesuffix("/").split("/")
    if not _PREFIX.fullmatch(written) or (written and not {"", ".", ".."}.isdisjoint(segments)):
        raise ValueError(
            "must be empty or like `kling/`: letters, digits and -_.!*'()=@+,: separated by single slashes, with no "
            "leading slash"
        )
    return written


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
    return f"sqlite:///{at_home(path[1:])}"


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
    """Those in the URL of a database, as they are written and as they are meant."""
    parts = urllib.parse.urlsplit(url)
    written = [parts.password or "", *urllib.parse.parse_qs(parts.query).get("password", ())]
    return tuple(
        dict.fromkeys(form for text in written if text for form in (text, urllib.parse.unquote(text)))
    )


def forward_links(written: str) -> str:
    """`links`, `s3`, `presigned`, or a URL with a slash at its end: keys are appended to it."""
    if written.lower() in FORWARD_LINKS:
        return written.lower()
    if not written.startswith("https://"):
        raise ValueError("must be links, s3, presigned or a URL such as https://cdn.example.com/")
    return f"{web_url(written)}/"


def origins(value: object) -> list[str]:
    """Exact origins."""
    entries = comma_list(value)
    try:
        ConsumerPolicy.parse(entries)
    except ValueError:  # its message quotes the entry, which may have a password
        raise ValueError(
            "must be a comma-separated list of origins: scheme, host and port, such as http://10.0.0.5:8000"
        ) from None
    return entries


def networks(value: object) -> list[str]:
    """Addresses and networks: `192.0.2.1`, `10.0.0.0/8`."""
    entries = comma_list(value)
    for entry in entries:
        ipaddress.ip_network(entry)
    return entries


def asset_hosts(value: object) -> list[str]:
    """Domains and exact http origins."""
    entries = comma_list(value)
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
    """Whether it can be looked up: no label is empty or longer than 63 characters, in the form that DNS has."""
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
    return not path.endswith("/") and ":memory:" not in path and _without(path, "\0?#")


def _without(text: str, characters: Iterable[str]) -> bool:
    return not any(character in text for character in characters)
