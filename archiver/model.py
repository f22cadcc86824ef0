"""What a task is: states, the one transition table, assets, leases and bucket keys. No I/O.

Two rules:

1. State only moves forward. `TRANSITIONS` is the whole truth about it; the ledger turns it into
   ``UPDATE … WHERE state IN (…)`` and CHECK constraints.
2. A key in the bucket is made from the family, the UTC day of `created_at`, the task id and the asset's
   name, and from nothing that a user typed.

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
"""The ids we take (use `fullmatch`): characters safe in a path and in a key, never `.` or `..`."""

FAMILY = re.compile(
    r"[a-z0-9-]{1,64}(?:/[a-z0-9-]{1,64}){1,2}|tasks/try_on|solutions/[a-z0-9][a-z0-9_-]{0,63}"
)
"""A safe family path of two or three segments (use `fullmatch`). The names of solutions have underscores."""

ACCOUNT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What an account may be called (use `fullmatch`): also safe in a message, a log line and a command."""


class State(enum.StrEnum):
    """Where a task stands. The values are a contract: ledger, `show`, `status`, metrics."""

    REPORTED = "reported"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    ARCHIVED = "archived"
    FAILED = "failed"
    UNKNOWN = "unknown"
    BURIED = "buried"
    LOST = "lost"


class Stage(enum.StrEnum):
    """The part of the pipeline that a task waits for, a hold stops and a failure is counted under."""

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
    # Only the API saying succeed moves a failed task; nothing moves an archived one.
    State.FAILED: frozenset({State.SUCCEEDED}),
    State.ARCHIVED: frozenset(),
}

TERMINAL = frozenset({State.ARCHIVED, State.FAILED})
"""States that nothing waits for."""


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
    """What an asset is, as the manifest says it."""

    IMAGE = "image"
    SERIES_IMAGE = "series_image"
    VIDEO = "video"
    AUDIO = "audio"
    VOICE = "voice"
    ELEMENT = "element"
    OTHER = "other"


class DiscoveredBy(enum.StrEnum):
    """Who told us of a task first, as the manifest says it."""

    CALLBACK = "callback"
    SWEEP = "sweep"
    REGISTRATION = "registration"


@dataclasses.dataclass(frozen=True, slots=True)
class Callback:
    """One notification, as far as it is believed: a hint which task id to ask the API about."""

    account: str
    task_id: str
    status: Status | None
    """None for a status word that we do not know; it is a hint all the same."""
    family_hint: str | None
    """From the callback URL; None when the URL names none."""
    updated_at: int | None = None
    result_arrays: tuple[str, ...] = ()
    """Names of the non-empty result arrays (`images`, `videos`, `outputs`): which families to try first."""
    is_console_test: bool = False
    """It looks like the test of the developer console, which names no task (archiver/kling/API.md 1.5)."""


class CallbackOutcome(enum.StrEnum):
    """What a callback was to the ledger; also the metric's `result`."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"


@dataclasses.dataclass(frozen=True, slots=True)
class Asset:
    """One file that a succeeded task names: what it will be called, and where the API says it is."""

    stem: str
    """Its name without the extension (`0`, `0.watermark`); the extension comes from the bytes."""
    url: str
    role: Role
    index: int | None
    """The API's own index; None where the API gave none."""
    watermarked: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """The API's answer about one task, made safe: the only thing `ledger.record` believes."""

    task_id: str
    family: str
    status: Status
    message: str
    """The API's reason for a failure, else empty."""
    created_at: int | None
    """Unix ms; None when missing or absurd (`api_time` decides)."""
    updated_at: int | None
    external_task_id: str | None
    assets: tuple[Asset, ...]
    document: Mapping[str, object]
    """The API's own object, unchanged: the `task` of the manifest."""
    unknown_fields: tuple[str, ...] = ()
    """Result arrays or URL fields that this version does not know; logged and counted, never dropped."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredAsset:
    """One asset as it lies in the bucket."""

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
    """Why the bytes are doubted although they are what upstream has; None for whole files."""


def api_time(value: object) -> int | None:
    """Unix milliseconds out of whatever the API wrote, or None when it is missing or absurd.

    Takes integers, integral floats and decimal strings; seconds are scaled. Anything outside 2020–2100
    is absurd, a 400-digit number included.
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
    """`2026-11-20T11:38:00.000Z`: how every time is written for the outside."""
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def task_folder(*, prefix: str, family: str, created_at: int, task_id: str) -> str:
    """`<prefix><family>/<yyyy>/<mm>/<dd>/<task_id>/`, the day being that of `created_at` in UTC."""
    day = datetime.datetime.fromtimestamp(created_at / 1000, tz=datetime.UTC)
    return f"{prefix}{family}/{day:%Y/%m/%d}/{task_id}/"


def text(value: object, *, limit: int = 2000) -> str:
    """A string from outside, made storable: no NUL, no lone surrogates, at most `limit` characters."""
    if not isinstance(value, str):
        return ""
    return value[:limit].replace("\0", "").encode("utf-8", "replace").decode("utf-8")


@dataclasses.dataclass(frozen=True, slots=True)
class LeasedAsset:
    """One asset of a leased task, with what earlier attempts have left of it."""

    asset: Asset
    stored: StoredAsset | None
    incomplete_sha256: str | None
    """Digest of a body that only the wholeness check refused, and when that was first seen (Unix ms)."""
    incomplete_at: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one task until it ends or is renewed, and all that the ledger knows of the task.

    Every write that ends the work is fenced by `token`: a worker that lost its lease changes nothing.
    """

    row_id: int
    token: str
    stage: Stage
    account: str
    task_id: str
    external_task_id: str | None
    state: State
    attempt: int
    """Counts from 1, this try included."""
    asked: int
    """How many answers in a row have not settled it."""
    family: str | None
    """Settled by the API; None for an id that it has not confirmed."""
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
    """The last callback about it looked like a test of the developer console."""
    is_probe: bool = False
    """Claimed in spite of a hold, to see whether it can go."""
