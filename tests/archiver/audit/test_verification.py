"""The comparison of bucket, manifests and ledger: what each fault looks like, and how a run goes on."""

import dataclasses
import itertools
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from archiver.archive.manifest import BYTES_MAX, FILE_NAME, amendment_name
from archiver.audit.objects import ObjectFinding
from archiver.audit.places import Span
from archiver.audit.rebuild import Rebuild, RebuiltAccount
from archiver.audit.sample import Sample
from archiver.audit.verification import ERRORS_IN_A_ROW_MAX, Verification, VerifiedAccount
from archiver.failures import (
    BucketForbidden,
    Failure,
    ObjectInColdStorage,
    Stopped,
    StoreAnswerUnreadable,
    StoreError,
    StoreMismatch,
    StoreUnreachable,
)
from archiver.model import RETENTION_MS
from tests.harness.archived_tasks import ArchivedTask
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, MINUTE, START, Desk, answer
from tests.harness.patience import patient


class Audited:
    """A bucket and a ledger that agree, until a test changes something."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.desk = Desk(folder)
        self.store = FakeStore()
        self.read_bytes = 0
        self.clock = 0.0

    def archive(self, task_id: str, *, files: int = 1, amended: int = 0, **of_task: Any) -> ArchivedTask:
        task = ArchivedTask(task_id, **of_task)
        task.put(self.store, files=files, amended=amended)
        task.record(self.desk.ledger, files=files, amended=amended)
        return task

    def spoil(self, key: str, content: bytes) -> None:
        """Other bytes under this key, with what its metadata claimed."""
        found = self.store.objects.pop(key)
        self.store.place(key, content)
        assert found.content != content

    def verification(self, *accounts: VerifiedAccount, **changed: Any) -> Verification:
        values: dict[str, Any] = {
            "span": Span(),
            "sample": Sample(),
            "repair": False,
            "threads": 2,
        }
        return Verification(
            patient(self.store),
            self.desk.ledger,
            accounts or [VerifiedAccount(ACCOUNT, frozenset({ACCOUNT, "former"}), "")],
            now=self.desk.clock,
            on_bytes=self._count,
            clock=lambda: self.clock,
            **values | changed,
        )

    def lines(self, **changed: Any) -> list[str]:
        return [f"{finding.symbol} {finding.key}" for finding in self.verification(**changed).run()]

    def faults(self, **changed: Any) -> list[ObjectFinding]:
        return [finding for finding in self.verification(**changed).run() if finding.is_fault]

    def _count(self, size: int) -> None:
        self.read_bytes += size


@pytest.fixture
def audited(tmp_path: pathlib.Path) -> Iterator[Audited]:
    made = Audited(tmp_path)
    yield made
    made.desk.close()


def test_what_is_as_it_should_be_is_said_of_each_object_and_read_once(audited: Audited) -> None:
    task = audited.archive("881", files=2, amended=1)
    audited.archive("882", account=ACCOUNT, family="videos/text2video", file_bytes=5000)
    verification = audited.verification()

    findings = list(verification.run())

    assert [finding.symbol for finding in findings] == ["="] * 7
    assert [finding.key for finding in findings] == audited.store.all_keys()
    assert task.folder + "amendment-1.json" in {finding.key for finding in findings}
    assert verification.counts.faults == 0
    assert (verification.counts.folders, verification.counts.same) == (2, 7)
    assert audited.read_bytes == 3 * 100 + 5000
    assert verification.counts.bytes == sum(len(each.content) for each in audited.store.objects.values())


def _rot(audited: Audited, task: ArchivedTask) -> None:
    content = bytearray(task.content(0))
    content[7] ^= 1
    audited.spoil(task.asset(0).key, bytes(content))


def _cut(audited: Audited, task: ArchivedTask) -> None:
    audited.spoil(task.asset(0).key, task.content(0)[:-1])


def _lose(audited: Audited, task: ArchivedTask) -> None:
    audited.store.vanish(task.asset(0).key)


def _lose_manifest(audited: Audited, task: ArchivedTask) -> None:
    audited.store.vanish(task.folder + FILE_NAME)


def _lose_amendment(audited: Audited, task: ArchivedTask) -> None:
    audited.store.vanish(task.folder + amendment_name(1))


def _lose_all(audited: Audited, task: ArchivedTask) -> None:
    for key in [key for key in audited.store.objects if key.startswith(task.folder)]:
        audited.store.vanish(key)


def _add(audited: Audited, task: ArchivedTask) -> None:
    audited.store.place(task.folder + "foreign.txt", b"foreign")


def _break_manifest(audited: Audited, task: ArchivedTask) -> None:
    audited.spoil(task.folder + FILE_NAME, b"{")


def _leave_a_file_out_of_the_manifest(audited: Audited, task: ArchivedTask) -> None:
    content = task.manifest(task.asset(1)).to_bytes()
    audited.spoil(task.folder + FILE_NAME, content)


def _swell_the_manifest(audited: Audited, task: ArchivedTask) -> None:
    audited.spoil(task.folder + FILE_NAME, bytes(BYTES_MAX + 1))


def _name_a_foreign_key(audited: Audited, task: ArchivedTask) -> None:
    other = ArchivedTask("other").asset(0)
    audited.spoil(task.folder + FILE_NAME, task.manifest(task.asset(0), other).to_bytes())


def _change_the_ledger(audited: Audited, task: ArchivedTask) -> None:
    audited.desk.write("UPDATE assets SET sha256 = ? WHERE key = ?", "0" * 64, task.asset(0).key)


def _amend_what_the_manifest_names(audited: Audited, task: ArchivedTask) -> None:
    other = dataclasses.replace(task.asset(0), sha256="0" * 64)
    amendment = task.manifest(other, task.asset(1), amends=FILE_NAME)
    audited.spoil(task.folder + amendment_name(1), amendment.to_bytes())


def _name_another_account(audited: Audited, task: ArchivedTask) -> None:
    stolen = ArchivedTask("881", account="foreign")
    audited.spoil(task.folder + FILE_NAME, stolen.manifest(task.asset(0)).to_bytes())


@pytest.mark.parametrize(
    ("change", "expected", "words"),
    [
        (_rot, {"* 0.png"}, "its bytes have the SHA-256"),
        (_cut, {"* 0.png"}, "it has 99 bytes, not 100"),
        (_lose, {"+ 0.png"}, "it is not there"),
        (_lose_manifest, {"+ manifest.json"}, "it is not there"),
        (_lose_amendment, {"+ amendment-1.json"}, "it is not there"),
        (
            _lose_all,
            {"+ 0.png", "+ 1.png", "+ manifest.json", "+ amendment-1.json"},
            "it is not there",
        ),
        (_add, {"- foreign.txt"}, "Neither a manifest nor the ledger names it"),
        (_break_manifest, {"* manifest.json"}, "not JSON"),
        (_leave_a_file_out_of_the_manifest, {"* 0.png"}, "neither the manifest nor an amendment names it"),
        (_swell_the_manifest, {"* manifest.json"}, "larger than"),
        (_name_a_foreign_key, {"* manifest.json"}, "which is no file of its folder"),
        (_change_the_ledger, {"* 0.png"}, "the manifest and the ledger differ"),
        (_amend_what_the_manifest_names, {"* 0.png"}, "its folder's manifests differ"),
        (_name_another_account, {"* manifest.json"}, "belongs to the account foreign"),
    ],
)
def test_each_fault_has_its_symbol_and_its_reason_and_the_rest_is_as_it_should_be(
    audited: Audited, change: Any, expected: set[str], words: str
) -> None:
    task = audited.archive("881", amended=1)
    other = audited.archive("882")
    change(audited, task)

    findings = list(audited.verification().run())

    found = {f"{each.symbol} {each.key.removeprefix(task.folder)}" for each in findings}
    same = {line for line in found if line.startswith("= ")}
    assert found - same == expected
    assert {each.key for each in findings if each.key.startswith(other.folder)} == {
        other.folder + "0.png",
        other.folder + FILE_NAME,
    }
    assert all(words in each.message and each.what_to_do for each in findings if each.is_fault)
    assert len({each.key for each in findings}) == len(findings), "each object once"


def test_a_manifest_whose_bytes_are_not_those_that_were_put_is_different_even_if_it_can_be_read(
    audited: Audited,
) -> None:
    task = audited.archive("881")
    key = task.folder + FILE_NAME
    whole = audited.store.objects[key]
    changed = whole.content.replace(b'"task_status": "succeed"', b'"task_status": "succeeD"')
    audited.store.objects[key] = type(whole)(
        changed, whole.content_type, whole.task_id, whole.family, whole.sha256
    )

    (fault,) = audited.faults()

    assert (fault.symbol, fault.key) == ("*", key)
    assert "its metadata name another digest" in fault.message


def test_an_object_that_a_listing_does_not_show_yet_is_not_missing(audited: Audited) -> None:
    task = audited.archive("881", amended=1)
    audited.store.unlisted |= {task.asset(0).key, task.folder + amendment_name(1)}

    assert audited.faults() == []


def test_a_folder_that_no_listing_shows_though_it_is_there_is_a_fault(audited: Audited) -> None:
    hidden, lagging = audited.archive("881"), audited.archive("882", created_at=START + DAY)
    audited.archive("883")
    _lose_all(audited, audited.archive("884"))
    audited.store.unlisted |= {
        key for key in audited.store.objects if key.startswith((hidden.folder, lagging.folder))
    }
    audited.desk.clock.advance(DAY + MINUTE)
    verification = audited.verification()

    missing = [finding.key for finding in verification.run() if finding.is_fault]

    assert {key.split("/")[-2] for key in missing} == {"884"}
    assert verification.counts.unlisted == 1, "what was archived just now may lag"
    assert verification.counts.faults == len(missing) + 1

    audited.store.unlisted.clear()
    verification = audited.verification()
    list(verification.run())
    assert verification.counts.unlisted == 0


@pytest.mark.parametrize("is_rebuilt", [False, True])
@pytest.mark.parametrize("learned_after_findings", [0, 6])
def test_what_the_ledger_comes_to_know_during_the_run_is_not_unlisted(
    audited: Audited, learned_after_findings: int, is_rebuilt: bool
) -> None:
    hidden, _ = audited.archive("881"), audited.archive("882")
    audited.store.unlisted |= {key for key in audited.store.objects if key.startswith(hidden.folder)}
    learned = [ArchivedTask("883"), ArchivedTask("884")]
    for task in learned:
        task.put(audited.store)
    audited.desk.clock.advance(DAY)
    verification = audited.verification(threads=1)
    findings = verification.run()

    seen = list(itertools.islice(findings, learned_after_findings))
    if is_rebuilt:
        account = RebuiltAccount(ACCOUNT, frozenset({ACCOUNT}), "")
        assert list(Rebuild(patient(audited.store), audited.desk.ledger, [account]).run()) == []
    else:
        for task in learned:
            task.record(audited.desk.ledger)
    seen += findings

    assert {finding.symbol for finding in seen} == {"="}
    assert len(seen) == 6
    assert verification.counts.unlisted == 1, "only the hidden one"


def test_a_store_that_lists_in_no_order_ends_the_run(
    audited: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        audited.archive(f"88{number}")
    walk = audited.store.walk
    monkeypatch.setattr(
        audited.store,
        "walk",
        lambda prefix, *, after="": iter(sorted(walk(prefix, after=after), reverse=True)),
    )

    with pytest.raises(StoreAnswerUnreadable, match="not the order of the keys"):
        audited.lines()


def test_a_suspect_file_is_as_it_should_be_and_counted(audited: Audited) -> None:
    task = ArchivedTask("881")
    task.put_object(audited.store, "0.png", task.content(0))
    manifest = task.manifest(task.asset(0, suspect="incomplete"))
    task.put_object(audited.store, FILE_NAME, manifest.to_bytes())
    task.record(audited.desk.ledger)
    verification = audited.verification()

    assert [finding.symbol for finding in verification.run()] == ["=", "="]
    assert verification.counts.suspect == 1


def test_what_is_left_of_a_lost_task_is_held_against_its_incomplete_json(audited: Audited) -> None:
    task = ArchivedTask("881")
    task.put_object(audited.store, "0.png", task.content(0))
    task.put_object(audited.store, "incomplete.json", task.manifest(task.asset(0), missing="1").to_bytes())

    assert audited.lines() == [f"= {task.folder}0.png", f"= {task.folder}incomplete.json"]
    _rot(audited, task)
    assert audited.lines()[0] == f"* {task.folder}0.png"


def test_files_of_a_task_that_is_not_archived_yet_are_no_strangers(audited: Audited) -> None:
    audited.desk.say(answer("881"))
    task = ArchivedTask("881")
    task.put_object(audited.store, "0.png", task.content(0))
    verification = audited.verification()

    assert list(verification.run()) == []
    assert verification.counts.in_work == 1


def test_what_no_record_knows_is_said_and_is_no_fault(audited: Audited) -> None:
    ArchivedTask("881").put(audited.store)
    left_behind = ArchivedTask("882")
    left_behind.put_object(audited.store, "0.png", b"x")
    audited.store.place("notes.txt", b"x")
    verification = audited.verification()

    lines = [f"{finding.symbol} {finding.key}" for finding in verification.run()]

    assert lines == [
        f"= {ArchivedTask('881').folder}0.png",
        f"= {ArchivedTask('881').folder}manifest.json",
        f"- {left_behind.folder}0.png",
        "- notes.txt",
    ]
    assert (verification.counts.unknown, verification.counts.extra, verification.counts.faults) == (2, 2, 0)


def test_a_forgotten_task_is_passed_over(audited: Audited) -> None:
    task = audited.archive("881")
    _rot(audited, task)
    audited.desk.ledger.tombstones.forget("881", account=ACCOUNT)
    verification = audited.verification()

    assert list(verification.run()) == []
    assert verification.counts.forgotten == 1


def test_only_the_span_is_looked_at_in_bucket_and_ledger(audited: Audited) -> None:
    for number in range(3):
        _lose_all(audited, audited.archive(f"lost-{number}", created_at=START + number * DAY))
        audited.archive(f"kept-{number}", created_at=START + number * DAY)
    audited.archive("video", family="videos/text2video", created_at=START + DAY)

    day = Span(family=FAMILY, since_day="2026/09/22", until_day="2026/09/22")
    lines = audited.lines(span=day)

    assert {line.split("/")[-2] for line in lines} == {"lost-1", "kept-1"}


def test_samples_side_by_side_are_everything(audited: Audited) -> None:
    for number in range(16):
        audited.archive(f"{number}")
    _lose_all(audited, ArchivedTask("7"))
    everything = sorted(audited.lines())

    samples = [audited.lines(sample=Sample(30, number)) for number in range(4)]

    assert sorted(set().union(*samples)) == everything
    assert all(0 < len(sample) < len(everything) for sample in samples)
    assert audited.lines(sample=Sample(30, 2)) == samples[2]
    tenths = [audited.lines(sample=Sample(10, number)) for number in range(10)]
    assert sorted(line for tenth in tenths for line in tenth) == everything, "each in one of them"


def test_what_lies_below_another_prefix_is_read_too(audited: Audited) -> None:
    old = [audited.archive(f"88{number}", files=2, prefix="old/") for number in range(4)]
    new = audited.archive("890", prefix="new/")
    _lose(audited, old[0])
    _rot(audited, old[1])
    _lose_manifest(audited, old[2])
    _lose_all(audited, old[3])
    verification = audited.verification(VerifiedAccount(ACCOUNT, frozenset({ACCOUNT}), "new/"))

    findings = list(verification.run())

    assert sorted(f"{each.symbol} {each.key}" for each in findings if each.is_fault) == sorted(
        [
            f"+ {old[0].asset(0).key}",
            f"* {old[1].asset(0).key}",
            f"+ {old[2].folder}{FILE_NAME}",
            *(f"+ {old[3].folder}{name}" for name in ("0.png", "1.png", FILE_NAME)),
        ]
    )
    assert len({each.key for each in findings}) == len(findings) == 4 * 3 + 2
    assert new.asset(0).key in {each.key for each in findings if each.symbol == "="}
    assert verification.counts.elsewhere == 4


@pytest.mark.parametrize("old", ["", "archive/"])
@pytest.mark.parametrize("family", [FAMILY, "images/editing/expand"])
def test_a_new_prefix_that_contains_the_old_one_makes_no_stranger_of_what_the_ledger_knows(
    audited: Audited, family: str, old: str
) -> None:
    whole = audited.archive("881", files=2, prefix=f"{old}kling/", family=family)
    rotten = audited.archive("882", prefix=f"{old}kling/", family=family)
    audited.archive("883", prefix=old, family=family)
    _rot(audited, rotten)
    verification = audited.verification(VerifiedAccount(ACCOUNT, frozenset({ACCOUNT}), old))

    findings = list(verification.run())

    assert [(each.symbol, each.key) for each in findings if each.symbol != "="] == [
        ("*", rotten.asset(0).key)
    ]
    assert len({each.key for each in findings}) == len(findings) == 7
    assert whole.folder + FILE_NAME in {each.key for each in findings}
    assert verification.counts.elsewhere == 2


def test_what_was_put_before_a_document_that_is_there_is_missed_also_of_an_unknown_task(
    audited: Audited,
) -> None:
    tasks = [ArchivedTask(f"88{number}") for number in range(3)]
    for task in tasks:
        task.put(audited.store, amended=3)
    audited.store.vanish(tasks[0].folder + amendment_name(2))
    audited.store.vanish(tasks[1].folder + FILE_NAME)
    audited.store.unlisted.add(tasks[2].folder + amendment_name(1))

    faults = [f"{finding.symbol} {finding.key}" for finding in audited.faults()]

    assert faults == [f"+ {tasks[0].folder}amendment-2.json", f"+ {tasks[1].folder}manifest.json"]


@pytest.mark.parametrize("is_rebuilt", [False, True])
def test_an_incomplete_json_that_alone_is_gone_is_a_fault(audited: Audited, is_rebuilt: bool) -> None:
    task = audited.archive("881")
    _record_lost(audited, "881")
    _lose_manifest(audited, task)
    key = task.folder + "incomplete.json"
    assert audited.faults() == [], "so far it is only to be written"
    event = ("task.rebuilt", "lost, by incomplete.json") if is_rebuilt else ("task.incomplete", key)
    audited.desk.write("INSERT INTO history (task, at, event, detail) SELECT id, 0, ?, ? FROM tasks", *event)

    (fault,) = audited.faults()

    assert (fault.symbol, fault.key) == ("+", key)
    assert "only a copy" in fault.what_to_do
    audited.store.place(key, task.manifest(task.asset(0), missing="1").to_bytes())
    assert audited.faults() == []


def _record_lost(audited: Audited, task_id: str) -> None:
    audited.desk.write(
        "UPDATE tasks SET state = 'lost', queue = 'archive', due_at = NULL, manifest_key = NULL, archived_at = NULL,"
        " reason = 'asset_gone', seen_again_at = NULL WHERE task_id = ?",
        task_id,
    )


@pytest.mark.parametrize("lose", [_lose, _lose_all])
def test_a_saved_file_of_a_lost_task_that_is_gone_is_a_fault_and_only_a_copy_helps(
    audited: Audited, lose: Any
) -> None:
    task = audited.archive("881", files=2)
    _record_lost(audited, "881")
    _lose_manifest(audited, task)
    lose(audited, task)
    verification = audited.verification(repair=True)

    faults = [finding for finding in verification.run() if finding.is_fault]

    assert faults[0].key == task.asset(0).key
    assert {(each.symbol, each.can_be_fetched) for each in faults} == {("+", False)}
    assert all("only a copy can bring the file back" in each.what_to_do for each in faults)
    assert (verification.counts.missing, verification.counts.in_work) == (len(faults), 0)


# --- repair -----------------------------------------------------------------------------------------------------------


def test_what_is_missing_is_wanted_back_and_other_bytes_are_left_alone(audited: Audited) -> None:
    missing, gone, rotten = (audited.archive(f"88{number}") for number in range(3))
    _lose(audited, missing)
    _lose_all(audited, gone)
    _rot(audited, rotten)
    verification = audited.verification(repair=True)

    findings = {finding.key: finding for finding in verification.run()}

    wanted = audited.desk.rows("SELECT key, state FROM missing_objects")
    assert {(row["key"], row["state"]) for row in wanted} == {
        (missing.asset(0).key, "wanted"),
        (gone.asset(0).key, "wanted"),
        (gone.folder + FILE_NAME, "wanted"),
    }
    assert verification.counts.wanted_back == 3
    assert "remove it" in findings[rotten.asset(0).key].what_to_do
    assert "Kling keeps it until 2026-10-21" in findings[missing.asset(0).key].what_to_do


def test_what_kling_has_deleted_is_not_asked_for(audited: Audited) -> None:
    task = audited.archive("881")
    _lose(audited, task)
    audited.desk.clock.advance(RETENTION_MS + 8 * DAY)

    (fault,) = audited.faults(repair=True)

    assert "Kling has deleted it on 2026-10-21" in fault.what_to_do
    assert audited.desk.rows("SELECT key FROM missing_objects") == []


def test_a_missing_file_that_only_the_manifest_names_is_never_made_of_the_ledger(audited: Audited) -> None:
    task = audited.archive("881", files=2)
    audited.desk.write("DELETE FROM assets WHERE key = ?", task.asset(1).key)
    audited.store.vanish(task.asset(1).key)

    (fault,) = audited.faults(repair=True)

    assert (fault.key, fault.can_be_fetched) == (task.asset(1).key, False)
    assert audited.desk.rows("SELECT key FROM missing_objects") == []


# --- failures and interruptions ---------------------------------------------------------------------------------------


def _failing(audited: Audited, error: Failure, *, operation: str = "digest", key: str = "") -> None:
    def hook(asked: str, about: str) -> tuple[bool, BaseException | None]:
        return True, error if asked == operation and about.endswith(key) else None

    audited.store.hook = hook


def test_an_object_that_alone_cannot_be_read_is_an_error_and_the_run_goes_on(audited: Audited) -> None:
    task, other = audited.archive("881"), audited.archive("882")
    _failing(audited, ObjectInColdStorage("it sleeps"), key=task.asset(0).key)

    lines = audited.lines()

    assert lines == [
        f"! {task.asset(0).key}",
        f"= {task.folder}manifest.json",
        f"= {other.folder}0.png",
        f"= {other.folder}manifest.json",
    ]


def test_a_store_that_refuses_one_object_is_not_a_store_that_refuses_all(audited: Audited) -> None:
    task = audited.archive("881")
    _failing(audited, BucketForbidden("no kms:Decrypt"), key=task.asset(0).key)

    (fault,) = audited.faults()
    assert (fault.symbol, fault.message) == ("!", "no kms:Decrypt")

    for number in range(30):
        audited.archive(f"9{number:02}")
    _failing(audited, BucketForbidden("no s3:GetObject"))
    with pytest.raises(BucketForbidden, match="GetObject"):
        audited.lines()


def test_objects_that_the_store_lists_and_does_not_have_are_missing_however_many(audited: Audited) -> None:
    tasks = [audited.archive(f"{number:02}") for number in range(ERRORS_IN_A_ROW_MAX + 1)]
    _failing(audited, StoreMismatch("no object is there"))

    faults = audited.faults(repair=True)

    assert [fault.key for fault in faults] == [task.asset(0).key for task in tasks]
    assert {(fault.symbol, fault.message) for fault in faults} == {
        ("+", "the store lists it, and has nothing to read")
    }


def test_a_store_that_stays_away_ends_the_run_which_goes_on_after_what_is_done(audited: Audited) -> None:
    tasks = [audited.archive(f"88{number}") for number in range(5)]
    _cut(audited, tasks[1])

    def hook(operation: str, key: str) -> tuple[bool, BaseException | None]:
        is_down = operation == "check" or (operation == "digest" and key == tasks[3].asset(0).key)
        return True, StoreUnreachable("no route") if is_down else None

    audited.store.hook = hook
    first = audited.verification()
    seen = []
    with pytest.raises(StoreUnreachable):
        seen += [finding.key for finding in iter(first.run().__next__, None)]
    first.save()

    audited.store.hook = lambda *_: (True, None)
    second = audited.verification()
    assert second.resume()
    rest = [finding.key for finding in second.run()]

    assert rest == [task.folder + name for task in tasks[3:] for name in ("0.png", FILE_NAME)]
    assert (second.counts.folders, second.counts.same, second.counts.different) == (5, 9, 1)
    assert not audited.verification().resume(), "it is done"


def test_a_run_that_is_killed_loses_seconds_and_prints_no_line_less(audited: Audited) -> None:
    for number in range(30):
        audited.archive(f"{number:03}")
    everything = audited.lines()
    first = audited.verification()
    printed: list[str] = []
    for finding in first.run():
        audited.clock += 0.5
        printed.append(f"{finding.symbol} {finding.key}")
        if len(printed) == 25:
            break

    second = audited.verification()
    assert second.resume()
    rest = [f"{finding.symbol} {finding.key}" for finding in second.run()]

    assert list(dict.fromkeys(printed + rest)) == everything
    repeated = len(printed) + len(rest) - len(everything)
    assert 0 <= repeated <= 2 * 5 / 0.5
    assert second.counts.same == len(everything)


def test_a_run_with_other_choices_is_another_run(audited: Audited) -> None:
    audited.archive("881")
    audited.verification(span=Span(family=FAMILY)).save()

    assert not audited.verification().resume()
    assert not audited.verification(span=Span(family=FAMILY), sample=Sample(10)).resume()
    assert not audited.verification(span=Span(family=FAMILY), repair=True).resume()
    assert audited.verification(span=Span(family=FAMILY)).resume()
    audited.store.location = "a copy of the bucket"
    assert not audited.verification(span=Span(family=FAMILY)).resume()


def test_what_an_interrupted_run_has_found_missing_a_repairing_one_asks_for(audited: Audited) -> None:
    tasks = [audited.archive(f"88{number}") for number in range(3)]
    _lose(audited, tasks[0])
    first = audited.verification()
    for finding in first.run():
        if finding.key.startswith(tasks[2].folder):
            break
    first.save()

    second = audited.verification(repair=True)
    assert not second.resume()
    assert [finding.key for finding in second.run() if finding.is_fault] == [tasks[0].asset(0).key]
    assert second.counts.wanted_back == 1


def test_a_run_that_goes_on_knows_since_when_its_first_part_is_checked(audited: Audited) -> None:
    audited.archive("881")
    first = audited.verification()
    first.save()
    audited.desk.clock.advance(DAY // 2)
    second = audited.verification()
    assert second.resume()
    second.save()
    audited.desk.clock.advance(DAY // 2)

    third = audited.verification()
    assert third.resume()
    assert third.resumed_from == START

    audited.desk.clock.advance(DAY)
    fourth = audited.verification()
    assert not fourth.resume(), "what was checked so long ago is checked again"
    assert fourth.resumed_from is None


@pytest.mark.parametrize("stray", ["kling/README.md", "kling/images/.DS_Store", "kling/images/generations/x"])
def test_a_run_goes_on_after_a_stray_object_with_all_that_lies_beside_it(
    audited: Audited, stray: str
) -> None:
    task = audited.archive("881", prefix="kling/")
    audited.store.place(stray, b"stray")
    account = VerifiedAccount(ACCOUNT, frozenset({ACCOUNT}), "kling/")
    everything = [finding.key for finding in audited.verification(account).run()]
    assert everything == sorted([stray, task.asset(0).key, task.folder + FILE_NAME])

    first = audited.verification(account)
    printed: list[str] = []
    for finding in first.run():
        printed.append(finding.key)
        if first.reached.after_key:
            break
    first.save()
    second = audited.verification(account)
    assert second.resume()

    rest = [finding.key for finding in second.run()]
    assert list(dict.fromkeys(printed + rest)) == everything


def test_of_several_accounts_the_run_goes_on_with_the_one_it_was_at(audited: Audited) -> None:
    names = ("team-a", "team-b")
    accounts = [VerifiedAccount(name, frozenset({name}), f"{name}/") for name in names]
    tasks = [
        audited.archive(f"88{place}", account=name, prefix=f"{name}/") for place, name in enumerate(names)
    ]
    _lose_all(audited, audited.archive("9", account="team-a", prefix="team-a/"))
    first = audited.verification(*accounts)
    for finding in first.run():
        if finding.key.startswith("team-b/"):
            break
    first.save()

    second = audited.verification(*accounts)
    assert second.resume()
    rest = [finding.key for finding in second.run()]

    assert rest == [tasks[1].folder + "0.png", tasks[1].folder + FILE_NAME]
    assert (second.counts.same, second.counts.missing) == (4, 2)


def test_a_run_goes_on_in_the_ledgers_turn(audited: Audited) -> None:
    _lose_all(audited, audited.archive("881"))
    first = audited.verification()
    findings = first.run()
    next(findings)
    first.save()
    assert first.reached.is_ledgers_turn

    second = audited.verification()
    assert second.resume()
    assert [finding.symbol for finding in second.run()] == ["+", "+"]
    assert second.counts.missing == 2


def test_a_store_that_fails_now_and_then_costs_only_time(audited: Audited) -> None:
    for number in range(5):
        audited.archive(f"88{number}")
    turn = iter(range(10_000))

    def hook(operation: str, _key: str) -> tuple[bool, BaseException | None]:
        fails = operation in ("digest", "read", "head", "list_after") and next(turn) % 3 == 0
        return True, StoreError("503") if fails else None

    audited.store.hook = hook

    assert audited.faults() == []


def test_a_stop_ends_the_reading_of_a_large_file(audited: Audited) -> None:
    task = audited.archive("881")
    stop = threading.Event()
    reader = patient(audited.store, stop=stop)

    def on_piece(_size: int) -> None:
        stop.set()

    audited.store.digest = _in_pieces  # type: ignore[method-assign,assignment]  # a large file
    with pytest.raises(Stopped):
        reader.digest(task.asset(0).key, on_piece=on_piece)


def _in_pieces(_key: str, *, on_piece: Any) -> tuple[str, int]:
    for _ in range(100):
        on_piece(1)
    raise AssertionError("read to its end")
