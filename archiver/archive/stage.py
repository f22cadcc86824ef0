"""From a succeeded task to its images in the bucket, and then its manifest: the stage all else exists for.

The order is the guarantee:

1. Look into the task's folder. A manifest that is ours ends the work: it is adopted (see `adoption`).
2. Fetch and put every asset, in parallel, create-only. Each put stands behind a look at our own lease.
3. Look into the folder again: every object must be there in its size.
4. Ask the ledger whether the lease is still ours, and whether the API has named more assets since (a sweep's row may
   have more than the single answer had): these are brought first, and seen.
5. Put the manifest, see it there, then complete the lease.

A crash after 2 leaves objects without a manifest: the next attempt finds them and goes on. After 5's put it leaves a
manifest that the ledger does not know: the next attempt adopts it. There is no moment at which a manifest exists and
one of its objects does not.
"""

import concurrent.futures
import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from archiver import log
from archiver.archive import manifest
from archiver.archive.adoption import Adopter
from archiver.archive.manifest import Manifest
from archiver.archive.transfer import Transfer
from archiver.failures import (
    AssetGone,
    Disposition,
    Failure,
    FreshUrlMissing,
    LeaseLost,
    PartlyDone,
    ResultsMissing,
    Stopped,
    StoreMismatch,
    TaskNotFound,
)
from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.leases import LeaseKeeper
from archiver.ledger import Ledger
from archiver.metrics import Metrics
from archiver.model import Lease, LeasedAsset, Stage, Status, StoredAsset, task_folder
from archiver.store import PutOutcome, Store, Upload, digests_of


@dataclasses.dataclass(frozen=True)
class Archiver:
    """Archives one account's tasks. `now` gives Unix ms."""

    account: str
    prefix: str
    client: KlingClient
    ledger: Ledger
    store: Store
    transfer: Transfer
    adopter: Adopter
    keeper: LeaseKeeper
    pool: concurrent.futures.Executor
    """Where the transfers of all tasks run: its size is KLING_TRANSFER_CONCURRENCY."""
    metrics: Metrics
    now: Callable[[], int]

    def archive(self, lease: Lease) -> None:
        """Bring one leased task into the bucket and complete its lease.

        Raises PartlyDone or Failure (the lease is then ours to settle), LeaseLost, Stopped.
        """
        folder = self._folder(lease)
        objects = self.store.list(folder)
        if folder + manifest.FILE_NAME in objects:
            self._adopt(lease, folder=folder, objects=objects)
            return
        if not lease.assets:
            raise ResultsMissing("the API says succeed and names no file")
        stored: list[StoredAsset] = []
        wanted: Sequence[LeasedAsset] = lease.assets
        while wanted:
            self._bring(lease, wanted, stored, folder=folder, objects=objects)
            with _keeping(stored):
                self._see_all(folder, stored)
                brought = {one.stem for one in stored}
                wanted = [one for one in self.keeper.confirm(lease) if one.asset.stem not in brought]
        with _keeping(stored):
            self._seal(lease, folder=folder, stored=stored, look_first=_looks_first(lease, objects))

    def _folder(self, lease: Lease) -> str:
        if lease.family is None or lease.created_at is None:
            raise ResultsMissing("the API has not confirmed this task")  # the ledger's CHECKs rule it out
        return task_folder(
            prefix=self.prefix, family=lease.family, created_at=lease.created_at, task_id=lease.task_id
        )

    # --- assets ------------------------------------------------------------------------------------------

    def _bring(
        self,
        lease: Lease,
        wanted: Sequence[LeasedAsset],
        stored: list[StoredAsset],
        *,
        folder: str,
        objects: Mapping[str, int],
    ) -> None:
        """Every wanted asset into the bucket and to what is `stored`; else PartlyDone with the gravest failure."""
        more, failed = self._transfer(lease, wanted, folder=folder, objects=objects)
        stored += more
        try:
            again = self._second_round(lease, failed)
        except Failure as error:
            raise PartlyDone(gravest([*failed.values(), error]), stored=stored, failed=failed) from error
        more, still_failed = self._transfer(lease, again, folder=folder, objects=objects)
        stored += more
        tried_again = {one.asset.stem for one in again}
        failed = {stem: error for stem, error in failed.items() if stem not in tried_again} | still_failed
        if failed:
            raise PartlyDone(gravest(failed.values()), stored=stored, failed=failed)

    def _second_round(self, lease: Lease, failed: Mapping[str, Exception]) -> Sequence[LeasedAsset]:
        """What is worth a second transfer: assets that were gone, once their URLs are fresh."""
        gone = {stem for stem, error in failed.items() if isinstance(error, AssetGone)}
        if not gone or not self._refresh(lease):
            return ()
        return [one for one in self.keeper.confirm(lease) if one.asset.stem in gone]

    def _transfer(
        self, lease: Lease, assets: Sequence[LeasedAsset], *, folder: str, objects: Mapping[str, int]
    ) -> tuple[list[StoredAsset], dict[str, Exception]]:
        """Transfer assets in parallel; what is stored, and why the others are not (by stem).

        Raises LeaseLost and Stopped once all transfers have ended, so that none outlives its task.
        """
        futures = {}
        stored: list[StoredAsset] = []
        for one in assets:
            if one.stored is not None and objects.get(one.stored.key) == one.stored.bytes:
                stored.append(one.stored)
                continue
            future = self.pool.submit(
                self.transfer.bring, lease, one, folder=folder, look_first=_looks_first(lease, objects)
            )
            futures[future] = one.asset.stem
        concurrent.futures.wait(futures)
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

    def _refresh(self, lease: Lease) -> bool:
        """Ask the API once for fresh URLs (a signature may have ended before the file did). True when it gave some.

        Raises FreshUrlMissing when it cannot be asked. What it holds against us is for the stages that live by it to
        find out: the other tasks' downloads need no API and go on.
        """
        family = lease.family or ""
        asking = (Stage.VERIFY, Stage.SWEEP)
        if any(self.ledger.is_held(account=lease.account, stage=stage, family=family) for stage in asking):
            raise FreshUrlMissing("its URL no longer works, and questions to the API are held")
        try:
            task = self.client.query(family, lease.task_id, priority=Priority.VERIFY)
        except TaskNotFound:
            return False
        except Failure as error:
            if error.disposition is Disposition.BURY:
                return False
            raise FreshUrlMissing(f"its URL no longer works, and the API gave no other: {error}") from error
        # Our id may be another task's external id: once ours is purged, that one would answer, and with its files.
        if task.status is not Status.SUCCEEDED or task.task_id != lease.task_id:
            return False
        self.ledger.refresh_assets(lease, task)
        return bool(task.assets)

    # --- manifest -----------------------------------------------------------------------------------------

    def _see_all(self, folder: str, stored: Sequence[StoredAsset]) -> None:
        """Every object is there in its size; HEAD where the listing lags. Raises StoreMismatch."""
        objects = self.store.list(folder)
        for asset in stored:
            size = objects.get(asset.key)
            if size is None:
                found = self.store.head(asset.key)
                size = None if found is None else found.bytes
            if size != asset.bytes:
                raise StoreMismatch(f"{asset.key} should have {asset.bytes} bytes and has {size}")

    def _seal(self, lease: Lease, *, folder: str, stored: Sequence[StoredAsset], look_first: bool) -> None:
        """Put the manifest and complete the lease, which has just been confirmed."""
        archived_at = self.now()
        body = self._manifest(lease, stored, archived_at=archived_at).to_bytes()
        key = folder + manifest.FILE_NAME
        upload = Upload(
            key=key,
            file=io.BytesIO(body),
            digests=digests_of(body),
            content_type=manifest.CONTENT_TYPE,
            task_id=lease.task_id,
            family=lease.family or "",
        )
        put = self.store.put(upload, look_first=look_first)
        if put.outcome is PutOutcome.ADOPTED:
            # Another attempt of ours was faster by a moment: its manifest is the one that counts.
            self._adopt(lease, folder=folder, objects=self.store.list(folder))
            return
        self._see(key, size=len(body))
        self.ledger.archived(lease, manifest_key=key, archived_at=archived_at, stored=stored)
        self._say(lease, stored, key=key, archived_at=archived_at, event="task.archived")

    def _see(self, key: str, *, size: int) -> None:
        """The manifest is there. A store that answered its put rightly and kept nothing would otherwise never be found
        out: nobody comes by an archived task again. Raises StoreMismatch."""
        found = self.store.head(key)
        if found is None or found.bytes != size:
            raise StoreMismatch(f"{key} was put, and the store does not have it")

    def _manifest(self, lease: Lease, stored: Sequence[StoredAsset], *, archived_at: int) -> Manifest:
        order = {one.asset.stem: place for place, one in enumerate(lease.assets)}
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

    def _adopt(self, lease: Lease, *, folder: str, objects: Mapping[str, int]) -> None:
        """A manifest is there already: what it says is final, once its objects are seen to be there."""
        found, stored = self.adopter.adopt(lease, folder=folder, objects=objects)
        self.keeper.confirm(lease)
        key = folder + manifest.FILE_NAME
        self.ledger.archived(lease, manifest_key=key, archived_at=found.archived_at, stored=stored)
        self._say(lease, stored, key=key, archived_at=found.archived_at, event="task.adopted")

    def _say(
        self, lease: Lease, stored: Sequence[StoredAsset], *, key: str, archived_at: int, event: str
    ) -> None:
        family = lease.family or ""
        log.get().info(
            event,
            task_id=lease.task_id,
            family=family,
            manifest_key=key,
            assets=len(stored),
            bytes=sum(asset.bytes for asset in stored),
            attempt=lease.attempt,
            discovered_by=lease.discovered_by,
        )
        self.metrics.assets_archived_total.labels(family=family).inc(len(stored))
        self.metrics.asset_bytes_total.labels(family=family).inc(sum(asset.bytes for asset in stored))
        if lease.updated_at is not None:
            self.metrics.archive_seconds.observe(max(0.0, (archived_at - lease.updated_at) / 1000))


def _looks_first(lease: Lease, objects: Mapping[str, int]) -> bool:
    """Whether an earlier attempt may have put something. The count alone does not tell: a hold and a shutdown take
    their attempt back, and a new ledger knows of none."""
    return lease.attempt > 1 or bool(objects)


@contextlib.contextmanager
def _keeping(stored: Sequence[StoredAsset]) -> Iterator[None]:
    """A failure leaves with what is in the bucket already."""
    try:
        yield
    except Failure as error:
        raise PartlyDone(error, stored=stored, failed={}) from error


_GRAVITY = {Disposition.HOLD: 0, Disposition.RETRY: 1, Disposition.BURY: 2}


def gravest(failures: Iterable[Exception]) -> Exception:
    """The failure that decides for the whole task: what concerns everybody first, then what may heal by itself;
    a task is buried only when nothing of it can still be had by waiting."""
    return min(failures, key=lambda error: _GRAVITY[_disposition(error)])


def _disposition(error: Exception) -> Disposition:
    return error.disposition if isinstance(error, Failure) else Disposition.RETRY
