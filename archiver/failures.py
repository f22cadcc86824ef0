"""Every way in which the outside can fail us, and the pure function that says what happens next. No I/O.

Three dispositions (design section 3), and each failure class carries one:

- **Retry**: this task, later. It is what everything is that nobody has listed, so an exception that no
  table knows can delay a task but never lose it.
- **Hold**: not this task's fault. A part of the pipeline stops but for one probe every 30 s, nobody is
  charged an attempt, and all goes on at once when a probe succeeds.
- **Bury**: this task only. It is set aside with its reason and still tried again by itself, ever before
  its deadline.

`reason` is a slug: the metric label, the `reason` of `show`, the log field. `what_to_do` is the sentence an
operator reads. Messages never carry a URL's query, a token or a body.
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
BURIED_MS_MIN = 15 * 60 * 1000
LOST_HOURLY_MS = 3 * DAY_MS
LOST_DAILY_MS = 7 * DAY_MS
"""A lost task is tried hourly for 3 days past its deadline, then daily to day 37."""


class Disposition(enum.StrEnum):
    """What a failure does to the work."""

    RETRY = "retry"
    HOLD = "hold"
    BURY = "bury"


class Failure(Exception):
    """The root of the tree. `str(failure)` is a sentence for people, safe to log and to store."""

    reason: ClassVar[str] = "unexpected"
    disposition: ClassVar[Disposition] = Disposition.RETRY
    what_to_do: ClassVar[str] = ""

    def __init__(self, message: str, *, family: str | None = None, host: str | None = None) -> None:
        super().__init__(message)
        self.family = family
        """Set when a hold concerns this family only."""
        self.host = host
        """The CDN host that failed, where one did; a hold may concern it only."""


class LeaseLost(Exception):
    """Somebody else works on this task now: drop it, write nothing more. Not a failure of the task."""


# --- the Kling API (archiver/kling/API.md 3) ------------------------------------------------------------


class ApiTimeout(Failure):
    reason = "api_timeout"


class ApiUnreachable(Failure):
    reason = "api_unreachable"


class ApiNotReached(ApiUnreachable):
    """No connection came about, so nothing was sent: a create that ends like this has created nothing."""


class ApiServerError(Failure):
    """5000, 5002, or any status ≥ 500 without a code of its own."""

    reason = "api_server_error"


class ApiAnswerUnreadable(Failure):
    """HTML, an empty body, half an answer, another task's id: whatever is not the documented envelope."""

    reason = "api_answer_unreadable"


class ApiRateLimited(Failure):
    """1302: the limiter halves its rate; the task simply comes again."""

    reason = "api_rate_limited"


class ApiConcurrencyExceeded(ApiRateLimited):
    """1303, for a create: every slot of the account's pack is taken by tasks that have not ended."""

    reason = "api_concurrency_exceeded"


class ApiTokenRefused(Failure):
    """1003 or 1004 even with a fresh token: the clocks differ."""

    reason = "api_token_refused"
    what_to_do = "Set this machine's clock by NTP; the API refuses tokens signed at this time."


class ApiBadParameter(Failure):
    """1201 with a text that does not speak of an unknown task, and every 4xx that nobody has listed."""

    reason = "api_bad_parameter"


class ApiCredentialsRefused(Failure):
    reason = "api_credentials_refused"
    disposition = Disposition.HOLD
    what_to_do = (
        "Check KLING_ACCESS_KEY and KLING_SECRET_KEY (or KLING_API_KEY), and that KLING_BASE_URL is the "
        "region that issued them."
    )


class ApiAccountAbnormal(Failure):
    reason = "api_account_abnormal"
    disposition = Disposition.HOLD
    what_to_do = "The Kling account is marked abnormal (1100): see its console or write to Kling's support."


class ApiAccountInArrears(Failure):
    reason = "api_account_in_arrears"
    disposition = Disposition.HOLD
    what_to_do = "The Kling account is in arrears (1101): pay in its console."


class ApiPackUsedUp(Failure):
    reason = "api_pack_used_up"
    disposition = Disposition.HOLD
    what_to_do = "The Kling resource pack is used up or has expired (1102): renew it in the console."


class ApiForbidden(Failure):
    """1103: holds its family only."""

    reason = "api_forbidden"
    disposition = Disposition.HOLD
    what_to_do = (
        "This key has no right to that family (1103): grant it, or take the family out of KLING_FAMILIES."
    )


class ApiAddressNotAllowed(Failure):
    reason = "api_address_not_allowed"
    disposition = Disposition.HOLD
    what_to_do = "This machine's IP address is not on the Kling account's allow-list (1304): add it there."


class ApiMaintenance(Failure):
    reason = "api_maintenance"
    disposition = Disposition.HOLD
    what_to_do = "Kling is under maintenance (5001): nothing to do, work goes on when it answers."


class ApiRequestInvalid(Failure):
    """1200 and 1202: the API will not take this question about this task."""

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
    """A create was sent and no answer says what became of it: it may have created a task, and cost. Never to be
    repeated before the API was asked for the task by its external id."""

    reason = "create_unsettled"


class ExternalIdTaken(Failure):
    """The external id belongs to another task of the account, so the API would refuse it (1201), at no cost."""

    reason = "external_id_taken"
    what_to_do = "Choose another external id, or leave it out: nothing was created."


class NotOffered(Failure):
    """404 or 405 for a list, `/tasks` or `/solutions`: gateways often pass on questions for one task only."""

    reason = "api_not_offered"
    disposition = Disposition.BURY
    what_to_do = (
        "This API (KLING_BASE_URL) does not offer that; the daemon does without, and asks again now and then."
    )


class TaskNotFound(Failure):
    """A definite "no such task" (400/1201 naming the id): what it means, verify decides after a grace period."""

    reason = "task_not_found"


# --- what the API says of the task ----------------------------------------------------------------------


class ResultsMissing(Failure):
    """`succeed`, but no result URL anywhere (archiver/kling/API.md 11)."""

    reason = "results_missing"
    disposition = Disposition.BURY
    what_to_do = "The API says succeed without any result URL. Look at the task in Kling's console."


class NeedsApiKey(Failure):
    reason = "needs_api_key"
    disposition = Disposition.BURY
    what_to_do = "Tasks of the new standard can be read with an API Key only: set KLING_API_KEY."


# --- fetching (design section 6) ------------------------------------------------------------------------


class UrlRefused(Failure):
    """The address policy says no. It may say yes tomorrow (DNS, settings), so it is retried, not buried."""

    reason = "url_refused"
    what_to_do = "If the host is Kling's, add its suffix to KLING_ASSET_HOSTS."


class AssetGone(Failure):
    """403, 404 or 410: archive asks the API once for a fresh URL; gone again is a burial."""

    reason = "asset_gone"
    disposition = Disposition.BURY
    what_to_do = "The CDN no longer has this file, and a fresh URL did not help."


class FreshUrlMissing(Failure):
    """The URL no longer works, and the API cannot be asked for a fresh one just now. Not the store's or the CDN's
    fault, so it holds no download, whatever the API's own trouble is."""

    reason = "fresh_url_missing"


class FetchTimeout(Failure):
    reason = "fetch_timeout"


class FetchFailed(Failure):
    """Refused, reset, TLS, an unexpected status, a redirect too many."""

    reason = "fetch_failed"


class BodyIncomplete(Failure):
    """Shorter than announced, or a file that is not whole. Digest and length let archive see whether two
    fetches an hour apart gave the same bytes."""

    reason = "body_incomplete"

    def __init__(self, message: str, *, host: str | None = None, sha256: str | None = None) -> None:
        super().__init__(message, host=host)
        self.sha256 = sha256
        """Of the whole body where only the wholeness check failed; None where the transfer itself was cut."""


class NotMedia(Failure):
    reason = "not_media"
    disposition = Disposition.BURY
    what_to_do = "What the CDN sent is no image, video or audio file of a known type."


class TooLarge(Failure):
    reason = "too_large"
    disposition = Disposition.BURY
    what_to_do = (
        "Larger than KLING_ASSET_BYTES_MAX (KLING_VIDEO_BYTES_MAX for video and audio), or over 100 MP."
    )


class SpoolFull(Failure):
    reason = "spool_full"
    disposition = Disposition.HOLD
    what_to_do = "Free space under KLING_SPOOL_DIR, or point it to a larger file system."


class HostRefusing(Failure):
    """Five tasks in a row refused by one CDN host: holds that host only."""

    reason = "host_refusing"
    disposition = Disposition.HOLD
    what_to_do = "One CDN host refuses every download; work goes on by itself when it answers."


# --- the store (design section 7) -----------------------------------------------------------------------


class StoreUnreachable(Failure):
    reason = "store_unreachable"


class StoreError(Failure):
    """500, 503 SlowDown, and every answer nobody has listed."""

    reason = "store_error"


class StoreMismatch(Failure):
    """The store said 200 and holds other bytes, another size or nothing."""

    reason = "store_mismatch"


class BucketMissing(Failure):
    reason = "bucket_missing"
    disposition = Disposition.HOLD
    what_to_do = "Create the bucket, or correct KLING_S3_BUCKET, KLING_S3_ENDPOINT_URL and KLING_S3_REGION."


class BucketForbidden(Failure):
    reason = "bucket_forbidden"
    disposition = Disposition.HOLD
    what_to_do = (
        "The store refuses these credentials for the bucket: check the AWS credentials and their policy "
        "(deploy/iam-policy.json has the least rights)."
    )


class StoreClockSkewed(BucketForbidden):
    reason = "store_clock_skewed"
    what_to_do = "Set this machine's clock by NTP; the store refuses requests signed at this time."


class StoreFull(Failure):
    reason = "store_full"
    disposition = Disposition.HOLD
    what_to_do = "The store is out of space or quota: give it more."


class ForeignObject(Failure):
    """Other bytes under our key, without our task id: nothing is overwritten, an operator must look."""

    reason = "foreign_object"
    disposition = Disposition.BURY
    what_to_do = (
        "Another program wrote under our prefix: remove that object or change KLING_S3_PREFIX, then retry."
    )


# --- the ledger -----------------------------------------------------------------------------------------


class LedgerUnavailable(Failure):
    """Locked, full, read-only or away: nothing was written. The door answers 503, the engine waits."""

    reason = "ledger_unavailable"


# --- what happens next ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """The same task again at `due_at` (Unix ms)."""

    due_at: int


@dataclasses.dataclass(frozen=True, slots=True)
class Hold:
    """A part of the pipeline stops. The task that set it off goes behind the others: it is due at `due_at`
    (Unix ms), and its attempt is given back."""

    due_at: int
    family: str | None
    host: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Bury:
    """Set aside with its reason, and tried again by itself at `due_at` (Unix ms)."""

    due_at: int


def backoff_ms(attempt: int, *, rand: float, first_seconds: float, most_seconds: float) -> int:
    """`first` doubling to `most`, of which a random half (`rand` in [0, 1)) is jitter, also at the cap.

    `attempt` counts from 1.
    """
    doubled = first_seconds * 2.0 ** min(max(attempt - 1, 0), 30)
    capped = min(doubled, most_seconds)
    return int(capped * (0.5 + rand / 2) * 1000)


def retry_due(attempt: int, *, now: int, rand: float) -> int:
    """When a failed task is due again: 2 s doubling to 15 min."""
    return now + backoff_ms(
        attempt, rand=rand, first_seconds=RETRY_FIRST_SECONDS, most_seconds=RETRY_SECONDS_MAX
    )


def running_due(asked: int, *, now: int, rand: float) -> int:
    """When an unfinished task is asked for again: 10 s doubling to 5 min."""
    return now + backoff_ms(
        asked, rand=rand, first_seconds=RUNNING_FIRST_SECONDS, most_seconds=RUNNING_SECONDS_MAX
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
    """What becomes of a task whose `attempt`-th try (from 1) ended in `error`. Times are Unix ms.

    Whatever is not a `Failure` is a mistake of ours or a case nobody has listed: retried, never lost.
    """
    disposition = error.disposition if isinstance(error, Failure) else Disposition.RETRY
    if disposition is Disposition.HOLD and isinstance(error, Failure):
        return Hold(due_at=now + HOLD_PROBE_SECONDS * 1000, family=error.family, host=error.host)
    if disposition is Disposition.BURY:
        return Bury(due_at=buried_due(now=now, deadline=deadline))
    return Retry(due_at=retry_due(attempt, now=now, rand=rand))


def reason_of(error: Exception) -> str:
    """The slug of any exception: its own, or `unexpected`."""
    return error.reason if isinstance(error, Failure) else Failure.reason


class PartlyDone(Exception):
    """A task failed with `cause` after some of its assets were stored; nothing of that is thrown away."""

    def __init__(
        self, cause: Exception, *, stored: Sequence[StoredAsset], failed: Mapping[str, Exception]
    ) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.stored = tuple(stored)
        self.failed = dict(failed)


class Stopped(Exception):
    """The process is stopping. Not a failure of the task: give the lease back, it costs no attempt."""
