"""Where results go for good: the only package that speaks S3.

`protocol` says what a store promises, `s3` keeps it; `reader` has its reads. `client`, `body`, `expect_continue` and
`redirects` make boto3 send it; `errors` turns boto3's exceptions into failures. `links` signs our own URLs,
`object_streams` reads what they lead to. `probing` finds out what a store can do.
"""

from archiver.store.protocol import (
    PRESIGNED_SECONDS_MAX,
    ConditionalPut,
    Digests,
    ListedPage,
    Presigned,
    Put,
    PutOutcome,
    ReadObject,
    Store,
    StoredObject,
    Upload,
    digests_of,
)
from archiver.store.s3 import S3Store

__all__ = [
    "PRESIGNED_SECONDS_MAX",
    "ConditionalPut",
    "Digests",
    "ListedPage",
    "Presigned",
    "Put",
    "PutOutcome",
    "ReadObject",
    "S3Store",
    "Store",
    "StoredObject",
    "Upload",
    "digests_of",
]
