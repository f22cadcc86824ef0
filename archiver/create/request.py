"""A create call: what we add to it, how many slots it takes, and what we keep of its body. No I/O."""

import hashlib
import re
from collections.abc import Mapping

from archiver.create import images

DATA_CHARACTERS_MIN = 256
"""Base64 without spaces is image data from this length on, not words."""
_DATA = re.compile(r"(?:data:[^,]{0,100},)?[A-Za-z0-9+/_=\s-]*")
_NOT_KEPT = ("callback_url", "external_task_id")
"""At the top of a `/v1` body, under `options` in the new standard."""


def callback_url(public_url: str, *, token: str, family: str) -> str:
    """The URL at which Kling reports a task of this family to us."""
    return f"{public_url.rstrip('/')}/callbacks/{token}/{family}"


def new_external_id(randomness: str) -> str:
    """Safe in a path and unlike any task id; `randomness` is 32 hexadecimal digits or more."""
    return f"ka-{randomness}"


def slots_of(family: str, body: Mapping[str, object]) -> int:
    """How many of the account's slots the task takes: images take one each (archiver/kling/API.md 4)."""
    n = body.get("n")
    if family.startswith("images/") and isinstance(n, int) and not isinstance(n, bool):
        return max(1, n)
    return 1


def request_of(body: Mapping[str, object]) -> dict[str, object]:
    """The part of a create's body that ledger and manifest keep. Image data is replaced by its digest. The callback URL
    and the queries of signed URLs are left out, because they grant access."""
    return {str(name): _kept(value) for name, value in body.items() if name not in _NOT_KEPT}


def _kept(value: object) -> object:
    if isinstance(value, dict):
        return request_of(value)
    if isinstance(value, list):
        return [_kept(inner) for inner in value]
    if not isinstance(value, str):
        return value
    if images.is_url(value):
        return _without_credentials(value)
    return _digest(value) if _is_data(value) else value


def _is_data(value: str) -> bool:
    is_long = len(value) >= DATA_CHARACTERS_MIN and _DATA.fullmatch(value) is not None and " " not in value
    return is_long or value.startswith("data:")


def _without_credentials(url: str) -> str:
    """Without the query, which may be a signature, and without user name and password."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"^([A-Za-z]+://)[^/]*@", r"\1", bare)


def _digest(text: str) -> dict[str, object]:
    """SHA-256 and length of the decoded bytes, or of the text itself if it does not decode."""
    content = images.decode(text)
    raw = text.encode("utf-8", "replace") if content is None else content
    return {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
