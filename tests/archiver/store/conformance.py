"""What every store must do: `test_s3` runs these against real servers, `test_fake_store` against the fake."""

import hashlib
import io
from typing import BinaryIO

from archiver.store import Put, PutOutcome, Store

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
) -> Put:
    """Offer these bytes as the archive stage does."""
    return store.put(
        key,
        file or io.BytesIO(content),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        md5=hashlib.md5(content).hexdigest(),  # noqa: S324 -- what S3 calls an ETag
        content_type="image/png",
        task_id=task_id,
        family="images/generations",
        look_first=look_first,
    )


def outcome(kind: PutOutcome, content: bytes = CONTENT) -> Put:
    """The answer that `put` owes for these bytes."""
    return Put(kind, len(content), hashlib.sha256(content).hexdigest(), "image/png")


def lies(store: Store, key: str = KEY) -> bytes:
    return store.read(key, bytes_max=1_000_000)
