"""S3: the store that is used. It creates objects and reads them; it never overwrites and never deletes.

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
import hashlib
import io
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Self, cast

import boto3
from botocore import exceptions as aws

from archiver.failures import BucketMissing, ForeignObject, StoreError, StoreMismatch
from archiver.store.client import CONNECT_SECONDS, UNASKED_BYTES_MAX, open_client, prepare
from archiver.store.errors import code, status, translated
from archiver.store.protocol import (
    PRESIGNED_SECONDS_MAX,
    ConditionalPut,
    Put,
    PutOutcome,
    StoredObject,
    Upload,
    digests_of,
)
from archiver.store.upload import Body

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import PutObjectRequestTypeDef

CHUNK_BYTES = 1024 * 1024


class S3Store:
    """`Store` on one bucket of AWS or of anything that speaks its protocol."""

    def __init__(self, client: "S3Client", *, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        prepare(client)
        # Made once: making one searches botocore's folders for the service's model.
        self._listing = client.get_paginator("list_objects_v2")
        self._conditional = True
        """False from the first 501 that turned out to be meant for the condition."""
        self._asks_leave = True
        """False while the store has taken the last body that it was sent (see `sending`, 2)."""

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
    ) -> Self:
        """The store of these settings; opens no connection. Credentials come from boto3's own chain.

        Two attempts, because a kept-alive connection that the server has just closed costs the first one.

        Raises `StoreError` when boto3 cannot make anything of the settings or of its own configuration files.
        """
        client = open_client(
            endpoint_url=endpoint_url,
            region=region,
            addressing_style=addressing_style,
            max_pool_connections=max_pool_connections,
            attempts_max=attempts_max,
            connect_timeout_seconds=connect_timeout_seconds,
            read_timeout_seconds=read_timeout_seconds,
            session=session,
        )
        return cls(client, bucket=bucket)

    def check(self) -> None:
        """See `Store.check`. Asks with HEAD; only where that is refused does it list one key for the reason,
        which a HEAD has no body to name."""
        with translated(f"bucket {self._bucket}"):
            try:
                self._client.head_bucket(Bucket=self._bucket)
            except aws.ClientError as error:
                if status(error) == 404:
                    raise BucketMissing(f"bucket {self._bucket}: the store knows no such bucket") from error
                if status(error) in {400, 401, 403}:
                    self._client.list_objects_v2(Bucket=self._bucket, MaxKeys=1)
                raise

    def put(self, upload: Upload, *, look_first: bool) -> Put:
        """See `Store.put`."""
        with translated(f"put {upload.key}"):
            if look_first or not self._conditional:
                found = self._look(upload.key)
                if found is not None:
                    return self._already_there(upload, found)
            return self._create(upload, asks_leave=look_first)

    def head(self, key: str) -> StoredObject | None:
        """See `Store.head`."""
        with translated(f"head {key}"):
            return self._look(key)

    def list(self, folder: str) -> dict[str, int]:
        """See `Store.list`."""
        return dict(self.walk(folder))

    def walk(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See `Store.walk`."""
        pages = self._listing.paginate(Bucket=self._bucket, Prefix=prefix)
        with translated(f"list {prefix}"):
            for page in pages:
                yield from [(row["Key"], row["Size"]) for row in page.get("Contents", [])]

    def read(self, key: str, *, bytes_max: int) -> bytes:
        """See `Store.read`."""
        content = bytearray()
        with translated(f"read {key}"):
            for chunk in self._chunks(key):
                content += chunk
                if len(content) > bytes_max:
                    raise StoreMismatch(f"read {key}: larger than the {bytes_max} bytes it may have")
        return bytes(content)

    def digest(self, key: str) -> tuple[str, int]:
        """See `Store.digest`."""
        with translated(f"read {key}"):
            return self._digest(key)

    def presigned(self, key: str, *, seconds: int) -> str:
        """See `Store.presigned`."""
        with translated(f"presign {key}"):
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
        upload = Upload(
            key=key,
            file=io.BytesIO(content),
            digests=digests_of(content),
            content_type="text/plain",
            task_id="probe",
            family="probe",
        )
        with translated(f"probe {key}"):
            for _ in range(2):
                try:
                    self._put_object(upload, conditional=True, asks_leave=True)
                except aws.ClientError as error:
                    kind = {412: ConditionalPut.RESPECTED, 501: ConditionalPut.REFUSED}.get(status(error))
                    if kind is None:
                        raise
                    return kind
        return ConditionalPut.IGNORED

    def _create(self, upload: Upload, *, asks_leave: bool) -> Put:
        try:
            etag = self._put_object(upload, conditional=self._conditional, asks_leave=asks_leave)
        except aws.ClientError as error:
            if status(error) == 412:
                return self._overtaken(upload)
            if status(error) == 501 and self._conditional:
                return self._create_without_condition(upload, asks_leave=asks_leave)
            raise
        return self._confirmed(upload, etag)

    def _create_without_condition(self, upload: Upload, *, asks_leave: bool) -> Put:
        """For a server that answers 501 to the condition. It is remembered only once the same put without the
        condition went through: a 501 may have been meant for something else, or come from a proxy in
        passing."""
        found = self._look(upload.key)
        if found is not None:
            return self._already_there(upload, found)
        etag = self._put_object(upload, conditional=False, asks_leave=asks_leave)
        self._conditional = False
        return self._confirmed(upload, etag)

    def _put_object(self, upload: Upload, *, conditional: bool, asks_leave: bool) -> str:
        """The ETag of the answer. Reads `file` from its start, whatever was read of it before."""
        upload.file.seek(0)
        asks_leave = asks_leave or self._asks_leave or upload.digests.bytes > UNASKED_BYTES_MAX
        body = Body(upload.file, sha256=upload.digests.sha256, asks_leave=asks_leave)
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
        try:
            answer = self._client.put_object(**request)
        except BaseException:
            self._asks_leave = True  # if it goes wrong again, we want to hear why
            raise
        finally:
            body.close()
        self._asks_leave = False
        return _etag(answer.get("ETag"))

    def _confirmed(self, upload: Upload, etag: str) -> Put:
        """The store said 200. An ETag that is not our MD5 may be honest (encryption) or a lie: reading
        tells."""
        if etag != upload.digests.md5 and self._digest(upload.key) != (
            upload.digests.sha256,
            upload.digests.bytes,
        ):
            raise StoreMismatch(f"put {upload.key}: the store took the object and holds other bytes")
        return upload.as_put(PutOutcome.CREATED)

    def _overtaken(self, upload: Upload) -> Put:
        """412: something is there, perhaps our own first try whose answer got lost."""
        found = self._look(upload.key)
        if found is None:
            raise StoreError(f"put {upload.key}: the store says that it is there and shows nothing")
        return self._already_there(upload, found)

    def _already_there(self, upload: Upload, found: StoredObject) -> Put:
        if found.bytes == upload.digests.bytes and found.etag == upload.digests.md5:
            return upload.as_put(PutOutcome.SAME)
        ours = found.task_id == upload.task_id
        if ours or found.bytes == upload.digests.bytes:
            sha256, size = self._digest(upload.key)
            if (sha256, size) == (upload.digests.sha256, upload.digests.bytes):
                return upload.as_put(PutOutcome.SAME)
            if ours:
                return _adopted(upload.key, found, sha256=sha256, size=size)
        raise ForeignObject(f"put {upload.key}: an object of {found.bytes} bytes that is not ours lies there")

    def _look(self, key: str) -> StoredObject | None:
        """HEAD. A missing bucket looks like a missing key here; the put or the list that follows tells."""
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=key)
        except aws.ClientError as error:
            if status(error) == 404:
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
            if status(error) == 404 and code(error) != "NoSuchBucket":
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
    return Put(outcome=PutOutcome.ADOPTED, bytes=size, sha256=sha256, content_type=found.content_type)


def _etag(value: str | None) -> str:
    """Without quotes and without the mark that proxies add when they think of compressing."""
    return (value or "").removeprefix("W/").strip('"').lower()
