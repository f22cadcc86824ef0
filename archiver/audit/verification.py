"""All of a bucket against manifests and ledger, each account in two passes: what the bucket has, then what the ledger
has and the bucket has nothing of.

The ledger holds the progress, not a file: a run can be resumed on any machine and in a container without a volume, and
the operator needs to choose no path. Progress is saved every `SAVE_SECONDS`, after the findings so far are printed. So
a killed run loses those seconds, and the next run prints some lines again.

A run waits for a failing store (`patience`). If the store stays away, the run ends with the reason, and can be resumed.
"""

import copy
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TypeVar

from archiver.audit.absent import absent, by_day
from archiver.audit.manifests import (
    FOLDERS_AHEAD_PER_THREAD,
    THREADS,
    ListedFolder,
    list_folder,
    list_folders,
)
from archiver.audit.objects import CheckedFolder, ObjectChecker, ObjectFinding, Symbol
from archiver.audit.ordered import in_order
from archiver.audit.patience import PatientStore
from archiver.audit.places import Span, TaskPlace
from archiver.audit.reached import Reached, VerifyCounts
from archiver.audit.sample import Sample
from archiver.audit.unread import UnreadObjects
from archiver.clock import seconds_passed
from archiver.ledger import AuditedTask, AuditTotals, Ledger, WantedBack

_Item = TypeVar("_Item")

PROGRESS_VERSION = 2
"""The version of saved progress: progress with another version is not resumed."""
SAVE_SECONDS = 5.0
TOGETHER = 100
"""Folders whose tasks are looked up at once, and objects that one transaction wants back."""
AWAITED_AFTER_MS = 60 * 60 * 1000
"""A listing may lag, and clocks differ: what was archived later before the run need not be in it."""


@dataclasses.dataclass(frozen=True, slots=True)
class VerifiedAccount:
    """One account whose objects are verified."""

    name: str
    names: frozenset[str]
    """The account's present and former names."""
    prefix: str


class Verification:
    """One run, perhaps the rest of one. `run` belongs to one thread; `now` gives Unix ms."""

    def __init__(
        self,
        store: PatientStore,
        ledger: Ledger,
        accounts: Sequence[VerifiedAccount],
        *,
        span: Span,
        sample: Sample,
        repair: bool,
        now: Callable[[], int],
        on_bytes: Callable[[int], object],
        threads: int = THREADS,
        clock: Callable[[], float] = seconds_passed,
    ) -> None:
        """`on_bytes` is called with the size of each piece that was read."""
        self._store = store
        self._ledger = ledger
        self._accounts = accounts
        self._span = span
        self._sample = sample
        self._repair = repair
        self._now = now
        self._on_bytes = on_bytes
        self._threads = threads
        self._clock = clock
        self._saved_at = clock()
        self._unread = UnreadObjects()
        self.reached = Reached(accounts[0].name, now())
        self.resumed_from: int | None = None
        """When the interrupted run began, Unix ms, whose rest this one is."""

    @property
    def counts(self) -> VerifyCounts:
        return self.reached.counts

    def resume(self) -> bool:
        """Go on where a run with the same choices was interrupted; False where there is none."""
        saved = self._ledger.audits.progress(self._name)
        if saved is None:
            return False
        try:
            reached = Reached.of_json(saved)
        except (TypeError, KeyError):
            return False
        if reached.account not in [account.name for account in self._accounts]:
            return False
        self.reached, self.resumed_from = reached, reached.began_at
        self._unread = UnreadObjects(has_read=reached.counts.same > 0)
        return True

    def restart(self) -> None:
        """Forget where a run with the same choices was interrupted."""
        self._ledger.audits.forget_progress(self._name)

    def run(self) -> Generator[ObjectFinding, None, None]:
        """Each object, in the order of the keys of each account. Raises Failure and Stopped; it can go on then."""
        names = [account.name for account in self._accounts]
        for account in self._accounts[names.index(self.reached.account) :]:
            if account.name != self.reached.account:
                self.reached = Reached(account.name, self.reached.began_at, counts=self.counts)
            yield from self._account(account)
        self._ledger.audits.forget_progress(self._name)

    def bytes_expected(self) -> int:
        """The expected bytes, as far as the ledger knows. Reads every archived task there."""
        return round(sum(each.bytes for each in self._totals()) * self._sample.percent / 100)

    def tasks_expected(self) -> int:
        """The number of tasks in the span, of which the sample is a share. Reads every archived task of the ledger."""
        return sum(each.tasks for each in self._totals())

    def save(self) -> None:
        """Save the progress. The caller has printed and flushed all earlier findings."""
        self._ledger.audits.save_progress(self._name, self.reached.as_json())
        self._saved_at = self._clock()

    # --- inside -----------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        """The name of the saved progress: runs with other choices have other names. So a run with `--repair` reads
        again what one without it has read."""
        accounts = [(account.name, account.prefix) for account in self._accounts]
        choices = [PROGRESS_VERSION, self._store.location, accounts, self._repair]
        choices += [*dataclasses.astuple(self._span), *dataclasses.astuple(self._sample)]
        return f"verify {hashlib.sha256(json.dumps(choices).encode()).hexdigest()[:16]}"

    def _totals(self) -> list[AuditTotals]:
        span = self._span
        return [
            self._ledger.audits.totals(
                account=account.name, family=span.family, since=span.since, until=span.until
            )
            for account in self._accounts
        ]

    def _account(self, account: VerifiedAccount) -> Iterator[ObjectFinding]:
        if not self.reached.is_ledgers_turn:
            yield from self._bucket(account)
            self.reached = dataclasses.replace(self.reached, is_ledgers_turn=True)
        yield from self._ledgers(account)

    def _bucket(self, account: VerifiedAccount) -> Iterator[ObjectFinding]:
        checker = ObjectChecker(self._store, account.names, self._on_bytes, self._now)
        folders = list_folders(
            self._store, prefix=account.prefix, span=self._span, after=self.reached.after_key
        )
        chosen = (folder for folder in folders if self._sample.covers(folder.path))
        checked = in_order(
            lambda each: self._check(checker, *each),
            self._with_tasks(chosen, account),
            threads=self._threads,
            ahead=FOLDERS_AHEAD_PER_THREAD * self._threads,
        )
        try:
            for folder in checked:
                self._require_store(folder, account)
                yield from folder.findings
                counts = copy.copy(self.counts)
                counts.add(folder)
                counts.wanted_back += self._want_back(folder.findings, row_id=folder.row_id)
                # Replaced as a whole: an interruption finds the counts that belong to the place.
                awaited = self.reached.awaited - folder.is_awaited
                self.reached = dataclasses.replace(
                    self.reached, after_key=folder.end, folder=folder.path, awaited=awaited, counts=counts
                )
                self._save_now_and_then()
        finally:
            checked.close()

    def _check(
        self, checker: ObjectChecker, listed: ListedFolder, task: AuditedTask | None, is_forgotten: bool
    ) -> CheckedFolder:
        if is_forgotten:
            return CheckedFolder.forgotten(listed)
        is_awaited = (
            task is not None and self._is_awaited(task) and listed.path == _folder_of(task.manifest_key)
        )
        return dataclasses.replace(checker.check(listed, task), is_awaited=is_awaited)

    def _is_awaited(self, task: AuditedTask) -> bool:
        """Archived at the begin of the run, as the ledger knew by then. What it adopts and rebuilds meanwhile has the
        old `archived_at` of the manifest; the first pass saw it as unknown or in work."""
        if task.archived_at is None or task.known_archived_at is None:
            return False
        known_at = max(task.archived_at, task.known_archived_at)
        return known_at + AWAITED_AFTER_MS < self.reached.began_at

    def _with_tasks(
        self, folders: Iterable[ListedFolder], account: VerifiedAccount
    ) -> Iterator[tuple[ListedFolder, AuditedTask | None, bool]]:
        """Each with its task in the ledger, and whether that was forgotten. Without those that the second pass reads:
        of tasks below another prefix, which this one contains."""
        for together in _batches(folders):
            ids = {_task_id_of(folder) for folder in together}
            known = self._ledger.audits.known(ids, account=account.name)
            forgotten = self._ledger.tombstones.ids(account=account.name, task_ids=ids - known.keys())
            for folder in together:
                task_id = _task_id_of(folder)
                task = known.get(task_id)
                if task is not None and _is_elsewhere(folder, task, prefix=account.prefix):
                    continue
                is_of_task = folder.place is not None
                yield folder, task if is_of_task else None, is_of_task and task_id in forgotten

    def _ledgers(self, account: VerifiedAccount) -> Iterator[ObjectFinding]:
        checker = ObjectChecker(self._store, account.names, self._on_bytes, self._now)
        while True:
            page = self._ledger.audits.stored_after(self.reached.after_row, account=account.name)
            if page.last_row_id is None:
                unlisted = self.counts.unlisted + max(0, self.reached.awaited)
                counts = dataclasses.replace(self.counts, unlisted=unlisted)
                self.reached = dataclasses.replace(self.reached, awaited=0, counts=counts)
                return
            counts = copy.copy(self.counts)
            documented, others = self._folders_of(page.tasks, account)
            awaited = self.reached.awaited + sum(map(self._is_awaited, documented))
            days = by_day(documented)
            of_days = in_order(
                lambda day: absent(self._store, day), days, threads=self._threads, ahead=2 * self._threads
            )
            for task in itertools.chain.from_iterable(of_days):
                folder = _folder_of(task.manifest_key)
                findings = [checker.missing(key, task) for key in sorted(task.keys) if key.startswith(folder)]
                yield from findings
                awaited -= self._is_awaited(task)
                counts.add_findings(findings)
                counts.wanted_back += self._want_back(findings, row_id=task.row_id)
            checked = in_order(
                lambda each: self._check_apart(checker, *each, account),
                others,
                threads=self._threads,
                ahead=2 * self._threads,
            )
            for apart in itertools.chain.from_iterable(checked):
                self._require_store(apart, account)
                yield from apart.findings
                counts.add(apart)
                counts.wanted_back += self._want_back(apart.findings, row_id=apart.row_id)
            self.reached = dataclasses.replace(
                self.reached, after_row=page.last_row_id, awaited=awaited, counts=counts
            )
            self._save_now_and_then()

    def _folders_of(
        self, tasks: Iterable[AuditedTask], account: VerifiedAccount
    ) -> tuple[list[AuditedTask], list[tuple[TaskPlace, AuditedTask]]]:
        """Tasks whose manifests the first pass should have seen; and the other folders that these tasks have: those
        below another prefix (the settings may have changed), and those that have no manifest."""
        documented, others = [], []
        for task in tasks:
            places = {TaskPlace.of_stored(key, family=task.family) for key in task.keys}
            for place in sorted(places, key=lambda place: place.path):
                if not (self._span.covers(place) and self._sample.covers(place.path)):
                    continue
                if place.path == _folder_of(task.manifest_key) and place.is_below(account.prefix):
                    documented.append(task)
                else:
                    others.append((place, task))
        return documented, others

    def _check_apart(
        self, checker: ObjectChecker, place: TaskPlace, task: AuditedTask, account: VerifiedAccount
    ) -> list[CheckedFolder]:
        """Check a folder in the second pass; empty if the first pass has seen it."""
        listed = list_folder(self._store, place)
        is_elsewhere = not place.is_below(account.prefix)
        if listed.keys and not is_elsewhere:
            return []
        return [dataclasses.replace(checker.check(listed, task), is_elsewhere=is_elsewhere)]

    def _require_store(self, folder: CheckedFolder, account: VerifiedAccount) -> None:
        """Tell an object that cannot be read from a store that cannot. Raises Failure."""
        failures = [finding.failure for finding in folder.findings if finding.failure is not None]
        if failures:
            self._store.check(account.prefix)
        has_read = any(finding.symbol in (Symbol.SAME, Symbol.DIFFERENT) for finding in folder.findings)
        self._unread.note(failures, has_read=has_read)

    def _want_back(self, findings: Sequence[ObjectFinding], *, row_id: int | None) -> int:
        """Request the missing objects; how many will be put back."""
        if not self._repair or row_id is None:
            return 0
        restorable = [WantedBack(row_id, finding.key) for finding in findings if finding.can_be_restored]
        return sum(self._ledger.audits.want_back(together) for together in _batches(restorable))

    def _save_now_and_then(self) -> None:
        if self._clock() - self._saved_at >= SAVE_SECONDS:
            self.save()


def _task_id_of(folder: ListedFolder) -> str:
    """The folder's own name, which is a task id only in a task's folder. The prefix does not matter."""
    return folder.path.rstrip("/").rpartition("/")[2]


def _is_elsewhere(folder: ListedFolder, task: AuditedTask, *, prefix: str) -> bool:
    """Whether the ledger has it as this task's, and no listing below this prefix can tell."""
    if not any(key.startswith(folder.path) for key in task.keys):
        return False
    return not TaskPlace.of_stored(folder.path, family=task.family).is_below(prefix)


def _folder_of(manifest_key: str | None) -> str:
    return "" if manifest_key is None else manifest_key[: manifest_key.rfind("/") + 1]


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    taken = iter(items)
    while batch := list(itertools.islice(taken, TOGETHER)):
        yield batch
