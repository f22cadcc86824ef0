"""Check the `image` parameter of a create call: a URL, or Base64 of a PNG or JPEG. No I/O.

The limits are those of the create pages. The API itself checks what is behind a URL.
"""

import base64
import binascii
import dataclasses
import hashlib
import io
import re
from urllib.parse import urlsplit

from archiver.failures import NotMedia, TooLarge
from archiver.media.identify import identify

BYTES_MAX = 30 * 1024 * 1024
"""30 MB, the limit of Kling 4.0, read generously as MiB. Families with less (10 MB) refuse larger ones at no cost."""
PIXELS_MIN = 300
RATIO_MAX = 2.5
_TYPES = ("image/png", "image/jpeg")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


@dataclasses.dataclass(frozen=True, slots=True)
class InputImage:
    content_type: str
    width: int
    height: int
    bytes: int
    sha256: str


def is_url(value: str) -> bool:
    return re.match(r"https?://", value, re.IGNORECASE) is not None


def encode(content: bytes) -> str:
    """Without a `data:` prefix, as the create pages want it."""
    return base64.b64encode(content).decode()


def decode(value: str) -> bytes | None:
    """None if the text is not bare Base64."""
    if not _BASE64.fullmatch(value):
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def read(content: bytes) -> InputImage:
    """Raises ValueError with the broken rule."""
    if len(content) > BYTES_MAX:
        raise ValueError(f"must be at most 30 MB, not {len(content) / 1024 / 1024:.1f} MB")
    try:
        media = identify(io.BytesIO(content))
    except (NotMedia, TooLarge) as error:
        raise ValueError(f"must be a PNG or JPEG image: {error}") from error
    if media.content_type not in _TYPES:
        raise ValueError(f"must be a PNG or JPEG image, not {media.content_type}")
    if not media.whole or media.width is None or media.height is None:
        raise ValueError(f"must be a whole image: this one is not ({media.flaw or 'no size'})")
    if min(media.width, media.height) < PIXELS_MIN:
        raise ValueError(
            f"must be at least {PIXELS_MIN} pixels wide and high, not {media.width}×{media.height}"
        )
    if max(media.width, media.height) > RATIO_MAX * min(media.width, media.height):
        raise ValueError(f"must be between 1:2.5 and 2.5:1, not {media.width}×{media.height}")
    digest = hashlib.sha256(content).hexdigest()
    return InputImage(media.content_type, media.width, media.height, len(content), digest)


def broken_rule(value: object) -> str | None:
    """The broken rule as the rest of a sentence whose subject is the parameter, or None."""
    if not isinstance(value, str):
        return "must be text: a URL, or Base64"
    if value[:5].lower() == "data:":
        return "must be bare Base64: remove everything up to and including `base64,`"
    if is_url(value):
        return None if _has_host(value) else "must be a URL with a host, or Base64 of a PNG or JPEG image"
    content = decode(value)
    if content is None:
        return "must be a URL (http:// or https://), or Base64 without line breaks or prefix"
    try:
        read(content)
    except ValueError as error:
        return str(error)
    return None


def _has_host(value: str) -> bool:
    try:
        return bool(urlsplit(value).hostname) and not re.search(r"\s", value)
    except ValueError:
        return False
