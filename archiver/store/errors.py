"""What a store's answers mean: whatever boto3 raises becomes a `Failure`. boto3 leaks parser errors and plain
ValueErrors when an answer is not S3's; they end here.
"""

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
    StoreClockSkewed,
    StoreError,
    StoreFull,
    StoreUnreachable,
)

_CODES: Mapping[str, type[Failure]] = {
    # The bucket is not here: also the wrong region and a name that cannot be a bucket's.
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
    507: StoreFull,
}
"""For answers without a code, as every answer to HEAD is. What neither table knows is a `StoreError`."""

_AWAY = (
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
STUMBLES = (
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
"""What boto3 raises over an answer that is not S3's: its own parser errors, and whatever Python says to a length of 400
digits."""


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Whatever boto3 raises inside becomes a `Failure` whose message begins with `what`."""
    try:
        yield
    except aws.ClientError as error:
        raise _of_answer(error, what) from error
    except _AWAY as error:
        raise StoreUnreachable(f"{what}: {said(error)}") from error
    except NO_CREDENTIALS as error:
        raise BucketForbidden(f"{what}: {said(error)}") from error
    except aws.ParamValidationError as error:
        # Everything else that we pass is made of safe characters, so this is nearly always the bucket's name.
        wrong = BucketMissing if "bucket" in str(error).lower() else StoreError
        raise wrong(f"{what}: {said(error)}") from error
    except STUMBLES as error:
        raise StoreError(f"{what}: the answer is not one of an S3 store ({said(error)})") from error


def _of_answer(error: aws.ClientError, what: str) -> Failure:
    kind = _CODES.get(code(error)) or _STATUSES.get(status(error)) or StoreError
    words = model.text(error.response.get("Error", {}).get("Message"), limit=300)
    return kind(f"{what}: the store answered {status(error)} {code(error)} {words}".rstrip())


def code(error: aws.ClientError) -> str:
    """S3's own word for the error; empty where the answer has none, as every answer to HEAD."""
    return model.text(error.response.get("Error", {}).get("Code"), limit=100)


def status(error: aws.ClientError) -> int:
    """The HTTP status; 0 where there is none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def said(error: Exception) -> str:
    """Its kind and words, short enough for a log line."""
    return model.text(f"{type(error).__name__}: {error}", limit=300)
