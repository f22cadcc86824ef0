"""boto3's exceptions → `Failure`. For answers that are not S3's, boto3 leaks parser errors and plain ValueErrors."""

import contextlib
from collections.abc import Iterator, Mapping
from http.client import HTTPException

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
    StoreClockSkewed,
    StoreError,
    StoreFull,
    StoreUnreachable,
    UploadTooLarge,
)

_CODES: Mapping[str, type[Failure]] = {
    # Also the wrong region, and a name that no bucket can have.
    "NoSuchBucket": BucketMissing,
    "InvalidBucketName": BucketMissing,
    "PermanentRedirect": BucketMissing,
    "AuthorizationHeaderMalformed": BucketMissing,
    "IllegalLocationConstraintException": BucketMissing,
    "AccessDenied": BucketForbidden,
    "AccountProblem": BucketForbidden,
    "AllAccessDisabled": BucketForbidden,
    "ExpiredToken": BucketForbidden,
    "InvalidAccessKeyId": BucketForbidden,
    "InvalidSecurity": BucketForbidden,
    "InvalidToken": BucketForbidden,
    "NotSignedUp": BucketForbidden,
    "SignatureDoesNotMatch": BucketForbidden,
    "TokenRefreshRequired": BucketForbidden,
    "RequestTimeTooSkewed": StoreClockSkewed,
    "EntityTooLarge": UploadTooLarge,
    "InvalidObjectState": ObjectInColdStorage,
    # Ceph, generic 507, MinIO.
    "QuotaExceeded": StoreFull,
    "InsufficientStorage": StoreFull,
    "XMinioStorageFull": StoreFull,
    "XMinioAdminBucketQuotaExceeded": StoreFull,
}
_STATUSES: Mapping[int, type[Failure]] = {
    301: BucketMissing,
    401: BucketForbidden,
    403: BucketForbidden,
    413: UploadTooLarge,
    507: StoreFull,
}
"""For answers without a code, such as every answer to HEAD. Anything else is a `StoreError`."""

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


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise a `Failure` for what boto3 raises; its message begins with `what`."""
    try:
        yield
    except aws.ClientError as error:
        raise _failure_of(error, what) from error
    except _UNREACHABLE as error:
        raise StoreUnreachable(f"{what}: {described(error)}") from error
    except NO_CREDENTIALS as error:
        raise BucketForbidden(f"{what}: {described(error)}") from error
    except aws.ParamValidationError as error:
        # Nearly always the bucket's name: all else that we pass is made of safe characters.
        wrong = BucketMissing if "bucket" in str(error).lower() else StoreError
        raise wrong(f"{what}: {described(error)}") from error
    except PARSE_ERRORS as error:
        raise StoreError(f"{what}: the answer is not one of an S3 store ({described(error)})") from error


def _failure_of(error: aws.ClientError, what: str) -> Failure:
    kind = _CODES.get(code(error)) or _STATUSES.get(status(error)) or StoreError
    words = model.text(error.response.get("Error", {}).get("Message"), limit=300)
    return kind(f"{what}: the store answered {status(error)} {code(error)} {words}".rstrip())


def code(error: aws.ClientError) -> str:
    """S3's error code; empty if the answer has none."""
    return model.text(error.response.get("Error", {}).get("Code"), limit=100)


def status(error: aws.ClientError) -> int:
    """The HTTP status; 0 if there is none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def described(error: Exception) -> str:
    """The exception's type and message, cut for a log line."""
    return model.text(f"{type(error).__name__}: {error}", limit=300)
