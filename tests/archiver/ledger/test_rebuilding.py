"""A ledger from what lies in the bucket."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from archiver.archive.manifest import INCOMPLETE_NAME
from archiver.audit.manifests import UNREAD_IN_A_ROW_MAX
from archiver.audit.places import Span
from archiver.audit.rebuild import FOLDERS_TOGETHER, Rebuild, RebuildCounts, RebuildProblem, RebuiltAccount
from archiver.failures import BucketForbidden, LedgerUnavailable
from archiver.families import collection_of
from archiver.ledger import REBUILT_ROWS_MAX, REBUILT_TASKS_MAX
from archiver.model import DiscoveredBy, Role, Stage, State, Status
from tests.harness.archived_tasks import ArchivedTask
from tests.harness.engine import Engine
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, START, Desk, Place, answer, asset
from tests.harness.patience import patient
from tests.simulator import KlingSimulator
from tests.simulator.families import FAMILIES

OURS = RebuiltAccount(ACCOUNT, frozenset({ACCOUNT, "former"}), "kling/")


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    with contextlib.closing(Desk(place)) as desk:
        desk.ledger.forwards.set_operator(is_told=True)
        desk.clock.advance(40 * DAY)
        yield desk


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


def task(task_id: str = "t", **changed: Any) -> ArchivedTask:
    return ArchivedTask(task_id, prefix="kling/", **changed)


def rebuild(
    desk: Desk, store: FakeStore, *accounts: RebuiltAccount, **options: Any
) -> tuple[RebuildCounts, list[RebuildProblem]]:
    run = Rebuild(patient(store), desk.ledger, accounts or (OURS,), **options)
    problems = list(run.run())
    return run.counts, problems


def counted(counts: RebuildCounts) -> dict[str, Any]:
    """Those that are not 0."""
    return {name: count for name, count in dataclasses.asdict(counts).items() if count}


def unworked(desk: Desk) -> bool:
    """Whether the ledger has nothing to do and nobody to tell."""
    desk.clock.advance(DAY)
    claimed = desk.claim_all(Stage.VERIFY) + desk.claim_all(Stage.ARCHIVE)
    return (
        not claimed
        and not desk.rows("SELECT id FROM forwards")
        and not desk.rows("SELECT id FROM folder_work")
    )


def test_a_task_is_again_what_it_was_with_its_files_and_digests(desk: Desk, store: FakeStore) -> None:
    lies = task()
    lies.put(store, files=2, amended=1)

    counts, problems = rebuild(desk, store)

    assert (counted(counts), problems) == ({"folders": 1, "added": 1}, [])
    shown = desk.shown()
    assert (shown["state"], shown["created_at"]) == ("archived", "2026-09-21T14:13:20.000Z")
    assert (shown["manifest_key"], shown["discovered_by"]) == (f"{lies.folder}manifest.json", "callback")
    assert shown["amendment_keys"] == [f"{lies.folder}amendment-1.json"]
    assert [(file["name"], file["sha256"]) for file in shown["assets"]] == [
        (f"{number}.png", lies.asset(number).sha256) for number in range(3)
    ]
    assert [line["event"] for line in shown["history"]] == ["task.rebuilt"]
    found = desk.ledger.files.find(account=ACCOUNT, task_id="t", stem="2")
    assert found is not None
    assert found.stored is not None
    assert unworked(desk)


def test_the_ledger_of_a_real_archive_is_what_the_lost_one_was_for_every_family(
    tmp_path: pathlib.Path,
) -> None:
    families = [family for family in FAMILIES if collection_of(family) is None]
    with KlingSimulator() as sim, Engine(sim, tmp_path, families=families) as engine:
        archived = {engine.succeeded(family=family): family for family in families}
        for _ in archived:
            assert engine.attempt() is None
        before = {task_id: kept_of(engine, task_id) for task_id in archived}
        engine.restart(ledger_lost=True)

        run = Rebuild(patient(engine.store), engine.ledger, (OURS,))
        problems = list(run.run())
        after = {task_id: kept_of(engine, task_id) for task_id in archived}
        for task_id, family in archived.items():
            engine.verify(task_id, family=family)

        assert (counted(run.counts), problems) == ({"folders": len(families), "added": len(families)}, [])
        assert after == before
        assert engine.by_hand.rows("SELECT task FROM folder_work") == []
        assert engine.due() == 0


def kept_of(engine: Engine, task_id: str) -> dict[str, Any]:
    """What is to be the same: not what has happened to it."""
    shown = dict(engine.show(task_id))
    for name in ("history", "attempts", "callbacks", "message"):
        shown.pop(name)
    return shown


def test_what_the_api_says_of_it_later_is_no_news(desk: Desk, store: FakeStore) -> None:
    lies = task(created_at=START + 39 * DAY)
    lies.put(store)
    rebuild(desk, store)

    desk.say(answer(created_at=lies.created_at), by=DiscoveredBy.SWEEP)
    desk.tell()

    assert desk.state() is State.ARCHIVED
    assert unworked(desk)


def test_a_rebuild_may_be_repeated_and_reads_no_document_twice(desk: Desk, store: FakeStore) -> None:
    for number in range(REBUILT_TASKS_MAX + 3):
        task(f"t{number}").put(store)
    rebuild(desk, store)
    before = desk.rows("SELECT * FROM tasks ORDER BY id"), desk.rows("SELECT * FROM history ORDER BY id")
    store.hook = lambda operation, _: (operation != "read", None)

    counts, problems = rebuild(desk, store)

    count = REBUILT_TASKS_MAX + 3
    assert (counted(counts), problems) == ({"folders": count, "known": count}, [])
    assert before == (
        desk.rows("SELECT * FROM tasks ORDER BY id"),
        desk.rows("SELECT * FROM history ORDER BY id"),
    )


def test_an_interrupted_rebuild_has_kept_its_first_tasks_and_the_next_one_adds_the_rest(
    desk: Desk, store: FakeStore
) -> None:
    for number in range(2 * REBUILT_TASKS_MAX):
        task(f"t{number:03d}").put(store)
    add, times = desk.ledger.rebuilding.add, []

    def fail_the_second_time(*given: Any, **named: Any) -> Any:
        times.append(1)
        if len(times) > 1:
            raise LedgerUnavailable("the disk is full")
        return add(*given, **named)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(desk.ledger.rebuilding, "add", fail_the_second_time)
        with pytest.raises(LedgerUnavailable):
            rebuild(desk, store)
    kept = len(desk.rows("SELECT id FROM tasks"))
    counts, _ = rebuild(desk, store)

    assert kept == REBUILT_TASKS_MAX
    assert counted(counts) == {"folders": 2 * kept, "added": kept, "known": kept}


def test_a_store_that_fails_half_way_costs_nothing_that_was_read(desk: Desk, store: FakeStore) -> None:
    for number in range(5):
        task(f"t{number}").put(store)
    last = f"{task('t4').folder}manifest.json"
    store.hook = lambda operation, key: (
        True,
        BucketForbidden("403") if operation == "check" or (operation, key) == ("read", last) else None,
    )

    with pytest.raises(BucketForbidden):
        rebuild(desk, store)

    assert len(desk.rows("SELECT id FROM tasks")) == 4


def test_a_transaction_that_happened_though_it_failed_is_found_done(desk: Desk, store: FakeStore) -> None:
    task().put(store, amended=1)
    add = desk.ledger.rebuilding.add

    def happen_and_fail(*given: Any, **named: Any) -> None:
        add(*given, **named)
        raise LedgerUnavailable("no answer to COMMIT")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(desk.ledger.rebuilding, "add", happen_and_fail)
        with pytest.raises(LedgerUnavailable):
            rebuild(desk, store)

    assert counted(rebuild(desk, store)[0]) == {"folders": 1, "known": 1}


def test_what_the_ledger_has_is_left_as_it_is(desk: Desk, store: FakeStore) -> None:
    for task_id in ("reported", "failed", "forgotten"):
        task(task_id, created_at=START + 39 * DAY).put(store)
    desk.bring(State.REPORTED, "reported")
    desk.bring(State.FAILED, "failed")
    desk.bring(State.FAILED, "forgotten")
    desk.ledger.tombstones.forget("forgotten", account=ACCOUNT)
    before = desk.rows("SELECT * FROM tasks ORDER BY id")

    counts, _ = rebuild(desk, store)

    assert counted(counts) == {
        "folders": 3,
        "in_work": 2,
        "in_work_states": {"failed": 1, "reported": 1},
        "forgotten": 1,
    }
    assert desk.rows("SELECT * FROM tasks ORDER BY id") == before


@pytest.mark.parametrize("state", [State.REPORTED, State.UNKNOWN, State.LOST, State.FAILED])
def test_what_an_old_copy_of_the_ledger_would_never_archive_is_archived_by_its_manifest(
    desk: Desk, store: FakeStore, state: State
) -> None:
    task().put(store)
    desk.clock.advance(-39 * DAY)
    if state is State.FAILED:
        desk.bring(State.RUNNING)
        desk.clock.advance(29 * DAY)
        desk.say(answer(status=Status.RUNNING))
        desk.clock.advance(DAY)
        desk.ledger.deadlines.expire()
        assert desk.row()["reason"] == "never_finished"
    else:
        desk.bring(state)
    if state is State.LOST:
        desk.say(answer())
        desk.write("UPDATE tasks SET due_at = NULL")
    desk.clock.advance(40 * DAY)

    counts, problems = rebuild(desk, store)

    assert (counted(counts), problems) == ({"folders": 1, "added": 1}, [])
    shown = desk.shown()
    assert (shown["state"], shown["reason"], len(shown["assets"])) == ("archived", None, 1)
    assert sum(desk.counts().values()) == 1
    assert counted(rebuild(desk, store)[0]) == {"folders": 1, "known": 1}


@pytest.mark.parametrize("times", [1, 2])
def test_of_two_folders_of_one_id_the_one_with_a_manifest_counts(
    desk: Desk, store: FakeStore, times: int
) -> None:
    earlier, whole = task(), task(created_at=START + DAY)
    earlier.put_object(store, "0.png", earlier.content(0))
    earlier.put_object(store, INCOMPLETE_NAME, earlier.manifest(earlier.asset(0), missing="1").to_bytes())
    if times == 2:
        rebuild(desk, store)
        assert desk.state() is State.LOST
    whole.put(store, files=2)

    rebuild(desk, store)

    assert desk.state() is State.ARCHIVED
    assert desk.row()["manifest_key"] == f"{whole.folder}manifest.json"


def test_no_transaction_writes_more_rows_than_callbacks_can_wait_for(desk: Desk, store: FakeStore) -> None:
    for number in range(30):
        task(f"{number:03d}").put(store, files=30)
    add, written = desk.ledger.rebuilding.add, []

    def watch(tasks: Any, **named: Any) -> Any:
        before = rows_of(desk)
        added = add(tasks, **named)
        written.append(rows_of(desk) - before)
        return added

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(desk.ledger.rebuilding, "add", watch)
        rebuild(desk, store)

    assert sum(written) == 30 * (30 + 2)
    assert max(written) <= REBUILT_ROWS_MAX


def rows_of(desk: Desk) -> int:
    tables = "SELECT id FROM tasks UNION ALL SELECT id FROM assets UNION ALL SELECT id FROM history"
    return len(desk.rows(tables))


def test_a_task_that_is_forgotten_or_swept_while_its_manifest_is_read_is_not_added(
    desk: Desk, store: FakeStore
) -> None:
    for task_id in ("a", "b", "c"):
        task(task_id).put(store)

    def meanwhile(operation: str, _key: str) -> tuple[bool, None]:
        if operation == "read" and not desk.rows("SELECT task_id FROM tasks"):
            desk.say(answer("a"))
            desk.say(answer("b"))
            desk.ledger.tombstones.forget("b", account=ACCOUNT)
        return True, None

    store.hook = meanwhile
    rebuild(desk, store, threads=1)

    assert desk.state("a") is State.SUCCEEDED
    assert {row["task_id"] for row in desk.rows("SELECT task_id FROM tasks")} == {"a", "c"}


def test_a_task_that_was_forgotten_under_its_external_id_stays_so(desk: Desk, store: FakeStore) -> None:
    desk.ledger.registrations.register("order-1", account=ACCOUNT, family=FAMILY)
    desk.ledger.tombstones.forget("order-1", account=ACCOUNT)
    lies = task()
    lies.put(store)
    named = dataclasses.replace(lies.manifest(lies.asset(0)), external_task_id="order-1")
    store.vanish(f"{lies.folder}manifest.json")
    lies.put_object(store, "manifest.json", named.to_bytes())

    assert counted(rebuild(desk, store)[0]) == {"folders": 1, "forgotten": 1}
    assert desk.rows("SELECT task_id FROM tasks") == []


def test_an_archived_task_gets_the_amendments_that_an_old_copy_of_the_ledger_lacks(
    desk: Desk, store: FakeStore
) -> None:
    lies = task()
    lies.put(store)
    rebuild(desk, store)
    again = FakeStore()
    lies.put(again, amended=2)

    counts, _ = rebuild(desk, again)

    assert counted(counts) == {"folders": 1, "amended": 1}
    shown = desk.shown()
    assert [key.rpartition("/")[2] for key in shown["amendment_keys"]] == [
        "amendment-1.json",
        "amendment-2.json",
    ]
    assert [file["name"] for file in shown["assets"]] == ["0.png", "1.png", "2.png"]
    assert unworked(desk)


def asked_for(lies: ArchivedTask, store: FakeStore, **said: Any) -> None:
    """Put the task with a manifest that says this."""
    lies.put(store)
    store.vanish(f"{lies.folder}manifest.json")
    manifest = dataclasses.replace(lies.manifest(lies.asset(0)), **said)
    lies.put_object(store, "manifest.json", manifest.to_bytes())


@pytest.mark.parametrize(
    ("has", "filled"),
    [
        ({}, ["external_task_id", "request"]),
        ({"request": {"prompt": "mine"}}, ["external_task_id"]),
        ({"external_task_id": "mine"}, ["request"]),
        ({"external_task_id": "mine", "request": {"prompt": "mine"}}, []),
    ],
    ids="-".join,
)
def test_an_adopted_task_gets_the_request_and_external_id_that_only_its_manifest_knows(
    desk: Desk, store: FakeStore, has: dict[str, Any], filled: list[str]
) -> None:
    said = {"external_task_id": "order-1", "request": {"prompt": "a lighthouse"}}
    lies = task(created_at=START + 39 * DAY)
    asked_for(lies, store, **said)
    lies.record(desk.ledger)
    desk.ledger.registrations.register("t", account=ACCOUNT, family=FAMILY, **has)

    counts, problems = rebuild(desk, store)

    assert (counted(counts), problems) == ({"folders": 1, "completed" if filled else "known": 1}, [])
    found, shown = desk.ledger.views.show("t", account=ACCOUNT), desk.shown()
    assert found is not None
    assert {"external_task_id": found.external_task_id, "request": found.request} == said | has
    assert (shown["history"][-1]["detail"] == f"from its manifest: {', '.join(filled)}") == bool(filled)
    assert counted(rebuild(desk, store)[0]) == {"folders": 1, "known": 1}


def test_a_request_that_was_told_after_the_manifest_survives_a_rebuild(desk: Desk, store: FakeStore) -> None:
    task().put(store)
    desk.ledger.registrations.register("t", account=ACCOUNT, family=FAMILY, request={"prompt": "mine"})
    desk.clock.advance(40 * DAY)

    assert counted(rebuild(desk, store)[0]) == {"folders": 1, "added": 1}
    assert json.loads(desk.row()["request"]) == {"prompt": "mine"}


def test_an_amendment_that_the_daemon_is_about_to_find_is_left_to_it(desk: Desk, store: FakeStore) -> None:
    lies = task(created_at=START + 39 * DAY)
    lies.put(store)
    rebuild(desk, store)
    desk.say(answer(created_at=lies.created_at, assets=(asset(), asset("1"))))
    again = FakeStore()
    lies.put(again, amended=1)

    counts, _ = rebuild(desk, again)

    assert counted(counts) == {"folders": 1, "known": 1}
    assert desk.shown()["amendment_keys"] == []


def test_a_lost_task_with_some_files_is_lost_again_and_nobody_tries_it(desk: Desk, store: FakeStore) -> None:
    lies = task()
    lies.put_object(store, "0.png", lies.content(0))
    lies.put_object(store, INCOMPLETE_NAME, lies.manifest(lies.asset(0), missing="1").to_bytes())

    counts, problems = rebuild(desk, store)

    assert (counted(counts), problems) == ({"folders": 1, "added": 1, "lost": 1}, [])
    shown = desk.shown()
    assert (shown["state"], shown["reason"], shown["manifest_key"]) == ("lost", "asset_gone", None)
    assert [(file["stem"], file["stored"], file["reason"]) for file in shown["assets"]] == [
        ("0", True, None),
        ("1", False, "asset_gone"),
    ]
    assert desk.row()["unseen_since"] is None
    assert unworked(desk)


def test_a_manifest_beside_incomplete_json_wins(desk: Desk, store: FakeStore) -> None:
    lies = task()
    lies.put_object(store, INCOMPLETE_NAME, lies.manifest(lies.asset(0), missing="1").to_bytes())
    lies.put(store, files=2)

    rebuild(desk, store)

    assert desk.state() is State.ARCHIVED


# --- what is broken ---


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


def test_each_broken_manifest_is_said_and_the_rest_goes_on(desk: Desk, store: FakeStore) -> None:
    said = broken(store)
    task("0").put(store)
    task("8").put(store)

    counts, problems = rebuild(desk, store)

    assert counted(counts) == {"folders": 8, "added": 2, "broken": 6}
    assert [problem.key for problem in problems] == list(said)
    assert [problem.key for problem in problems if said[problem.key] not in problem.message] == []
    assert {row["task_id"] for row in desk.rows("SELECT task_id FROM tasks")} == {"0", "8"}


def test_a_broken_amendment_is_said_and_the_task_is_rebuilt_without_it(desk: Desk, store: FakeStore) -> None:
    lies = task()
    lies.put(store, amended=2)
    store.place(f"{lies.folder}amendment-1.json", b"{")

    counts, _ = rebuild(desk, store)

    assert counted(counts) == {"folders": 1, "added": 1, "broken": 1}
    assert [key.rpartition("/")[2] for key in desk.shown()["amendment_keys"]] == ["amendment-2.json"]


def test_amendments_without_their_manifest_are_said(desk: Desk, store: FakeStore) -> None:
    lies = task()
    lies.put(store, amended=1)
    store.vanish(f"{lies.folder}manifest.json")

    counts, (problem,) = rebuild(desk, store)

    assert counted(counts) == {"folders": 1, "broken": 1}
    assert problem.key == f"{lies.folder}manifest.json"


def test_a_task_with_a_missing_file_is_rebuilt_said_and_looked_at_again_by_the_daemon(
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


def test_files_that_the_store_refuses_to_look_at_are_said_and_the_rest_goes_on(
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


def test_a_store_that_refuses_to_look_at_anything_ends_it(desk: Desk, store: FakeStore) -> None:
    tasks = [task(f"{number:02}") for number in range(30)]
    for each in tasks:
        each.put(store)
    store.unlisted |= {each.asset(0).key for each in tasks}
    store.hook = lambda operation, _: (True, BucketForbidden("no") if operation == "head" else None)

    with pytest.raises(BucketForbidden):
        rebuild(desk, store)

    assert len(desk.rows("SELECT id FROM tasks")) == UNREAD_IN_A_ROW_MAX - 1, "what was read is kept"


def test_an_amendment_that_must_have_been_there_is_missed(desk: Desk, store: FakeStore) -> None:
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


# --- which of them ---


def test_only_the_account_and_the_span_that_are_meant_are_rebuilt(desk: Desk, store: FakeStore) -> None:
    task("old", account="former").put(store)
    task("new", created_at=START + 2 * DAY).put(store)
    ArchivedTask("other", account="other", prefix="other/").put(store)
    theirs = RebuiltAccount("other", frozenset({"other"}), "other/")

    span, _ = rebuild(desk, store, span=Span(since_day="2026/09/22"))
    both, _ = rebuild(desk, store, OURS, theirs)

    assert counted(span) == {"folders": 1, "added": 1}
    assert counted(both) == {"folders": 3, "added": 2, "known": 1}
    rows = desk.rows("SELECT account, task_id FROM tasks ORDER BY task_id")
    assert [tuple(row.values()) for row in rows] == [
        (ACCOUNT, "new"),
        (ACCOUNT, "old"),
        ("other", "other"),
    ]


def test_sounds_of_manifests_without_stems_get_the_stems_that_the_api_gives_them(
    desk: Desk, store: FakeStore
) -> None:
    lies = task(family="audio/text-to-audio")
    sounds = {"url_mp3": "https://cdn.klingai.com/a.mp3", "url_wav": "https://cdn.klingai.com/a.wav"}
    named = [
        dataclasses.replace(lies.asset(0), stem=name, name=name, key=f"{lies.folder}{name}", role=Role.AUDIO)
        for name in ("audio-0.mp3", "audio-0.wav")
    ]
    document = {"task_id": "t", "task_status": "succeed", "task_result": {"audios": [{"id": "1", **sounds}]}}
    made = dataclasses.replace(lies.manifest(*named), task=document)
    content = b"\n".join(line for line in made.to_bytes().splitlines() if b'"stem"' not in line)
    content = content.replace(b'"suspect": null,', b'"suspect": null')
    lies.put_object(store, "manifest.json", content)
    for each in named:
        lies.put_object(store, each.name, lies.content(0))

    counts, problems = rebuild(desk, store)

    assert (counted(counts), problems) == ({"folders": 1, "added": 1}, [])
    assert [file["stem"] for file in desk.shown()["assets"]] == ["audio-0.mp3", "audio-0.wav"]


def test_no_more_folders_than_are_asked_about_at_once_are_in_memory(desk: Desk, store: FakeStore) -> None:
    class Counting(FakeStore):
        listed = 0

        def walk(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, int]]:
            for found in super().walk(prefix, after=after):
                self.listed += 1
                yield found

    store = Counting()
    for number in range(2 * FOLDERS_TOGETHER + 1):
        store.place(f"{task(f'{number:04d}').folder}manifest.json", b"{")
    run = Rebuild(patient(store), desk.ledger, (OURS,))
    problems = run.run()
    next(problems)
    listed_at_first = store.listed

    assert sum(1 for _ in problems) == 2 * FOLDERS_TOGETHER
    assert listed_at_first <= FOLDERS_TOGETHER + 1


def test_folders_are_counted_without_reading_any_document(desk: Desk, store: FakeStore) -> None:
    for number in range(3):
        task(f"{number}").put(store)
    store.place("kling/notes.txt", b"x")
    store.hook = lambda operation, _: (operation != "read", None)

    assert Rebuild(patient(store), desk.ledger, (OURS,)).count_folders() == 3
