"""The only module that speaks S3. It creates objects and reads them; it never overwrites and never deletes.

Three rules:

1. What `put` returns is proven. The store gave the ETag that our MD5 demands, or the object was read back and
   hashed. A 200 alone proves nothing: gateways exist that keep other bytes. (One that answers with the right
   ETag and keeps nothing is found by the LIST that precedes every manifest.)
2. What lies under a key stays there. The same bytes are a success, our own earlier attempt is adopted,
   anything else is a `ForeignObject` for an operator. Real stores answer a create-only put in four ways
   (412, 412 with several winners in a race, 501, ignored in silence), so the condition saves work and is
   not the guard: that is the ledger's lease, and `look_first`.
3. Whatever a server does, the caller sees a `Failure`. boto3 leaks parser errors and plain ValueErrors when
   an answer is not S3's; they end here.

A crash in the middle of `put` leaves nothing (stores show whole objects only) or the whole object, which
the next attempt finds, because every attempt but the first looks first.

Rejected: multipart uploads (their ETag is no MD5, and two gateways ignore the condition on them), boto3's
default CRC trailers (refused by three real gateways over TLS, stored as part of the object by one) and its
own retries beyond one (they hide outages from the holds, and the ledger retries anyway).
"""

import base64
import contextlib
import dataclasses
import enum
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from typing import IO, TYPE_CHECKING, BinaryIO, Protocol, Self, cast

import boto3
from boto3.exceptions import Boto3Error
from botocore import exceptions as aws
from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from archiver import model
from archiver.failures import (
    BucketForbidden,
    BucketMissing,
    Failure,
    ForeignObject,
    StoreClockSkewed,
    StoreError,
    StoreFull,
    StoreMismatch,
    StoreUnreachable,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import PutObjectRequestTypeDef

CHUNK_BYTES = 1024 * 1024
PIECE_BYTES = 256 * 1024
PRESIGNED_SECONDS_MAX = 7 * 86_400
"""S3's own limit."""


class Outcome(enum.StrEnum):
    """What `put` found: nothing, the same bytes, or other bytes of an earlier attempt of the same task."""

    CREATED = "created"
    SAME = "same"
    ADOPTED = "adopted"


class ConditionalPut(enum.StrEnum):
    """What a server does with a second create-only put. `doctor` reports it."""

    RESPECTED = "respected"
    REFUSED = "refused"
    IGNORED = "ignored"


@dataclasses.dataclass(frozen=True, slots=True)
class Put:
    """What lies under the key now. For an adopted object that is not what was offered."""

    outcome: Outcome
    bytes: int
    sha256: str
    """Lower-case hex; proven, not merely claimed by the object's metadata."""
    content_type: str


@dataclasses.dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as its headers describe it. The metadata are claims of whoever wrote it, `digest` proves."""

    bytes: int
    etag: str
    """Unquoted, lower case; the MD5 of the bytes only where the store neither encrypts nor assembled
    parts."""
    content_type: str
    sha256: str | None
    task_id: str | None
    family: str | None


class Store(Protocol):
    """Where objects go for good. Every method may be called from many threads at once.

    When `put` returns, the object is durable, in place and equal to the facts returned. When it raises, the
    object may be there all the same (an answer can be lost): call again with `look_first=True`, which is
    safe any number of times. Reading is strongly consistent but for `list`, which on some stores lags
    behind `put`: an object that is missing there is asked for with `head` before it counts as missing.

    Every method raises `Failure` and nothing else: `StoreUnreachable`, `BucketMissing`, `BucketForbidden`
    (also for missing credentials), `StoreClockSkewed`, `StoreFull`, `StoreError`; and those named with the
    method.
    """

    def check(self) -> None:
        """Return if the bucket is there and open to us. Writes nothing."""

    def put(
        self,
        key: str,
        file: BinaryIO,
        *,
        bytes: int,  # noqa: A002 -- the fact's name everywhere else, and keyword-only
        sha256: str,
        md5: str,
        content_type: str,
        task_id: str,
        family: str,
        look_first: bool,
    ) -> Put:
        """Create the object from the whole of `file` (seekable), whose size and hex digests are given.

        `look_first` belongs to every attempt but the first.

        Raises `ForeignObject` when other bytes that are not this task's lie there, `StoreMismatch` when the
        store took the bytes and holds others.
        """

    def head(self, key: str) -> StoredObject | None:
        """What the store says of the object; None where there is none."""

    def list(self, folder: str) -> dict[str, int]:
        """Every key that begins with `folder`, with its size in bytes. For one task's folder."""

    def walk(self, prefix: str) -> Iterator[tuple[str, int]]:
        """The same for a whole bucket: key and bytes, page by page, in the order of the store."""

    def read(self, key: str, *, bytes_max: int) -> bytes:
        """The object's bytes. Raises `StoreMismatch` when it is missing or larger than `bytes_max`."""

    def digest(self, key: str) -> tuple[str, int]:
        """SHA-256 (hex) and size of what lies there, by reading all of it. Raises `StoreMismatch` if
        missing."""

    def presigned(self, key: str, *, seconds: int) -> str:
        """A link that reads the object for so long (at most 7 days) without credentials. Asks nobody."""


class _Body(io.RawIOBase):
    """A file for botocore, with the digest that its signature is to cover. Closing it leaves the file open."""

    def __init__(self, file: BinaryIO, *, sha256: str) -> None:
        self._file = file
        self.sha256 = sha256

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        """The next `PIECE_BYTES`, however many are asked for; all that is left when no size is.

        urllib3 asks for 16 KiB, sends whatever it gets and never looks at how much that was: a hundred calls into the
        kernel for an image, each of which hands the interpreter to another thread, are six this way.
        """
        return self._file.read(PIECE_BYTES if size >= 0 else size)


class _DigestAuth(S3SigV4Auth):
    """Signature version 4 over the SHA-256 that the bytes had while they were downloaded.

    botocore would read the file and sign what it finds. Bytes that have changed in between would then be stored under
    a perfect signature; this way the store refuses them. It also saves hashing each file a second time.
    """

    def payload(self, request: AWSRequest) -> str:
        """Hexadecimal; the library's own reading where the body is none of ours (there is no such `put`)."""
        body: object = request.body  # whatever `put_object` was given, not only what its stubs say
        return body.sha256 if isinstance(body, _Body) else super().payload(request)


_DIGEST_SIGNATURE = "kling-archiver-s3v4"
# The registry is botocore's own way to add a signature version; there is none that belongs to one client.
AUTH_TYPE_MAPS[_DIGEST_SIGNATURE] = _DigestAuth


def _sign_digests(client: "S3Client") -> None:
    """Let `PutObject` of this client, and nothing else, be signed by `_DigestAuth`."""

    def choose(**_context: object) -> str:
        return _DIGEST_SIGNATURE

    # The stubs know of handlers without an answer only; this event is asked for one.
    client.meta.events.register("choose-signer.s3.PutObject", cast("Callable[..., None]", choose))


@dataclasses.dataclass(frozen=True, slots=True)
class _Offer:
    """What one `put` wants to have under its key."""

    key: str
    file: BinaryIO
    bytes: int
    sha256: str
    md5: str
    content_type: str
    task_id: str
    family: str

    def as_put(self, outcome: Outcome) -> Put:
        return Put(outcome=outcome, bytes=self.bytes, sha256=self.sha256, content_type=self.content_type)


class S3Store:
    """`Store` on one bucket of AWS or of anything that speaks its protocol."""

    def __init__(self, client: "S3Client", *, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        _sign_digests(client)
        # Made once: making one searches botocore's folders for the service's model.
        self._listing = client.get_paginator("list_objects_v2")
        self._conditional = True
        """False from the first 501 that turned out to be meant for the condition."""

    @classmethod
    def from_settings(
        cls,
        *,
        bucket: str,
        endpoint_url: str | None = None,
        region: str | None = None,
        addressing_style: str | None = None,
        max_pool_connections: int = 16,
        attempts_max: int = 2,
        connect_timeout_seconds: float = 5,
        read_timeout_seconds: float = 60,
        session: boto3.Session | None = None,
    ) -> Self:
        """The store of these settings; opens no connection. Credentials come from boto3's own chain.

        Two attempts, because a kept-alive connection that the server has just closed costs the first one.

        Raises `StoreError` when boto3 cannot make anything of the settings or of its own configuration files.
        """
        style = addressing_style or ("path" if endpoint_url else "auto")
        try:
            config = Config(
                signature_version="s3v4",
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                # a setting is any text: boto3 judges whether it is a style
                s3={"addressing_style": style, "payload_signing_enabled": True},  # type: ignore[arg-type]
                retries={"mode": "standard", "total_max_attempts": attempts_max},
                connect_timeout=connect_timeout_seconds,
                read_timeout=read_timeout_seconds,
                max_pool_connections=max_pool_connections,
                tcp_keepalive=True,
            )
            client = (session or boto3.Session()).client(
                "s3", endpoint_url=endpoint_url or None, region_name=region or None, config=config
            )
        except (*_NO_CREDENTIALS, *_STUMBLES) as error:
            raise StoreError(f"the store's settings are of no use to boto3: {_said(error)}") from error
        return cls(client, bucket=bucket)

    def check(self) -> None:
        """See `Store.check`. Asks with HEAD; only where that is refused does it list one key for the reason,
        which a HEAD has no body to name."""
        with _translated(f"bucket {self._bucket}"):
            try:
                self._client.head_bucket(Bucket=self._bucket)
            except aws.ClientError as error:
                if _status(error) == 404:
                    raise BucketMissing(f"bucket {self._bucket}: the store knows no such bucket") from error
                if _status(error) in {400, 401, 403}:
                    self._client.list_objects_v2(Bucket=self._bucket, MaxKeys=1)
                raise

    def put(
        self,
        key: str,
        file: BinaryIO,
        *,
        bytes: int,  # noqa: A002 -- as in the protocol
        sha256: str,
        md5: str,
        content_type: str,
        task_id: str,
        family: str,
        look_first: bool,
    ) -> Put:
        """See `Store.put`."""
        offer = _Offer(key, file, bytes, sha256, md5, content_type, task_id, family)
        with _translated(f"put {key}"):
            if look_first or not self._conditional:
                found = self._look(key)
                if found is not None:
                    return self._already_there(offer, found)
            return self._create(offer)

    def head(self, key: str) -> StoredObject | None:
        """See `Store.head`."""
        with _translated(f"head {key}"):
            return self._look(key)

    def list(self, folder: str) -> dict[str, int]:
        """See `Store.list`."""
        return dict(self.walk(folder))

    def walk(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See `Store.walk`."""
        pages = self._listing.paginate(Bucket=self._bucket, Prefix=prefix)
        with _translated(f"list {prefix}"):
            for page in pages:
                yield from [(row["Key"], row["Size"]) for row in page.get("Contents", [])]

    def read(self, key: str, *, bytes_max: int) -> bytes:
        """See `Store.read`."""
        content = bytearray()
        with _translated(f"read {key}"):
            for chunk in self._chunks(key):
                content += chunk
                if len(content) > bytes_max:
                    raise StoreMismatch(f"read {key}: larger than the {bytes_max} bytes it may have")
        return bytes(content)

    def digest(self, key: str) -> tuple[str, int]:
        """See `Store.digest`."""
        with _translated(f"read {key}"):
            return self._digest(key)

    def presigned(self, key: str, *, seconds: int) -> str:
        """See `Store.presigned`."""
        with _translated(f"presign {key}"):
            return self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self._bucket, "Key": key},
                ExpiresIn=min(seconds, PRESIGNED_SECONDS_MAX),
            )

    def probe(self, key: str) -> ConditionalPut:
        """Which kind of server this is, by creating `key` twice over. Leaves that one small object behind.

        Both puts carry the same bytes, so a server that ignores the condition loses nothing. Not part of
        `Store`: only `doctor` asks.
        """
        content = b"kling-archiver writes this object to see whether the store refuses to overwrite it.\n"
        offer = _Offer(
            key=key,
            file=io.BytesIO(content),
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
            content_type="text/plain",
            task_id="probe",
            family="probe",
        )
        with _translated(f"probe {key}"):
            for _ in range(2):
                try:
                    self._put_object(offer, conditional=True)
                except aws.ClientError as error:
                    kind = {412: ConditionalPut.RESPECTED, 501: ConditionalPut.REFUSED}.get(_status(error))
                    if kind is None:
                        raise
                    return kind
        return ConditionalPut.IGNORED

    def _create(self, offer: _Offer) -> Put:
        try:
            etag = self._put_object(offer, conditional=self._conditional)
        except aws.ClientError as error:
            if _status(error) == 412:
                return self._overtaken(offer)
            if _status(error) == 501 and self._conditional:
                return self._create_without_condition(offer)
            raise
        return self._confirmed(offer, etag)

    def _create_without_condition(self, offer: _Offer) -> Put:
        """For a server that answers 501 to the condition. It is remembered only once the same put without the
        condition went through: a 501 may have been meant for something else, or come from a proxy in
        passing."""
        found = self._look(offer.key)
        if found is not None:
            return self._already_there(offer, found)
        etag = self._put_object(offer, conditional=False)
        self._conditional = False
        return self._confirmed(offer, etag)

    def _put_object(self, offer: _Offer, *, conditional: bool) -> str:
        """The ETag of the answer. Reads `file` from its start, whatever was read of it before."""
        offer.file.seek(0)
        request: PutObjectRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": offer.key,
            "Body": cast("IO[bytes]", _Body(offer.file, sha256=offer.sha256)),
            "ContentType": offer.content_type,
            "ContentMD5": base64.b64encode(bytes.fromhex(offer.md5)).decode("ascii"),
            "Metadata": {"sha256": offer.sha256, "task-id": offer.task_id, "family": offer.family},
        }
        if conditional:
            request["IfNoneMatch"] = "*"
        answer = self._client.put_object(**request)
        return _etag(answer.get("ETag"))

    def _confirmed(self, offer: _Offer, etag: str) -> Put:
        """The store said 200. An ETag that is not our MD5 may be honest (encryption) or a lie: reading
        tells."""
        if etag != offer.md5 and self._digest(offer.key) != (offer.sha256, offer.bytes):
            raise StoreMismatch(f"put {offer.key}: the store took the object and holds other bytes")
        return offer.as_put(Outcome.CREATED)

    def _overtaken(self, offer: _Offer) -> Put:
        """412: something is there, perhaps our own first try whose answer got lost."""
        found = self._look(offer.key)
        if found is None:
            raise StoreError(f"put {offer.key}: the store says that it is there and shows nothing")
        return self._already_there(offer, found)

    def _already_there(self, offer: _Offer, found: StoredObject) -> Put:
        if found.bytes == offer.bytes and found.etag == offer.md5:
            return offer.as_put(Outcome.SAME)
        ours = found.task_id == offer.task_id
        if ours or found.bytes == offer.bytes:
            sha256, size = self._digest(offer.key)
            if (sha256, size) == (offer.sha256, offer.bytes):
                return offer.as_put(Outcome.SAME)
            if ours:
                return _adopted(offer.key, found, sha256=sha256, size=size)
        raise ForeignObject(f"put {offer.key}: an object of {found.bytes} bytes that is not ours lies there")

    def _look(self, key: str) -> StoredObject | None:
        """HEAD. A missing bucket looks like a missing key here; the put or the list that follows tells."""
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=key)
        except aws.ClientError as error:
            if _status(error) == 404:
                return None
            raise
        # Some gateways change the case of metadata names.
        claims = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
        return StoredObject(
            bytes=answer["ContentLength"],
            etag=_etag(answer.get("ETag")),
            content_type=answer.get("ContentType", ""),
            sha256=claims.get("sha256"),
            task_id=claims.get("task-id"),
            family=claims.get("family"),
        )

    def _digest(self, key: str) -> tuple[str, int]:
        running, size = hashlib.sha256(), 0
        for chunk in self._chunks(key):
            running.update(chunk)
            size += len(chunk)
        return running.hexdigest(), size

    def _chunks(self, key: str) -> Iterator[bytes]:
        """The object's bytes. A body that ends early raises: boto3 counts against Content-Length at the
        end."""
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
        except aws.ClientError as error:
            if _status(error) == 404 and _code(error) != "NoSuchBucket":
                raise StoreMismatch(f"read {key}: no object is there") from error
            raise
        with contextlib.closing(answer["Body"]) as body:
            yield from body.iter_chunks(CHUNK_BYTES)


def _adopted(key: str, found: StoredObject, *, sha256: str, size: int) -> Put:
    """Our own earlier attempt, accepted only if it is what that attempt meant to store."""
    if found.sha256 != sha256:
        raise StoreMismatch(
            f"put {key}: an earlier attempt lies there damaged (its bytes are not those of its own sha256); "
            "remove that object"
        )
    return Put(outcome=Outcome.ADOPTED, bytes=size, sha256=sha256, content_type=found.content_type)


def _etag(value: str | None) -> str:
    """Without quotes and without the mark that proxies add when they think of compressing."""
    return (value or "").removeprefix("W/").strip('"').lower()


# --- what the store's answers mean ----------------------------------------------------------------------

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
_NO_CREDENTIALS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
    aws.SSOError,
    aws.ProfileNotFound,
)
_STUMBLES = (
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
"""What boto3 raises over an answer that is not S3's: its own parser errors, and whatever Python says to a
date in year 99999 or a length of 400 digits."""


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """Whatever boto3 raises inside becomes a `Failure` whose message begins with `what`."""
    try:
        yield
    except aws.ClientError as error:
        raise _of_answer(error, what) from error
    except _AWAY as error:
        raise StoreUnreachable(f"{what}: {_said(error)}") from error
    except _NO_CREDENTIALS as error:
        raise BucketForbidden(f"{what}: {_said(error)}") from error
    except aws.ParamValidationError as error:
        # Everything else that we pass is made of safe characters, so this is nearly always the bucket's name.
        wrong = BucketMissing if "bucket" in str(error).lower() else StoreError
        raise wrong(f"{what}: {_said(error)}") from error
    except _STUMBLES as error:
        raise StoreError(f"{what}: the answer is not one of an S3 store ({_said(error)})") from error


def _of_answer(error: aws.ClientError, what: str) -> Failure:
    code, status = _code(error), _status(error)
    kind = _CODES.get(code) or _STATUSES.get(status) or StoreError
    words = model.text(error.response.get("Error", {}).get("Message"), limit=300)
    return kind(f"{what}: the store answered {status} {code} {words}".rstrip())


def _code(error: aws.ClientError) -> str:
    return model.text(error.response.get("Error", {}).get("Code"), limit=100)


def _status(error: aws.ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _said(error: Exception) -> str:
    return model.text(f"{type(error).__name__}: {error}", limit=300)
