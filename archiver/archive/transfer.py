"""One asset from the CDN, through the spool, into the bucket. Runs on the transfer pool.

A crash leaves nothing on disk, because the spool file is anonymous. In the bucket it leaves nothing, or the whole
object, which the next attempt recognises.
"""

import dataclasses
import functools
import io
from collections.abc import Callable

from archiver import log
from archiver.archive.transfers import HostJudge
from archiver.failures import AssetHostUnlisted, Failure, NeverMedia, NotMedia, ObjectNotRestorable, TooLarge
from archiver.families import file_name
from archiver.fetch.fetcher import SUSPECT_INCOMPLETE, FetchedFile, Fetcher
from archiver.leases import LeaseKeeper
from archiver.media.identify import identify
from archiver.model import Lease, LeasedAsset, Role, StoredAsset
from archiver.pulses.pulse import beat
from archiver.store import Digests, Put, PutOutcome, Store, Upload

SUSPECT_AFTER_MS = 60 * 60 * 1000
"""Incomplete bytes that are unchanged after this time are all that upstream has."""

NOT_MEDIA_MS = 60 * 60 * 1000
"""How long fetches may return something that is not media before the task is buried: an error page with status 200 may
be temporary."""

READ_BACK_BYTES_MAX = 32 * 1024 * 1024
"""An adopted object that is larger is not read into memory to be judged."""

_LONG_ROLES = frozenset({Role.VIDEO, Role.AUDIO, Role.VOICE, Role.OTHER})
"""Fetched with the larger caps. OTHER, a kind unknown to this version, may be a video."""


@dataclasses.dataclass(frozen=True, slots=True)
class TransferLimits:
    """Caps of one fetch. `video_…` also covers audio."""

    image_bytes_max: int
    video_bytes_max: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Quality:
    """The properties of one object's bytes, besides their digest, that its manifest names."""

    width: int | None
    height: int | None
    suspect: str | None


@dataclasses.dataclass(frozen=True)
class Transfer:
    """`now` gives Unix ms."""

    fetcher: Fetcher
    store: Store
    keeper: LeaseKeeper
    limits: TransferLimits
    hosts: HostJudge
    now: Callable[[], int]

    def bring(
        self, lease: Lease, leased: LeasedAsset, *, folder: str, look_first: bool, sha256: str | None = None
    ) -> StoredAsset:
        """Fetch one asset and put it into `folder`, if it matches `sha256`. Raises Failure, LeaseLost."""
        beat()
        asset = leased.asset
        self.keeper.check(lease)
        with self._fetch(lease, leased, sha256=sha256) as fetched:
            if sha256 is not None and fetched.sha256 != sha256:
                raise ObjectNotRestorable(
                    f"{asset.stem} of the manifest is missing, and upstream now has other bytes"
                )
            name = file_name(asset.stem, extension=fetched.media.extension)
            self.keeper.check(lease)
            upload = Upload(
                key=folder + name,
                file=fetched.file,
                digests=Digests(bytes=fetched.bytes, sha256=fetched.sha256, md5=fetched.md5),
                content_type=fetched.media.content_type,
                task_id=lease.task_id,
                family=lease.family or "",
                check=functools.partial(self.keeper.check, lease),
            )
            put = self.store.put(upload, look_first=look_first)
            log.get().debug("asset.stored", task_id=lease.task_id, key=folder + name, outcome=put.outcome)
            quality = _Quality(fetched.media.width, fetched.media.height, fetched.suspect)
            if put.outcome is PutOutcome.ADOPTED:
                quality = self._judge_adopted(leased, put, key=upload.key)
            if quality.suspect is not None:
                log.get().warning(
                    "asset.suspected", task_id=lease.task_id, key=upload.key, reason=quality.suspect
                )
            return StoredAsset(
                stem=asset.stem,
                name=name,
                key=upload.key,
                role=asset.role,
                index=asset.index,
                watermarked=asset.watermarked,
                bytes=put.bytes,
                sha256=put.sha256,
                content_type=put.content_type,
                width=quality.width,
                height=quality.height,
                source_url=asset.url,
                suspect=quality.suspect,
            )

    def _judge_adopted(self, leased: LeasedAsset, put: Put, *, key: str) -> _Quality:
        """The quality of an adopted object. Its bytes differ from the fetched ones, so they are read and judged. An
        object too large for the memory is suspect if the ledger knows its digest as that of an incomplete file."""
        if put.bytes > READ_BACK_BYTES_MAX:
            is_cut = put.sha256 == leased.incomplete_sha256
            return _Quality(None, None, SUSPECT_INCOMPLETE if is_cut else None)
        content = self.store.read(key, bytes_max=READ_BACK_BYTES_MAX)
        try:
            media = identify(io.BytesIO(content))
        except (NotMedia, TooLarge):
            return _Quality(None, None, SUSPECT_INCOMPLETE)
        return _Quality(media.width, media.height, None if media.whole else SUSPECT_INCOMPLETE)

    def _fetch(self, lease: Lease, leased: LeasedAsset, *, sha256: str | None) -> FetchedFile:
        """Fetch, and report the outcome to the host watch before anything is put."""
        host = leased.asset.host
        try:
            fetched = self._try(leased, sha256=sha256)
        except NotMedia as error:
            error.host = host
            self.hosts.failed(lease, error)
            if _has_lasted(leased, error, now=self.now()):
                raise NeverMedia(str(error), host=host) from error
            raise
        except Failure as error:
            # Also after a redirect, count for the host of the URL itself: claims know the task by that host.
            if not isinstance(error, AssetHostUnlisted):
                error.host = host if error.host is not None else None
            self.hosts.failed(lease, error)
            raise
        self.hosts.came(host)
        return fetched

    def _try(self, leased: LeasedAsset, *, sha256: str | None) -> FetchedFile:
        """Fetch once. Bytes that match a manifest's `sha256` are accepted, whole or not."""
        long = leased.asset.role in _LONG_ROLES
        first_seen_at = leased.incomplete_at
        accepted = first_seen_at is not None and first_seen_at + SUSPECT_AFTER_MS <= self.now()
        return self.fetcher.fetch(
            leased.asset.url,
            bytes_max=self.limits.video_bytes_max if long else self.limits.image_bytes_max,
            suspect_sha256=leased.incomplete_sha256 if accepted else sha256,
        )


def _has_lasted(leased: LeasedAsset, error: Failure, *, now: int) -> bool:
    """Whether the file has failed for this reason for an hour."""
    since = leased.failing_since
    return leased.reason == error.reason and since is not None and since + NOT_MEDIA_MS <= now
