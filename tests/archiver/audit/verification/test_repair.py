"""What a run with `--repair` asks the daemon to fetch again."""

from archiver.archive.manifest import FILE_NAME
from archiver.model import RETENTION_MS
from tests.harness.audited import Audited, lose, lose_all, rot
from tests.harness.ledgers import DAY


def test_missing_objects_are_requested_and_objects_with_other_bytes_left_alone(audited: Audited) -> None:
    missing, gone, rotten = (audited.archive(f"88{number}") for number in range(3))
    lose(audited, missing)
    lose_all(audited, gone)
    rot(audited, rotten)
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


def test_objects_that_kling_has_deleted_are_not_requested(audited: Audited) -> None:
    task = audited.archive("881")
    lose(audited, task)
    audited.desk.clock.advance(RETENTION_MS + 8 * DAY)

    (fault,) = audited.faults(repair=True)

    assert "Kling has deleted it on 2026-10-21" in fault.what_to_do
    assert audited.desk.rows("SELECT key FROM missing_objects") == []


def test_a_missing_file_that_only_the_manifest_names_is_not_requested(audited: Audited) -> None:
    task = audited.archive("881", files=2)
    audited.desk.write("DELETE FROM assets WHERE key = ?", task.asset(1).key)
    audited.store.vanish(task.asset(1).key)

    (fault,) = audited.faults(repair=True)

    assert (fault.key, fault.can_be_restored) == (task.asset(1).key, False)
    assert audited.desk.rows("SELECT key FROM missing_objects") == []
