"""The walk through a bucket: every folder with its documents, in order, in bounded memory."""

import dataclasses
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from archiver.archive.manifest import ManifestUnreadable
from archiver.audit.manifests import (
    FOLDER_KEYS_MAX,
    DocumentedFolder,
    list_folders,
    read_folders,
)
from archiver.audit.places import Span, TaskPlace
from archiver.audit.sums import Sum, sums
from archiver.audit.unread import FAILURES_IN_A_ROW_MAX, REFUSALS_AT_FIRST_MAX
from archiver.failures import (
    BucketForbidden,
    Failure,
    ForeignObject,
    Stopped,
    StoreAnswerUnreadable,
    StoreUnreachable,
)
from tests.harness.archived_tasks import ArchivedTask
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import DAY, FAMILY, START
from tests.harness.patience import patient
from tests.s3_servers import S3Server

DAY_OF_START = "2026/09/21"


def walked(store: FakeStore, **options: Any) -> list[DocumentedFolder]:
    return list(read_folders(patient(store), prefix="kling/", **options))


def task(task_id: str, **changed: Any) -> ArchivedTask:
    return ArchivedTask(task_id, prefix="kling/", **changed)


def test_every_folder_comes_with_its_manifest_and_amendments_in_the_order_of_the_keys(
    swift_server: S3Server, swift_bucket: str
) -> None:
    store = swift_server.store(swift_bucket)
    ids = ["10", "9", "9-1", "9.1", "a~b"]
    for task_id in ids:
        task(task_id).put(store, files=2, amended=2 if task_id == "9" else 0)

    found = list(read_folders(patient(store), prefix="kling/"))

    folders = [folder.listed.path for folder in found]
    assert folders == sorted(task(task_id).folder for task_id in ids)
    by_id = {folder.manifest.task_id: folder for folder in found if folder.manifest}
    assert set(by_id) == set(ids)
    names = [document.key.rpartition("/")[2] for document in by_id["9"].documents]
    assert names == ["manifest.json", "amendment-1.json", "amendment-2.json"]
    assert [len(each.manifest.assets) for each in by_id["9"].documents if each.manifest] == [2, 1, 1]


def test_a_walk_goes_on_after_any_folder() -> None:
    store = FakeStore()
    for number in range(20):
        task(f"{number}").put(store)
    for stray in (".DS_Store", "README.md", "images/.DS_Store", "images/generations/z", "z"):
        store.place(f"kling/{stray}", b"x")
    everything = [folder.listed for folder in walked(store)]

    for place, folder in enumerate(everything):
        rest = [each.listed.path for each in walked(store, after=folder.end)]
        assert rest == [each.path for each in everything[place + 1 :]]


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (Span(), ["a", "b", "c", "d", "e"]),
        (Span(family=FAMILY), ["a", "b", "c"]),
        (Span(since_day="2026/09/22"), ["b", "c", "e"]),
        (Span(until_day="2026/09/21"), ["a", "d"]),
        (Span(since_day="2026/09/22", until_day="2026/09/22"), ["b", "e"]),
        (Span(family="videos/text2video", until_day="2026/09/21"), ["d"]),
    ],
)
def test_only_the_folders_of_the_span_come(span: Span, expected: list[str]) -> None:
    store = FakeStore()
    for number, task_id in enumerate("abc"):
        task(task_id, created_at=START + number * DAY).put(store)
    for number, task_id in enumerate("de"):
        task(task_id, family="videos/text2video", created_at=START + number * DAY).put(store)

    assert [folder.manifest.task_id for folder in walked(store, span=span) if folder.manifest] == expected


class CountingStore(FakeStore):
    """Counts the keys that its listings show."""

    shown = 0

    def walk(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, int]]:
        for found in super().walk(prefix, after=after):
            self.shown += 1
            yield found


def test_a_family_whose_name_begins_with_anothers_is_not_skipped_with_it() -> None:
    store = FakeStore()
    task("late", family="images/editing", created_at=START + 5 * DAY).put(store)
    for family in ("images/editing/expand", "images/editing-2"):
        task(family.replace("/", "-"), family=family).put(store)

    found = [
        folder.manifest.family
        for folder in walked(store, span=Span(until_day=DAY_OF_START))
        if folder.manifest
    ]

    assert sorted(found) == ["images/editing-2", "images/editing/expand"]


def test_a_year_outside_the_span_is_skipped_in_one_step() -> None:
    store = CountingStore()
    for number in range(200):
        task(f"{number}").put(store)
    wanted = task("wanted", created_at=START + 400 * DAY)
    wanted.put(store)

    folders = list_folders(patient(store), prefix="kling/", span=Span(since_day="2027/01/01"))

    assert [folder.path for folder in folders] == [wanted.folder]
    assert store.shown == 3, "one key of the old folders, and the two of the wanted one"


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"{", ManifestUnreadable, "not JSON"),
        (b"{}", ManifestUnreadable, "has no schema_version"),
        (task("other").manifest(task("other").asset(0)).to_bytes(), ForeignObject, "another task"),
        (task("881").manifest(task("other").asset(0)).to_bytes(), ForeignObject, "no file of its folder"),
        (task("881").manifest().to_bytes(), ForeignObject, "names no file"),
        (
            task("881").manifest(task("881").asset(0), amends="manifest.json").to_bytes(),
            ForeignObject,
            "not what its name says",
        ),
    ],
)
def test_a_manifest_that_cannot_be_used_comes_with_the_reason(
    content: bytes, kind: type[Exception], words: str
) -> None:
    store = FakeStore()
    store.place(task("881").folder + "manifest.json", content)

    (folder,) = walked(store)

    (document,) = folder.documents
    assert folder.manifest is None
    assert isinstance(document.failure, kind)
    assert words in str(document.failure)


def test_folders_of_no_task_come_without_documents_and_marks_of_folders_and_of_doctor_are_left_out() -> None:
    store = FakeStore()
    for key in ("kling/readme.txt", "kling/a/manifest.json", "kling/images/generations/2026/9/1/x/0.png"):
        store.place(key, b"x")
    store.place("kling/images/", b"")
    store.place("kling/kling-archiver/doctor.txt", b"of `doctor`")
    task("881").put(store)

    found = walked(store)

    assert [folder.listed.path for folder in found if folder.listed.place is None] == [
        "kling/a/",
        "kling/images/generations/2026/9/1/x/",
        "kling/",
    ]
    assert [folder.documents for folder in found if folder.listed.place is None] == [(), (), ()]
    assert [folder.manifest.task_id for folder in found if folder.manifest] == ["881"]


def test_a_folder_flooded_with_foreign_objects_keeps_its_manifest_and_few_keys() -> None:
    store = FakeStore()
    task("881").put(store)
    for number in range(FOLDER_KEYS_MAX + 5):
        store.place(f"{task('881').folder}foreign-{number}", b"")

    (folder,) = walked(store)

    assert folder.manifest is not None
    assert folder.listed.keys == FOLDER_KEYS_MAX + 7
    assert len(folder.listed.sizes) == FOLDER_KEYS_MAX + 1


def test_folders_are_listed_only_as_far_ahead_as_they_are_worked_on() -> None:
    store = FakeStore()
    for number in range(100):
        task(f"{number}").put(store)
    listed = itertools.count()

    def is_meant(_folder: object) -> bool:
        next(listed)
        return True

    folders = read_folders(patient(store), prefix="kling/", threads=2, is_meant=is_meant)
    next(folders)
    folders.close()

    assert next(listed) <= 2 * 4 + 1


def test_the_walk_waits_for_a_store_that_fails_for_minutes_and_continues_where_it_was() -> None:
    store = FakeStore()
    for number in range(5):
        task(f"{number}").put(store)
    failures = iter(range(6))
    told: list[str] = []

    def hook(operation: str, _key: str) -> tuple[bool, BaseException | None]:
        fails = operation in ("read", "head") and next(failures, None) is not None
        return not fails, StoreUnreachable("no route") if fails else None

    store.hook = hook
    reader = patient(store, on_trouble=lambda error: told.append(str(error)))

    found = list(read_folders(reader, prefix="kling/", threads=1))

    assert [folder.manifest is not None for folder in found] == [True] * 5
    assert told[0] == "no route"


def test_a_store_that_never_comes_back_ends_the_walk_with_its_failure() -> None:
    store = FakeStore()
    task("881").put(store)
    store.hook = lambda operation, _: (
        (False, StoreUnreachable("no route")) if operation in ("read", "check") else (True, None)
    )

    with pytest.raises(StoreUnreachable, match="no route"):
        walked(store)


def test_a_document_that_the_store_refuses_is_one_failure_and_the_walk_goes_on() -> None:
    store = FakeStore()
    for number in range(3):
        task(f"88{number}").put(store)
    secret = f"{task('881').folder}manifest.json"
    store.hook = lambda operation, key: (
        True,
        BucketForbidden("403") if (operation, key) == ("read", secret) else None,
    )

    found = walked(store)

    assert [folder.manifest is not None for folder in found] == [True, False, True]
    assert isinstance(found[1].documents[0].failure, BucketForbidden)


@pytest.mark.parametrize(
    ("failure", "most"),
    [
        (BucketForbidden("403"), REFUSALS_AT_FIRST_MAX),
        (StoreAnswerUnreadable("half"), FAILURES_IN_A_ROW_MAX),
    ],
)
def test_a_bucket_that_refuses_every_document_ends_the_walk(failure: Failure, most: int) -> None:
    store = FakeStore()
    for number in range(most + 5):
        task(f"{number:03d}").put(store)
    store.hook = lambda operation, _: (True, failure if operation == "read" else None)
    folders = read_folders(patient(store), prefix="kling/")

    assert len(list(itertools.islice(folders, most - 1))) == most - 1
    with pytest.raises(type(failure)):
        next(folders)


@pytest.mark.parametrize("is_first", [True, False])
def test_documents_that_a_policy_refuses_hide_none_behind_them(is_first: bool) -> None:
    """However many, once any was read; else as many as a few folders have."""
    store = FakeStore()
    count = REFUSALS_AT_FIRST_MAX - 1 if is_first else 2 * REFUSALS_AT_FIRST_MAX
    for number in range(count):
        task(f"5{number:03d}").put(store)
    for task_id in ("9", *([] if is_first else ["1"])):
        task(task_id).put(store)
    store.hook = lambda operation, key: (
        True,
        BucketForbidden("403") if operation == "read" and "/5" in key else None,
    )

    found = walked(store)

    assert len([folder for folder in found if folder.manifest is None]) == count
    assert found[-1].manifest is not None


def test_a_stop_ends_the_walk() -> None:
    store = FakeStore()
    task("881").put(store)
    stop = threading.Event()
    stop.set()

    with pytest.raises(Stopped):
        list(read_folders(patient(store, stop=stop), prefix="kling/"))


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("kling/images/generations/2026/11/20/881/0.png", ("images/generations", "881")),
        ("kling/images/editing/expand/2026/11/20/881/a/b.png", ("images/editing/expand", "881")),
        ("kling/tasks/try_on/2026/11/20/881/0.png", ("tasks/try_on", "881")),
        ("images/generations/2026/11/20/881/0.png", None),
        ("kling/images/generations/2026/11/20/881/", None),
        ("kling/images/generations/2026/11/20/../0.png", None),
        ("kling/generations/2026/11/20/881/0.png", None),
        ("kling/Images/generations/2026/11/20/881/0.png", None),
    ],
)
def test_the_place_of_a_key(key: str, expected: tuple[str, str] | None) -> None:
    place = TaskPlace.of_key(key, prefix="kling/")

    assert (place and (place.family, place.task_id)) == expected


def test_a_file_that_two_documents_name_differently_has_the_sum_of_the_manifest_and_is_reported() -> None:
    store = FakeStore()
    once = task("881")
    once.put(store, amended=1)
    other = dataclasses.replace(once.asset(0), sha256="0" * 64)
    store.vanish(f"{once.folder}amendment-1.json")
    amendment = once.manifest(other, once.asset(1), amends="manifest.json")
    store.place(f"{once.folder}amendment-1.json", amendment.to_bytes())

    found = list(sums(patient(store), prefix="kling/", names=frozenset({once.account}), span=Span()))

    lines = {each.key: each.sha256 for each in found if isinstance(each, Sum)}
    (failure,) = [each for each in found if not isinstance(each, Sum)]
    assert len(found) == len(lines) + 1, "one line a key"
    assert lines[once.asset(0).key] == once.asset(0).sha256
    assert str(failure) == f"{once.asset(0).key}: its folder's manifests name different sums"
