"""What every store must do: `test_s3` runs these against real servers, `test_fake_store` against the fake."""

import hashlib
import io
from collections.abc import Callable
from typing import BinaryIO

from archiver.store import Put, PutOutcome, Store, Upload, digests_of
from tests.s3_servers import S3Server

KEY = "archive/images/generations/2026/11/20/881/0.png"


CONTENT = b"\x89PNG first attempt" * 50


OTHER = b"\x89PNG other attempt" * 50


LONGER = OTHER + b"and more"


def put(
    store: Store,
    content: bytes = CONTENT,
    *,
    key: str = KEY,
    task_id: str = "881",
    look_first: bool = False,
    file: BinaryIO | None = None,
    check: Callable[[], None] = lambda: None,
) -> Put:
    """Put these bytes as the archive stage does; with `file`, its bytes under the digests of `content`. `check` stops
    it."""
    upload = Upload(
        key=key,
        file=file or io.BytesIO(content),
        digests=digests_of(content),
        content_type="image/png",
        task_id=task_id,
        family="images/generations",
        check=check,
    )
    return store.put(upload, look_first=look_first)


def outcome(kind: PutOutcome, content: bytes = CONTENT) -> Put:
    """The answer that `put` owes for these bytes."""
    return Put(kind, len(content), hashlib.sha256(content).hexdigest(), "image/png")


def stored_bytes(store: Store, key: str = KEY) -> bytes:
    return store.read(key, bytes_max=1_000_000)


def place(server: S3Server, bucket: str, content: bytes, *, key: str = KEY, **metadata: str) -> None:
    """A foreign object."""
    server.client.put_object(Bucket=bucket, Key=key, Body=content, Metadata=metadata)
