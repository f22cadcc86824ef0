"""One task's folder in the bucket against its manifest, its amendments and the ledger.

1. Every file that any of them names must be there with the bytes that they name. Where ledger and manifest differ, the
   file is compared with the manifest, and the difference is reported.
2. An object that no record names is reported too, except that of `doctor`. Nothing is lost by it, so it is no fault.
3. Nothing is written, and nothing is read twice. A listing may lag, so HEAD decides that an object is missing.
"""

import dataclasses
import enum
from collections.abc import Callable, Iterator, Mapping
from typing import Self

from archiver.archive.manifest import ManifestUnreadable
from archiver.audit.manifests import Document, ListedFolder, assets_of, read_documents
from archiver.audit.patience import PatientStore
from archiver.failures import (
    Failure,
    ForeignAccount,
    ForeignObject,
    ObjectInColdStorage,
    ObjectUnexpected,
    StoreMismatch,
)
from archiver.ledger import AuditedTask
from archiver.model import DAY_MS, RETENTION_MS, State, rfc3339
from archiver.store import probing

FETCHABLE_MS = RETENTION_MS + 7 * DAY_MS
"""Time after `created_at` in which a file may still be fetched: the engine tries lost tasks as long."""


class Symbol(enum.StrEnum):
    """As `rclone checksum --combined` prints it; its source is what manifests and ledger name."""

    SAME = "="
    DIFFERENT = "*"
    MISSING = "+"
    EXTRA = "-"
    ERROR = "!"


FAULTS = frozenset({Symbol.DIFFERENT, Symbol.MISSING, Symbol.ERROR})


@dataclasses.dataclass(frozen=True, slots=True)
class ObjectFinding:
    """One object of the bucket, or one that should be there."""

    symbol: Symbol
    key: str
    bytes: int = 0
    """Bytes that were read and are right."""
    message: str = ""
    what_to_do: str = ""
    task_id: str | None = None
    can_be_restored: bool = False
    """The object is missing, and Kling may still have the file of this archived task, or it can be written again."""
    failure: Failure | None = None
    """The failure behind an error; it may concern the store as a whole."""

    @property
    def is_fault(self) -> bool:
        return self.symbol in FAULTS

    def as_json(self) -> dict[str, object]:
        """One line of `verify --json`."""
        names = ("symbol", "key", "bytes", "message", "what_to_do", "task_id")
        return {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True, slots=True)
class CheckedFolder:
    """The result for one folder."""

    path: str
    end: str
    """A walk after it begins with the next folder."""
    findings: tuple[ObjectFinding, ...]
    row_id: int | None
    """The row id of its task in the ledger."""
    is_in_work: bool = False
    """The task is not archived yet: what no record names may have been put just now."""
    is_unknown: bool = False
    """The ledger does not have the task."""
    is_forgotten: bool = False
    """An operator has forgotten the task; nothing was looked at."""
    suspects: int = 0
    """Files that are as they came, and are doubted."""
    is_awaited: bool = False
    """The task was archived so long before the run that a listing has to show its manifest."""
    is_elsewhere: bool = False
    """The folder lies below another prefix than the account's."""

    @classmethod
    def forgotten(cls, listed: ListedFolder) -> Self:
        return cls(listed.path, listed.end, (), None, is_forgotten=True)


@dataclasses.dataclass(frozen=True, slots=True)
class _Named:
    """The bytes that one key must hold."""

    bytes: int
    sha256: str
    complaint: str = ""


@dataclasses.dataclass(frozen=True)
class ObjectChecker:
    """Checks folders of one account. Thread-safe. `now` gives Unix ms."""

    store: PatientStore
    accounts: frozenset[str]
    """The names that the account has and had."""
    on_bytes: Callable[[int], object]
    """Called with the size of each piece of a file that was read."""
    now: Callable[[], int]

    def check(self, listed: ListedFolder, task: AuditedTask | None) -> CheckedFolder:
        """Read and hash what lies there. What fails is a finding. Raises only Stopped."""
        try:
            folder = read_documents(self.store, listed)
        except Failure as error:
            key = next(iter(listed.document_keys))
            return self._result(listed, task, [_error(key, error)])
        documents = [self._of_account(document) for document in folder.documents]
        named = _named(documents, listed, task)
        findings = [*self._documents(documents, listed, task), *self._files(named, listed, task)]
        if task is None or task.is_archived:
            findings += _extras(listed, {finding.key for finding in findings}, task)
        suspects = sum(asset.suspect is not None for asset in assets_of(documents))
        return self._result(listed, task, findings, suspects=suspects)

    def missing(self, key: str, task: AuditedTask | None) -> ObjectFinding:
        """The finding of an object that is not there."""
        task_id = None if task is None else task.task_id
        if task is None or task.created_at is None or key not in task.keys:
            advice = (
                "Put it back from a copy: the ledger does not know it (`rebuild` reads manifests into one)."
            )
            return ObjectFinding(Symbol.MISSING, key, 0, "it is not there", advice, task_id)
        if task.state is State.FAILED:
            advice = "The task has failed: only a copy can bring the file back."
            return ObjectFinding(Symbol.MISSING, key, 0, "it is not there", advice, task_id)
        if task.state is State.LOST and key == task.incomplete_key:
            advice = "`verify --repair` has it written again."
            return ObjectFinding(
                Symbol.MISSING, key, 0, "it is not there", advice, task_id, can_be_restored=True
            )
        if task.state is State.LOST:
            advice = "The task is lost: only a copy can bring the file back, unless the archiver still tries the task."
            return ObjectFinding(Symbol.MISSING, key, 0, "it is not there", advice, task_id)
        if not task.is_archived:
            advice = "The task is not archived yet: the archiver fetches the file again when it is its turn."
            return ObjectFinding(Symbol.MISSING, key, 0, "it is not there", advice, task_id)
        ends_at = task.created_at + FETCHABLE_MS
        if self.now() < ends_at:
            advice = f"`verify --repair` has it fetched again; Kling keeps it until {_day(task.created_at)}."
        else:
            advice = f"Put it back from a copy: Kling has deleted it on {_day(task.created_at)}."
        return ObjectFinding(
            Symbol.MISSING, key, 0, "it is not there", advice, task_id, can_be_restored=self.now() < ends_at
        )

    # --- inside -----------------------------------------------------------------------------------------------

    def _result(
        self,
        listed: ListedFolder,
        task: AuditedTask | None,
        findings: list[ObjectFinding],
        *,
        suspects: int = 0,
    ) -> CheckedFolder:
        return CheckedFolder(
            path=listed.path,
            end=listed.end,
            findings=tuple(sorted(findings, key=lambda finding: finding.key)),
            row_id=None if task is None else task.row_id,
            is_in_work=task is not None and task.is_in_work,
            is_unknown=task is None and listed.place is not None,
            suspects=suspects,
        )

    def _of_account(self, document: Document) -> Document:
        manifest = document.manifest
        if manifest is None or manifest.account in self.accounts:
            return document
        failure = ForeignAccount(f"{document.key} belongs to the account {manifest.account}")
        return dataclasses.replace(document, manifest=None, failure=failure)

    def _documents(
        self, documents: list[Document], listed: ListedFolder, task: AuditedTask | None
    ) -> Iterator[ObjectFinding]:
        for document in documents:
            yield self._document(document, task, size=listed.sizes[document.key])
        of_ledger = frozenset() if task is None else task.document_keys
        for key in sorted(of_ledger.union(listed.unlisted_document_keys) - listed.sizes.keys()):
            if key.startswith(listed.path):
                yield from self._unlisted_document(key, task)

    def _document(self, document: Document, task: AuditedTask | None, *, size: int) -> ObjectFinding:
        failure, task_id = document.failure, None if task is None else task.task_id
        if failure is None:
            return ObjectFinding(Symbol.SAME, document.key, size, task_id=task_id)
        if isinstance(failure, ManifestUnreadable | ForeignObject | ObjectUnexpected):
            return ObjectFinding(
                Symbol.DIFFERENT, document.key, 0, str(failure), failure.what_to_do, task_id=task_id
            )
        if isinstance(failure, StoreMismatch) and not document.sha256:
            return self.missing(document.key, task)
        return _error(document.key, failure, task)

    def _unlisted_document(self, key: str, task: AuditedTask | None) -> Iterator[ObjectFinding]:
        try:
            if self.store.head(key) is None:
                yield self.missing(key, task)
        except Failure as error:
            yield _error(key, error, task)

    def _files(
        self, named: Mapping[str, _Named], listed: ListedFolder, task: AuditedTask | None
    ) -> Iterator[ObjectFinding]:
        for key in sorted(named):
            try:
                yield self._file(key, named[key], listed.sizes.get(key), task)
            except Failure as error:
                yield _error(key, error, task)

    def _file(self, key: str, named: _Named, size: int | None, task: AuditedTask | None) -> ObjectFinding:
        if size is None:
            found = self.store.head(key)
            if found is None:
                return self.missing(key, task)
            size = found.bytes
        if size != named.bytes:
            return _different(key, f"it has {size} bytes, not {named.bytes}", task)
        try:
            sha256, size = self.store.digest(key, on_piece=self.on_bytes)
        except StoreMismatch:  # no object is there; that is no failure of the store as a whole
            message = "the store lists it, and has nothing to read"
            return dataclasses.replace(self.missing(key, task), message=message)
        if (sha256, size) != (named.sha256, named.bytes):
            return _different(key, f"its bytes have the SHA-256 {sha256}, not {named.sha256}", task)
        if named.complaint:
            return _different(key, named.complaint, task, advice=_RECORDS_DIFFER)
        return ObjectFinding(Symbol.SAME, key, size, task_id=None if task is None else task.task_id)


_REMOVE_FIRST = (
    "Nothing is overwritten, not even by --repair. Find out what has written to the bucket. Keep a copy of the object, "
    "and remove it. Then put back what was there, or run `verify --repair`: it fetches the object again if Kling still "
    "has these bytes."
)
_RECORDS_DIFFER = (
    "The file itself is as one of them says. Find out who has written the manifest, or which ledger this is."
)
_EXTRA = "Neither a manifest nor the ledger names it; another program has put it there."
_UNNAMED = (
    "No manifest names it, and the ledger does not have its task: wait for the archiver if it is at work with another "
    "ledger, else it was left behind."
)


def _different(
    key: str, message: str, task: AuditedTask | None, *, advice: str = _REMOVE_FIRST
) -> ObjectFinding:
    return ObjectFinding(Symbol.DIFFERENT, key, 0, message, advice, None if task is None else task.task_id)


def _error(key: str, error: Failure, task: AuditedTask | None = None) -> ObjectFinding:
    # An object in cold storage shows nothing about the store.
    failure = None if isinstance(error, ObjectInColdStorage) else error
    task_id = None if task is None else task.task_id
    return ObjectFinding(Symbol.ERROR, key, 0, str(error), error.what_to_do, task_id, failure=failure)


def _named(documents: list[Document], listed: ListedFolder, task: AuditedTask | None) -> dict[str, _Named]:
    named: dict[str, _Named] = {}
    for asset in assets_of(documents):
        first = named.setdefault(asset.key, _Named(asset.bytes, asset.sha256))
        if (first.bytes, first.sha256) != (asset.bytes, asset.sha256):
            complaint = f"its folder's manifests differ: another one names the SHA-256 {asset.sha256}"
            named[asset.key] = dataclasses.replace(first, complaint=complaint)
    names_all = task is not None and task.is_archived and _are_all(documents, listed, task)
    complaint = "the ledger has it, and neither the manifest nor an amendment names it"
    files = {} if task is None else task.files
    for key, file in files.items():
        if not key.startswith(listed.path):  # of another prefix
            continue
        of_manifest = named.get(key)
        if of_manifest is None:
            named[key] = _Named(file.bytes, file.sha256, complaint if names_all else "")
        elif (of_manifest.bytes, of_manifest.sha256) != (file.bytes, file.sha256):
            differs = f"the manifest and the ledger differ: the ledger has the SHA-256 {file.sha256}"
            differs = "; ".join(filter(None, (of_manifest.complaint, differs)))
            named[key] = dataclasses.replace(of_manifest, complaint=differs)
    return named


def _are_all(documents: list[Document], listed: ListedFolder, task: AuditedTask) -> bool:
    """Whether every document of the task was read: then they name every file of it."""
    keys = {key for key in task.document_keys if key.startswith(listed.path)}
    read = {document.key for document in documents if document.manifest is not None}
    return len(read) == len(documents) and bool(keys) and keys <= read


def _extras(listed: ListedFolder, named: set[str], task: AuditedTask | None) -> Iterator[ObjectFinding]:
    is_left_behind = listed.place is not None and task is None and not listed.document_keys
    for key in listed.sizes:
        if key not in named and not (listed.place is None and key.endswith(probing.KEY)):
            yield ObjectFinding(Symbol.EXTRA, key, 0, _UNNAMED if is_left_behind else _EXTRA)


def _day(created_at: int) -> str:
    return rfc3339(created_at + RETENTION_MS)[:10]
