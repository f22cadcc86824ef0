"""The right to work on a task, and what a worker gets with it."""

import dataclasses
from collections.abc import Mapping

from archiver.model.states import Lane, Stage, State
from archiver.model.task import Asset, DiscoveredBy, StoredAsset


@dataclasses.dataclass(frozen=True, slots=True)
class LeasedAsset:
    """An asset, with the results of earlier attempts."""

    asset: Asset
    stored: StoredAsset | None
    incomplete_sha256: str | None
    """Digest of a complete body whose file is truncated, and when it was first seen (Unix ms)."""
    incomplete_at: int | None
    reason: str | None = None
    """Why the last try did not store it, and since when it fails for that reason (Unix ms)."""
    failing_since: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a task for a limited time, and what the ledger knows of the task.

    `token` is a fencing token: a worker that has lost its lease changes nothing.
    """

    row_id: int
    token: str
    stage: Stage
    account: str
    task_id: str
    external_task_id: str | None
    state: State
    attempt: int
    """Counts from 1, this attempt included."""
    asked: int
    """Consecutive answers of the API after which the task still waits."""
    family: str | None
    """None for an unconfirmed id."""
    family_hint: str | None
    result_arrays: tuple[str, ...]
    confirmed: bool
    created_at: int | None
    updated_at: int | None
    deadline_at: int
    discovered_by: DiscoveredBy
    asset_host: str | None
    document: Mapping[str, object]
    """Empty for an unconfirmed id."""
    request: Mapping[str, object] | None
    assets: tuple[LeasedAsset, ...] = ()
    is_console_test: bool = False
    """Whether the last callback was such a test."""
    is_probe: bool = False
    """Claimed despite a hold, to test it."""
    lane: Lane | None = None
    """The lane of the archive stage that took it; None for a probe."""
    is_first_try: bool = False
    """Never tried on its CDN host before."""
    named_by_create: bool = False
    """The API gave the id in its answer to a create, so it is no external id."""
    was_running: bool = False
    """This ledger has recorded an answer of the API that the task runs."""
    fresh_wanted_at: int | None = None
    """Since when verification has been asked for other URLs (Unix ms)."""
    fresh_asked_at: int | None = None
    """When the API last answered such a query (Unix ms)."""
