"""From a succeeded task to its images in the bucket, and then its manifest: the stage that all others serve.

The order is the guarantee:

1. List the task's folder. If our manifest is there, adopt it (see `adoption`) and stop.
2. Fetch every asset and put it, in parallel, create-only. Check our lease before each put.
3. List the folder again: every object must be there with the right size.
4. Ask the ledger whether the lease is still ours, and whether the API has named more assets since: a sweep's row may
   name more than the single answer did. Bring those first, and list again.
5. Put the manifest, see it there, then complete the lease. What the API names after 4 becomes an amendment
   (`folder_work`): the ledger queues it in the transaction that archives the task.

A crash after 2 leaves objects without a manifest; the next attempt finds them and continues. A crash after the put of 5
leaves a manifest that the ledger does not know; the next attempt adopts it. At no moment does a manifest exist without
one of its objects.

Trust is earned. Once 1,000 objects have been seen again without a miss (`second_look`), the checks after the puts (3,
and in 5) are left out: a right ETag and the second look within the hour remain. The check of 1 is left out as well if
the store was seen to refuse a second put, for the first attempt at a task that this ledger knew as running or that is
younger than the ledger. The first miss brings all of them back.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from archiver import log
from archiver.archive.adoption import Adopter
from archiver.archive.folder import TaskFolder
from archiver.archive.manifest import Manifest
from archiver.archive.transfer import Transfer
from archiver.archive.transfers import TransferQueue
from archiver.failures import (
    AssetHostUnlisted,
    Disposition,
    Failure,
    LeaseLost,
    PartlyDone,
    ResultsMissing,
    Stopped,
)
from archiver.leases import LeaseKeeper
from archiver.ledger import Ledger, StoreTrust
from archiver.metrics import Metrics
from archiver.model import Lease, LeasedAsset, StoredAsset, task_folder
from archiver.pulses.pulse import beat
from archiver.store import ConditionalPut, PutOutcome, Store

_GRAVITY = {Disposition.HOLD: 0, Disposition.RETRY: 1, Disposition.BURY: 3}
_GRAVITY_OF_UNLISTED = 2
"""Another file's hold or retry counts before an unlisted host, after which nothing is tried until the daemon's next
start."""


@dataclasses.dataclass(frozen=True)
class Archiver:
    """Archives one account's tasks. `now` gives Unix ms."""

    account: str
    prefix: str
    ledger: Ledger
    store: Store
    transfer: Transfer
    adopter: Adopter
    keeper: LeaseKeeper
    transfers: TransferQueue
    """Runs the transfers of all tasks, at most KLING_TRANSFER_CONCURRENCY at a time."""
    metrics: Metrics
    now: Callable[[], int]

    def archive(self, lease: Lease) -> None:
        """Bring one leased task into the bucket and complete its lease.

        Raises PartlyDone or Failure (the caller then settles the lease), LeaseLost, Stopped.
        """
        folder = self._folder(lease)
        trust = self.ledger.trust.of(self.store.location)
        contents = {} if _is_first_here(lease, trust) else folder.contents()
        if folder.manifest_key in contents:
            self._adopt(lease, folder, contents)
            return
        if not lease.assets:
            raise ResultsMissing("the API says succeed and names no file")
        stored: list[StoredAsset] = []
        wanted: Sequence[LeasedAsset] = lease.assets
        while wanted:
            self._bring(lease, wanted, stored, folder=folder, contents=contents)
            with _attaching(stored):
                if not (trust.is_earned and self.store.etags_are_md5):
                    folder.require(stored)
                brought = {asset.stem for asset in stored}
                wanted = [leased for leased in self.keeper.confirm(lease) if leased.asset.stem not in brought]
        with _attaching(stored):
            self._complete(lease, folder, stored, look_first=_looks_first(lease, contents), trust=trust)

    def _folder(self, lease: Lease) -> TaskFolder:
        if lease.family is None or lease.created_at is None:
            raise ResultsMissing("the API has not confirmed this task")  # the ledger's CHECKs rule it out
        path = task_folder(
            prefix=self.prefix, family=lease.family, created_at=lease.created_at, task_id=lease.task_id
        )
        return TaskFolder(self.store, path, check=functools.partial(self.keeper.check, lease))

    # --- assets ------------------------------------------------------------------------------------------

    def _bring(
        self,
        lease: Lease,
        wanted: Sequence[LeasedAsset],
        stored: list[StoredAsset],
        *,
        folder: TaskFolder,
        contents: Mapping[str, int],
    ) -> None:
        """Bring every wanted asset and add it to `stored`; else raise PartlyDone with the gravest failure."""
        more, failed = self._transfer(lease, wanted, folder=folder, contents=contents)
        stored += more
        if failed:
            raise PartlyDone(gravest(failed.values()), stored=stored, failed=failed)

    def _transfer(
        self, lease: Lease, assets: Sequence[LeasedAsset], *, folder: TaskFolder, contents: Mapping[str, int]
    ) -> tuple[list[StoredAsset], dict[str, Exception]]:
        """Transfer in parallel. Returns the stored assets, and the errors of the others by stem.

        Raises LeaseLost and Stopped after all transfers have ended: none may outlive its task.
        """
        futures = {}
        stored: list[StoredAsset] = []
        look_first = _looks_first(lease, contents)
        for leased in assets:
            if leased.stored is not None and _is_there(leased.stored, folder, contents):
                stored.append(leased.stored)
                continue
            bring = functools.partial(
                self.transfer.bring, lease, leased, folder=folder.path, look_first=look_first
            )
            future = self.transfers.submit(leased.asset.host, bring)
            futures[future] = leased.asset.stem
        for _ in concurrent.futures.as_completed(futures):
            beat()
        failed: dict[str, Exception] = {}
        for future, stem in futures.items():
            error = future.exception()
            if error is None:
                stored.append(future.result())
            elif isinstance(error, LeaseLost | Stopped) or not isinstance(error, Exception):
                raise error
            else:
                failed[stem] = error
        return stored, failed

    # --- manifest -----------------------------------------------------------------------------------------

    def _complete(
        self,
        lease: Lease,
        folder: TaskFolder,
        stored: Sequence[StoredAsset],
        *,
        look_first: bool,
        trust: StoreTrust,
    ) -> None:
        """Put the manifest and complete the lease, which has just been confirmed."""
        archived_at = self.now()
        manifest = self._manifest(lease, stored, archived_at=archived_at)
        outcome = folder.put_manifest(manifest, look_first=look_first, trusted=trust.is_earned)
        if outcome is PutOutcome.ADOPTED:
            self._adopt(lease, folder, folder.contents())
            return
        if trust.is_earned and trust.second_put is None:
            self._learn_second_put(folder, manifest)
        self.ledger.outcomes.archived(
            lease, manifest_key=folder.manifest_key, archived_at=archived_at, stored=stored
        )
        self._log_archived(lease, folder, stored, archived_at=archived_at, event="task.archived")

    def _learn_second_put(self, folder: TaskFolder, manifest: Manifest) -> None:
        """Find out, once for each bucket, what the store does with a second put. The bytes are the same, so nothing is
        lost if the store overwrites them."""
        with contextlib.suppress(Failure):
            self.ledger.trust.note_second_put(self.store.location, folder.put_manifest_again(manifest))

    def _manifest(self, lease: Lease, stored: Sequence[StoredAsset], *, archived_at: int) -> Manifest:
        order = {leased.asset.stem: place for place, leased in enumerate(lease.assets)}
        assets = sorted(stored, key=lambda asset: (order.get(asset.stem, len(order)), asset.stem))
        return Manifest(
            account=self.account,
            family=lease.family or "",
            task_id=lease.task_id,
            external_task_id=lease.external_task_id,
            created_at=lease.created_at or 0,
            updated_at=lease.updated_at,
            archived_at=archived_at,
            discovered_by=lease.discovered_by,
            assets=tuple(assets),
            request=lease.request,
            task=lease.document,
        )

    def _adopt(self, lease: Lease, folder: TaskFolder, contents: Mapping[str, int]) -> None:
        found = self.adopter.adopt(lease, folder, contents)
        self.keeper.confirm(lease)
        self.ledger.outcomes.archived(
            lease,
            manifest_key=folder.manifest_key,
            archived_at=found.manifest.archived_at,
            stored=found.assets,
            amendment_keys=found.amendment_keys,
            is_adopted=True,
            external_task_id=found.manifest.external_task_id,
            request=found.manifest.request,
            updated_at=found.manifest.updated_at,
        )
        self._log_archived(
            lease, folder, found.assets, archived_at=found.manifest.archived_at, event="task.adopted"
        )

    def _log_archived(
        self, lease: Lease, folder: TaskFolder, stored: Sequence[StoredAsset], *, archived_at: int, event: str
    ) -> None:
        family = lease.family or ""
        stored_bytes = sum(asset.bytes for asset in stored)
        log.get().info(
            event,
            task_id=lease.task_id,
            family=family,
            manifest_key=folder.manifest_key,
            assets=len(stored),
            bytes=stored_bytes,
            attempt=lease.attempt,
            discovered_by=lease.discovered_by,
        )
        self.metrics.assets_archived_total.labels(family=family).inc(len(stored))
        self.metrics.asset_bytes_total.labels(family=family).inc(stored_bytes)
        if lease.updated_at is not None:
            self.metrics.archive_seconds.observe(max(0.0, (archived_at - lease.updated_at) / 1000))


def _is_there(stored: StoredAsset, folder: TaskFolder, contents: Mapping[str, int]) -> bool:
    return folder.size_of(stored.key, contents) == stored.bytes


def _looks_first(lease: Lease, contents: Mapping[str, int]) -> bool:
    """Whether an earlier attempt may have put something. Holds, shutdowns and a lost ledger leave no attempt count, and
    a listing may lag."""
    was_tried = any(leased.stored is not None or leased.reason is not None for leased in lease.assets)
    return lease.attempt > 1 or was_tried or bool(contents)


def _is_first_here(lease: Lease, trust: StoreTrust) -> bool:
    """Whether nothing of the task can be in the bucket yet. If an object is there all the same, a trusted store answers
    the put with 412, and the object is adopted."""
    is_ours = lease.was_running or trust.can_know(created_at=lease.created_at or 0)
    has_begun = lease.attempt > 1 or any(leased.stored is not None for leased in lease.assets)
    return trust.is_earned and trust.second_put == ConditionalPut.RESPECTED and is_ours and not has_begun


@contextlib.contextmanager
def _attaching(stored: Sequence[StoredAsset]) -> Iterator[None]:
    """Attach the assets stored so far to a failure."""
    try:
        yield
    except Failure as error:
        raise PartlyDone(error, stored=stored, failed={}) from error


def gravest(failures: Iterable[Exception]) -> Exception:
    """Decides for the whole task: hold before retry before bury, because waiting may still bring the other assets."""
    return min(failures, key=_gravity)


def _gravity(error: Exception) -> int:
    return _GRAVITY_OF_UNLISTED if isinstance(error, AssetHostUnlisted) else _GRAVITY[_disposition(error)]


def _disposition(error: Exception) -> Disposition:
    return error.disposition if isinstance(error, Failure) else Disposition.RETRY
