"""What a store promises, whichever it is: the protocol, and the values that its methods give. No I/O."""

import dataclasses
import enum
import hashlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol

PRESIGNED_SECONDS_MAX = 7 * 86_400
"""S3's own limit."""


class PutOutcome(enum.StrEnum):
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
class Digests:
    """A file's size and its digests in lower-case hex."""

    bytes: int
    sha256: str
    md5: str


def digests_of(content: bytes) -> Digests:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Digests(bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), md5=md5)


@dataclasses.dataclass(frozen=True, slots=True)
class Upload:
    """One object to create. Stores send all of `file`, which must be seekable, whatever its position."""

    key: str
    file: BinaryIO
    digests: Digests
    content_type: str
    task_id: str
    family: str

    def as_put(self, outcome: PutOutcome) -> "Put":
        """What lies under the key once these very bytes do."""
        return Put(outcome, self.digests.bytes, self.digests.sha256, self.content_type)


@dataclasses.dataclass(frozen=True, slots=True)
class Put:
    """What lies under the key now. For an adopted object that is not what was offered."""

    outcome: PutOutcome
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

    def put(self, upload: Upload, *, look_first: bool) -> Put:
        """Create the object. `look_first` belongs to every attempt but the first.

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
