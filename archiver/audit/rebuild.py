"""Manifests, amendments and `incomplete.json` of a bucket → the tasks that a ledger lacks.

A document counts under the rules of adoption: it is of the account, of the folder's task, and names files of the folder
only. A broken document is reported, and the run goes on. A task that the ledger has is not read again, unless it was
adopted without its request: after an interruption, the next run repeats little more than the listing. The run fetches
nothing from Kling and queues no forwards.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence

from archiver.archive.manifest import FILE_NAME, is_amendment
from archiver.audit.folder_task import main_document, rebuilt_task, stored_files
from archiver.audit.manifests import (
    THREADS,
    Document,
    DocumentedFolder,
    ListedFolder,
    documented,
    list_folders,
)
from archiver.audit.patience import PatientStore
from archiver.audit.places import Span, TaskPlace
from archiver.audit.unread import UnreadObjects
from archiver.failures import Failure, ForeignAccount, Stopped
from archiver.ledger import REBUILT_ROWS_MAX, REBUILT_TASKS_MAX, FolderContents, Ledger, RebuiltTask
from archiver.model import State, StoredAsset

FOLDERS_TOGETHER = 500
"""Folders that one query of the ledger covers."""
SHORTENED_EVERY = 50
"""Transactions between two looks at the length of the ledger's log."""


@dataclasses.dataclass(frozen=True, slots=True)
class RebuiltAccount:
    """An account whose tasks are rebuilt, by the name that it has now."""

    name: str
    names: frozenset[str]
    """The account's present and former names: manifests have any of them."""
    prefix: str


@dataclasses.dataclass(frozen=True, slots=True)
class RebuildProblem:
    """Something wrong in the bucket."""

    key: str
    message: str
    what_to_do: str


@dataclasses.dataclass(slots=True)
class RebuildCounts:
    """The counts so far; all except the last three count folders."""

    folders: int = 0
    added: int = 0
    lost: int = 0
    """Added tasks of which only some files could be saved."""
    amended: int = 0
    """The ledger had them without their amendments."""
    completed: int = 0
    """The ledger had them without the request or the external id that their manifests say."""
    known: int = 0
    in_work: int = 0
    """The ledger has them in another state: the daemon adopts the manifests of those that it is to archive."""
    in_work_states: dict[str, int] = dataclasses.field(default_factory=dict)
    """Their number by state."""
    forgotten: int = 0
    unfinished: int = 0
    """Without any document: a task was at work, or will be again."""
    broken: int = 0
    """Documents that could not be used."""
    missing: int = 0
    """Files that a document names and the bucket does not have, or has with another size."""
    unread: int = 0
    """Files that the listing does not show and that the store refuses to look at: they may be there or not."""


class Rebuild:
    """One run. `counts` may be read by another thread."""

    def __init__(
        self,
        store: PatientStore,
        ledger: Ledger,
        accounts: Sequence[RebuiltAccount],
        *,
        span: Span | None = None,
        threads: int = THREADS,
        on_folder: Callable[[], object] = lambda: None,
    ) -> None:
        """`on_folder` is called after each task folder."""
        self.counts = RebuildCounts()
        self._store = store
        self._ledger = ledger
        self._accounts = accounts
        self._span = span or Span()
        self._threads = threads
        self._on_folder = on_folder
        self._transactions = 0
        self._unread = UnreadObjects()
        self._is_over = False

    def count_folders(self) -> int:
        """How many there are: as many listings as the run itself takes, but no document is read. For another thread;
        raises Stopped once the run is over."""
        count = 0
        for account in self._accounts:
            for _ in self._listed(account):
                if self._is_over:
                    raise Stopped
                count += 1
        return count

    def run(self) -> Generator[RebuildProblem, None, None]:
        """Add what the ledger lacks. Raises the Failure that ends it all, and Stopped; what was added stays."""
        try:
            for account in self._accounts:
                yield from self._rebuild(account)
        finally:
            self._is_over = True

    def _rebuild(self, account: RebuiltAccount) -> Iterator[RebuildProblem]:
        waiting: list[RebuiltTask] = []
        folders = documented(self._store, self._lacking(account), threads=self._threads)
        with contextlib.closing(folders):
            try:
                for folder in folders:
                    task, problems = self._task_of(folder, account)
                    if task is not None and sum(each.rows for each in [*waiting, task]) > REBUILT_ROWS_MAX:
                        together, waiting = waiting, [task]
                        self._add(together, account)
                    elif task is not None:
                        waiting.append(task)
                    yield from problems
                    if len(waiting) >= REBUILT_TASKS_MAX:
                        together, waiting = waiting, []
                        self._add(together, account)
                    self._count_folder()
            finally:  # an interruption too keeps what was read
                self._add(waiting, account)

    def _listed(self, account: RebuiltAccount) -> Iterator[tuple[ListedFolder, TaskPlace]]:
        for folder in list_folders(self._store, prefix=account.prefix, span=self._span):
            if folder.place is not None:
                yield folder, folder.place

    def _lacking(self, account: RebuiltAccount) -> Iterator[ListedFolder]:
        """The folders whose documents are to be read."""
        listed = self._listed(account)
        while batch := list(itertools.islice(listed, FOLDERS_TOGETHER)):
            contents = [
                FolderContents(place.task_id, _amendments(folder), folder.path + FILE_NAME in folder.sizes)
                for folder, place in batch
            ]
            known = self._ledger.rebuilding.known(contents, account=account.name)
            for folder, place in batch:
                if place.task_id in known.forgotten:
                    self.counts.forgotten += 1
                elif place.task_id in known.complete:
                    self.counts.known += 1
                elif place.task_id in known.other:
                    self._count_other(known.other[place.task_id])
                elif not folder.document_keys:
                    self.counts.unfinished += 1
                else:
                    yield folder
                    continue
                self._count_folder()

    def _count_other(self, state: State) -> None:
        self.counts.in_work += 1
        self.counts.in_work_states[state] = self.counts.in_work_states.get(state, 0) + 1

    def _count_folder(self) -> None:
        self.counts.folders += 1
        self._on_folder()

    def _add(self, tasks: Sequence[RebuiltTask], account: RebuiltAccount) -> None:
        if not tasks:
            return
        added = self._ledger.rebuilding.add(tasks, account=account.name)
        self.counts.added += added.tasks
        self.counts.lost += added.lost
        self.counts.amended += added.amended
        self.counts.completed += added.completed
        self.counts.forgotten += added.forgotten
        for state in added.other:
            self._count_other(state)
        of_ledger = added.tasks + added.amended + added.completed + added.forgotten + len(added.other)
        self.counts.known += len(tasks) - of_ledger
        self._transactions += 1
        if self._transactions % SHORTENED_EVERY == 0 and not self._ledger.daemons.alive():
            # A running daemon does this by itself.
            self._ledger.database.keep_bounded()

    # --- one folder ---------------------------------------------------------------------------------------

    def _task_of(
        self, folder: DocumentedFolder, account: RebuiltAccount
    ) -> tuple[RebuiltTask | None, list[RebuildProblem]]:
        documents = [_of_account(document, account.names) for document in folder.documents]
        problems = [_broken(document) for document in documents if document.manifest is None]
        self.counts.broken += len(problems)
        main = main_document(documents)
        if main is None or main.manifest is None:
            if not problems:
                problems.append(_without_manifest(folder))
                self.counts.broken += 1
            return None, problems
        of_task = [main] if main.is_incomplete else [each for each in documents if not each.is_incomplete]
        stored = stored_files(of_task)
        missing = list(self._missing(folder.listed, stored, is_lost=main.is_incomplete))
        task = rebuilt_task(main.manifest, main, of_task, stored, is_whole=not missing)
        return task, [*problems, *missing]

    def _missing(
        self, listed: ListedFolder, stored: Sequence[StoredAsset], *, is_lost: bool
    ) -> Iterator[RebuildProblem]:
        """Raises the Failure of the store as a whole, and Stopped."""
        for key in listed.unlisted_document_keys:
            yield from self._object(key, None, listed, if_missing=_DOCUMENT)
        for asset in stored:
            yield from self._object(
                asset.key, asset.bytes, listed, if_missing=_LOST if is_lost else _LOOKED_AT
            )

    def _object(
        self, key: str, size: int | None, listed: ListedFolder, *, if_missing: str
    ) -> Iterator[RebuildProblem]:
        """`size` is None where no document says it. Raises as `_missing` does."""
        try:
            found = self._size_of(key, listed)
        except Failure as error:
            self._require_store(error, listed)
            self.counts.unread += 1
            yield RebuildProblem(key, f"it cannot be looked at: {error}", error.what_to_do)
            return
        if found is None:
            self.counts.missing += 1
            yield RebuildProblem(
                key, "it is not there, and a document of its folder says that it is", if_missing
            )
        elif size not in (None, found):
            self.counts.missing += 1
            message = f"it has {found} bytes where its manifest says {size}"
            yield RebuildProblem(key, message, _NOT_OVERWRITTEN)

    def _size_of(self, key: str, listed: ListedFolder) -> int | None:
        """A listing may lag: HEAD decides. Raises Failure."""
        if key in listed.sizes:
            return listed.sizes[key]
        found = self._store.head(key)
        self._unread.note([], has_read=True)
        return None if found is None else found.bytes

    def _require_store(self, error: Failure, listed: ListedFolder) -> None:
        """Tell an object that cannot be looked at from a store that cannot. Raises Failure."""
        self._store.check(listed.path)
        self._unread.note([error], has_read=False)


_LOOKED_AT = (
    "The daemon looks at it again, and fetches it again if Kling still has it, for 30 days from the task's creation; "
    "else put it back from a copy."
)
_DOCUMENT = (
    "An amendment is there that was put after it. Put it back from a copy: nothing else brings it back. The task is "
    "rebuilt without it."
)
_LOST = "The task is lost, and nothing fetches it again: put the file back if there is a copy."
_NOT_OVERWRITTEN = (
    "Nothing is overwritten. Find out what has written it, and put back what was there; `kling-archiver verify` says "
    "more."
)


def _amendments(folder: ListedFolder) -> int:
    return sum(is_amendment(key.removeprefix(folder.path)) for key in folder.document_keys)


def _of_account(document: Document, names: frozenset[str]) -> Document:
    if document.manifest is None or document.manifest.account in names:
        return document
    failure = ForeignAccount(f"{document.key} belongs to the account {document.manifest.account}")
    return dataclasses.replace(document, manifest=None, failure=failure)


def _broken(document: Document) -> RebuildProblem:
    failure = document.failure
    return RebuildProblem(document.key, str(failure), "" if failure is None else failure.what_to_do)


def _without_manifest(folder: DocumentedFolder) -> RebuildProblem:
    key = folder.listed.path + FILE_NAME
    return RebuildProblem(key, "it is not there, and there are amendments of it", "Put it back from a copy.")
