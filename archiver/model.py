"""What a task is: states, the transition table, assets, leases and bucket keys. No I/O.

1. State only moves forward, as `TRANSITIONS` says. The ledger turns it into ``UPDATE … WHERE state IN (…)`` and CHECK
   constraints.
2. A key in the bucket is made from the family, the UTC day of `created_at`, the task id and the asset's name. No user
   input is in it.

Times are integers: Unix milliseconds, as the API speaks them (archiver/kling/API.md 1.3).
"""

import dataclasses
import datetime
import enum
import re
from collections.abc import Mapping

DAY_MS = 86_400_000
RETENTION_MS = 30 * DAY_MS
"""Kling deletes results 30 days after the task (archiver/kling/API.md 8.3). Which clock starts it is undocumented; we
plan on `created_at`, the earlier of the two."""

TASK_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}")
"""The ids we accept (use `fullmatch`): characters safe in a path and in a key, never `.` or `..`."""

FAMILY = re.compile(
    r"[a-z0-9-]{1,64}(?:/[a-z0-9-]{1,64}){1,2}|tasks/try_on|solutions/[a-z0-9][a-z0-9_-]{0,63}"
)
"""A safe family path of two or three segments (use `fullmatch`). The names of solutions have underscores."""

ACCOUNT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""An account's name (use `fullmatch`): safe in a key, a message, a log line and a command."""


class State(enum.StrEnum):
    """The state of a task. The values are a contract: ledger, `show`, `status`, metrics."""

    REPORTED = "reported"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    ARCHIVED = "archived"
    FAILED = "failed"
    UNKNOWN = "unknown"
    BURIED = "buried"
    LOST = "lost"


class Stage(enum.StrEnum):
    """A part of the pipeline. Tasks wait for it, holds stop it, failures are counted by it."""

    VERIFY = "verify"
    ARCHIVE = "archive"
    SWEEP = "sweep"
    FORWARD = "forward"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.REPORTED: frozenset(
        {State.RUNNING, State.SUCCEEDED, State.FAILED, State.UNKNOWN, State.BURIED, State.LOST}
    ),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.BURIED, State.LOST}),
    State.SUCCEEDED: frozenset({State.ARCHIVED, State.BURIED, State.LOST}),
    State.UNKNOWN: frozenset(
        {State.REPORTED, State.RUNNING, State.SUCCEEDED, State.FAILED, State.BURIED, State.LOST}
    ),
    State.BURIED: frozenset(
        {
            State.REPORTED,
            State.RUNNING,
            State.SUCCEEDED,
            State.ARCHIVED,
            State.FAILED,
            State.UNKNOWN,
            State.LOST,
        }
    ),
    State.LOST: frozenset({State.ARCHIVED}),
    # Only a `succeed` of the API moves a failed task; nothing moves an archived one.
    State.FAILED: frozenset({State.SUCCEEDED}),
    State.ARCHIVED: frozenset(),
}

TERMINAL = frozenset({State.ARCHIVED, State.FAILED})
"""States in which no work is left."""


class Status(enum.StrEnum):
    """What the API says of a task, spelled our way: `submitted` and `processing` are running,
    `succeed` and `succeeded` are succeeded (archiver/kling/API.md 1.3, 1.4)."""

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
    """What an asset is; the manifest's `role`."""

    IMAGE = "image"
    SERIES_IMAGE = "series_image"
    VIDEO = "video"
    AUDIO = "audio"
    VOICE = "voice"
    ELEMENT = "element"
    OTHER = "other"


class DiscoveredBy(enum.StrEnum):
    """How we first learned of a task; the manifest's `discovered_by`."""

    CALLBACK = "callback"
    SWEEP = "sweep"
    REGISTRATION = "registration"


@dataclasses.dataclass(frozen=True, slots=True)
class Callback:
    """The part of a notification that we use: a hint which task id to ask the API about."""

    account: str
    task_id: str
    status: Status | None
    """None for an unknown status word; it is still a hint."""
    family_hint: str | None
    """From the callback URL; None if the URL names none."""
    updated_at: int | None = None
    result_arrays: tuple[str, ...] = ()
    """Names of the non-empty result arrays (`images`, `videos`, `outputs`): which families to try first."""
    is_console_test: bool = False
    """It looks like the test of the developer console, which names no task (archiver/kling/API.md 1.5)."""


class CallbackOutcome(enum.StrEnum):
    """Whether a callback was new to the ledger; also the metric's `result`."""

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
    """The API's own index; None if it gave none."""
    watermarked: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """The API's answer about one task, made safe. `ledger.record` believes nothing else."""

    task_id: str
    family: str
    status: Status
    message: str
    """The API's reason for a failure, else empty."""
    created_at: int | None
    """Unix ms; None if missing or absurd (see `api_time`)."""
    updated_at: int | None
    external_task_id: str | None
    assets: tuple[Asset, ...]
    document: Mapping[str, object]
    """The API's own object, unchanged: the `task` of the manifest."""
    unknown_fields: tuple[str, ...] = ()
    """Unknown result arrays or URL fields: logged and counted, never dropped."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredAsset:
    """One asset as stored in the bucket."""

    stem: str
    name: str
    """Its file name, extension included."""
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
    """Why the file is doubted although upstream has the same bytes; None for a whole file."""


def api_time(value: object) -> int | None:
    """Unix milliseconds from a value of the API; None if it is missing or absurd.

    Integers, integral floats and decimal strings are read; seconds are scaled. A time outside 2020–2100 is absurd.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,20}", value):
        return None
    if isinstance(value, float) and not 0 <= value < 1e15:
        return None
    number = int(value)
    for scaled in (number, number * 1000):
        if 1_577_836_800_000 <= scaled < 4_102_444_800_000:
            return scaled
    return None


def rfc3339(milliseconds: int) -> str:
    """`2026-11-20T11:38:00.000Z`: the format of every time that leaves the program."""
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def task_folder(*, prefix: str, family: str, created_at: int, task_id: str) -> str:
    """`<prefix><family>/<yyyy>/<mm>/<dd>/<task_id>/`, the day being that of `created_at` in UTC."""
    day = datetime.datetime.fromtimestamp(created_at / 1000, tz=datetime.UTC)
    return f"{prefix}{family}/{day:%Y/%m/%d}/{task_id}/"


def text(value: object, *, limit: int = 2000) -> str:
    """A string from outside, made safe to store: no NUL, no lone surrogates, at most `limit` characters."""
    if not isinstance(value, str):
        return ""
    return value[:limit].replace("\0", "").encode("utf-8", "replace").decode("utf-8")


@dataclasses.dataclass(frozen=True, slots=True)
class LeasedAsset:
    """One asset of a leased task, with the results of earlier attempts."""

    asset: Asset
    stored: StoredAsset | None
    incomplete_sha256: str | None
    """Digest of a complete body whose file is truncated, and when it was first seen (Unix ms)."""
    incomplete_at: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one task for a limited time, with all that the ledger knows of the task.

    `token` is the fencing token of every write that ends the work: a worker that has lost its lease changes nothing.
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
    """As the API says; None for an id that it has not confirmed."""
    family_hint: str | None
    result_arrays: tuple[str, ...]
    confirmed: bool
    created_at: int | None
    updated_at: int | None
    deadline_at: int
    discovered_by: DiscoveredBy
    asset_host: str | None
    document: Mapping[str, object]
    """The API's own object; empty for an unconfirmed id."""
    request: Mapping[str, object] | None
    assets: tuple[LeasedAsset, ...] = ()
    is_console_test: bool = False
    """The last callback about it looked like the developer console's test."""
    is_probe: bool = False
    """Claimed despite a hold, to see whether the hold can be released."""
