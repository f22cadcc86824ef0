"""Finds out with one small object what a store can do: real stores differ where S3's documentation is clear.

The object is always the same and stays in the bucket, because the program asks for no right to delete. Nothing else is
written.
"""

import dataclasses
import io

from archiver.store.protocol import ConditionalPut, StoredObject, Upload, digests_of
from archiver.store.s3 import S3Store

KEY = "kling-archiver/doctor.txt"
"""Below the account's prefix. No family has this name."""
CONTENT = (
    b"`kling-archiver doctor` puts this object to see what the store can do.\n"
    b"It is the same each time, and may be deleted.\n"
)
_CONTENT_TYPE = "text/plain"
_NAME = "doctor"
"""In place of task id and family."""


@dataclasses.dataclass(frozen=True, slots=True)
class Abilities:
    """The abilities that one object has shown."""

    key: str
    second_put: ConditionalPut
    etag_is_md5: bool
    is_listed: bool
    """A LIST right after the put shows it."""
    keeps_metadata: bool
    keeps_content_type: bool
    checks_md5: bool
    """A put whose Content-MD5 is wrong is refused."""


def probe(store: S3Store, prefix: str) -> Abilities:
    """Put the object below `prefix` and look at it. Raises Failure, ForeignObject where other bytes have its key."""
    upload = _upload(prefix + KEY)
    store.put(upload, look_first=True)
    second_put = store.put_again(upload)
    found = store.head(upload.key) or StoredObject(0, "", "", None, None, None)
    return Abilities(
        key=upload.key,
        second_put=second_put,
        etag_is_md5=found.etag == upload.digests.md5,
        is_listed=store.list(upload.key).get(upload.key) == upload.digests.bytes,
        keeps_metadata=(found.sha256, found.task_id, found.family) == (upload.digests.sha256, _NAME, _NAME),
        keeps_content_type=found.content_type.partition(";")[0] == _CONTENT_TYPE,
        checks_md5=store.refuses_damage(upload),
    )


def _upload(key: str) -> Upload:
    return Upload(
        key=key,
        file=io.BytesIO(CONTENT),
        digests=digests_of(CONTENT),
        content_type=_CONTENT_TYPE,
        task_id=_NAME,
        family=_NAME,
        check=lambda: None,
    )
