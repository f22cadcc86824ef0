"""Restores objects that were in the bucket and are missing. Each is restored once.

1. A file is fetched again, and put if its digest is the one that the manifest names. Nothing is ever overwritten.
2. A manifest or an amendment is written again, with the API's present object, once every file that it names is in the
   bucket.
3. An object that is there by now counts as restored. So does one that an attempt has put before a crash.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from archiver.archive import manifest
from archiver.archive.folder import TaskFolder
from archiver.archive.fresh_urls import wants_fresh_urls
from archiver.archive.manifest import Manifest
from archiver.archive.transfer import Transfer
from archiver.failures import (
    AssetGone,
    Disposition,
    Failure,
    ForeignObject,
    ObjectNotRestorable,
    ObjectUnexpected,
    Outside,
    PartlyDone,
)
from archiver.leases import LeaseKeeper
from archiver.ledger import FolderLease, WantedObject
from archiver.model import Lease, LeasedAsset, StoredAsset

_FINAL = (AssetGone, ForeignObject, ObjectNotRestorable)
"""Failures that are final if the URL was fresh."""


@dataclasses.dataclass
class Restored:
    """The outcome for the wanted objects, by key."""

    put: list[str] = dataclasses.field(default_factory=list)
    unrecoverable: dict[str, Failure] = dataclasses.field(default_factory=dict)
    failed: dict[str, Failure] = dataclasses.field(default_factory=dict)
    """To be tried again."""
    wants_fresh_urls: bool = False

    def give_up_failed(self) -> None:
        """Count the failed ones as unrecoverable."""
        self.unrecoverable |= self.failed
        self.failed = {}
        self.wants_fresh_urls = False


@dataclasses.dataclass(frozen=True)
class Restorer:
    """Restores objects of one account. `now` gives Unix ms."""

    transfer: Transfer
    keeper: LeaseKeeper
    now: Callable[[], int]
    describe: Callable[[Lease, Sequence[StoredAsset]], Manifest]
    """The manifest of a task that has these files."""

    def restore(self, claimed: FolderLease, folder: TaskFolder) -> Restored:
        """Put back every object that is available. Raises LeaseLost, and Failure if the store is at fault."""
        contents = folder.contents()
        result = Restored()
        by_key = {leased.stored.key: leased for leased in claimed.lease.assets if leased.stored is not None}
        for wanted in claimed.wanted:
            if wanted.stem is not None:
                self._bring(claimed.lease, by_key[wanted.key], folder, contents, result)
        # The manifest first: it names the files that no amendment names.
        for wanted in sorted(claimed.wanted, key=lambda each: (each.key != folder.manifest_key, each.key)):
            if wanted.stem is None:
                self._write(claimed.lease, wanted, folder, contents, result)
        return result

    def _bring(
        self,
        lease: Lease,
        leased: LeasedAsset,
        folder: TaskFolder,
        contents: Mapping[str, int],
        result: Restored,
    ) -> None:
        stored = leased.stored
        if stored is None:
            return
        try:
            self._fetch(lease, leased, stored, folder, contents)
        except Failure as error:
            if error.outside is Outside.STORE or _stops_all(error):
                raise
            partly = PartlyDone(error, stored=(), failed={stored.stem: error})
            if wants_fresh_urls(lease, partly, now=self.now()):
                result.wants_fresh_urls = True
                result.failed[stored.key] = error
            elif isinstance(error, _FINAL):
                result.unrecoverable[stored.key] = error
            else:
                result.failed[stored.key] = error
        else:
            result.put.append(stored.key)

    def _fetch(
        self,
        lease: Lease,
        leased: LeasedAsset,
        stored: StoredAsset,
        folder: TaskFolder,
        contents: Mapping[str, int],
    ) -> None:
        size = folder.size_of(stored.key, contents)
        if size == stored.bytes:
            return
        if size is not None:
            raise ObjectNotRestorable(f"{stored.key} has {size} bytes now, not {stored.bytes}")
        if not leased.asset.url:
            raise ObjectNotRestorable(f"the API no longer names {stored.name}")
        put = self.transfer.bring(lease, leased, folder=folder.path, look_first=True, sha256=stored.sha256)
        if (put.key, put.sha256) != (stored.key, stored.sha256):
            raise ObjectNotRestorable(f"{put.key} has other bytes than {stored.key} had")

    # --- manifest and amendments ------------------------------------------------------------------------------

    def _write(
        self,
        lease: Lease,
        wanted: WantedObject,
        folder: TaskFolder,
        contents: Mapping[str, int],
        result: Restored,
    ) -> None:
        if folder.size_of(wanted.key, contents) is not None:
            result.put.append(wanted.key)
            return
        for outcome in (result.failed, result.unrecoverable):
            if folder.manifest_key in outcome:
                outcome[wanted.key] = outcome[folder.manifest_key]
                return
        assets = self._unnamed(lease, folder, contents, amends=wanted.key != folder.manifest_key)
        lost = next((asset.key for asset in assets if asset.key in result.unrecoverable), None)
        if lost is not None or not assets:
            why = f"names {lost}, which cannot be had" if lost else "has nothing to name"
            result.unrecoverable[wanted.key] = ObjectNotRestorable(f"{wanted.key} {why}")
            return
        shown = folder.contents()
        absent = next(
            (asset.key for asset in assets if folder.size_of(asset.key, shown) != asset.bytes), None
        )
        if absent is not None:
            error = ObjectUnexpected(f"{absent} is not there, which {wanted.key} is to name")
            result.failed[wanted.key] = result.failed.get(absent, error)
            return
        self.keeper.confirm(lease)
        content = self.describe(lease, assets)
        if wanted.key != folder.manifest_key:
            content = dataclasses.replace(content, amends=manifest.FILE_NAME)
        folder.put_manifest(content, look_first=True, key=wanted.key)
        result.put.append(wanted.key)

    def _unnamed(
        self, lease: Lease, folder: TaskFolder, contents: Mapping[str, int], *, amends: bool
    ) -> list[StoredAsset]:
        """The task's files that no other document in the folder names."""
        present = [key for key in contents if manifest.is_amendment(key.removeprefix(folder.path))]
        documents = [folder.read(key) for key in present]
        if amends:
            documents.append(folder.read_manifest())
        named = {asset.key for document in documents for asset in document.assets}
        return [
            dataclasses.replace(leased.stored, source_url=leased.stored.source_url or leased.asset.url)
            for leased in lease.assets
            if leased.stored is not None and leased.stored.key not in named
        ]


def _stops_all(error: Failure) -> bool:
    return error.disposition is Disposition.HOLD and error.host is None
