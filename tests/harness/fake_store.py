"""A `Store` in memory that complains, and whose every operation can fail in two ways.

1. It complains of an object that changes, of a manifest that precedes its objects or describes them wrongly, and of an
   object that a finished folder's manifest does not name. `complaints` collects them, because an exception in a
   transfer thread would be only one more failed attempt; a test ends with ``assert store.complaints == []``.
2. Every operation calls `hook` first. ``(False, error)`` makes it fail; ``(True, error)`` makes it fail but happen,
   as when the answer is lost.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from archiver.failures import ForeignObject, ObjectUnexpected, StoreError, StoreMismatch
from archiver.store import (
    ConditionalPut,
    ListedPage,
    Put,
    PutOutcome,
    ReadObject,
    StoredObject,
    Upload,
    digests_of,
)

Hook = Callable[[str, str], tuple[bool, BaseException | None]]
"""Takes the operation (`put`, `list`, `list_after`, `head`, `read`, `digest`, `check`) and the key or folder."""


def no_fault(_operation: str, _key: str) -> tuple[bool, BaseException | None]:
    """The hook of a store that works."""
    return True, None


@dataclass(frozen=True, slots=True)
class FakeObject:
    """One object in the fake bucket."""

    content: bytes
    content_type: str
    task_id: str | None
    family: str | None
    sha256: str | None


class FakeStore:
    """One bucket. `conditional` is what it does with a second create-only put."""

    def __init__(
        self, hook: Hook = no_fault, *, conditional: ConditionalPut = ConditionalPut.RESPECTED
    ) -> None:
        self.hook = hook
        self.objects: dict[str, FakeObject] = {}
        self.unlisted: set[str] = set()
        """Keys that listings do not show yet."""
        self._complaints: list[str] = []
        self._unnamed: set[str] = set()
        """Files that came after their manifest, and that no amendment names yet."""
        self._conditional = conditional
        self.location = "fake bucket"
        self.etags_are_md5 = True
        self._lock = threading.RLock()

    # --- what a test does behind the program's back ---------------------------------------------------------

    @property
    def complaints(self) -> list[str]:
        """All that was wrong so far."""
        late = (f"{key} came after its manifest, which does not name it" for key in sorted(self._unnamed))
        return [*self._complaints, *late]

    def place(self, key: str, content: bytes, *, task_id: str | None = None) -> None:
        """A foreign object; with `task_id`, an earlier attempt of that task."""
        sha256 = hashlib.sha256(content).hexdigest() if task_id else None
        self.objects[key] = FakeObject(content, "application/octet-stream", task_id, None, sha256)

    def vanish(self, key: str) -> None:
        """The object is lost."""
        del self.objects[key]

    def all_keys(self) -> list[str]:
        """What is in the bucket."""
        return sorted(self.objects)

    def content(self, key: str) -> bytes:
        return self.objects[key].content

    # --- the protocol ---------------------------------------------------------------------------------------

    def check(self, prefix: str = "") -> None:  # noqa: ARG002 -- the protocol's signature
        self.ask("check", "")

    def put(self, upload: Upload, *, look_first: bool) -> Put:
        key = upload.key
        apply, error = self.hook("put", key)
        if not apply:
            raise error or AssertionError("a put that neither happens nor fails")
        upload.check()
        done = self.remember(upload, look_first=look_first)
        if error is not None:
            raise error
        return done

    def put_again(self, upload: Upload) -> ConditionalPut:
        self.ask("put_again", upload.key)
        upload.file.seek(0)
        if self._existing(upload.key).content != upload.file.read():
            self._complaints.append(f"{upload.key} was put again with other bytes")
        return self._conditional

    def head(self, key: str) -> StoredObject | None:
        self.ask("head", key)
        found = self.objects.get(key)
        if found is None:
            return None
        md5 = hashlib.md5(found.content, usedforsecurity=False).hexdigest()
        return StoredObject(
            bytes=len(found.content),
            etag=md5,
            content_type=found.content_type,
            sha256=found.sha256,
            task_id=found.task_id,
            family=found.family,
        )

    def list(self, folder: str) -> dict[str, int]:
        self.ask("list", folder)
        return dict(self.walk(folder))

    def walk(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, int]]:
        with self._lock:
            shown = sorted(self.objects.keys() - self.unlisted)
            sizes = [(key, len(self.objects[key].content)) for key in shown if key.startswith(prefix)]
        yield from [(key, size) for key, size in sizes if key > after]

    def list_after(self, prefix: str, *, after: str, keys_max: int) -> ListedPage:
        self.ask("list_after", prefix)
        following = list(self.walk(prefix, after=after))
        return ListedPage(dict(following[:keys_max]), is_last=len(following) <= keys_max)

    def read(self, key: str, *, bytes_max: int) -> bytes:
        return self.get(key, bytes_max=bytes_max).content

    def get(self, key: str, *, bytes_max: int) -> ReadObject:
        self.ask("read", key)
        found = self._existing(key)
        if len(found.content) > bytes_max:
            raise ObjectUnexpected(f"read {key}: larger than the {bytes_max} bytes allowed")
        return ReadObject(found.content, found.sha256)

    def digest(self, key: str, *, on_piece: Callable[[int], object] = int) -> tuple[str, int]:
        self.ask("digest", key)
        content = self._existing(key).content
        on_piece(len(content))
        return hashlib.sha256(content).hexdigest(), len(content)

    def presigned(self, key: str, *, seconds: int) -> str:
        return f"https://store.invalid/{key}?seconds={seconds}"

    # --- inside ---------------------------------------------------------------------------------------------

    def remember(self, upload: Upload, *, look_first: bool = True) -> Put:
        """Put the object, and complain where it does not fit what is there."""
        upload.file.seek(0)
        content = upload.file.read()
        if upload.digests != digests_of(content):
            raise StoreError(f"put {upload.key}: the bytes are not those of their digests")
        offered = FakeObject(
            content, upload.content_type, upload.task_id, upload.family, upload.digests.sha256
        )
        with self._lock:
            return self._put(upload.key, offered, look_first=look_first)

    def ask(self, operation: str, key: str) -> None:
        _, error = self.hook(operation, key)
        if error is not None:
            raise error

    def _existing(self, key: str) -> FakeObject:
        found = self.objects.get(key)
        if found is None:
            raise StoreMismatch(f"read {key}: no object is there")
        return found

    def _put(self, key: str, offered: FakeObject, *, look_first: bool) -> Put:
        found = self.objects.get(key)
        if found is not None and (look_first or self._conditional is not ConditionalPut.IGNORED):
            return _already_there(key, offered, found)
        if found is not None and found.content != offered.content:
            self._complaints.append(f"{key} is immutable and was overwritten with other bytes")
        self._complain_of_order(key, offered)
        self.objects[key] = offered
        return _as_put(PutOutcome.CREATED, offered)

    def _complain_of_order(self, key: str, offered: FakeObject) -> None:
        folder, _, name = key.rpartition("/")
        if name in ("manifest.json", "incomplete.json") or name.startswith("amendment-"):
            self._complain_of_manifest(key, json.loads(offered.content))
        elif f"{folder}/manifest.json" in self.objects:
            named = json.loads(self.objects[f"{folder}/manifest.json"].content)["assets"]
            if key not in [asset["key"] for asset in named]:
                self._unnamed.add(key)

    def _complain_of_manifest(self, key: str, manifest: Mapping[str, Sequence[Mapping[str, object]]]) -> None:
        if not manifest["assets"]:
            self._complaints.append(f"{key} has no assets")
        for asset in manifest["assets"]:
            self._unnamed.discard(str(asset["key"]))
            found = self.objects.get(str(asset["key"]))
            if found is None:
                self._complaints.append(f"{key} came before {asset['key']}")
            elif (len(found.content), hashlib.sha256(found.content).hexdigest()) != (
                asset["bytes"],
                asset["sha256"],
            ):
                self._complaints.append(f"{key} describes {asset['key']} wrongly")


def _already_there(key: str, offered: FakeObject, found: FakeObject) -> Put:
    if found.content == offered.content:
        return _as_put(PutOutcome.SAME, offered)
    if found.task_id == offered.task_id:
        if found.sha256 != hashlib.sha256(found.content).hexdigest():
            raise StoreMismatch(f"put {key}: an earlier attempt left a damaged object")
        return _as_put(PutOutcome.ADOPTED, found)
    raise ForeignObject(f"put {key}: a foreign object of {len(found.content)} bytes is there")


def _as_put(outcome: PutOutcome, found: FakeObject) -> Put:
    sha256 = hashlib.sha256(found.content).hexdigest()
    return Put(outcome, len(found.content), sha256, found.content_type)
