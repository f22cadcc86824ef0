"""S3: the one real store. It creates objects and reads them; it never overwrites and never deletes.

1. What `put` returns is proven: the store's ETag is our MD5, or the object was read back and hashed. A 200 alone proves
   nothing, because some gateways keep other bytes. (A gateway that answers with the right ETag and keeps nothing is
   found by the LIST before a manifest, or where trust is earned by the second look within the hour.)
2. An object stays as it is. The same bytes are a success, our own earlier attempt is adopted, anything else is a
   `ForeignObject` for an operator. Real stores answer a second create-only put in four ways: 412, 412 with several
   winners in a race, 501, or by overwriting. So the condition only saves work; the ledger's lease and `look_first`
   are the guard.
3. Every error reaches the caller as a `Failure` (see `errors`).

A crash during `put` leaves nothing, because stores show whole objects only, or the whole object. The next attempt finds
it, because every attempt but the first looks first.

Rejected: multipart uploads (their ETag is no MD5, and two gateways ignore the condition on them), boto3's default CRC
trailers (three real gateways refuse them over TLS, one stores them as part of the object), and more than one retry by
boto3 (it would hide outages from the holds, and the ledger retries anyway).
"""

import base64
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Literal, Self, cast

import boto3
from botocore import exceptions as aws

from archiver.clock import seconds_passed
from archiver.failures import ForeignObject, ObjectUnexpected, PutTimeout, StoreError, StoreMismatch
from archiver.store import expect_continue, redirects
from archiver.store.body import Body, raising_its_cause
from archiver.store.client import (
    CONNECT_SECONDS,
    ca_bundle_of,
    open_client,
    open_session,
    sign_by_digest,
)
from archiver.store.errors import StorePlace, bucket_missing, status, translated
from archiver.store.protocol import (
    ConditionalPut,
    ListedPage,
    Presigned,
    Put,
    PutOutcome,
    ReadObject,
    StoredObject,
    Upload,
    digests_of,
)
from archiver.store.reader import BucketReader, plain_etag

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import PutObjectRequestTypeDef

PUT_SECONDS_MAX = 30 * 60.0
"""One put as a whole, with the looks around it. A store that takes a piece now and then would hold a slot for days."""


CHECK_CONNECT_SECONDS = 5.0
CHECK_READ_SECONDS = 10.0
"""A check must tell within seconds what a put finds out in minutes."""
CHECK_CONNECTIONS = 2


class S3Store:
    """`Store` on one bucket of AWS or of anything that speaks its protocol."""

    def __init__(
        self,
        client: "S3Client",
        *,
        bucket: str,
        check_client: "S3Client | None" = None,
        session: boto3.Session | None = None,
        clock: Callable[[], float] = seconds_passed,
    ) -> None:
        """`check_client` is the one that `check` asks with; `session` is the one of the client's credentials; `clock`
        gives seconds, by which a put ends."""
        self._client = client
        self._session = session
        self._check_client = check_client or client
        self._bucket = bucket
        self._clock = clock
        self._place = StorePlace(endpoint_url=client.meta.endpoint_url, bucket=bucket)
        sign_by_digest(client)
        expect_continue.register(client)
        redirects.follow_no_second(client)
        if check_client is not None:
            redirects.follow_no_second(check_client)
        self._objects = BucketReader(client, bucket)
        self.location = f"{client.meta.endpoint_url} {bucket}"
        self.etags_are_md5 = True
        self._conditional = True
        """False once the store has answered 501 to the condition itself."""
        self._expect_continue = expect_continue.ExpectContinue()

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
        connect_timeout_seconds: float = CONNECT_SECONDS,
        read_timeout_seconds: float = 60,
        session: boto3.Session | None = None,
        clock: Callable[[], float] = seconds_passed,
    ) -> Self:
        """Opens no connection. Credentials come from boto3's own chain.

        Two attempts: a keep-alive connection that the server has just closed costs the first.

        Raises `StoreError` when boto3 rejects the settings or its own configuration files.
        """
        session = session or open_session()
        opened = functools.partial(
            open_client,
            endpoint_url=endpoint_url,
            region=region,
            addressing_style=addressing_style,
            session=session,
        )
        client = opened(
            max_pool_connections=max_pool_connections,
            attempts_max=attempts_max,
            connect_timeout_seconds=connect_timeout_seconds,
            read_timeout_seconds=read_timeout_seconds,
        )
        check_client = opened(
            max_pool_connections=CHECK_CONNECTIONS,
            attempts_max=1,
            connect_timeout_seconds=min(CHECK_CONNECT_SECONDS, connect_timeout_seconds),
            read_timeout_seconds=min(CHECK_READ_SECONDS, read_timeout_seconds),
        )
        return cls(client, bucket=bucket, check_client=check_client, session=session, clock=clock)

    @property
    def endpoint_url(self) -> str:
        """Scheme and host, as boto3 has found them."""
        return self._place.endpoint_url

    @property
    def ca_bundle(self) -> str | None:
        """A file of certificates in place of the system's, where boto3's configuration names one."""
        return None if self._session is None else ca_bundle_of(self._session)

    def check(self, prefix: str = "") -> None:
        """LIST one key: the answer has a body, which names the reason; a policy may allow it below a prefix only, and
        refuse HEAD."""
        with self._translated(f"bucket {self._bucket}"):
            try:
                self._check_client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, MaxKeys=1)
            except aws.ClientError as error:
                if status(error) == 404:
                    raise bucket_missing(f"bucket {self._bucket}", self._place) from error
                raise

    def put(self, upload: Upload, *, look_first: bool) -> Put:
        upload = self._ending_in_time(upload)
        with self._translated(f"put {upload.key}"):
            if look_first or not self._conditional:
                found = self._objects.head(upload.key)
                if found is not None:
                    return self._already_there(upload, found)
            return self._create(upload, is_retry=look_first)

    def head(self, key: str) -> StoredObject | None:
        with self._translated(f"head {key}"):
            return self._objects.head(key)

    def list(self, folder: str) -> dict[str, int]:
        return dict(self.walk(folder))

    def walk(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, int]]:
        with self._translated(f"list {prefix}".rstrip()):
            yield from self._objects.walk(prefix, after=after)

    def list_after(self, prefix: str, *, after: str, keys_max: int) -> ListedPage:
        with self._translated(f"list {prefix} after {after}".replace("  ", " ")):
            return self._objects.list_after(prefix, after=after, keys_max=keys_max)

    def read(self, key: str, *, bytes_max: int) -> bytes:
        return self.get(key, bytes_max=bytes_max).content

    def get(self, key: str, *, bytes_max: int) -> ReadObject:
        with self._translated(f"read {key}"):
            return self._objects.get(key, bytes_max=bytes_max)

    def digest(self, key: str, *, on_piece: Callable[[int], object] = int) -> tuple[str, int]:
        with self._translated(f"read {key}"):
            return self._objects.digest(key, on_piece=on_piece)

    def presigned(self, key: str, *, seconds: int) -> str:
        return self.presign(key, seconds=seconds).url

    def presign(
        self, key: str, *, seconds: int, method: Literal["GET", "HEAD"] = "GET", file_name: str | None = None
    ) -> Presigned:
        """As `presigned`, for one method: a store refuses it for any other. With `file_name` the answer is an
        attachment of this name, which must need no quoting.

        Raises Failure.
        """
        with self._translated(f"presign {key}"):
            return self._objects.presign(
                key, seconds=seconds, method=method, file_name=file_name, session=self._session
            )

    def put_again(self, upload: Upload) -> ConditionalPut:
        with self._translated(f"put {upload.key}"):
            try:
                self._put_object(upload, conditional=True, is_retry=True)
            except aws.ClientError as error:
                if status(error) == 412:
                    return ConditionalPut.RESPECTED
                if status(error) == 501:
                    return ConditionalPut.REFUSED
                raise
        return ConditionalPut.IGNORED

    def refuses_damage(self, upload: Upload) -> bool:
        """Put the bytes that the key has already, with the `Content-MD5` of others: whether the store refuses them.

        One that does not has put the same bytes once more.
        """
        other = dataclasses.replace(upload.digests, md5=digests_of(b"other bytes").md5)
        with self._translated(f"put {upload.key}"):
            try:
                self._put_object(dataclasses.replace(upload, digests=other), conditional=False, is_retry=True)
            except aws.ClientError as error:
                if status(error) == 400:
                    return True
                raise
        return False

    def _translated(self, what: str) -> contextlib.AbstractContextManager[None]:
        return translated(what, self._place)

    def _ending_in_time(self, upload: Upload) -> Upload:
        """The upload, whose check also raises once the put has lasted `PUT_SECONDS_MAX`."""
        ends_at = self._clock() + PUT_SECONDS_MAX

        def check() -> None:
            upload.check()
            if self._clock() >= ends_at:
                raise PutTimeout(
                    f"put {upload.key}: {upload.digests.bytes} bytes took more than {PUT_SECONDS_MAX:.0f} s"
                )

        return dataclasses.replace(upload, check=check)

    def _create(self, upload: Upload, *, is_retry: bool) -> Put:
        conditional = self._conditional  # another thread's put may clear it meanwhile
        try:
            etag = self._put_object(upload, conditional=conditional, is_retry=is_retry)
        except aws.ClientError as error:
            if status(error) == 412:
                return self._overtaken(upload)
            if status(error) == 501 and conditional:
                return self._create_without_condition(upload, is_retry=is_retry)
            raise
        return self._confirmed(upload, etag)

    def _create_without_condition(self, upload: Upload, *, is_retry: bool) -> Put:
        """After a 501. It may come from a passing proxy or mean something else, so remember it only once the same put
        succeeds without the condition."""
        found = self._objects.head(upload.key)
        if found is not None:
            return self._already_there(upload, found)
        etag = self._put_object(upload, conditional=False, is_retry=is_retry)
        self._conditional = False
        return self._confirmed(upload, etag)

    def _put_object(self, upload: Upload, *, conditional: bool, is_retry: bool) -> str:
        """The answer's ETag."""
        expect = self._expect_continue.is_due(upload.digests.bytes, is_retry=is_retry)
        body = Body(upload.file, sha256=upload.digests.sha256, expect_continue=expect, check=upload.check)
        request: PutObjectRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": upload.key,
            "Body": cast("IO[bytes]", body),
            "ContentType": upload.content_type,
            "ContentMD5": base64.b64encode(bytes.fromhex(upload.digests.md5)).decode("ascii"),
            "Metadata": {"sha256": upload.digests.sha256, "task-id": upload.task_id, "family": upload.family},
        }
        if conditional:
            request["IfNoneMatch"] = "*"
        with self._expect_continue.watching(), raising_its_cause():
            body.seek(0)
            answer = self._client.put_object(**request)
        return plain_etag(answer.get("ETag"))

    def _confirmed(self, upload: Upload, etag: str) -> Put:
        """After a 200. An ETag other than our MD5 may be honest (encryption) or wrong: read the object back."""
        if etag != upload.digests.md5:
            self.etags_are_md5 = False
            if self._digest(upload) != (upload.digests.sha256, upload.digests.bytes):
                raise StoreMismatch(f"put {upload.key}: the store took the object and holds other bytes")
        return upload.as_put(PutOutcome.CREATED)

    def _overtaken(self, upload: Upload) -> Put:
        """412: an object is there, perhaps from our own attempt whose answer was lost."""
        found = self._objects.head(upload.key)
        if found is None:
            raise StoreError(f"put {upload.key}: the store says that an object is there, and shows nothing")
        return self._already_there(upload, found)

    def _already_there(self, upload: Upload, found: StoredObject) -> Put:
        if found.bytes == upload.digests.bytes and found.etag == upload.digests.md5:
            return upload.as_put(PutOutcome.SAME)
        is_ours = found.task_id == upload.task_id
        if is_ours or found.bytes == upload.digests.bytes:
            sha256, size = self._digest(upload)
            if (sha256, size) == (upload.digests.sha256, upload.digests.bytes):
                return upload.as_put(PutOutcome.SAME)
            if is_ours:
                return _adopted(upload.key, found, sha256=sha256, size=size)
        raise ForeignObject(f"put {upload.key}: a foreign object of {found.bytes} bytes is there")

    def _digest(self, upload: Upload) -> tuple[str, int]:
        """The digest of the object under the key."""
        return self._objects.digest(upload.key, on_piece=lambda _: upload.check())


def _adopted(key: str, found: StoredObject, *, sha256: str, size: int) -> Put:
    """Our earlier attempt, if its bytes match its own sha256."""
    if found.sha256 != sha256:
        raise ObjectUnexpected(
            f"put {key}: an earlier attempt left a damaged object (its bytes do not match its own sha256); "
            "remove it"
        )
    return Put(outcome=PutOutcome.ADOPTED, bytes=size, sha256=sha256, content_type=found.content_type)
