"""A task as Kling describes it: in a callback, in an answer of the API, and its files."""

import dataclasses
import enum
from collections.abc import Mapping
from urllib.parse import urlsplit

Place = tuple[str | int, ...]
"""A path inside a JSON value: names of objects, indexes of arrays."""


class Status(enum.StrEnum):
    """The API's word for a task, normalised (archiver/kling/API.md 1.3, 1.4)."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


STATUS_WORDS: Mapping[str, Status] = {
    "submitted": Status.RUNNING,
    "processing": Status.RUNNING,
    "succeed": Status.SUCCEEDED,
    "succeeded": Status.SUCCEEDED,
    "failed": Status.FAILED,
}


class Role(enum.StrEnum):
    """The manifest's `role`."""

    IMAGE = "image"
    SERIES_IMAGE = "series_image"
    VIDEO = "video"
    AUDIO = "audio"
    VOICE = "voice"
    ELEMENT = "element"
    OTHER = "other"


class DiscoveredBy(enum.StrEnum):
    """The manifest's `discovered_by`."""

    CALLBACK = "callback"
    SWEEP = "sweep"
    REGISTRATION = "registration"


@dataclasses.dataclass(frozen=True, slots=True)
class Callback:
    """A hint which task id to ask the API about."""

    account: str
    task_id: str
    status: Status | None
    """None for an unknown word; the callback is still a hint."""
    family_hint: str | None
    """From the callback URL."""
    updated_at: int | None = None
    result_arrays: tuple[str, ...] = ()
    """Names of the non-empty result arrays (`images`, `videos`, `outputs`): which families to try first."""
    is_console_test: bool = False
    """It looks like the developer console's test, which names no task (archiver/kling/API.md 1.5)."""
    create_reference: str | None = None
    """The reference of the create through the gateway that gave Kling this callback URL."""


class CallbackOutcome(enum.StrEnum):
    """Also the metric's `result`."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"


@dataclasses.dataclass(frozen=True, slots=True)
class Asset:
    """One file of a succeeded task, as the API names it."""

    stem: str
    """The name without extension (`0`, `0.watermark`); the bytes decide the extension."""
    url: str
    role: Role
    index: int | None
    """The index that the API gives."""
    watermarked: bool
    place: Place = dataclasses.field(default=(), compare=False)
    """The place of its URL in the task's document; the ledger does not keep it."""

    @property
    def host(self) -> str:
        """The CDN host of its URL; empty where the URL has none."""
        try:
            return urlsplit(self.url).hostname or ""
        except ValueError:
            return ""


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """The API's answer about one task, made safe. `ledger.records` believes nothing else."""

    task_id: str
    family: str
    status: Status
    message: str
    """Why it failed."""
    created_at: int | None
    """Unix ms; None if missing or absurd (see `api_time`)."""
    updated_at: int | None
    external_task_id: str | None
    assets: tuple[Asset, ...]
    document: Mapping[str, object]
    """The API's object, unchanged: the manifest's `task`."""
    unknown_fields: tuple[str, ...] = ()
    """Unknown result arrays or URL fields: logged and counted, never dropped."""
    is_unread: bool = False
    """The API shows it in words that this version cannot read. `message` says why. `status` means nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredAsset:
    """An asset as it is in the bucket."""

    stem: str
    name: str
    """With its extension."""
    key: str
    role: Role
    index: int | None
    watermarked: bool
    bytes: int
    sha256: str
    content_type: str
    width: int | None
    height: int | None
    source_url: str
    suspect: str | None = None
    """Why the file may be incomplete although Kling has the same bytes."""
