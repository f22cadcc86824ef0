"""From the text of a setting to its value: pure functions, no I/O, no environment.

Each takes what an operator wrote and returns what the program uses, or raises `ValueError` with the rest of a
sentence whose subject is the setting's name ("must be …, for example …"). A sentence never repeats what was
written where that could hold a secret: credentials, tokens, and URLs with a password in them.
"""

import base64
import binascii
import ipaddress
import re
import urllib.parse
from collections.abc import Iterable

from archiver import model
from archiver.fetch.urls import EgressPolicy

TOKEN_LENGTH_MIN = 16
MAKE_A_TOKEN = "python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"  # noqa: S105 - a command
_UNITS = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"([0-9]{1,15})\s*(KiB|MiB|GiB|)", re.IGNORECASE)
_URL = re.compile(r"[\x21-\x7e]{1,2000}")
_TOKEN = re.compile(rf"[A-Za-z0-9_~.-]{{{TOKEN_LENGTH_MIN},256}}")
_SECRET = re.compile(r"[\x21\x23-\x26\x28-\x7e]{1,4096}")
"""Visible ASCII without quotes: quotes around a secret are a slip of an env file, never part of it."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}|arn:[A-Za-z0-9:/._-]{1,1000}")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()=@+,:/-]{0,400}")


def comma_list(value: object) -> list[str]:
    """`a, b` (or one a line, or a TOML array) as `["a", "b"]`, each once, in the order written."""
    if isinstance(value, str):
        value = re.split(r"[,\n]", value)
    if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
        raise ValueError("must be a comma-separated list")
    entries = list(dict.fromkeys(entry.strip() for entry in value if entry.strip()))
    if not entries:
        raise ValueError("must name at least one, or be left out")
    return entries


def size_bytes(value: object) -> int:
    """`64 MiB`, `65536` or 65536 as a number of bytes."""
    written = _SIZE.fullmatch(str(value).strip()) if isinstance(value, str | int) else None
    if isinstance(value, bool) or written is None:
        raise ValueError("must be a number of bytes, also with KiB, MiB or GiB: for example 64 MiB")
    return int(written[1]) * _UNITS[written[2].lower()]


def not_a_bool(value: object) -> object:
    """TOML's `true` is no number, although Python would take it for 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 - pydantic takes no TypeError
    return value


def port(value: object) -> object:
    """A number, and not what Kubernetes puts under the same name."""
    if isinstance(value, str) and value.startswith("tcp://"):
        raise ValueError(
            "is what Kubernetes sets for a Service named kling: give the pod enableServiceLinks: false, or the "
            "Service another name"
        )
    return not_a_bool(value)


def folder(value: object) -> object:
    """A path that can be one; whether it is there is found out by whoever uses it."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be the path of a folder")
    return value


def in_lower_case(value: object) -> object:
    """`INFO` as `info`."""
    return value.lower() if isinstance(value, str) else value


def families(value: object) -> list[str]:
    """API paths of families, each as in the callback URL."""
    entries = comma_list(value)
    for entry in entries:
        bare = entry.strip("/").removeprefix("v1/")
        if model.FAMILY.fullmatch(entry) and bare == entry:
            continue
        if model.FAMILY.fullmatch(bare):
            raise ValueError(f"must name families without /v1: write {bare}, not {entry[:100]!r}")
        raise ValueError(
            f"must be a comma-separated list of families such as images/generations; {entry[:100]!r} is none"
        )
    return entries


def callback_tokens(value: object) -> list[str]:
    """The tokens that a callback URL may carry."""
    entries = comma_list(value)
    if not all(_TOKEN.fullmatch(entry) for entry in entries):
        raise ValueError(
            f"must be one or several tokens (comma between them), each of at least {TOKEN_LENGTH_MIN} letters, "
            f"digits, `-`, `_`, `.` or `~`; make one with: {MAKE_A_TOKEN}"
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
            raise ValueError("must be `whsec_` followed by base64, copied whole from Kling's console")
    return entries


def secret(value: object) -> str:
    """A credential that goes into a header."""
    if not isinstance(value, str) or not _SECRET.fullmatch(value):
        raise ValueError("must be plain characters without spaces or quotes: copy it again, unquoted")
    return value


def admin_token(value: object) -> str:
    """The token of the console: the whole API hangs on it, so no short ones."""
    if len(token := secret(value)) < TOKEN_LENGTH_MIN:
        raise ValueError(f"must have at least {TOKEN_LENGTH_MIN} characters; make one with: {MAKE_A_TOKEN}")
    return token


def base_url(written: str) -> str:
    """Where the API is, without a trailing slash: https, or http to this machine only."""
    parts = _split(written)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ValueError("must begin with https:// (plain http is for this machine only, 127.0.0.1)")
    return written.rstrip("/")


def web_url(written: str) -> str:
    """An http or https URL without a trailing slash, without credentials, query or fragment."""
    _split(written)
    return written.rstrip("/")


def bucket(written: str) -> str:
    """The name of a bucket."""
    if not _BUCKET.fullmatch(written):
        raise ValueError("must be the name of a bucket alone, for example my-results (no s3://, no slash)")
    return written


def prefix(written: str) -> str:
    """What every key begins with, taken literally; see `prefix_warning`."""
    segments = written.removesuffix("/").split("/")
    if not _PREFIX.fullmatch(written) or (written and not {"", ".", ".."}.isdisjoint(segments)):
        raise ValueError(
            "must be empty or like `kling/`: letters, digits and -_.!*'()=@+,: with single slashes between, "
            "none at the beginning"
        )
    return written


def prefix_warning(written: str, *, setting: str) -> str | None:
    """A prefix without its slash is taken as it is (keys are made from it literally), but seldom meant."""
    if not written or written.endswith("/"):
        return None
    return (
        f"{setting} does not end with a slash, so keys begin with {written}images/…: "
        f"write {written}/ for a folder."
    )


def ledger_url(written: str) -> str:
    """`sqlite:///` and the path of a file."""
    scheme, _, path = written.partition("://")
    if scheme.startswith("postgres"):
        raise ValueError(
            "names PostgreSQL, which is not supported by this version yet: use sqlite:///kling-ledger.db"
        )
    if scheme != "sqlite" or not path.startswith("/") or len(path) < 2 or not _is_file(path[1:]):
        raise ValueError("must be sqlite:/// and the path of a file, for example sqlite:////data/ledger.db")
    return written


def forward_url(_written: str) -> str:
    """Refused rather than ignored: somebody who sets it counts on being told."""
    raise ValueError("is not supported by this version yet: leave it out")


def asset_hosts(value: object) -> list[str]:
    """Host suffixes and exact plain origins, as the address policy will read them."""
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
    except ValueError as error:  # an unclosed bracket, a port that is none
        raise ValueError("must be a URL such as https://host/path") from error
    if (
        not _URL.fullmatch(written)
        or parts.scheme not in {"http", "https"}
        or not parts.hostname
        or not port_is_sound
    ):
        raise ValueError("must be a URL such as https://host/path")
    if "@" in parts.netloc or "?" in written or "#" in written:
        raise ValueError("must be a URL without user name, password, query and fragment")
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_file(path: str) -> bool:
    return not path.endswith("/") and ":memory:" not in path and _without(path, "\0?#")


def _without(text: str, characters: Iterable[str]) -> bool:
    return not any(character in text for character in characters)
