"""Kling's paths that create tasks, and the field of their bodies that takes a callback URL. No I/O.

Sources: archiver/kling/API.md 0 (the two fields), 6 (families), 6.3 (what answers at once and takes no callback). The
page of a solution does not name its callback field, and the create paths of Kling 4.0 are not known. Both are left out:
the sweep finds these tasks.
"""

import dataclasses
import re
from urllib.parse import unquote_to_bytes

from archiver.families import FAMILIES, collection_of

CALLBACK_FIELD = "callback_url"
OPTIONS = "options"
LEGACY_PLACE = (CALLBACK_FIELD,)
NEW_STANDARD_PLACE = (OPTIONS, CALLBACK_FIELD)

_LEGACY = {f"/v1/{family}".encode(): family for family in FAMILIES if collection_of(family) is None}
_NEW_STANDARD = re.compile(
    rb"/(?:text-to-video|image-to-video|omni-video|motion-control)/[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
)
_NEW_STANDARD_FAMILY = "tasks/video"


@dataclasses.dataclass(frozen=True, slots=True)
class CreatePath:
    """A path whose page documents a callback URL."""

    family: str
    """As callback URLs and registrations name it."""
    place: tuple[str, ...]
    """Where the body names the callback URL."""


def create_path(path: bytes) -> CreatePath | None:
    """`path` is raw, and begins with `/v1/` where Kling's does. None for a path that creates nothing, or that documents
    no callback URL."""
    decoded = unquote_to_bytes(path)
    decoded = decoded.removesuffix(b"/")
    if (family := _LEGACY.get(decoded)) is not None:
        return CreatePath(family, LEGACY_PLACE)
    if _NEW_STANDARD.fullmatch(decoded):
        return CreatePath(_NEW_STANDARD_FAMILY, NEW_STANDARD_PLACE)
    return None
