"""Reads of one bucket: LIST, HEAD, GET, and URLs that others read by. Errors are boto3's own: `s3` translates them."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import boto3
from botocore import exceptions as aws

from archiver.failures import ObjectUnexpected, StoreMismatch
from archiver.pulses.pulse import beat
from archiver.store.client import seconds_left
from archiver.store.errors import code, status
from archiver.store.protocol import PRESIGNED_SECONDS_MAX, ListedPage, Presigned, ReadObject, StoredObject

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

CHUNK_BYTES = 1024 * 1024


class BucketReader:
    """Reads objects of one bucket. Each method promises what `Store` promises of the method of its name."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        # Once: each new paginator searches botocore's folders for the service's model.
        self._listing = client.get_paginator("list_objects_v2")

    def head(self, key: str) -> StoredObject | None:
        """A missing bucket looks like a missing key; a put or list tells them apart."""
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=key)
        except aws.ClientError as error:
            if status(error) == 404:
                return None
            raise
        claims = _claims(answer.get("Metadata", {}))
        return StoredObject(
            bytes=answer["ContentLength"],
            etag=plain_etag(answer.get("ETag")),
            content_type=answer.get("ContentType", ""),
            sha256=claims.get("sha256"),
            task_id=claims.get("task-id"),
            family=claims.get("family"),
        )

    def walk(self, prefix: str, *, after: str) -> Iterator[tuple[str, int]]:
        list_pages = functools.partial(self._listing.paginate, Bucket=self._bucket, Prefix=prefix)
        for page in list_pages(StartAfter=after) if after else list_pages():
            # Some gateways ignore StartAfter.
            yield from [(row["Key"], row["Size"]) for row in page.get("Contents", []) if row["Key"] > after]

    def list_after(self, prefix: str, *, after: str, keys_max: int) -> ListedPage:
        page = self._client.list_objects_v2(
            Bucket=self._bucket, Prefix=prefix, StartAfter=after, MaxKeys=keys_max
        )
        sizes = {row["Key"]: row["Size"] for row in page.get("Contents", [])}
        return ListedPage(sizes, is_last=not page.get("IsTruncated", False))

    def get(self, key: str, *, bytes_max: int) -> ReadObject:
        content = bytearray()
        answer = self._get_object(key)
        for chunk in _chunks(answer["Body"]):
            content += chunk
            if len(content) > bytes_max:
                raise ObjectUnexpected(f"read {key}: larger than the {bytes_max} bytes allowed")
        return ReadObject(bytes(content), _claims(answer.get("Metadata", {})).get("sha256"))

    def digest(self, key: str, *, on_piece: Callable[[int], object]) -> tuple[str, int]:
        running, size = hashlib.sha256(), 0
        for chunk in _chunks(self._get_object(key)["Body"]):
            beat()
            on_piece(len(chunk))
            running.update(chunk)
            size += len(chunk)
        return running.hexdigest(), size

    def presign(
        self,
        key: str,
        *,
        seconds: int,
        method: Literal["GET", "HEAD"],
        file_name: str | None,
        session: boto3.Session | None,
    ) -> Presigned:
        """`session` is that of the credentials, whose end is the end of the URL too."""
        params = {"Bucket": self._bucket, "Key": key}
        if file_name is not None:
            params["ResponseContentDisposition"] = f'attachment; filename="{file_name}"'
        left = seconds_left(session) if session is not None else None
        good = max(1, min(seconds, PRESIGNED_SECONDS_MAX, *([] if left is None else [left])))
        operation = "get_object" if method == "GET" else "head_object"
        url = self._client.generate_presigned_url(operation, Params=params, ExpiresIn=good)
        return Presigned(url, good)

    def _get_object(self, key: str) -> "GetObjectOutputTypeDef":
        try:
            return self._client.get_object(Bucket=self._bucket, Key=key)
        except aws.ClientError as error:
            if status(error) == 404 and code(error) != "NoSuchBucket":
                raise StoreMismatch(f"read {key}: no object is there") from error
            raise


def plain_etag(value: str | None) -> str:
    """Without the quotes and the weak mark `W/` that some proxies add."""
    return (value or "").removeprefix("W/").strip('"').lower()


def _chunks(body: "StreamingBody") -> Iterator[bytes]:
    """A body that ends early raises: boto3 checks Content-Length."""
    with contextlib.closing(body):
        yield from body.iter_chunks(CHUNK_BYTES)


def _claims(metadata: Mapping[str, str]) -> dict[str, str]:
    """Some gateways change the case of metadata names."""
    return {name.lower(): value for name, value in metadata.items()}
