"""Broken documents and missing files: each is reported, and the run goes on."""

import pytest

from archiver.audit.unread import REFUSALS_AT_FIRST_MAX
from archiver.failures import BucketForbidden
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import ACCOUNT, DAY, START, Desk
from tests.harness.rebuilt import counted, rebuild, task


def broken(store: FakeStore) -> dict[str, str]:
    """Key → a word of what is said of it."""
    whole = task("1")
    others = {
        "not json": (task("2"), b"{"),
        "another account's": (
            task("3"),
            task("3", account="stranger").manifest(task("3").asset(0)).to_bytes(),
        ),
        "another task's": (task("4"), whole.manifest(whole.asset(0)).to_bytes()),
        "of another day": (
            task("5"),
            task("5", created_at=START + DAY).manifest(task("5").asset(0)).to_bytes(),
        ),
        "without a file": (task("6"), task("6").manifest().to_bytes()),
        "with files elsewhere": (task("7"), task("7").manifest(whole.asset(0)).to_bytes()),
    }
    words = ("JSON", "stranger", "another task", "another task", "no file", "no file of its folder")
    for lies, content in others.values():
        store.place(f"{lies.folder}manifest.json", content)
    return {
        f"{lies.folder}manifest.json": word for (lies, _), word in zip(others.values(), words, strict=True)
    }


def test_each_broken_manifest_is_reported_and_the_run_goes_on(desk: Desk, store: FakeStore) -> None:
    said = broken(store)
    task("0").put(store)
    task("8").put(store)

    counts, problems = rebuild(desk, store)

    assert counted(counts) == {"folders": 8, "added": 2, "broken": 6}
    assert [problem.key for problem in problems] == list(said)
    assert [problem.key for problem in problems if said[problem.key] not in problem.message] == []
    assert {row["task_id"] for row in desk.rows("SELECT task_id FROM tasks")} == {"0", "8"}


def test_a_broken_amendment_is_reported_and_the_task_is_rebuilt_without_it(
    desk: Desk, store: FakeStore
) -> None:
    lies = task()
    lies.put(store, amended=2)
    store.place(f"{lies.folder}amendment-1.json", b"{")

    counts, _ = rebuild(desk, store)

    assert counted(counts) == {"folders": 1, "added": 1, "broken": 1}
    assert [key.rpartition("/")[2] for key in desk.shown()["amendment_keys"]] == ["amendment-2.json"]


def test_amendments_without_their_manifest_are_reported(desk: Desk, store: FakeStore) -> None:
    lies = task()
    lies.put(store, amended=1)
    store.vanish(f"{lies.folder}manifest.json")

    counts, (problem,) = rebuild(desk, store)

    assert counted(counts) == {"folders": 1, "broken": 1}
    assert problem.key == f"{lies.folder}manifest.json"


def test_a_task_with_a_missing_file_is_rebuilt_reported_and_looked_at_again_by_the_daemon(
    desk: Desk, store: FakeStore
) -> None:
    lies = task()
    lies.put(store, files=2)
    store.vanish(f"{lies.folder}1.png")

    counts, (problem,) = rebuild(desk, store)

    assert counted(counts) == {"folders": 1, "added": 1, "missing": 1}
    assert problem.key == f"{lies.folder}1.png"
    (look,) = desk.ledger.second_looks.claim(account=ACCOUNT)
    assert f"{lies.folder}1.png" in look.sizes


def test_files_that_the_store_refuses_to_look_at_are_reported_and_the_run_goes_on(
    desk: Desk, store: FakeStore
) -> None:
    tasks = [task(f"{number}") for number in range(4)]
    for each in tasks:
        each.put(store, files=2)
    refused = {each.asset(1).key for each in tasks[:2]}
    store.unlisted |= refused
    error = BucketForbidden("HEAD refused")
    store.hook = lambda operation, key: (True, error if operation == "head" and key in refused else None)

    counts, problems = rebuild(desk, store)

    assert counted(counts) == {"folders": 4, "added": 4, "unread": 2}
    assert {problem.key for problem in problems} == refused
    assert all("HEAD refused" in problem.message and problem.what_to_do for problem in problems)
    looks = desk.ledger.second_looks.claim(account=ACCOUNT)
    assert refused <= {key for look in looks for key in look.sizes}, "the daemon is to look"


def test_a_store_that_refuses_every_look_ends_the_run(desk: Desk, store: FakeStore) -> None:
    tasks = [task(f"{number:03}") for number in range(REFUSALS_AT_FIRST_MAX + 30)]
    for each in tasks:
        each.put(store)
    store.unlisted |= {each.asset(0).key for each in tasks}
    store.hook = lambda operation, _: (True, BucketForbidden("no") if operation == "head" else None)

    with pytest.raises(BucketForbidden):
        rebuild(desk, store)

    assert len(desk.rows("SELECT id FROM tasks")) == REFUSALS_AT_FIRST_MAX - 1, "what was read is kept"


def test_a_gap_in_the_amendments_is_reported(desk: Desk, store: FakeStore) -> None:
    lies = task()
    lies.put(store, amended=2)
    store.vanish(f"{lies.folder}amendment-1.json")

    counts, (problem,) = rebuild(desk, store)

    assert counted(counts) == {"folders": 1, "added": 1, "missing": 1}
    assert problem.key == f"{lies.folder}amendment-1.json"
    assert desk.shown()["amendment_keys"] == [f"{lies.folder}amendment-2.json"]


def test_folders_without_documents_and_keys_of_others_are_no_problem(desk: Desk, store: FakeStore) -> None:
    lies = task()
    lies.put_object(store, "0.png", lies.content(0))
    store.place("kling/notes.txt", b"x")

    assert counted(rebuild(desk, store)[0]) == {"folders": 1, "unfinished": 1}
