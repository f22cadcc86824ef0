"""Links: URLs of ours that stay valid, one for each file of a task, from the API's first `succeed` on.

    <public url>/files/<mac>/<account>/<folder>/<name>

1. The mac proves that we made the link: the first 22 characters of base64url(HMAC-SHA256(secret,
   `<account>/<folder>/<stem>`)), so 132 bits. `folder` is the task's folder below the prefix of the bucket.
2. A mac is for one stem of one task and for nothing else; no link lists anything.
3. The extension is not signed. It is for people, and for programs that take file names from URLs; before a file is
   stored it is a guess.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

from archiver import model
from archiver.families import EXTENSIONS, STEM_FORMATS, file_name
from archiver.model import Asset, Role

MAC_CHARACTERS: Final = 22
SECRET_CHARACTERS_MIN: Final = 32
FOLDER: Final = re.compile(
    rf"(?:{model.FAMILY.pattern})/[0-9]{{4}}/[0-9]{{2}}/[0-9]{{2}}/{model.TASK_ID.pattern}"
)
"""For `fullmatch`: a task's folder below the prefix, as it stands in a link."""
_STEM = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}")
_EXTENSION = re.compile(r"(?:[a-z0-9]{1,8})?")
_OF_ROLE: Mapping[Role, str] = {
    Role.IMAGE: "png",
    Role.SERIES_IMAGE: "png",
    Role.ELEMENT: "png",
    Role.VIDEO: "mp4",
    Role.AUDIO: "mp3",
    Role.VOICE: "mp3",
}
"""Its usual extension."""


class LinkSigner:
    """Makes links with the first secret, and recognises those of every secret.

    Secrets are the UTF-8 bytes of their text. Dropping one revokes its links.
    """

    def __init__(self, secrets: Sequence[str], *, public_url: str) -> None:
        """`public_url` is how readers reach us, without a slash at its end. Raises ValueError."""
        if not secrets or any(len(secret) < SECRET_CHARACTERS_MIN for secret in secrets):
            raise ValueError(f"a link secret must have at least {SECRET_CHARACTERS_MIN} characters")
        parts = urlsplit(public_url)
        if parts.scheme not in {"http", "https"} or not parts.netloc or public_url.endswith("/"):
            raise ValueError("the public URL must be a URL such as https://host, without a slash at its end")
        if parts.query or parts.fragment:
            raise ValueError("the public URL must have no query and no fragment")
        self._secrets = tuple(secret.encode() for secret in secrets)
        self._public_url = public_url

    def url(self, *, account: str, folder: str, stem: str, extension: str) -> str:
        """The link of a file.

        `folder` is `images/generations/2026/11/26/831768251064815642`, `extension` is without its dot or empty.
        Raises ValueError for what no link may contain.
        """
        if not model.ACCOUNT_NAME.fullmatch(account):
            raise ValueError("this is no name of an account")
        if not FOLDER.fullmatch(folder):
            raise ValueError("this is no folder of a task below the prefix")
        if not _STEM.fullmatch(stem):
            raise ValueError("this is no stem of a file")
        if not _EXTENSION.fullmatch(extension):
            raise ValueError("this is no extension of a file")
        name = file_name(stem, extension=extension) if extension else stem
        mac = _mac(self._secrets[0], account=account, folder=folder, stem=stem)
        return f"{self._public_url}/files/{mac}/{account}/{folder}/{name}"

    def is_signed(self, mac: str, *, account: str, folder: str, stem: str) -> bool:
        """Whether one of the secrets made `mac` for this file, in a time that does not depend on the mac. Any text may
        be asked about."""
        given = mac.encode("utf-8", "surrogatepass")
        found = False
        for secret in self._secrets:
            expected = _mac(secret, account=account, folder=folder, stem=stem).encode()
            found |= hmac.compare_digest(given, expected)
        return found


def signer_of(secrets: Sequence[str], public_url: str | None) -> LinkSigner | None:
    """None without a secret or without a public URL: then there are no links. Raises ValueError."""
    return LinkSigner(secrets, public_url=public_url) if secrets and public_url else None


def links_of(
    signer: LinkSigner | None,
    assets: Iterable[Asset],
    *,
    account: str,
    family: str | None,
    created_at: int | None,
    task_id: str,
    names: Mapping[str, str],
) -> dict[str, str]:
    """The link of every asset of a task, by stem. `names` are the file names of those that are stored, by stem.

    Empty without a signer, and for a task that the API has not confirmed: its folder is not known yet.
    """
    if signer is None or family is None or created_at is None:
        return {}
    folder = model.task_folder(prefix="", family=family, created_at=created_at, task_id=task_id).rstrip("/")
    return {
        asset.stem: signer.url(
            account=account,
            folder=folder,
            stem=asset.stem,
            extension=_extension(asset, names.get(asset.stem)),
        )
        for asset in assets
    }


class ShownAsset(Protocol):
    """A file of a task; its name once it is stored."""

    @property
    def asset(self) -> Asset: ...
    @property
    def name(self) -> str | None: ...


class ShownTask(Protocol):
    """A task with its files, such as the ledger's `TaskView`."""

    @property
    def account(self) -> str: ...
    @property
    def family(self) -> str | None: ...
    @property
    def created_at(self) -> int | None: ...
    @property
    def task_id(self) -> str: ...
    @property
    def assets(self) -> Sequence[ShownAsset]: ...


def links_of_shown(signer: LinkSigner | None, task: ShownTask) -> dict[str, str]:
    """As `links_of`."""
    return links_of(
        signer,
        [shown.asset for shown in task.assets],
        account=task.account,
        family=task.family,
        created_at=task.created_at,
        task_id=task.task_id,
        names={shown.asset.stem: shown.name for shown in task.assets if shown.name is not None},
    )


def _extension(asset: Asset, name: str | None) -> str:
    """The extension of the stored file; before the file is stored, that of its URL, else the usual one of its role."""
    if name is not None:
        return name.removeprefix(asset.stem).removeprefix(".")
    try:
        path = urlsplit(asset.url).path
    except ValueError:
        path = ""
    extension = path.rpartition("/")[2].rpartition(".")[2].lower()
    if extension in EXTENSIONS:
        return extension
    has_format = asset.stem.endswith(tuple(f".{format_}" for format_ in STEM_FORMATS))
    return "" if has_format else _OF_ROLE.get(asset.role, "")


def _mac(secret: bytes, *, account: str, folder: str, stem: str) -> str:
    signed = f"{account}/{folder}/{stem}".encode("utf-8", "surrogatepass")
    digest = hmac.digest(secret, signed, hashlib.sha256)
    return base64.urlsafe_b64encode(digest)[:MAC_CHARACTERS].decode("ascii")
