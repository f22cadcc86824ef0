"""Puts amendments and `incomplete.json` into the folders of tasks that have left the archive stage, and restores
missing objects there (`restoring`).

1. An amendment is put last, like a manifest: after its files have been seen in the folder, and create-only. It names
   only what neither the manifest nor an earlier amendment names.
2. The bucket is the record. Each attempt reads the manifest and the amendments first. So it finds an amendment that
   was put before a crash, and never puts a second one with the same content.
3. Available files do not wait for unavailable ones: they are amended now, the others by a later amendment.

Each account does one piece of folder work at a time, outside the transfer slots. So folder work takes no slot from a
fresh task, and does not wait behind a backlog of fresh tasks. A hold of the store stops both; a success of either ends
it.
"""

import dataclasses
import functools
import threading
from collections.abc import Callable, Sequence

from archiver import log
from archiver.archive import manifest
from archiver.archive.adoption import Adopter
from archiver.archive.folder import TaskFolder
from archiver.archive.manifest import Manifest, MissingFile
from archiver.archive.restoring import Restorer
from archiver.archive.transfer import Transfer
from archiver.failures import (
    HOLD_PROBE_SECONDS,
    RETRY_SECONDS_MAX,
    Disposition,
    Failure,
    Hold,
    LeaseLost,
    LedgerUnavailable,
    ObjectUnexpected,
    ResultsMissing,
    Stopped,
    decide,
    reason_of,
)
from archiver.leases import LeaseKeeper, give_back
from archiver.ledger import FolderLease, HoldOutcome, Ledger
from archiver.metrics import Metrics
from archiver.model import FolderWorkKind, Lease, LeasedAsset, Stage, StoredAsset, task_folder
from archiver.store import PutOutcome, Store

IDLE_SECONDS = 5.0
RESTORE_ATTEMPTS_MIN = 3
"""Tries for an object whose task's deadline has passed."""


@dataclasses.dataclass(frozen=True)
class FolderWorker:
    """Does the folder work of one account. `now` gives Unix ms, `random` numbers in [0, 1)."""

    account: str
    prefix: str
    ledger: Ledger
    store: Store
    transfer: Transfer
    adopter: Adopter
    keeper: LeaseKeeper
    """Renews the leases on folder work."""
    metrics: Metrics
    now: Callable[[], int]
    random: Callable[[], float]
    hold_in_outage: Callable[[Lease, Exception], object]
    """Called with each failure; turns it into a hold where the store is down for all tasks."""
    on_hold: Callable[[Failure], object]
    """Called with each failure that has set a hold."""
    is_of_process: Callable[[Failure], bool] = lambda _error: False
    """Whether a failure that stops all work of the account does so in this process only."""
    is_stopped: Callable[[], bool] = lambda: False
    """Whether this process should start nothing now."""

    def work_once(self, *, on_stored: Callable[[Lease], object] = lambda _lease: None) -> bool:
        """Claim one piece of work and do it; False where none is due. Raises LedgerUnavailable.

        `on_stored` is called after work that has put an object, which shows that the store takes objects.
        """
        if self.is_stopped():
            return False
        asked_at = self.keeper.asking()
        claimed = self.ledger.folder_work.claim(account=self.account)
        if claimed is None:
            return False
        lease = claimed.lease
        self.keeper.keep([lease], asked_at=asked_at)
        try:
            if self._do(claimed):
                on_stored(lease)
        except LeaseLost:
            log.get().warning("lease.lost", task_id=lease.task_id, stage=lease.stage)
        except Stopped:
            self.let_go([lease])
        except LedgerUnavailable:
            raise  # the lease's end brings it back
        except Exception as error:  # noqa: BLE001 -- any failure is retried; logged with its traceback
            self._settle_failed(lease, error)
        finally:
            self.keeper.drop(lease)
        return True

    def let_go(self, leases: Sequence[Lease]) -> None:
        """Give back leases; their work is due again at once."""
        for lease in leases:
            self.keeper.drop(lease)
            give_back(lease, self.ledger.folder_work.give_back)

    def _do(self, claimed: FolderLease) -> bool:
        """Do the work; whether an object was put."""
        folder = self._folder(claimed.lease)
        if claimed.kind is FolderWorkKind.AMEND:
            return self._amend(claimed.lease, folder)
        if claimed.kind is FolderWorkKind.RESTORE:
            return self._restore(claimed, folder)
        return self._describe(claimed, folder)

    def _settle_failed(self, lease: Lease, error: Exception) -> None:
        try:
            self._failed(lease, error)
        except LeaseLost:
            log.get().warning("lease.lost", task_id=lease.task_id, stage=lease.stage)

    def _failed(self, lease: Lease, error: Exception) -> None:
        self.hold_in_outage(lease, error)
        if isinstance(error, Failure) and _stops_all(error):
            if self.is_of_process(error):
                self.let_go([lease])
                return
            outcome = self.ledger.folder_work.hold(lease, error)
            if outcome is HoldOutcome.NEW:
                self.on_hold(error)
        else:
            self.ledger.folder_work.retry(lease, error, due_at=self._retry_at(lease, error))
            outcome = HoldOutcome.OWN
        self._count(lease, error)
        if outcome is HoldOutcome.OWN:
            self._log_retry(lease, error)

    def _folder(self, lease: Lease) -> TaskFolder:
        if lease.family is None or lease.created_at is None:
            raise ResultsMissing("the API has not confirmed this task")  # the ledger's CHECKs rule it out
        path = task_folder(
            prefix=self.prefix, family=lease.family, created_at=lease.created_at, task_id=lease.task_id
        )
        return TaskFolder(self.store, path, check=functools.partial(self.keeper.check, lease))

    # --- amendments -------------------------------------------------------------------------------------------

    def _amend(self, lease: Lease, folder: TaskFolder) -> bool:
        contents = folder.contents()
        if folder.size_of(folder.manifest_key, contents) is None:
            raise ObjectUnexpected(f"{folder.manifest_key} is to be amended, and is missing")
        found = self.adopter.read(lease, folder, contents)
        named = {asset.stem for asset in found.assets}
        wanted = [leased for leased in lease.assets if leased.asset.stem not in named]
        brought, error = self._bring(lease, wanted, folder)
        keys = list(found.amendment_keys)
        if brought:
            keys.append(self._put_amendment(lease, folder, brought, number=len(keys) + 1))
        due_at = None if error is None else self._retry_at(lease, error)
        stored = [*found.assets, *brought]
        self.ledger.folder_work.amended(lease, keys=keys, stored=stored, error=error, due_at=due_at)
        if brought:
            self._log_amended(lease, keys[-1], brought)
        if error is not None:
            self._count(lease, error)
            self._log_retry(lease, error)
        return bool(brought)

    def _bring(
        self, lease: Lease, wanted: Sequence[LeasedAsset], folder: TaskFolder
    ) -> tuple[list[StoredAsset], Exception | None]:
        """Fetch and put every available file; the stored files, and why each of the others failed. Raises a failure
        that would stop every other file as well."""
        brought: list[StoredAsset] = []
        failed: Exception | None = None
        for leased in wanted:
            try:
                brought.append(self.transfer.bring(lease, leased, folder=folder.path, look_first=True))
            except Failure as error:
                if _stops_all(error):
                    raise
                failed = failed or error
        return brought, failed

    def _put_amendment(
        self, lease: Lease, folder: TaskFolder, brought: Sequence[StoredAsset], *, number: int
    ) -> str:
        folder.require(brought)
        self.keeper.confirm(lease)
        key = folder.amendment_key(number)
        content = dataclasses.replace(self._manifest(lease, brought), amends=manifest.FILE_NAME)
        if folder.put_manifest(content, look_first=True, key=key) is PutOutcome.ADOPTED:
            raise ObjectUnexpected(f"{key} has just been put by another attempt: to be read first")
        return key

    # --- incomplete.json --------------------------------------------------------------------------------------

    def _describe(self, claimed: FolderLease, folder: TaskFolder) -> bool:
        """Describe what is saved of a lost task. Put nothing if there is a manifest, or if no file is saved."""
        lease, contents = claimed.lease, folder.contents()
        finish = functools.partial(self.ledger.folder_work.finish, lease, event="task.incomplete")
        if folder.size_of(folder.manifest_key, contents) is not None:
            finish(detail="a manifest is there")
            return False
        saved = [leased.stored for leased in lease.assets if leased.stored is not None]
        present = [asset for asset in saved if folder.size_of(asset.key, contents) == asset.bytes]
        if not present:
            finish(detail="no file is there")
            return False
        stems = {asset.stem for asset in present}
        missing = tuple(
            MissingFile(stem, claimed.reasons.get(stem, "object_missing"))
            for stem in (leased.asset.stem for leased in lease.assets)
            if stem not in stems
        )
        self.keeper.confirm(lease)
        content = dataclasses.replace(self._manifest(lease, present), missing=missing)
        key = folder.path + manifest.INCOMPLETE_NAME
        folder.put_manifest(content, look_first=True, key=key)
        finish(detail=key)
        log.get().error("task.incomplete", task_id=lease.task_id, key=key, missing=len(missing))
        return True

    # --- objects that are missing -----------------------------------------------------------------------------

    def _restore(self, claimed: FolderLease, folder: TaskFolder) -> bool:
        lease = claimed.lease
        restorer = Restorer(self.transfer, self.keeper, self.now, self._manifest)
        result = restorer.restore(claimed, folder)
        error = next(iter(result.failed.values()), None)
        if error is not None and self.now() >= lease.deadline_at and lease.attempt >= RESTORE_ATTEMPTS_MIN:
            result.give_up_failed()
        self.ledger.restores.settle(
            lease,
            restored=result.put,
            unrecoverable=result.unrecoverable,
            error=error,
            due_at=None if error is None else self._retry_at(lease, error),
            ask_again=result.wants_fresh_urls,
        )
        for key in result.put:
            log.get().warning("object.restored", task_id=lease.task_id, key=key)
        for key, failure in result.unrecoverable.items():
            log.get().error(
                "object.given_up", task_id=lease.task_id, key=key, reason=failure.reason, message=str(failure)
            )
        if result.failed and error is not None:
            self._count(lease, error)
            self._log_retry(lease, error, event="restore.retried")
        return bool(result.put)

    # --- both -------------------------------------------------------------------------------------------------

    def _manifest(self, lease: Lease, assets: Sequence[StoredAsset]) -> Manifest:
        return Manifest(
            account=self.account,
            family=lease.family or "",
            task_id=lease.task_id,
            external_task_id=lease.external_task_id,
            created_at=lease.created_at or 0,
            updated_at=lease.updated_at,
            archived_at=self.now(),
            discovered_by=lease.discovered_by,
            assets=tuple(assets),
            request=lease.request,
            task=lease.document,
        )

    def _retry_at(self, lease: Lease, error: Exception) -> int:
        """When to try again, as for a task: after a quarter of the time left if the file is gone, else after a
        back-off."""
        decision = decide(
            error, attempt=lease.attempt, now=self.now(), deadline=lease.deadline_at, rand=self.random()
        )
        if not isinstance(decision, Hold):
            return decision.due_at
        is_probed = isinstance(error, Failure) and error.is_probed
        return self.now() + int(HOLD_PROBE_SECONDS if is_probed else RETRY_SECONDS_MAX) * 1000

    def _log_amended(self, lease: Lease, key: str, brought: Sequence[StoredAsset]) -> None:
        family = lease.family or ""
        self.metrics.assets_archived_total.labels(family=family).inc(len(brought))
        self.metrics.asset_bytes_total.labels(family=family).inc(sum(asset.bytes for asset in brought))
        log.get().info("task.amended", task_id=lease.task_id, family=family, key=key, assets=len(brought))

    def _count(self, lease: Lease, error: Exception) -> None:
        labels = {"account": lease.account, "stage": Stage.ARCHIVE, "reason": reason_of(error)}
        self.metrics.failures_total.labels(**labels).inc()

    def _log_retry(self, lease: Lease, error: Exception, *, event: str = "amendment.retried") -> None:
        log.get().warning(
            event,
            task_id=lease.task_id,
            reason=reason_of(error),
            message=str(error),
            attempt=lease.attempt,
            exc_info=None if isinstance(error, Failure) else error,
        )


def _stops_all(error: Failure) -> bool:
    """Whether every task of the account would fail in the same way. A hold of one host concerns that host's files
    only."""
    return error.disposition is Disposition.HOLD and error.host is None


class FolderWorkLoop:
    """The folder work of one account. `step` belongs to one thread."""

    name = "folder-work-loop"

    def __init__(
        self, worker: FolderWorker, *, stop: threading.Event, on_stored: Callable[[Lease], object]
    ) -> None:
        """`on_stored(lease)` is called after work that has put an object."""
        self._worker = worker
        self._on_stored = on_stored
        self._stop = stop

    def step(self) -> None:
        """Do one piece of work; wait a little if none is due."""
        if not self._worker.work_once(on_stored=self._on_stored):
            self._stop.wait(IDLE_SECONDS)
