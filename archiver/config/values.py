"""From a written setting to its value. Pure functions, no I/O.

Each returns the value or raises `ValueError`. The message completes a sentence whose subject is the setting ("must be
…"). It never repeats what could be a secret: a credential, a token, or a URL with a password.
"""

import base64
import binascii
import pathlib
import re
from collections.abc import Iterable

from archiver import model
from archiver.families import FAMILIES, misspelled

TOKEN_LENGTH_MIN = 16
MAKE_A_TOKEN = "python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"  # noqa: S105 - a command, not a token
GATEWAY_KEY_LENGTH_MIN = 24
LINK_SECRET_LENGTH_MIN = 32
MAKE_A_LINK_SECRET = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"  # noqa: S105 - a command
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"([0-9]{1,15})\s*(KB|MB|GB|KiB|MiB|GiB|)", re.IGNORECASE)
_TOKEN = re.compile(rf"[A-Za-z0-9_~.-]{{{TOKEN_LENGTH_MIN},256}}")
_SECRET = re.compile(r"[\x21\x23-\x26\x28-\x7e]{1,4096}")
"""Visible ASCII without quotes, which are a mistake in an env file."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}|arn:[A-Za-z0-9:/._-]{1,1000}")
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
    """Expand `~/x` as a shell does: no shell reads unit files, compose files or TOML."""
    try:
        return str(pathlib.Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError as error:
        raise ValueError("begins with ~, and the home folder is not known: write the whole path") from error


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
    return text.isprintable() and without(text, " \"'")


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


def without(text: str, characters: Iterable[str]) -> bool:
    return not any(character in text for character in characters)
