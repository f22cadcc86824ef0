"""boto3's exceptions → `Failure`. For answers that are not S3's, boto3 leaks parser errors and plain ValueErrors."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from urllib.parse import urlsplit

from boto3.exceptions import Boto3Error
from botocore import exceptions as aws
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from archiver import model
from archiver.failures import (
    BucketForbidden,
    BucketMissing,
    Failure,
    ObjectInColdStorage,
    StoreAddressingRefused,
    StoreAnswerUnreadable,
    StoreClockSkewed,
    StoreCredentialsExpired,
    StoreCredentialsMissing,
    StoreEncryptionRefused,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreRegionWrong,
    StoreUnreachable,
    UploadTooLarge,
)
from archiver.pulses.pulse import beat
from archiver.redaction import without_signature

_CODES: Mapping[str, type[Failure]] = {
    "NoSuchBucket": BucketMissing,
    "InvalidBucketName": BucketMissing,  # a name that no bucket can have
    "PermanentRedirect": StoreRegionWrong,
    "TemporaryRedirect": StoreRegionWrong,
    "IllegalLocationConstraintException": StoreRegionWrong,
    "AuthorizationHeaderMalformed": StoreRegionWrong,
    "AccessDenied": BucketForbidden,
    "AccountProblem": BucketForbidden,
    "AllAccessDisabled": BucketForbidden,
    "InvalidAccessKeyId": BucketForbidden,
    "InvalidSecurity": BucketForbidden,
    "InvalidToken": BucketForbidden,
    "NotSignedUp": BucketForbidden,
    "SignatureDoesNotMatch": BucketForbidden,
    "ExpiredToken": StoreCredentialsExpired,
    "ExpiredTokenException": StoreCredentialsExpired,
    "SecurityTokenExpired": StoreCredentialsExpired,  # Aliyun
    "TokenRefreshRequired": StoreCredentialsExpired,
    "RequestTimeTooSkewed": StoreClockSkewed,
    "SecondLevelDomainForbidden": StoreAddressingRefused,  # Aliyun OSS
    "PathStyleDomainForbidden": StoreAddressingRefused,  # Tencent COS
    "VirtualHostDomainRequired": StoreAddressingRefused,  # Huawei OBS
    "InvalidPathAccess": StoreAddressingRefused,  # Volcengine TOS
    "EntityTooLarge": UploadTooLarge,
    "InvalidObjectState": ObjectInColdStorage,
    # Ceph, generic 507, MinIO.
    "QuotaExceeded": StoreFull,
    "InsufficientStorage": StoreFull,
    "XMinioStorageFull": StoreFull,
    "XMinioAdminBucketQuotaExceeded": StoreFull,
    # Of the line or of the moment, with the status of a refusal.
    "RequestTimeout": StoreError,
    "IncompleteBody": StoreError,
    "BadDigest": StoreError,
    "XAmzContentSHA256Mismatch": StoreError,
    "SlowDown": StoreError,
    "Throttling": StoreError,
    "RequestLimitExceeded": StoreError,
}
_STATUSES: Mapping[int, type[Failure]] = {
    401: BucketForbidden,
    403: BucketForbidden,
    404: BucketMissing,
    408: StoreError,
    409: StoreError,
    412: StoreError,
    413: UploadTooLarge,
    423: StoreError,
    425: StoreError,
    429: StoreError,
    501: StoreRefused,
    505: StoreRefused,
    507: StoreFull,
    511: StoreRefused,
}
"""For answers without a known code, such as every answer to HEAD. A 404 about an object never gets here."""

_ENCRYPTION = re.compile(r"\bkms|encrypt", re.IGNORECASE)
_KMS_RIGHT = re.compile(r"\bkms:\w")
_FULL = re.compile(r"\b(storage (cap|limit)|storage quota|quota)\b.{0,40}\bexceeded", re.IGNORECASE)
_SKEWED = re.compile(r"difference between the request time", re.IGNORECASE)
"""Some small gateways say it under AccessDenied."""
_VIRTUAL_HOST = re.compile(r"virtual[- ]?(host|style)", re.IGNORECASE)

_PLAIN_HTTP = (
    "The store's port does not speak https: try http:// in KLING_S3_ENDPOINT_URL, or its port for https."
)

_UNREACHABLE = (
    aws.ConnectionError,
    aws.HTTPClientError,
    aws.IncompleteReadError,
    HTTPError,
    HTTPException,
    OSError,
)
NO_CREDENTIALS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
    aws.SSOError,
    aws.ProfileNotFound,
)
PARSE_ERRORS = (
    aws.BotoCoreError,
    Boto3Error,
    ResponseParserError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What boto3 raises over an answer that is not S3's: its own parser errors, and Python's (a length of 400 digits)."""


@dataclasses.dataclass(frozen=True, slots=True)
class StorePlace:
    """Where the store is, as the settings say."""

    endpoint_url: str
    bucket: str

    def doubt(self) -> str:
        """A sentence for the operator where the endpoint holds what no endpoint should; else empty."""
        parts = urlsplit(self.endpoint_url)
        if parts.path.strip("/"):
            return (
                f"KLING_S3_ENDPOINT_URL ends in the path {parts.path}, which hardly belongs there: set scheme and host "
                "alone (the bucket's name stands in KLING_S3_BUCKET only). Otherwise: "
            )
        if (parts.hostname or "").startswith(f"{self.bucket.lower()}."):
            return (
                f"KLING_S3_ENDPOINT_URL begins with the bucket's name ({self.bucket}): take it out of the host, it "
                "stands in KLING_S3_BUCKET. Otherwise: "
            )
        return ""


@contextlib.contextmanager
def translated(what: str, place: StorePlace) -> Iterator[None]:
    """Raise a `Failure` for what boto3 raises; its message begins with `what`. Each request begins here."""
    beat()
    try:
        yield
    except aws.ClientError as error:
        raise _failure_of(error, what, place) from error
    except _UNREACHABLE as error:
        what_to_do = _PLAIN_HTTP if "WRONG_VERSION_NUMBER" in str(error) else None
        raise StoreUnreachable(f"{what}: {described(error)}", what_to_do=what_to_do) from error
    except NO_CREDENTIALS as error:
        raise StoreCredentialsMissing(f"{what}: {described(error)}") from error
    except aws.ParamValidationError as error:
        # Nearly always the bucket's name: all else that we pass is made of safe characters.
        wrong = BucketMissing if "bucket" in str(error).lower() else StoreError
        raise wrong(f"{what}: {described(error)}") from error
    except PARSE_ERRORS as error:
        message = f"{what}: the answer is not one of an S3 store ({described(error)})"
        raise _doubted(StoreAnswerUnreadable, message, place) from error


def bucket_missing(what: str, place: StorePlace) -> Failure:
    """For a 404 that says no more."""
    return _doubted(BucketMissing, f"{what}: the store has no such bucket", place)


def _failure_of(error: aws.ClientError, what: str, place: StorePlace) -> Failure:
    words = without_signature(model.text(error.response.get("Error", {}).get("Message"), limit=2000))[:300]
    kind = _kind(code(error), status(error), words)
    if kind is StoreError and _is_web_page(error):
        kind = StoreAnswerUnreadable
    message = f"{what}: the store answered {status(error)} {code(error)} {words}".rstrip()
    if region := _region(error):
        message += f" (the bucket's region: {region})"
    return _doubted(kind, message, place)


def _is_web_page(error: aws.ClientError) -> bool:
    """boto3 tells a web page with status 200 as a 500."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return code(error) == str(status(error)) and headers.get("content-type", "").startswith("text/html")


def _kind(code: str, status: int, words: str) -> type[Failure]:
    known = _CODES.get(code)
    if code.startswith("KMS.") or (known is BucketForbidden and _KMS_RIGHT.search(words)):
        return StoreEncryptionRefused
    if known is BucketForbidden and _SKEWED.search(words):
        return StoreClockSkewed
    if known is not None and not (known is BucketForbidden and _FULL.search(words)):
        return known
    refused = known or _STATUSES.get(status) or _kind_of_status(status)
    if issubclass(refused, StoreRefused | BucketForbidden):
        return _kind_by_words(code, words) or refused
    return refused


def _kind_by_words(code: str, words: str) -> type[Failure] | None:
    """The failure by the words of a refusal whose code is too general."""
    if _FULL.search(words):
        return StoreFull
    if _VIRTUAL_HOST.search(words):
        return StoreAddressingRefused
    return StoreEncryptionRefused if _ENCRYPTION.search(f"{code} {words}") else None


def _kind_of_status(status: int) -> type[Failure]:
    if 300 <= status < 400:
        return BucketMissing
    return StoreRefused if 400 <= status < 500 else StoreError


def _doubted(kind: type[Failure], message: str, place: StorePlace) -> Failure:
    """`kind`, which names the endpoint first where that looks wrong and would explain it."""
    explained = issubclass(kind, BucketMissing | BucketForbidden | StoreRefused | StoreAnswerUnreadable)
    if not explained or issubclass(kind, StoreEncryptionRefused | StoreCredentialsExpired | StoreClockSkewed):
        return kind(message)
    return kind(message, what_to_do=place.doubt() + kind.what_to_do)


def _region(error: aws.ClientError) -> str:
    """Where the store says that the bucket is; empty where it does not say."""
    # The stubs know only the fields that every error has.
    told: Mapping[str, object] = {**error.response.get("Error", {})}
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return model.text(told.get("Region") or headers.get("x-amz-bucket-region"), limit=40)


def code(error: aws.ClientError) -> str:
    """S3's error code; empty if the answer has none."""
    return model.text(error.response.get("Error", {}).get("Code"), limit=100)


def status(error: aws.ClientError) -> int:
    """The HTTP status; 0 if there is none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def described(error: Exception) -> str:
    """The exception's type and message, cut for a log line. No header that signs a request is in it."""
    return model.text(f"{type(error).__name__}: {without_signature(str(error))}", limit=300)
