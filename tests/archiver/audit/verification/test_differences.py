"""What each difference between bucket, manifests and ledger looks like."""

import dataclasses
import itertools
from typing import Any

import pytest

from archiver.archive.manifest import BYTES_MAX, FILE_NAME, amendment_name
from archiver.audit.rebuild import Rebuild, RebuiltAccount
from archiver.failures import (
    StoreAnswerUnreadable,
)
from tests.harness.archived_tasks import ArchivedTask
from tests.harness.audited import Audited, cut, lose, lose_all, lose_manifest, rot
from tests.harness.ledgers import ACCOUNT, DAY, MINUTE, START
from tests.harness.patience import patient


def test_every_correct_object_is_printed_and_read_once(audited: Audited) -> None:
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


def _lose_amendment(audited: Audited, task: ArchivedTask) -> None:
    audited.store.vanish(task.folder + amendment_name(1))


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
        (rot, {"* 0.png"}, "its bytes have the SHA-256"),
        (cut, {"* 0.png"}, "it has 99 bytes, not 100"),
        (lose, {"+ 0.png"}, "it is not there"),
        (lose_manifest, {"+ manifest.json"}, "it is not there"),
        (_lose_amendment, {"+ amendment-1.json"}, "it is not there"),
        (
            lose_all,
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
def test_each_fault_has_its_symbol_and_its_reason_and_the_other_objects_are_correct(
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
    lose_all(audited, audited.archive("884"))
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
def test_tasks_that_the_ledger_learns_of_during_the_run_do_not_count_as_unlisted(
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


def test_a_suspect_file_is_correct_and_counted(audited: Audited) -> None:
    task = ArchivedTask("881")
    task.put_object(audited.store, "0.png", task.content(0))
    manifest = task.manifest(task.asset(0, suspect="incomplete"))
    task.put_object(audited.store, FILE_NAME, manifest.to_bytes())
    task.record(audited.desk.ledger)
    verification = audited.verification()

    assert [finding.symbol for finding in verification.run()] == ["=", "="]
    assert verification.counts.suspect == 1
