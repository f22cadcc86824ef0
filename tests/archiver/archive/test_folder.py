"""One task's folder: what counts as being there, and a manifest that is seen once it was put."""

import pytest

from archiver.archive.folder import TaskFolder
from archiver.archive.manifest import Manifest
from archiver.failures import StoreMismatch
from archiver.model import DiscoveredBy, Role, StoredAsset
from archiver.store import PutOutcome
from tests.harness.fake_store import FakeStore

PATH = "images/generations/2026/11/20/881/"
CONTENT = b"\x89PNG"


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def folder(store: FakeStore) -> TaskFolder:
    return TaskFolder(store, PATH, check=lambda: None)


def asset(*, name: str = "0.png", size: int = len(CONTENT)) -> StoredAsset:
    return StoredAsset(
        stem=name.partition(".")[0],
        name=name,
        key=PATH + name,
        role=Role.IMAGE,
        index=0,
        watermarked=False,
        bytes=size,
        sha256="0" * 64,
        content_type="image/png",
        width=24,
        height=24,
        source_url="https://cdn.example/0.png",
    )


def manifest_of(*, archived_at: int = 2_000) -> Manifest:
    return Manifest(
        account="default",
        family="images/generations",
        task_id="881",
        external_task_id=None,
        created_at=1_000,
        updated_at=None,
        archived_at=archived_at,
        discovered_by=DiscoveredBy.CALLBACK,
        assets=(asset(),),
        request=None,
        task={},
    )


def operations(store: FakeStore) -> list[str]:
    """What the store is asked from now on."""
    asked: list[str] = []

    def hook(operation: str, _key: str) -> tuple[bool, BaseException | None]:
        asked.append(operation)
        return True, None

    store.hook = hook
    return asked


def test_the_listing_gives_a_size_without_asking_for_the_object(store: FakeStore, folder: TaskFolder) -> None:
    store.place(PATH + "0.png", CONTENT)
    contents = folder.contents()
    asked = operations(store)

    assert folder.size_of(PATH + "0.png", contents) == len(CONTENT)
    assert asked == []


def test_an_object_that_the_listing_lacks_is_asked_for(store: FakeStore, folder: TaskFolder) -> None:
    store.place(PATH + "0.png", CONTENT)

    assert folder.size_of(PATH + "0.png", {}) == len(CONTENT)
    assert folder.size_of(PATH + "1.png", {}) is None


def test_objects_that_are_there_in_their_sizes_pass(store: FakeStore, folder: TaskFolder) -> None:
    store.place(PATH + "0.png", CONTENT)
    store.place(PATH + "1.png", CONTENT)
    store.unlisted.add(PATH + "1.png")

    folder.require([asset(), asset(name="1.png")])


@pytest.mark.parametrize("missing", [asset(name="1.png"), asset(size=3)])
def test_an_object_that_is_missing_or_has_another_size_is_a_mismatch(
    store: FakeStore, folder: TaskFolder, missing: StoredAsset
) -> None:
    store.place(PATH + "0.png", CONTENT)

    with pytest.raises(StoreMismatch, match=missing.key):
        folder.require([missing])


def test_a_manifest_is_put_seen_and_read_back(store: FakeStore, folder: TaskFolder) -> None:
    asked = operations(store)

    assert folder.put_manifest(manifest_of(), look_first=False) is PutOutcome.CREATED
    assert asked == ["put", "head"]
    assert folder.read_manifest() == manifest_of()
    head = store.head(folder.manifest_key)
    assert head is not None
    assert (head.content_type, head.task_id, head.family) == ("application/json", "881", "images/generations")


def test_the_manifest_of_another_attempt_is_left_and_named_adopted(folder: TaskFolder) -> None:
    folder.put_manifest(manifest_of(), look_first=False)
    later = manifest_of(archived_at=3_000)

    assert folder.put_manifest(later, look_first=False) is PutOutcome.ADOPTED
    assert folder.read_manifest() == manifest_of()


def test_a_manifest_that_the_store_did_not_keep_is_a_mismatch(store: FakeStore, folder: TaskFolder) -> None:
    def forget(operation: str, key: str) -> tuple[bool, BaseException | None]:
        if operation == "head":
            store.vanish(key)
        return True, None

    store.hook = forget

    with pytest.raises(StoreMismatch, match="does not have it"):
        folder.put_manifest(manifest_of(), look_first=False)
