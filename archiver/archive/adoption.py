"""A manifest that is there already: an earlier attempt's, from before a crash or before the ledger was lost.

It is final. It is believed when it speaks of the same task, family and `created_at`, and once every object that it
names is seen to be there in its size. One that is missing is fetched again and put only if its digest agrees.
"""

import dataclasses
from collections.abc import Collection, Mapping

from archiver.archive import manifest
from archiver.archive.manifest import Manifest
from archiver.archive.transfer import Transfer
from archiver.failures import ForeignObject, StoreMismatch
from archiver.model import Lease, LeasedAsset, StoredAsset
from archiver.store import Store


@dataclasses.dataclass(frozen=True)
class Adopter:
    """Reads manifests that are there and makes their folders whole."""

    store: Store
    transfer: Transfer

    def adopt(
        self, lease: Lease, *, folder: str, objects: Mapping[str, int]
    ) -> tuple[Manifest, tuple[StoredAsset, ...]]:
        """The manifest in `folder` and its assets, all seen to be there.

        Raises ForeignObject when it speaks of something else, ManifestUnreadable when it cannot be read, and whatever
        bringing a missing object back may raise.
        """
        key = folder + manifest.FILE_NAME
        found = Manifest.from_bytes(self.store.read(key, bytes_max=manifest.BYTES_MAX))
        if not found.matches(
            task_id=lease.task_id, family=lease.family or "", created_at=lease.created_at or 0
        ):
            raise ForeignObject(f"{key} speaks of another task")
        stems = {one.asset.stem for one in lease.assets}
        assets = tuple(_with_stem(asset, stems) for asset in found.assets)
        for asset in assets:
            if not self._is_there(asset, objects):
                self._bring_back(lease, asset, folder=folder)
        return found, assets

    def _is_there(self, asset: StoredAsset, objects: Mapping[str, int]) -> bool:
        size = objects.get(asset.key)
        if size is None:  # a listing may lag behind
            head = self.store.head(asset.key)
            size = None if head is None else head.bytes
        if size is not None and size != asset.bytes:
            raise ForeignObject(f"{asset.key} has {size} bytes where the manifest says {asset.bytes}")
        return size is not None

    def _bring_back(self, lease: Lease, asset: StoredAsset, *, folder: str) -> None:
        by_name = {one.asset.stem: one for one in lease.assets}
        one: LeasedAsset | None = by_name.get(asset.stem)
        if one is None:
            raise StoreMismatch(f"{asset.key} of the manifest is missing, and upstream no longer names it")
        self.transfer.bring(lease, one, folder=folder, look_first=True, sha256=asset.sha256)


def _with_stem(asset: StoredAsset, stems: Collection[str]) -> StoredAsset:
    """A manifest tells names, not stems, and a stem may end as an extension does (`audio-0.mp3`)."""
    return dataclasses.replace(asset, stem=asset.name) if asset.name in stems else asset
