"""The path of a link. Nothing is looked up before its mac has been verified."""

import dataclasses
import re
from collections.abc import Collection

from archiver.families import EXTENSIONS
from archiver.model import ACCOUNT_NAME
from archiver.store.links import FOLDER, MAC_CHARACTERS, LinkSigner

_PATH = re.compile(
    rf"/files/(?P<mac>[A-Za-z0-9_-]{{{MAC_CHARACTERS}}})/(?P<account>{ACCOUNT_NAME.pattern})"
    rf"/(?P<folder>[^/]+(?:/[^/]+){{3,8}})/(?P<name>[A-Za-z0-9_.-]{{1,300}})"
)
_TILDE = re.compile(r"%7e", re.IGNORECASE)
"""The only character of a link that some clients encode and others do not."""


@dataclasses.dataclass(frozen=True, slots=True)
class LinkedFile:
    """The file that a genuine link names."""

    account: str
    """The account's name in the link, perhaps a former one."""
    folder: str
    stem: str
    extension: str
    """The extension in the link: perhaps empty, perhaps not the file's own."""

    @property
    def task_id(self) -> str:
        return self.folder.rpartition("/")[2]


def read_link(raw_path: bytes, signer: LinkSigner) -> LinkedFile | None:
    """None unless the path is that of a link that one of the secrets has signed.

    The last segment is a stem, or a stem and a known extension. Both are tried, whichever is right.
    """
    try:
        path = _TILDE.sub("~", raw_path.decode("ascii"))
    except UnicodeDecodeError:
        return None
    found = _PATH.fullmatch(path)
    if found is None or not FOLDER.fullmatch(found["folder"]):
        return None
    mac, account, folder, name = found.group("mac", "account", "folder", "name")
    signed = [
        LinkedFile(account, folder, stem, extension)
        for stem, extension in _readings(name)
        if signer.is_signed(mac, account=account, folder=folder, stem=stem)
    ]
    return signed[0] if signed else None


def _readings(name: str) -> Collection[tuple[str, str]]:
    """(stem, extension)."""
    stem, _, extension = name.rpartition(".")
    readings = [(name, "")]
    if stem and extension in EXTENSIONS:
        readings.append((stem, extension))
    return readings
