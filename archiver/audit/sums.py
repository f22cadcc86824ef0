"""The SHA-256 of every file that manifests name, and of the manifests themselves, as `sha256sum` prints them.

Keys need no escaping: names are made of letters, digits and `.~_-` (`model.TASK_ID`, `model.FAMILY`), a prefix has no
line feed and no backslash (`config/values.py`), and a manifest that names another key is refused.
"""

import dataclasses
from collections.abc import Generator, Iterable, Iterator

from archiver.archive.manifest import ManifestUnreadable
from archiver.audit.manifests import Document, DocumentedFolder, assets_of, read_folders
from archiver.audit.patience import PatientStore
from archiver.audit.places import Span
from archiver.failures import Failure, ForeignAccount


@dataclasses.dataclass(frozen=True, slots=True)
class Sum:
    """One line."""

    key: str
    sha256: str
    bytes: int

    def line(self) -> str:
        """As `sha256sum` prints it."""
        return f"{self.sha256}  {self.key}"


def sums(
    store: PatientStore, *, prefix: str, names: frozenset[str], span: Span
) -> Generator[Sum | Failure, None, None]:
    """By folder, then by key; a failure in place of each document that cannot be used. `names` are those that the
    account has and had. Raises the Failure that ends it all, and Stopped."""
    folders = read_folders(store, prefix=prefix, span=span)
    try:
        for folder in folders:
            yield from sorted(_sums(folder, names), key=_order)
    finally:
        folders.close()


def _sums(folder: DocumentedFolder, names: frozenset[str]) -> Iterator[Sum | Failure]:
    usable = []
    for document in folder.documents:
        manifest = document.manifest
        if manifest is None:
            yield document.failure or Failure(f"{document.key} cannot be used")
        elif manifest.account not in names:
            yield ForeignAccount(f"{document.key} belongs to the account {manifest.account}")
        else:
            usable.append(document)
            yield Sum(document.key, document.sha256, folder.listed.sizes[document.key])
    yield from _files(usable)


def _files(documents: Iterable[Document]) -> Iterator[Sum | Failure]:
    """One line a key: the manifest comes before the amendments."""
    first: dict[str, Sum] = {}
    for asset in assets_of(documents):
        named = Sum(asset.key, asset.sha256, asset.bytes)
        if first.setdefault(asset.key, named) != named:
            yield ManifestUnreadable(f"{asset.key}: its folder's manifests name different sums")
    yield from first.values()


def _order(found: Sum | Failure) -> str:
    return found.key if isinstance(found, Sum) else ""
