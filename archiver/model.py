"""What a task is: states, the transition table, assets, leases and bucket keys. No I/O.

1. State only moves forward, as `TRANSITIONS` says. The ledger turns it into ``UPDATE … WHERE state IN (…)`` and CHECKs.
2. A key is made from the family, the UTC day of `created_at`, the task id and the asset's name; never from user input.

Times are integers: Unix milliseconds, as the API speaks them (archiver/kling/API.md 1.3).
"""

import dataclasses
import datetime
import enum
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

DAY_MS = 86_400_000
RETENTION_MS = 30 * DAY_MS
"""Kling deletes results 30 days after the task (archiver/kling/API.md 8.3). From which time is undocumented; we assume
`created_at`, the earlier one."""

TASK_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}")
"""For `fullmatch`. Safe in a path and in a key, hence never `.` or `..`."""

FAMILY = re.compile(
    r"[a-z0-9-]{1,64}(?:/[a-z0-9-]{1,64}){1,2}|tasks/try_on|solutions/[a-z0-9][a-z0-9_-]{0,63}"
)
"""For `fullmatch`. Two or three safe segments; names of solutions have underscores."""

ACCOUNT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""For `fullmatch`. Safe in a key, a message, a log line and a command."""


Place = tuple[str | int, ...]
"""A path inside a JSON value: names of objects, indexes of arrays."""


class State(enum.StrEnum):
    """The values are a contract: ledger, `show`, `status`, metrics."""

    REPORTED = "reported"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    ARCHIVED = "archived"
    FAILED = "failed"
    UNKNOWN = "unknown"
    BURIED = "buried"
    LOST = "lost"


class Stage(enum.StrEnum):
    """A part of the pipeline."""

    VERIFY = "verify"
    ARCHIVE = "archive"
    SWEEP = "sweep"
    FORWARD = "forward"


class Lane(enum.StrEnum):
    """An order in which the archive stage takes tasks."""

    DEADLINE = "deadline"
    ATTEMPTS = "attempts"
    NEWEST = "newest"
    LOST = "lost"


class FolderWorkKind(enum.StrEnum):
    """What is put into the folder of a task that the archive stage is done with."""

    AMEND = "amend"
    """`amendment-1.json`, …: what the API names beyond the manifest."""
    INCOMPLETE = "incomplete"
    """`incomplete.json`: what was saved of a lost task, and what was not."""
    RESTORE = "restore"
    """Objects that were there and are missing now."""


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
    # Only a `succeed` of the API moves a failed task, to `buried` where it has no URL; nothing moves an archived one.
    State.FAILED: frozenset({State.SUCCEEDED, State.BURIED}),
    State.ARCHIVED: frozenset(),
}

TERMINAL = frozenset({State.ARCHIVED, State.FAILED})
"""States in which no work is left."""


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
    """Of the create that gave Kling this callback URL, where the gateway did."""


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
    """The API's own."""
    watermarked: bool
    place: Place = dataclasses.field(default=(), compare=False)
    """Where its URL stands in the task's document; the ledger does not keep it."""

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
    """As in the bucket."""

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
    """Why the file is doubted although upstream has the same bytes."""


PROBLEM_CODES = (
    "no_worker",
    "no_door",
    "account_unasked",
    "door_closed",
    "hold",
    "waiting",
    "lost",
    "buried",
    "deadline",
    "sweep_late",
    "amendment_waiting",
    "objects_missing",
    "forwards_dead",
    "disk_low",
    "settings",
)
"""Every code that a problem has."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """What an operator must know of, and what he can do about it."""

    code: str
    message: str
    what_to_do: str
    account: str | None = None
    """None for what concerns every account."""
    since: int | None = None
    """Unix ms; None where nobody knows."""
    stage: str | None = None
    reason: str | None = None
    subject: str = ""
    """What it is about, where an account may have several problems of one code: a family, a host."""

    @property
    def key(self) -> str:
        """The same for as long as the problem lasts; two problems at a time must differ in it."""
        return ":".join((self.code, self.account or "", self.stage or "", self.subject))

    def as_json(self) -> dict[str, object]:
        """As `status --check --json` prints it."""
        names = ("code", "message", "what_to_do", "account")
        since = None if self.since is None else rfc3339(self.since)
        return {name: getattr(self, name) for name in names} | {"since": since}

    def as_degraded(self) -> dict[str, object]:
        """As `/readyz` lists it: with the stage and the reason of a hold."""
        of_hold = {"stage": self.stage, "reason": self.reason}
        return self.as_json() | {name: value for name, value in of_hold.items() if value is not None}


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def api_time(value: object) -> int | None:
    """Unix milliseconds from a number or decimal string of the API, or from RFC 3339 text; seconds and microseconds are
    scaled.

    None if missing or absurd: outside 2020–2100.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,20}", value):
        return _sane(_of_rfc3339(value))
    if isinstance(value, float) and not 0 <= value < 1e18:
        return None
    number = int(value)
    return _sane(number) or _sane(number * 1000) or _sane(number // 1000)


def _sane(milliseconds: int | None) -> int | None:
    is_sane = milliseconds is not None and 1_577_836_800_000 <= milliseconds < 4_102_444_800_000
    return milliseconds if is_sane else None


def _of_rfc3339(text: str) -> int | None:
    """None without an offset, too: it may be anywhere within a day."""
    try:
        moment = datetime.datetime.fromisoformat(text.strip().upper()) if len(text) <= 64 else None
    except ValueError:
        return None
    if moment is None or moment.tzinfo is None:
        return None
    return (moment - _EPOCH) // datetime.timedelta(milliseconds=1)


def rfc3339(milliseconds: int) -> str:
    """`2026-11-20T11:38:00.000Z`: the format of every time that leaves the program."""
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def task_folder(*, prefix: str, family: str, created_at: int, task_id: str) -> str:
    """`<prefix><family>/<yyyy>/<mm>/<dd>/<task_id>/`, by `created_at` in UTC."""
    return f"{prefix}{family}/{folder_day(created_at)}/{task_id}/"


def folder_day(created_at: int) -> str:
    """`2026/11/20`, in UTC."""
    return f"{datetime.datetime.fromtimestamp(created_at / 1000, tz=datetime.UTC):%Y/%m/%d}"


def text(value: object, *, limit: int = 2000) -> str:
    """Safe to store: no NUL, no lone surrogates, at most `limit` characters."""
    if not isinstance(value, str):
        return ""
    return value[:limit].replace("\0", "").encode("utf-8", "replace").decode("utf-8")


@dataclasses.dataclass(frozen=True, slots=True)
class LeasedAsset:
    """An asset, with the results of earlier attempts."""

    asset: Asset
    stored: StoredAsset | None
    incomplete_sha256: str | None
    """Digest of a complete body whose file is truncated, and when it was first seen (Unix ms)."""
    incomplete_at: int | None
    reason: str | None = None
    """Why it is not stored, after a try, and since when for that reason (Unix ms)."""
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
    """Of the last callback."""
    is_probe: bool = False
    """Claimed despite a hold, to test it."""
    lane: Lane | None = None
    """The lane of the archive stage that took it; None for a probe."""
    is_first_try: bool = False
    """Never tried on its CDN host before."""
    was_running: bool = False
    """The API has said to this ledger that it runs."""
    fresh_wanted_at: int | None = None
    """Since when its URLs do not work, while verification asks for others."""
    fresh_asked_at: int | None = None
    """When the API last answered that."""
