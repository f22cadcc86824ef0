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
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from archiver import model
from archiver.families import file_name

MAC_CHARACTERS: Final = 22
SECRET_CHARACTERS_MIN: Final = 32
_FOLDER = re.compile(rf"(?:{model.FAMILY.pattern})/[0-9]{{4}}/[0-9]{{2}}/[0-9]{{2}}/{model.TASK_ID.pattern}")
_STEM = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}")
_EXTENSION = re.compile(r"(?:[a-z0-9]{1,8})?")


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
        if not _FOLDER.fullmatch(folder):
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


def _mac(secret: bytes, *, account: str, folder: str, stem: str) -> str:
    signed = f"{account}/{folder}/{stem}".encode("utf-8", "surrogatepass")
    digest = hmac.digest(secret, signed, hashlib.sha256)
    return base64.urlsafe_b64encode(digest)[:MAC_CHARACTERS].decode("ascii")
