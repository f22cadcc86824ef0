"""Adopts a manifest that an earlier attempt left: before a crash, or before the ledger was lost.

A manifest is final if it is this task's (`Manifest.matches`), names at least one file, and names only files of the
task's folder. Any other manifest is refused and never overwritten: an operator must look at it. Every object that a
final manifest names must be there with the right size. A missing one is fetched again, and put only if its digest
matches.
"""

import dataclasses
from collections.abc import Collection, Mapping

from archiver.archive.folder import TaskFolder
from archiver.archive.manifest import Manifest
from archiver.archive.transfer import Transfer
from archiver.failures import Failure, ForeignAccount, ForeignObject, ObjectUnexpected, PartlyDone
from archiver.model import Lease, StoredAsset


@dataclasses.dataclass(frozen=True, slots=True)
class Documented:
    """The contents of the documents in a folder."""

    manifest: Manifest
    assets: tuple[StoredAsset, ...]
    """The assets that the manifest and all amendments name."""
    amendment_keys: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Adopter:
    """`accounts` are the present and former names of the account."""

    transfer: Transfer
    accounts: frozenset[str]

    def adopt(self, lease: Lease, folder: TaskFolder, contents: Mapping[str, int]) -> Documented:
        """The folder's manifest, its amendments, and their assets, all of them there. Raises Failure, PartlyDone,
        LeaseLost."""
        found = self.read(lease, folder, contents)
        for asset in found.assets:
            size = folder.size_of(asset.key, contents)
            if size is None:
                self._bring_back(lease, asset, folder)
            elif size != asset.bytes:
                raise ForeignObject(f"{asset.key} has {size} bytes where the manifest says {asset.bytes}")
        return found

    def read(self, lease: Lease, folder: TaskFolder, contents: Mapping[str, int]) -> Documented:
        """The assets that manifest and amendments name, whether or not their objects exist. Raises Failure."""
        manifest = folder.read_manifest()
        self._require_ours(lease, folder, manifest, key=folder.manifest_key)
        keys: list[str] = []
        named = list(manifest.assets)
        while folder.size_of(key := folder.amendment_key(len(keys) + 1), contents) is not None:
            amendment = folder.read(key)
            self._require_ours(lease, folder, amendment, key=key)
            keys.append(key)
            named += amendment.assets
        stems = {leased.asset.stem for leased in lease.assets}
        return Documented(manifest, tuple(with_stem(asset, stems) for asset in named), tuple(keys))

    def _require_ours(self, lease: Lease, folder: TaskFolder, manifest: Manifest, *, key: str) -> None:
        if not manifest.matches(
            task_id=lease.task_id, family=lease.family or "", created_at=lease.created_at or 0
        ):
            raise ForeignObject(f"{key} belongs to another task")
        if manifest.account not in self.accounts:
            raise ForeignAccount(f"{key} belongs to the account {manifest.account}")
        if (manifest.amends is None) != (key == folder.manifest_key) or manifest.missing is not None:
            raise ForeignObject(f"{key} is not what its name says")
        if not manifest.assets:
            raise ForeignObject(f"{key} names no file")
        for asset in manifest.assets:
            if not asset.key.startswith(folder.path) or asset.key in (folder.path, key):
                raise ForeignObject(f"{key} names {asset.key}, which is no file of its folder")

    def _bring_back(self, lease: Lease, asset: StoredAsset, folder: TaskFolder) -> None:
        leased = next((leased for leased in lease.assets if leased.asset.stem == asset.stem), None)
        if leased is None:
            raise ObjectUnexpected(f"{asset.key} of the manifest is missing, and upstream no longer names it")
        try:
            self.transfer.bring(lease, leased, folder=folder.path, look_first=True, sha256=asset.sha256)
        except Failure as error:
            # Named by its stem, so that verification asks for a fresh URL of this file.
            raise PartlyDone(error, stored=(), failed={leased.asset.stem: error}) from error


def with_stem(asset: StoredAsset, stems: Collection[str]) -> StoredAsset:
    """Manifests hold names, not stems, and a stem may end like an extension (`audio-0.mp3`)."""
    return dataclasses.replace(asset, stem=asset.name) if asset.name in stems else asset
