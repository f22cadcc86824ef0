"""What every store promises. No I/O."""

import dataclasses
import enum
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Protocol

PRESIGNED_SECONDS_MAX = 7 * 86_400
"""S3's own limit."""


class PutOutcome(enum.StrEnum):
    """What `put` found under the key: nothing, the same bytes, or other bytes that an earlier attempt at the task
    left."""

    CREATED = "created"
    SAME = "same"
    ADOPTED = "adopted"


class ConditionalPut(enum.StrEnum):
    """What a server does with a second create-only put."""

    RESPECTED = "respected"
    REFUSED = "refused"
    IGNORED = "ignored"


@dataclasses.dataclass(frozen=True, slots=True)
class Digests:
    """Digests and length of one file's bytes. Lower-case hex."""

    bytes: int
    sha256: str
    md5: str


def digests_of(content: bytes) -> Digests:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Digests(bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), md5=md5)


@dataclasses.dataclass(frozen=True, slots=True)
class Upload:
    """One object to create. `file` must be seekable; it is sent from its start."""

    key: str
    file: BinaryIO
    digests: Digests
    content_type: str
    task_id: str
    family: str
    check: Callable[[], None]
    """Raises when the put must stop, because the caller's lease is over. Called before each piece."""

    def as_put(self, outcome: PutOutcome) -> "Put":
        """The answer of a `put` that leaves these bytes under the key."""
        return Put(outcome, self.digests.bytes, self.digests.sha256, self.content_type)


@dataclasses.dataclass(frozen=True, slots=True)
class Put:
    """What is under the key now. For an adopted object these are its own bytes, not those of the upload."""

    outcome: PutOutcome
    bytes: int
    sha256: str
    """Lower-case hex. Proven by the store or by reading, not taken from the object's metadata."""
    content_type: str


@dataclasses.dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as its headers describe it. Its metadata are claims; `digest` proves them."""

    bytes: int
    etag: str
    """Unquoted, lower case. The MD5 of the bytes, unless the store encrypts or assembled the object from parts."""
    content_type: str
    sha256: str | None
    task_id: str | None
    family: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class ReadObject:
    """An object that was read."""

    content: bytes = dataclasses.field(repr=False)
    claimed_sha256: str | None
    """In its metadata, from the put; None where a store or a copy has lost it."""


@dataclasses.dataclass(frozen=True, slots=True)
class ListedPage:
    """Part of a listing, in the store's order."""

    sizes: Mapping[str, int]
    """Key → bytes."""
    is_last: bool
    """No key follows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Presigned:
    """A URL that needs no credentials. It is a secret while it is good."""

    url: str = dataclasses.field(repr=False)
    seconds: int
    """For how long it is good."""


class Store(Protocol):
    """Where objects go for good. Thread-safe.

    When `put` returns, the object is durable, in place and equal to the `Put` returned. When it raises, the object may
    be there all the same, because an answer can be lost: call again with `look_first=True`, which is idempotent. Reads
    are strongly consistent, except that `list` lags behind `put` on some stores: ask `head` before you count an
    unlisted object as missing.

    Every method raises only `Failure`: those of `failures.store`. Some are named with their method.
    """

    location: str
    """Endpoint and bucket."""
    etags_are_md5: bool
    """False once it has answered a put with another ETag than the MD5 of the bytes, as with KMS."""

    def check(self, prefix: str = "") -> None:
        """Return if the bucket exists and lets us list below `prefix`. Writes nothing, and tells within seconds."""

    def put(self, upload: Upload, *, look_first: bool) -> Put:
        """Create the object. Every attempt but the first must set `look_first`.

        Raises `ForeignObject` when other bytes that are not this task's lie under the key, `StoreMismatch` when the
        store took the bytes and holds others, `UploadTooLarge` for a 413, `PutTimeout` when all of it takes longer
        than half an hour, and what `upload.check` raises.
        """

    def put_again(self, upload: Upload) -> ConditionalPut:
        """Put the same bytes under a key that has them: what the store does with it. Only for small objects."""

    def head(self, key: str) -> StoredObject | None:
        """None if there is no object."""

    def list(self, folder: str) -> dict[str, int]:
        """Every key that begins with `folder`, with its bytes. Meant for one task's folder."""

    def walk(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, int]]:
        """The same for a whole bucket, page by page, in the store's order; only what comes after `after`."""

    def list_after(self, prefix: str, *, after: str, keys_max: int) -> ListedPage:
        """Up to `keys_max` of the keys that begin with `prefix` and come after `after`. One request."""

    def read(self, key: str, *, bytes_max: int) -> bytes:
        """The object's bytes. Raises `StoreMismatch` when it is missing or larger than `bytes_max`."""

    def get(self, key: str, *, bytes_max: int) -> ReadObject:
        """The same with what its metadata claim."""

    def digest(self, key: str, *, on_piece: Callable[[int], object] = int) -> tuple[str, int]:
        """The object's SHA-256 (hex) and size, by reading all of it. Raises `StoreMismatch` if it is missing.

        `on_piece` is called with the bytes of each piece; what it raises ends the reading, and passes.
        """

    def presigned(self, key: str, *, seconds: int) -> str:
        """A URL that reads the object without credentials, for at most `PRESIGNED_SECONDS_MAX`, and no longer than our
        own credentials last. No request, but to the source of the credentials where they have to be renewed."""
