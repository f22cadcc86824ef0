"""One task's folder in the bucket: what lies there, and the manifest that completes it."""

import dataclasses
import io
from collections.abc import Callable, Iterable, Mapping

from archiver.archive import manifest
from archiver.archive.manifest import Manifest
from archiver.failures import StoreMismatch
from archiver.model import StoredAsset
from archiver.store import ConditionalPut, PutOutcome, Store, Upload, digests_of


@dataclasses.dataclass(frozen=True)
class TaskFolder:
    """`path` ends in a slash. `check` raises LeaseLost once the task's lease has ended."""

    store: Store
    path: str
    check: Callable[[], None]

    @property
    def manifest_key(self) -> str:
        return self.path + manifest.FILE_NAME

    def contents(self) -> dict[str, int]:
        return self.store.list(self.path)

    def size_of(self, key: str, contents: Mapping[str, int]) -> int | None:
        """The object's bytes, None if it is missing. A listing may lag, so HEAD decides about a key that it lacks."""
        if key in contents:
            return contents[key]
        found = self.store.head(key)
        return None if found is None else found.bytes

    def require(self, stored: Iterable[StoredAsset]) -> None:
        """List the folder. Raises StoreMismatch unless every object is there in its size."""
        contents = self.contents()
        for asset in stored:
            size = self.size_of(asset.key, contents)
            if size != asset.bytes:
                raise StoreMismatch(f"{asset.key} should have {asset.bytes} bytes and has {size}")

    def read_manifest(self) -> Manifest:
        """Raises ManifestUnreadable, or StoreMismatch."""
        return self.read(self.manifest_key)

    def read(self, key: str) -> Manifest:
        """A manifest or an amendment. Raises ManifestUnreadable, or StoreMismatch."""
        return Manifest.from_bytes(self.store.read(key, bytes_max=manifest.BYTES_MAX))

    def amendment_key(self, number: int) -> str:
        return self.path + manifest.amendment_name(number)

    def put_manifest(
        self, content: Manifest, *, look_first: bool, key: str | None = None, trusted: bool = False
    ) -> PutOutcome:
        """Put the manifest (or, at `key`, an amendment) and look at it with HEAD. ADOPTED: an earlier attempt has put
        one, and that one counts.

        Some stores answer a put with the right ETag and keep nothing. This HEAD finds that at once, a second look finds
        it within the hour. So the HEAD is left out where the store is `trusted` and its ETags prove the bytes. Raises
        StoreMismatch.
        """
        upload = self._upload(content, key or self.manifest_key)
        outcome = self.store.put(upload, look_first=look_first).outcome
        if outcome is PutOutcome.ADOPTED or (trusted and self.store.etags_are_md5):
            return outcome
        found = self.store.head(upload.key)
        if found is None or found.bytes != upload.digests.bytes:
            raise StoreMismatch(f"{upload.key} was put, and the store does not have it")
        return outcome

    def put_manifest_again(self, content: Manifest) -> ConditionalPut:
        """Put a manifest that the store has already; what the store did with the second put."""
        return self.store.put_again(self._upload(content, self.manifest_key))

    def _upload(self, content: Manifest, key: str) -> Upload:
        body = content.to_bytes()
        return Upload(
            key=key,
            file=io.BytesIO(body),
            digests=digests_of(body),
            content_type=manifest.CONTENT_TYPE,
            task_id=content.task_id,
            family=content.family,
            check=self.check,
        )
