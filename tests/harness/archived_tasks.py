"""Archived tasks as they lie in a bucket: their files, and the manifest that names them."""

import dataclasses
import hashlib
import io
from collections.abc import Mapping

from archiver.archive import manifest
from archiver.archive.manifest import Manifest, MissingFile
from archiver.ledger import Ledger
from archiver.model import DiscoveredBy, Role, StoredAsset, task_folder
from archiver.store import Store, Upload, digests_of
from tests.harness.ledgers import ACCOUNT, FAMILY, RAND, SECOND, START, answer, asset, claim_archive


@dataclasses.dataclass(frozen=True)
class ArchivedTask:
    """One task; its files are `0.png`, `1.png`, … with different bytes."""

    task_id: str
    created_at: int = START
    family: str = FAMILY
    account: str = ACCOUNT
    prefix: str = ""
    file_bytes: int = 100
    task: Mapping[str, object] = dataclasses.field(default_factory=dict)
    """What the API's object has beside id and status."""

    @property
    def folder(self) -> str:
        return task_folder(
            prefix=self.prefix, family=self.family, created_at=self.created_at, task_id=self.task_id
        )

    def content(self, number: int) -> bytes:
        """Of the file with this number."""
        return f"{self.task_id} {number} ".encode().ljust(self.file_bytes, b".")

    def asset(self, number: int, *, suspect: str | None = None) -> StoredAsset:
        content = self.content(number)
        return StoredAsset(
            stem=str(number),
            name=f"{number}.png",
            key=f"{self.folder}{number}.png",
            role=Role.IMAGE,
            index=number,
            watermarked=False,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            content_type="image/png",
            width=1,
            height=1,
            source_url=f"https://cdn.klingai.com/{number}.png",
            suspect=suspect,
        )

    def manifest(
        self, *assets: StoredAsset, amends: str | None = None, missing: str | None = None
    ) -> Manifest:
        """Of these assets; `missing` is a stem that `incomplete.json` names."""
        return Manifest(
            account=self.account,
            family=self.family,
            task_id=self.task_id,
            external_task_id=None,
            created_at=self.created_at,
            updated_at=self.created_at + SECOND,
            archived_at=self.created_at + 2 * SECOND,
            discovered_by=DiscoveredBy.CALLBACK,
            assets=assets,
            request=None,
            task={"task_id": self.task_id, "task_status": "succeed", **self.task},
            amends=amends,
            missing=None if missing is None else (MissingFile(missing, "asset_gone"),),
        )

    def put(self, store: Store, *, files: int = 1, amended: int = 0) -> None:
        """The files, the manifest, and an amendment for each of `amended` further files."""
        for number in range(files):
            self.put_object(store, f"{number}.png", self.content(number))
        self.put_object(store, manifest.FILE_NAME, self.manifest(*map(self.asset, range(files))).to_bytes())
        for place in range(amended):
            number = files + place
            self.put_object(store, f"{number}.png", self.content(number))
            amendment = self.manifest(self.asset(number), amends=manifest.FILE_NAME)
            self.put_object(store, manifest.amendment_name(place + 1), amendment.to_bytes())

    def record(self, ledger: Ledger, *, files: int = 1, amended: int = 0) -> None:
        """In the ledger: archived, with these files."""
        assets = [self.asset(number) for number in range(files + amended)]
        task = answer(
            self.task_id,
            family=self.family,
            created_at=self.created_at,
            assets=tuple(asset(each.stem, each.source_url) for each in assets),
        )
        ledger.records.record([task], account=self.account, discovered_by=DiscoveredBy.SWEEP, rand=RAND)
        (lease,) = claim_archive(ledger, count=1, account=self.account)
        amendments = [self.folder + manifest.amendment_name(number + 1) for number in range(amended)]
        ledger.outcomes.archived(
            lease,
            manifest_key=self.folder + manifest.FILE_NAME,
            archived_at=self.created_at + 2 * SECOND,
            stored=assets,
            amendment_keys=amendments,
        )

    def put_object(self, store: Store, name: str, content: bytes) -> None:
        """Into the task's folder."""
        upload = Upload(
            key=self.folder + name,
            file=io.BytesIO(content),
            digests=digests_of(content),
            content_type="application/json" if name.endswith(".json") else "image/png",
            task_id=self.task_id,
            family=self.family,
            check=lambda: None,
        )
        store.put(upload, look_first=False)
