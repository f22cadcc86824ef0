"""Which tasks, folders and files a run looks at."""

from typing import Any

import pytest

from archiver.archive.manifest import FILE_NAME, amendment_name
from archiver.audit.places import Span
from archiver.audit.sample import Sample
from archiver.audit.verification import VerifiedAccount
from tests.harness.archived_tasks import ArchivedTask
from tests.harness.audited import Audited, lose, lose_all, lose_manifest, record_lost, rot
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, START, answer


def test_the_saved_files_of_a_lost_task_are_compared_with_its_incomplete_json(audited: Audited) -> None:
    task = ArchivedTask("881")
    task.put_object(audited.store, "0.png", task.content(0))
    task.put_object(audited.store, "incomplete.json", task.manifest(task.asset(0), missing="1").to_bytes())

    assert audited.lines() == [f"= {task.folder}0.png", f"= {task.folder}incomplete.json"]
    rot(audited, task)
    assert audited.lines()[0] == f"* {task.folder}0.png"


def test_files_of_a_task_that_is_not_archived_yet_do_not_count_as_unnamed(audited: Audited) -> None:
    audited.desk.say(answer("881"))
    task = ArchivedTask("881")
    task.put_object(audited.store, "0.png", task.content(0))
    verification = audited.verification()

    assert list(verification.run()) == []
    assert verification.counts.in_work == 1


def test_an_object_that_no_record_names_is_reported_and_is_no_fault(audited: Audited) -> None:
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
    rot(audited, task)
    audited.desk.ledger.tombstones.forget("881", account=ACCOUNT)
    verification = audited.verification()

    assert list(verification.run()) == []
    assert verification.counts.forgotten == 1


def test_only_the_span_is_looked_at_in_bucket_and_ledger(audited: Audited) -> None:
    for number in range(3):
        lose_all(audited, audited.archive(f"lost-{number}", created_at=START + number * DAY))
        audited.archive(f"kept-{number}", created_at=START + number * DAY)
    audited.archive("video", family="videos/text2video", created_at=START + DAY)

    day = Span(family=FAMILY, since_day="2026/09/22", until_day="2026/09/22")
    lines = audited.lines(span=day)

    assert {line.split("/")[-2] for line in lines} == {"lost-1", "kept-1"}


def test_samples_side_by_side_cover_everything(audited: Audited) -> None:
    for number in range(16):
        audited.archive(f"{number}")
    lose_all(audited, ArchivedTask("7"))
    everything = sorted(audited.lines())

    samples = [audited.lines(sample=Sample(30, number)) for number in range(4)]

    assert sorted(set().union(*samples)) == everything
    assert all(0 < len(sample) < len(everything) for sample in samples)
    assert audited.lines(sample=Sample(30, 2)) == samples[2]
    tenths = [audited.lines(sample=Sample(10, number)) for number in range(10)]
    assert sorted(line for tenth in tenths for line in tenth) == everything, "each in one of them"


def test_tasks_below_another_prefix_are_read_too(audited: Audited) -> None:
    old = [audited.archive(f"88{number}", files=2, prefix="old/") for number in range(4)]
    new = audited.archive("890", prefix="new/")
    lose(audited, old[0])
    rot(audited, old[1])
    lose_manifest(audited, old[2])
    lose_all(audited, old[3])
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
def test_below_a_new_prefix_that_contains_the_old_one_known_tasks_stay_known(
    audited: Audited, family: str, old: str
) -> None:
    whole = audited.archive("881", files=2, prefix=f"{old}kling/", family=family)
    rotten = audited.archive("882", prefix=f"{old}kling/", family=family)
    audited.archive("883", prefix=old, family=family)
    rot(audited, rotten)
    verification = audited.verification(VerifiedAccount(ACCOUNT, frozenset({ACCOUNT}), old))

    findings = list(verification.run())

    assert [(each.symbol, each.key) for each in findings if each.symbol != "="] == [
        ("*", rotten.asset(0).key)
    ]
    assert len({each.key for each in findings}) == len(findings) == 7
    assert whole.folder + FILE_NAME in {each.key for each in findings}
    assert verification.counts.elsewhere == 2


def test_a_document_that_must_precede_an_existing_one_is_missed_also_of_an_unknown_task(
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
    record_lost(audited, "881")
    lose_manifest(audited, task)
    key = task.folder + "incomplete.json"
    assert audited.faults() == [], "so far it is only to be written"
    event = ("task.rebuilt", "lost, by incomplete.json") if is_rebuilt else ("task.incomplete", key)
    audited.desk.write("INSERT INTO history (task, at, event, detail) SELECT id, 0, ?, ? FROM tasks", *event)

    (fault,) = audited.faults()

    assert (fault.symbol, fault.key) == ("+", key)
    assert "written again" in fault.what_to_do
    repairing = audited.verification(repair=True)
    assert [finding.key for finding in repairing.run() if finding.is_fault] == [key]
    assert repairing.counts.wanted_back == 1
    assert audited.desk.rows("SELECT kind FROM folder_work") == [{"kind": "incomplete"}]
    assert audited.desk.rows("SELECT key FROM missing_objects") == []
    audited.store.place(key, task.manifest(task.asset(0), missing="1").to_bytes())
    assert audited.faults() == []


@pytest.mark.parametrize("lose", [lose, lose_all])
def test_a_saved_file_of_a_lost_task_that_is_gone_is_a_fault_and_only_a_copy_helps(
    audited: Audited, lose: Any
) -> None:
    task = audited.archive("881", files=2)
    record_lost(audited, "881")
    lose_manifest(audited, task)
    lose(audited, task)
    verification = audited.verification(repair=True)

    faults = [finding for finding in verification.run() if finding.is_fault]

    assert faults[0].key == task.asset(0).key
    assert {(each.symbol, each.can_be_restored) for each in faults} == {("+", False)}
    assert all("only a copy can bring the file back" in each.what_to_do for each in faults)
    assert (verification.counts.missing, verification.counts.in_work) == (len(faults), 0)
