"""One asset from the CDN, through the spool, into the bucket. Runs on the transfer pool, one call a file.

The bytes exist once, in an anonymous spool file; a crash anywhere here leaves nothing on the disk, and in the bucket
either nothing or the whole object, which the next attempt finds to be the same bytes.
"""

import dataclasses
from collections.abc import Callable

from archiver import log
from archiver.failures import StoreMismatch
from archiver.fetch.fetcher import Fetched, Fetcher
from archiver.kling.results import file_name
from archiver.leases import LeaseKeeper
from archiver.model import Lease, LeasedAsset, Role, StoredAsset
from archiver.store import Digests, PutOutcome, Store, Upload

SUSPECT_AFTER_MS = 60 * 60 * 1000
"""Bytes that fail only the wholeness check and are the same again after this time are what upstream has."""

_LONG_ROLES = frozenset({Role.VIDEO, Role.AUDIO, Role.VOICE, Role.OTHER})
"""What is fetched with the larger caps: also files of a kind that this version does not know, which may be videos."""


@dataclasses.dataclass(frozen=True, slots=True)
class TransferLimits:
    """Caps of one fetch, in bytes and seconds: for images, and for video and audio."""

    image_bytes_max: int
    video_bytes_max: int
    image_seconds_max: float = 120.0
    video_seconds_max: float = 1800.0


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Brings assets over. `now` gives Unix ms."""

    fetcher: Fetcher
    store: Store
    keeper: LeaseKeeper
    limits: TransferLimits
    now: Callable[[], int]

    def bring(
        self, lease: Lease, one: LeasedAsset, *, folder: str, look_first: bool, sha256: str | None = None
    ) -> StoredAsset:
        """Fetch one asset and put it into `folder`; how it lies there. `look_first` as in `Store.put`.

        With `sha256`, bytes of another digest are refused with StoreMismatch before anything is put. Raises Failure,
        LeaseLost.
        """
        self.keeper.check(lease)
        with self._fetch(one, sha256=sha256) as fetched:
            if sha256 is not None and fetched.sha256 != sha256:
                raise StoreMismatch(
                    f"{one.asset.stem} of the manifest is missing, and upstream now has other bytes"
                )
            name = file_name(one.asset.stem, extension=fetched.media.extension)
            self.keeper.check(lease)
            upload = Upload(
                key=folder + name,
                file=fetched.file,
                digests=Digests(bytes=fetched.bytes, sha256=fetched.sha256, md5=fetched.md5),
                content_type=fetched.media.content_type,
                task_id=lease.task_id,
                family=lease.family or "",
            )
            put = self.store.put(upload, look_first=look_first)
            log.get().debug("asset.stored", task_id=lease.task_id, key=folder + name, outcome=put.outcome)
            if fetched.suspect is not None:
                log.get().warning(
                    "asset.suspected", task_id=lease.task_id, key=folder + name, reason=fetched.suspect
                )
            seen = put.outcome is not PutOutcome.ADOPTED  # else other bytes lie there than we have looked at
            return StoredAsset(
                stem=one.asset.stem,
                name=name,
                key=folder + name,
                role=one.asset.role,
                index=one.asset.index,
                watermarked=one.asset.watermarked,
                bytes=put.bytes,
                sha256=put.sha256,
                content_type=put.content_type,
                width=fetched.media.width if seen else None,
                height=fetched.media.height if seen else None,
                source_url=one.asset.url,
                suspect=fetched.suspect,
            )

    def _fetch(self, one: LeasedAsset, *, sha256: str | None) -> Fetched:
        """`sha256` is what a manifest says of the file: bytes that agree with it are believed, whole or not."""
        long = one.asset.role in _LONG_ROLES
        seen_at = one.incomplete_at
        believed = seen_at is not None and seen_at + SUSPECT_AFTER_MS <= self.now()
        return self.fetcher.fetch(
            one.asset.url,
            bytes_max=self.limits.video_bytes_max if long else self.limits.image_bytes_max,
            seconds_max=self.limits.video_seconds_max if long else self.limits.image_seconds_max,
            suspect_sha256=one.incomplete_sha256 if believed else sha256,
        )
