"""Every way in which the outside can fail, and the pure function that decides what happens next. No I/O.

- **Retry**: this task, later. Every unlisted exception is retried, so it can delay a task but never lose it.
- **Hold**: not this task's fault. A part of the pipeline stops but for probes, after 2 s, doubling to 30 s; no task is
  charged an attempt. Work resumes as soon as a probe succeeds.
- **Bury**: this task only. It is set aside with its reason, and still retried automatically before its deadline.

`reason` is a slug (metric, `show`, log). `what_to_do` is the sentence that an operator reads. Messages never contain a
URL's query, a token or a body.
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import ClassVar

from archiver.model import DAY_MS, StoredAsset

HOLD_PROBE_SECONDS = 30
RETRY_FIRST_SECONDS = 2.0
RETRY_SECONDS_MAX = 15 * 60.0
RUNNING_FIRST_SECONDS = 10.0
RUNNING_SECONDS_MAX = 5 * 60.0
FRESH_MS_MAX = 60 * 60 * 1000
"""How long the archive stage waits for fresh URLs before it tries the old ones again."""
BURIED_MS_MIN = 15 * 60 * 1000
LOST_HOURLY_MS = 3 * DAY_MS
LOST_DAILY_MS = 7 * DAY_MS


class Disposition(enum.StrEnum):
    RETRY = "retry"
    HOLD = "hold"
    BURY = "bury"


class HostVerdict(enum.Enum):
    """What a failed fetch says of the file's host."""

    UNTOLD = enum.auto()
    """The host was not asked, or is not at fault."""
    DOWN = enum.auto()
    """No file could have been had from it."""
    REFUSES = enum.auto()
    """It answered and gave nothing: its access rule may be at fault, or this URL."""
    ANSWERS = enum.auto()
    """It answered; this file alone is at fault."""


class Failure(Exception):
    """`str(failure)` is a sentence for people, safe to log and to store."""

    reason: ClassVar[str] = "unexpected"
    disposition: ClassVar[Disposition] = Disposition.RETRY
    what_to_do: ClassVar[str] = ""
    host_verdict: ClassVar[HostVerdict] = HostVerdict.UNTOLD

    def __init__(self, message: str, *, family: str | None = None, host: str | None = None) -> None:
        super().__init__(message)
        self.family = family
        """Set if the hold concerns this family only."""
        self.host = host
        """The CDN host that failed."""


class LeaseLost(Exception):
    """Another worker may hold the lease: write nothing. Not a failure of the task."""


# --- the Kling API (archiver/kling/API.md 3) ------------------------------------------------------------


class ApiTimeout(Failure):
    reason = "api_timeout"


class ApiUnreachable(Failure):
    reason = "api_unreachable"


class ApiNotReached(ApiUnreachable):
    """No connection was made: a create has created nothing."""


class ApiServerError(Failure):
    """5000, 5002, or any status ≥ 500 without a known code."""

    reason = "api_server_error"


class ApiAnswerUnreadable(Failure):
    """Not the documented envelope: HTML, an empty body, half a response, another task's id."""

    reason = "api_answer_unreadable"


class ApiAnswerTooLarge(ApiAnswerUnreadable):
    """More bytes than any answer may have."""


class ListTooLong(Failure):
    """Page 1000 of a list is full, and its newest tasks may lie behind it."""

    reason = "api_list_too_long"
    what_to_do = (
        "Kling's list of this family has more than 1000 pages: tasks without a callback may not be found. Check that "
        "every create names the callback URL, or register its task (kling-archiver register)."
    )


class ApiRateLimited(Failure):
    """1302: the limiter halves its rate."""

    reason = "api_rate_limited"


class ApiConcurrencyExceeded(ApiRateLimited):
    """1303, for a create: running tasks occupy every slot of the account's pack."""

    reason = "api_concurrency_exceeded"


class ApiTokenRefused(Failure):
    """1003 or 1004, even with a fresh token: the clocks differ."""

    reason = "api_token_refused"
    what_to_do = "Set this machine's clock by NTP: the API refuses tokens signed at this time."


class ApiBadParameter(Failure):
    """1201 with a message that is not about an unknown task, and every unlisted 4xx."""

    reason = "api_bad_parameter"


class ApiCredentialsRefused(Failure):
    reason = "api_credentials_refused"
    disposition = Disposition.HOLD
    what_to_do = (
        "Check KLING_ACCESS_KEY and KLING_SECRET_KEY (or KLING_API_KEY), and that KLING_BASE_URL belongs to the "
        "region that issued them."
    )


class ApiAccountAbnormal(Failure):
    reason = "api_account_abnormal"
    disposition = Disposition.HOLD
    what_to_do = (
        "The Kling account is marked abnormal (1100): check Kling's console or contact Kling's support."
    )


class ApiAccountInArrears(Failure):
    reason = "api_account_in_arrears"
    disposition = Disposition.HOLD
    what_to_do = "The Kling account is in arrears (1101): pay in Kling's console."


class ApiPackUsedUp(Failure):
    reason = "api_pack_used_up"
    disposition = Disposition.HOLD
    what_to_do = "The Kling resource pack is used up or has expired (1102): renew it in Kling's console."


class ApiForbidden(Failure):
    """1103: holds its family only."""

    reason = "api_forbidden"
    disposition = Disposition.HOLD
    what_to_do = (
        "These credentials may not use this family (1103): grant them the right, or remove the family from "
        "KLING_FAMILIES."
    )


class ApiAddressNotAllowed(Failure):
    reason = "api_address_not_allowed"
    disposition = Disposition.HOLD
    what_to_do = "This machine's IP address is not on the Kling account's allow-list (1304): add it there."


class ApiMaintenance(Failure):
    reason = "api_maintenance"
    disposition = Disposition.HOLD
    what_to_do = "Kling is under maintenance (5001): do nothing, work resumes when it ends."


class ApiRequestInvalid(Failure):
    """1200 and 1202: the API rejects this request about this task."""

    reason = "api_request_invalid"
    disposition = Disposition.BURY


class ApiModelMissing(Failure):
    reason = "api_model_missing"
    disposition = Disposition.BURY


class ApiPolicyTriggered(Failure):
    """1300, for a create."""

    reason = "api_policy_triggered"
    what_to_do = "Kling's platform policy does not allow this request (1300): change the prompt or the image."


class ApiContentRefused(Failure):
    """1301, for a create."""

    reason = "api_content_refused"
    what_to_do = "Kling's content safety refuses this request (1301): change the prompt or the image."


class CreateOutcomeUnknown(Failure):
    """A create may have made a task and been charged. Never repeat it before asking the API by its external id."""

    reason = "create_unsettled"


class ExternalIdTaken(Failure):
    """Another task of the account has this external id. The API would refuse the create (1201), at no cost."""

    reason = "external_id_taken"
    what_to_do = "Choose another external id, or leave it out: nothing was created."


class NotOffered(Failure):
    """404 or 405 for a list, `/tasks` or `/solutions`: many gateways only relay single queries."""

    reason = "api_not_offered"
    disposition = Disposition.BURY
    what_to_do = (
        "The API at KLING_BASE_URL does not offer this endpoint: the daemon works without it, and retries it "
        "occasionally."
    )


class TaskNotFound(Failure):
    """A definite "no such task" (400/1201 naming the id). After a grace period, verify decides what it means."""

    reason = "task_not_found"


class TaskNotShown(Failure):
    """To a question for one task, 404, 1203 or an answer without a task: "no such task" in other words.

    A gateway may say it of every task for an hour, so it counts as `TaskNotFound` only where the API answers well.
    """

    reason = "task_not_shown"


# --- the API's statement about a task ----------------------------------------------------------------------


class ResultsMissing(Failure):
    """`succeed`, but no result URL anywhere (archiver/kling/API.md 11)."""

    reason = "results_missing"
    disposition = Disposition.BURY
    what_to_do = "The API says succeed but names no result URL: look at the task in Kling's console."


class NeedsApiKey(Failure):
    reason = "needs_api_key"
    disposition = Disposition.BURY
    what_to_do = "Only an API Key can read tasks of the new standard: set KLING_API_KEY."


# --- fetching ------------------------------------------------------------------------


class UrlRefused(Failure):
    """The URL or address policy refuses. DNS or settings may change, so it is retried, not buried."""

    reason = "url_refused"
    what_to_do = "If the host is Kling's, add its domain to KLING_ASSET_HOSTS."


class AssetGone(Failure):
    """404 or 410. Final only at a fresh URL."""

    reason = "asset_gone"
    disposition = Disposition.BURY
    what_to_do = "The CDN no longer has this file, even at a fresh URL: look for it in Kling's console."
    host_verdict = HostVerdict.ANSWERS


class FetchRefused(Failure):
    """400, 401, 403 or another 4xx. Never final: an access rule between us and the file must not end its task."""

    reason = "fetch_refused"
    host_verdict = HostVerdict.REFUSES


class FetchTimeout(Failure):
    reason = "fetch_timeout"
    host_verdict = HostVerdict.DOWN


class FetchFailed(Failure):
    """No connection, reset, TLS, 429 or 5xx."""

    reason = "fetch_failed"
    host_verdict = HostVerdict.DOWN


class FileUnusable(Failure):
    """An answer that is no file: a redirect to nowhere, an encoding that we did not ask for, an odd status."""

    reason = "file_unusable"
    host_verdict = HostVerdict.ANSWERS


class BodyIncomplete(Failure):
    """Shorter than announced, or a truncated file."""

    reason = "body_incomplete"
    host_verdict = HostVerdict.ANSWERS

    def __init__(self, message: str, *, host: str | None = None, sha256: str | None = None) -> None:
        super().__init__(message, host=host)
        self.sha256 = sha256
        """Of a complete body with a truncated file, so that archive can compare two fetches; else None."""


class NotMedia(Failure):
    """Retried at first: an error page with status 200 may be over soon."""

    reason = "not_media"
    what_to_do = (
        "The CDN sent no image, video or audio file of a known type: look at the task in Kling's console."
    )
    host_verdict = HostVerdict.REFUSES


class NeverMedia(NotMedia):
    """No media for an hour."""

    disposition = Disposition.BURY


class TooLarge(Failure):
    reason = "too_large"
    disposition = Disposition.BURY
    host_verdict = HostVerdict.ANSWERS
    what_to_do = (
        "The file is larger than KLING_ASSET_BYTES_MAX (KLING_VIDEO_BYTES_MAX for video and audio): raise the setting, "
        "then retry. Images of more than 100 megapixels are always refused."
    )


class SpoolFull(Failure):
    reason = "spool_full"
    disposition = Disposition.HOLD
    what_to_do = "Free space in KLING_SPOOL_DIR, or set it to a folder on a larger file system."


class HostDown(Failure):
    """Five tasks in a row had no answer: holds that host only."""

    reason = "host_down"
    disposition = Disposition.HOLD
    what_to_do = "A CDN host gives no file: do nothing, work resumes when it answers."


class HostRefusing(Failure):
    """Ten tasks in a row, each at its first try, were refused: holds that host only."""

    reason = "host_refusing"
    disposition = Disposition.HOLD
    what_to_do = (
        "A CDN host refuses every file. If this machine's address is not banned there (try one of the URLs in a "
        "browser), do nothing: work resumes with the first whole file."
    )


# --- the store -----------------------------------------------------------------------


class StoreUnreachable(Failure):
    reason = "store_unreachable"


class StoreError(Failure):
    """500, 503 SlowDown, and every unlisted response."""

    reason = "store_error"


class UploadTooLarge(Failure):
    """413, mostly of a proxy before the store. It concerns large files only, so it holds no other task."""

    reason = "upload_too_large"
    disposition = Disposition.BURY
    what_to_do = (
        "The store, or a proxy before it, accepts no upload of this size: raise the proxy's limit (nginx: "
        "client_max_body_size), or set KLING_S3_ENDPOINT_URL to the store itself, then retry."
    )


class ObjectInColdStorage(Failure):
    """Only restoring it helps, and other tasks need not wait for that."""

    reason = "object_in_cold_storage"
    disposition = Disposition.BURY
    what_to_do = (
        "An object of this task must be read, and lies in cold storage (S3 answers InvalidObjectState): restore it, "
        "then retry."
    )


class PutTimeout(Failure):
    """One put lasted half an hour. A large file on a slow line; the store may serve smaller ones well."""

    reason = "put_timeout"


class StoreMismatch(Failure):
    """The store answered 200, but has other bytes, another size or nothing."""

    reason = "store_mismatch"


class BucketMissing(Failure):
    reason = "bucket_missing"
    disposition = Disposition.HOLD
    what_to_do = "Create the bucket, or correct KLING_S3_BUCKET, KLING_S3_ENDPOINT_URL and KLING_S3_REGION."


class BucketForbidden(Failure):
    reason = "bucket_forbidden"
    disposition = Disposition.HOLD
    what_to_do = (
        "The store refuses these credentials for the bucket (KLING_S3_BUCKET): check the AWS credentials and their "
        "policy (deploy/iam-policy.json lists the rights needed)."
    )


class StoreClockSkewed(BucketForbidden):
    reason = "store_clock_skewed"
    what_to_do = "Set this machine's clock by NTP: the store refuses requests signed at this time."


class StoreFull(Failure):
    reason = "store_full"
    disposition = Disposition.HOLD
    what_to_do = "The store is out of space or quota for the bucket (KLING_S3_BUCKET): free some or raise it."


class ForeignObject(Failure):
    """Our key has other bytes without our task id: nothing is overwritten."""

    reason = "foreign_object"
    disposition = Disposition.BURY
    what_to_do = (
        "Another program wrote below KLING_S3_PREFIX: remove that object or change the prefix, then retry."
    )


# --- the ledger -----------------------------------------------------------------------------------------


class LedgerUnavailable(Failure):
    """Locked, full, read-only or unreachable: nothing was written. Callbacks get 503, the engine waits."""

    reason = "ledger_unavailable"


# --- what happens next ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    due_at: int


@dataclasses.dataclass(frozen=True, slots=True)
class Hold:
    """The task that caused it gets its attempt back, and is due with the next probe."""

    family: str | None
    host: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Bury:
    due_at: int


def backoff_ms(attempt: int, *, rand: float, first_seconds: float, seconds_max: float) -> int:
    """Exponential back-off. Half of it is jitter (`rand` in [0, 1)), also at the cap. `attempt` counts from 1."""
    doubled = first_seconds * 2.0 ** min(max(attempt - 1, 0), 30)
    capped = min(doubled, seconds_max)
    return int(capped * (0.5 + rand / 2) * 1000)


def retry_due(attempt: int, *, now: int, rand: float) -> int:
    """2 s doubling to 15 min."""
    return now + backoff_ms(
        attempt, rand=rand, first_seconds=RETRY_FIRST_SECONDS, seconds_max=RETRY_SECONDS_MAX
    )


def running_due(queries: int, *, now: int, rand: float) -> int:
    """10 s doubling to 5 min."""
    return now + backoff_ms(
        queries, rand=rand, first_seconds=RUNNING_FIRST_SECONDS, seconds_max=RUNNING_SECONDS_MAX
    )


def buried_due(*, now: int, deadline: int) -> int:
    """After a quarter of the time left, at most a day, at least 15 minutes."""
    return now + max(BURIED_MS_MIN, min(DAY_MS, (deadline - now) // 4))


def lost_due(*, now: int, deadline: int) -> int | None:
    """Hourly for 3 days past the deadline, daily to day 37, then never (None)."""
    late = now - deadline
    if late >= LOST_DAILY_MS:
        return None
    return now + (DAY_MS // 24 if late < LOST_HOURLY_MS else DAY_MS)


def decide(error: Exception, *, attempt: int, now: int, deadline: int, rand: float) -> Retry | Hold | Bury:
    """What happens to a task whose `attempt` (from 1) ended in `error`. Times are Unix ms."""
    disposition = error.disposition if isinstance(error, Failure) else Disposition.RETRY
    if disposition is Disposition.HOLD and isinstance(error, Failure):
        return Hold(family=error.family, host=error.host)
    if disposition is Disposition.BURY:
        return Bury(due_at=buried_due(now=now, deadline=deadline))
    return Retry(due_at=retry_due(attempt, now=now, rand=rand))


def reason_of(error: Exception) -> str:
    """The failure's slug; `unexpected` for any other exception."""
    return error.reason if isinstance(error, Failure) else Failure.reason


class PartlyDone(Exception):
    """A task failed with `cause` after some of its assets were stored."""

    def __init__(
        self, cause: Exception, *, stored: Sequence[StoredAsset], failed: Mapping[str, Exception]
    ) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.stored = tuple(stored)
        self.failed = dict(failed)


class Stopped(Exception):
    """The process is stopping: the lease is given back, and costs no attempt."""
