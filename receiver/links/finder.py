"""Finds the file of a link: stored, not stored yet, or unknown.

The ledger is asked first. If it cannot be read, or lacks the row, the bucket is asked: the link contains the key. So a
link to a stored file needs no ledger.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from archiver import log
from archiver.failures import Failure, LedgerUnavailable, TaskForgotten
from archiver.families import CONTENT_TYPES
from archiver.ledger import FileView
from archiver.model import StoredAsset
from archiver.store import Presigned, StoredObject
from receiver.gateway.blocking import BlockingCalls
from receiver.links.paths import LinkedFile
from receiver.links.recent import Recent

LEDGER_CALLS_MAX = 4
LEDGER_SECONDS_MAX = 1.0
STORE_CALLS_MAX = 4
STORE_SECONDS_MAX = 10.0
UNKNOWN_TYPE = "application/octet-stream"
IMAGE_SECONDS = 3600
MEDIA_SECONDS = 6 * 3600
"""A presigned URL of a film must outlast its playing, with pauses."""

_TYPES = frozenset(CONTENT_TYPES.values())
_SHA256 = re.compile(r"[0-9a-f]{64}")
_log = log.get()


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """A file in the bucket."""

    key: str
    name: str
    content_type: str
    """One of those that are archived; never what the store or a manifest says."""
    bytes: int
    sha256: str | None
    """None if only the store could be asked, and it does not know the digest."""

    @property
    def seconds(self) -> int:
        """How long a presigned URL of the file is valid."""
        return IMAGE_SECONDS if self.content_type.startswith("image/") else MEDIA_SECONDS


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A file in the bucket, and a URL of the store for it if one was asked for."""

    file: File
    presigned: Presigned | None


@dataclasses.dataclass(frozen=True, slots=True)
class NotStored:
    """A file that is not in the bucket."""

    upstream_url: str = dataclasses.field(repr=False)
    is_tried: bool


class NotNow(Exception):
    """Neither the ledger nor the bucket can be asked now."""


class LinkStore(Protocol):
    """The part of the store that links need; its calls end within seconds."""

    def list(self, folder: str) -> dict[str, int]:
        """As `Store.list`."""

    def head(self, key: str) -> StoredObject | None:
        """As `Store.head`."""

    def presign(
        self, key: str, *, seconds: int, method: Literal["GET", "HEAD"] = "GET", file_name: str | None = None
    ) -> Presigned:
        """As `S3Store.presign`."""


@dataclasses.dataclass(frozen=True, slots=True)
class LinkedAccount:
    """An account whose links are served."""

    name: str
    prefix: str


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Whether to presign a URL of the store, and for which method and name; see `S3Store.presign`."""

    method: Literal["GET", "HEAD"]
    is_download: bool = False


class Finder:
    """Asks ledger and store, on threads of its own. A client waits a few seconds for them at most."""

    def __init__(
        self,
        find: Callable[..., FileView | None],
        store: LinkStore,
        *,
        accounts: Mapping[str, LinkedAccount],
    ) -> None:
        """`find` is `Files.find`; `accounts` are by their names, former ones too. Raises ThreadsRefused."""
        self._find = find
        self._store = store
        self._accounts = accounts
        self._recent: Recent[Found] = Recent()
        self._ledger_calls = BlockingCalls(LEDGER_CALLS_MAX, name="link")
        self._store_calls = BlockingCalls(STORE_CALLS_MAX, name="link-store")

    async def find(self, link: LinkedFile, wanted: Wanted | None) -> Found | NotStored | None:
        """None when there is no such file. Raises NotNow."""
        account = self._accounts.get(link.account)
        if account is None:
            return None
        key = (account.name, link.folder, link.stem, wanted)
        recent = self._recent.get(key)
        if recent is not None:
            return recent
        found = await self._look(link, account, wanted)
        if isinstance(found, Found):
            self._recent.put(key, found)
        return found

    async def _look(
        self, link: LinkedFile, account: LinkedAccount, wanted: Wanted | None
    ) -> Found | NotStored | None:
        in_ledger = functools.partial(self._in_ledger, link, account, wanted)
        is_known = True
        try:
            found = await self._ledger_calls.run(in_ledger, seconds=LEDGER_SECONDS_MAX)
        except (LedgerUnavailable, TimeoutError):
            found, is_known = None, False
        except TaskForgotten:
            return None
        except Failure as error:  # of the store's credentials
            raise _not_now(link, error) from error
        if found is not None:
            return found
        in_bucket = functools.partial(self._in_bucket, link, account, wanted)
        try:
            found = await self._store_calls.run(in_bucket, seconds=STORE_SECONDS_MAX)
        except (Failure, TimeoutError) as error:
            raise _not_now(link, error) from error
        if found is None and not is_known:
            raise _not_now(
                link, LedgerUnavailable("the ledger cannot be asked, and the bucket has no such file")
            )
        return found

    def close(self) -> None:
        self._ledger_calls.close()
        self._store_calls.close()

    def _in_ledger(
        self, link: LinkedFile, account: LinkedAccount, wanted: Wanted | None
    ) -> Found | NotStored | None:
        view = self._find(account=account.name, task_id=link.task_id, stem=link.stem)
        if view is None:
            return None
        if view.stored is None:
            return NotStored(view.asset.url, view.is_tried)
        return self._found(link, _file_of(view.stored), wanted)

    def _in_bucket(self, link: LinkedFile, account: LinkedAccount, wanted: Wanted | None) -> Found | None:
        folder = f"{account.prefix}{link.folder}/"
        names = [
            key.removeprefix(folder)
            for key in self._store.list(f"{folder}{link.stem}")
            if _is_file_of(link.stem, key.removeprefix(folder))
        ]
        if not names:
            return None
        names.sort(key=lambda name: (not name.endswith(f".{link.extension}"), name))
        key = folder + names[0]
        stored = self._store.head(key)
        if stored is None:
            return None
        extension = names[0].rpartition(".")[2]
        is_whole = stored.sha256 is not None and _SHA256.fullmatch(stored.sha256)
        file = File(
            key,
            names[0],
            CONTENT_TYPES.get(extension, UNKNOWN_TYPE),
            stored.bytes,
            stored.sha256 if is_whole else None,
        )
        return self._found(link, file, wanted)

    def _found(self, link: LinkedFile, file: File, wanted: Wanted | None) -> Found:
        if wanted is None:
            return Found(file, None)
        name = download_name(link, file) if wanted.is_download and wanted.method == "GET" else None
        return Found(
            file,
            self._store.presign(file.key, seconds=file.seconds, method=wanted.method, file_name=name),
        )


def download_name(link: LinkedFile, file: File) -> str:
    """`831768251064815642-0.png`: names of files repeat from task to task."""
    return f"{link.task_id}-{file.name}"


def _file_of(stored: StoredAsset) -> File:
    content_type = stored.content_type if stored.content_type in _TYPES else UNKNOWN_TYPE
    return File(stored.key, stored.name, content_type, stored.bytes, stored.sha256)


def _is_file_of(stem: str, name: str) -> bool:
    """Whether a file of this name has the stem: with one known extension more, or with none to add."""
    if name == stem:
        return stem.rpartition(".")[2] in CONTENT_TYPES
    rest = name.removeprefix(f"{stem}.")
    return rest != name and rest in CONTENT_TYPES


def _not_now(link: LinkedFile, error: Exception) -> NotNow:
    _log.warning(
        "link.failed",
        account=link.account,
        task_id=link.task_id,
        stem=link.stem,
        message=str(error) or "it took too long",
    )
    return NotNow()
