"""`FakeStore` before a bucket on a real S3 server: the server answers, the fake one complains."""

import hashlib
from collections.abc import Callable, Iterator

from archiver.store import ConditionalPut, ListedPage, Put, ReadObject, S3Store, StoredObject, Upload
from tests.harness.fake_store import FakeStore


class RealBucket(FakeStore):
    """Every operation asks `hook`, then the server. What was put is also kept in `objects`, for the complaints."""

    def __init__(self, store: S3Store) -> None:
        super().__init__()
        self._store = store
        self.location = store.location

    def all_keys(self) -> list[str]:
        return [key for key, _ in self._store.walk("")]

    def content(self, key: str) -> bytes:
        content = self._store.read(key, bytes_max=1024 * 1024)
        assert hashlib.sha256(content).digest() == hashlib.sha256(super().content(key)).digest()
        return content

    def vanish(self, key: str) -> None:
        super().vanish(key)
        self._store._client.delete_object(Bucket=self._store._bucket, Key=key)  # noqa: SLF001 -- the product never deletes

    def put(self, upload: Upload, *, look_first: bool) -> Put:
        apply, error = self.hook("put", upload.key)
        if not apply:
            raise error or AssertionError("a put that neither happens nor fails")
        done = self._store.put(upload, look_first=look_first)
        self.remember(upload)
        if error is not None:
            raise error
        return done

    def put_again(self, upload: Upload) -> ConditionalPut:
        self.ask("put_again", upload.key)
        return self._store.put_again(upload)

    def check(self, prefix: str = "") -> None:
        self.ask("check", "")
        self._store.check(prefix)

    def head(self, key: str) -> StoredObject | None:
        self.ask("head", key)
        return self._store.head(key)

    def list(self, folder: str) -> dict[str, int]:
        self.ask("list", folder)
        return self._store.list(folder)

    def walk(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, int]]:
        return self._store.walk(prefix, after=after)

    def list_after(self, prefix: str, *, after: str, keys_max: int) -> ListedPage:
        self.ask("list_after", prefix)
        return self._store.list_after(prefix, after=after, keys_max=keys_max)

    def read(self, key: str, *, bytes_max: int) -> bytes:
        self.ask("read", key)
        return self._store.read(key, bytes_max=bytes_max)

    def get(self, key: str, *, bytes_max: int) -> ReadObject:
        self.ask("read", key)
        return self._store.get(key, bytes_max=bytes_max)

    def digest(self, key: str, *, on_piece: Callable[[int], object] = int) -> tuple[str, int]:
        self.ask("digest", key)
        return self._store.digest(key, on_piece=on_piece)

    def presigned(self, key: str, *, seconds: int) -> str:
        return self._store.presigned(key, seconds=seconds)
