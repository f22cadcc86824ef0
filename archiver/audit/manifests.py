"""The folders of a bucket with their manifests, in the order of their keys: for every command that reads all of it.

One listing finds the folders; their documents (`manifest.json`, `amendment-1.json`, …, `incomplete.json`) are read
several at once. Memory does not grow with the bucket.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

from archiver.archive.manifest import (
    BYTES_MAX,
    FILE_NAME,
    INCOMPLETE_NAME,
    Manifest,
    ManifestUnreadable,
    amendment_name,
    is_amendment,
)
from archiver.audit.ordered import in_order
from archiver.audit.patience import PatientStore
from archiver.audit.places import Span, TaskPlace
from archiver.audit.unread import UnreadObjects
from archiver.failures import (
    Failure,
    ForeignObject,
    ObjectInColdStorage,
    StoreAnswerUnreadable,
    StoreMismatch,
)
from archiver.model import StoredAsset
from archiver.store import probing

THREADS = 8
FOLDERS_AHEAD_PER_THREAD = 4
GAPS_MAX = 100
FOLDER_KEYS_MAX = 10_000
"""How many keys of a folder are kept: our own folders have a few dozen at most."""


@dataclasses.dataclass(frozen=True, slots=True)
class ListedFolder:
    """What a listing shows of one folder. It may lag behind puts."""

    path: str
    """The folder's path, with the prefix and a slash at the end."""
    place: TaskPlace | None
    """None if the folder is no task's."""
    sizes: Mapping[str, int]
    """Key → bytes, at most `FOLDER_KEYS_MAX` of them, all documents among them."""
    keys: int
    """The number of keys in the folder."""
    last_key: str
    """The last of these keys."""

    @property
    def end(self) -> str:
        """A walk `after` it begins with the next folder: that may lie inside this one if this is no task's."""
        if self.place is None:
            return self.last_key
        return self.path.removesuffix("/") + "0"  # the character after the slash

    @property
    def document_keys(self) -> list[str]:
        """The manifest first, then the amendments by number."""
        return sorted(filter(self._is_document, self.sizes), key=self._document_order)

    @property
    def unlisted_document_keys(self) -> list[str]:
        """Documents that must exist because of those that do: an amendment is put after its manifest, and after all
        amendments with lower numbers. At most `GAPS_MAX`, since the number may be forged."""
        numbers = [
            number for _, number, name in map(self._document_order, self.document_keys) if is_amendment(name)
        ]
        before = range(1, max(numbers, default=0))
        gaps = itertools.islice((number for number in before if number not in numbers), GAPS_MAX)
        names = [FILE_NAME, *map(amendment_name, gaps)] if numbers else []
        return [self.path + name for name in names if self.path + name not in self.sizes]

    def _is_document(self, key: str) -> bool:
        name = key.removeprefix(self.path)
        return self.place is not None and is_document_name(name)

    def _document_order(self, key: str) -> tuple[bool, int, str]:
        name = key.removeprefix(self.path)
        return name != FILE_NAME, int("0" + re.sub(r"\D", "", name)), name


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """One manifest, amendment or `incomplete.json`."""

    key: str
    manifest: Manifest | None
    """None if there is a `failure`."""
    sha256: str = ""
    """The digest of the document's bytes; empty if there are none."""
    failure: Failure | None = None
    """Why it cannot be used: unreadable, another task's, gone since the listing, in cold storage, not for us."""
    is_unread: bool = False
    """Whether the store refuses to return this document, but answers otherwise."""

    @property
    def is_manifest(self) -> bool:
        return self.key.endswith(f"/{FILE_NAME}")

    @property
    def is_incomplete(self) -> bool:
        return self.key.endswith(f"/{INCOMPLETE_NAME}")


@dataclasses.dataclass(frozen=True, slots=True)
class DocumentedFolder:
    """A folder with its documents, the manifest first."""

    listed: ListedFolder
    documents: tuple[Document, ...]

    @property
    def manifest(self) -> Manifest | None:
        """The manifest that completes the task, where there is one that can be read."""
        return next((each.manifest for each in self.documents if each.is_manifest), None)


def assets_of(documents: Iterable[Document]) -> Iterator[StoredAsset]:
    """Every file that its readable documents name."""
    for document in documents:
        if document.manifest is not None:
            yield from document.manifest.assets


def is_document_name(name: str) -> bool:
    """Whether the program writes a document of this name into a task's folder."""
    return name in (FILE_NAME, INCOMPLETE_NAME) or is_amendment(name)


def read_folders(
    store: PatientStore,
    *,
    prefix: str,
    span: Span | None = None,
    after: str = "",
    threads: int = THREADS,
    is_meant: Callable[[ListedFolder], bool] = lambda _: True,
) -> Generator[DocumentedFolder, None, None]:
    """Every folder of the span that `is_meant` and whose keys come after `after`. Folders of no task come without
    documents. Raises the Failure that ends it all, and Stopped.
    """
    folders = filter(is_meant, list_folders(store, prefix=prefix, span=span or Span(), after=after))
    return documented(store, folders, threads=threads)


def documented(
    store: PatientStore, folders: Iterable[ListedFolder], *, threads: int
) -> Generator[DocumentedFolder, None, None]:
    """These folders with their documents. Raises the Failure that ends it all, and Stopped."""
    found = in_order(
        lambda folder: read_documents(store, folder),
        folders,
        threads=threads,
        ahead=FOLDERS_AHEAD_PER_THREAD * threads,
    )
    unread = UnreadObjects()
    with contextlib.closing(found):
        for folder in found:
            for document in folder.documents:
                failures = [document.failure] if document.is_unread and document.failure is not None else []
                unread.note(failures, has_read=not document.is_unread)
            yield folder


def list_folders(store: PatientStore, *, prefix: str, span: Span, after: str = "") -> Iterator[ListedFolder]:
    """The folders without their documents. Folders of no task are left out unless the span is everything."""
    return _folders(_keys(store, prefix=prefix, span=span, after=after))


def list_folder(store: PatientStore, place: TaskPlace) -> ListedFolder:
    """One task's, which may be empty, and below any prefix."""
    keys = ((key, size, place) for key, size in store.walk(place.path))
    return next(_folders(keys), ListedFolder(place.path, place, {}, 0, place.path))


def _folders(found: Iterable[tuple[str, int, TaskPlace | None]]) -> Iterator[ListedFolder]:
    path, place, sizes, keys, last = "", None, dict[str, int](), 0, ""
    last_of_task = ""
    for key, size, here in found:
        if here is not None:
            # Only of our own keys: stores need not agree about the order of all characters.
            last_of_task = _require_order(key, after=last_of_task)
        there = here.path if here is not None else key[: key.rfind("/") + 1]
        if there != path and sizes:
            yield ListedFolder(path, place, sizes, keys, last)
            sizes, keys = {}, 0
        path, place, last = there, here, key
        keys += 1
        if len(sizes) < FOLDER_KEYS_MAX or is_document_name(key.removeprefix(path)):
            sizes[key] = size
    if sizes:
        yield ListedFolder(path, place, sizes, keys, last)


def _require_order(key: str, *, after: str) -> str:
    """Raises StoreAnswerUnreadable: to go on after a key would pass over others. S3 Express lists so."""
    if key <= after:
        raise StoreAnswerUnreadable(
            f"the store lists {key} after {after}, which is not the order of the keys"
        )
    return key


def read_documents(store: PatientStore, folder: ListedFolder) -> DocumentedFolder:
    """Raises the Failure of the store as a whole, and Stopped."""
    return DocumentedFolder(folder, tuple(_read(store, folder, key) for key in folder.document_keys))


def _keys(
    store: PatientStore, *, prefix: str, span: Span, after: str
) -> Iterator[tuple[str, int, TaskPlace | None]]:
    """Key, bytes and place of the keys in the span. Keys outside it are skipped in one step where the order of keys
    allows it."""
    while True:
        for key, size in store.walk(span.root(prefix), after=after):
            place = TaskPlace.of_key(key, prefix=prefix)
            if place is None:
                if span.is_everything and key != prefix + probing.KEY and not _is_folder_mark(key, size):
                    yield key, size, None
            elif span.covers(place):
                yield key, size, place
            elif (leap := span.next_after(place)) > key:
                after = leap
                break
        else:
            return


def _is_folder_mark(key: str, size: int) -> bool:
    """Consoles of some stores make an empty object to show a folder."""
    return size == 0 and key.endswith("/")


def _read(store: PatientStore, folder: ListedFolder, key: str) -> Document:
    sha256 = ""
    try:
        found = store.get(key, bytes_max=BYTES_MAX)
        sha256 = hashlib.sha256(found.content).hexdigest()
        _require_as_put(key, sha256, claimed=found.claimed_sha256)
        manifest = Manifest.from_bytes(found.content)
        _require_of_folder(manifest, folder, key)
    except (ManifestUnreadable, StoreMismatch, ForeignObject, ObjectInColdStorage) as error:
        return Document(key, None, sha256, error)
    except Failure as error:
        store.check(folder.path)
        return Document(key, None, sha256, error, is_unread=True)
    return Document(key, manifest, sha256)


def _require_as_put(key: str, sha256: str, *, claimed: str | None) -> None:
    """Raises ManifestUnreadable. No other record has a manifest's digest."""
    if claimed is not None and claimed.lower() != sha256:
        raise ManifestUnreadable(f"{key} has other bytes than were put: its metadata name another digest")


def _require_of_folder(manifest: Manifest, folder: ListedFolder, key: str) -> None:
    """Raises ForeignObject. Whether the account is ours, callers know."""
    place = folder.place
    if place is None:
        return
    if (manifest.family, manifest.day, manifest.task_id) != (place.family, place.day, place.task_id):
        raise ForeignObject(f"{key} belongs to another task")
    name = key.removeprefix(folder.path)
    is_of_kind = (manifest.amends is not None, manifest.missing is not None)
    if is_of_kind != (is_amendment(name), name == INCOMPLETE_NAME):
        raise ForeignObject(f"{key} is not what its name says")
    if not manifest.assets:
        raise ForeignObject(f"{key} names no file")
    for asset in manifest.assets:
        if not asset.key.startswith(folder.path) or asset.key in (folder.path, key):
            raise ForeignObject(f"{key} names {asset.key}, which is no file of its folder")
