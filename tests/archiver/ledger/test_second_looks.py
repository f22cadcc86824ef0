"""What is to be seen again in the bucket, and what was missing there, as the ledger keeps it."""

from archiver.failures import BucketMissing
from archiver.ledger import DoubtedObject, MissingState
from archiver.model import Stage, State
from tests.harness.ledgers import ACCOUNT, HOUR, MINUTE, Desk, stored


def claimed(desk: Desk, account: str = ACCOUNT) -> list[str]:
    return [folder.task_id for folder in desk.ledger.second_looks.claim(account=account)]


def settle(desk: Desk, *, missing: bool) -> list[MissingState]:
    """What becomes of all doubts that are due."""
    doubts = desk.ledger.missing_objects.claim(account=ACCOUNT)
    of_kind = {"found": [], "missing": doubts} if missing else {"found": doubts, "missing": []}
    return [each.state for each in desk.ledger.missing_objects.settle(**of_kind)]


def doubt(desk: Desk) -> None:
    """The one task's one file is in no listing."""
    (folder,) = desk.ledger.second_looks.claim(account=ACCOUNT)
    desk.ledger.second_looks.finish(
        [folder], place="bucket", doubted=[DoubtedObject(folder.row_id, stored().key)]
    )


def test_a_folder_is_due_after_twenty_minutes_and_brings_along_what_is_due_soon(desk: Desk) -> None:
    desk.bring(State.ARCHIVED, "first")
    desk.clock.advance(10 * MINUTE)
    desk.bring(State.ARCHIVED, "second")
    desk.clock.advance(9 * MINUTE)
    assert claimed(desk) == []

    desk.clock.advance(MINUTE)
    assert claimed(desk) == ["first", "second"]
    assert claimed(desk) == []


def test_a_claimed_folder_without_a_result_is_due_again_after_five_minutes(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    desk.clock.advance(HOUR)
    assert claimed(desk) == ["t"]
    desk.reopen()

    desk.clock.advance(5 * MINUTE)
    assert claimed(desk) == ["t"]


def test_a_folder_that_gets_another_object_during_a_look_is_looked_at_again(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    desk.clock.advance(HOUR)
    (folder,) = desk.ledger.second_looks.claim(account=ACCOUNT)
    desk.write("UPDATE second_looks SET due_at = due_at + 1")

    desk.ledger.second_looks.finish([folder], place="bucket")

    desk.clock.advance(HOUR)
    assert claimed(desk) == ["t"]


def test_a_clock_that_is_set_back_delays_no_look(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    desk.clock.advance(-24 * HOUR)

    assert claimed(desk) == ["t"]


def test_looks_and_doubts_move_with_a_renamed_account(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    desk.clock.advance(HOUR)
    doubt(desk)
    desk.bring(State.ARCHIVED, "other")
    desk.reopen()
    desk.ledger.accounts.rename(ACCOUNT, "renamed")
    desk.clock.advance(HOUR)

    assert claimed(desk, "renamed") == ["other"]
    assert len(desk.ledger.missing_objects.claim(account="renamed")) == 1


def test_a_hold_of_the_archive_stage_stops_second_heads_too(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    desk.clock.advance(HOUR)
    doubt(desk)
    desk.clock.advance(HOUR)
    desk.ledger.holds.set(BucketMissing("x"), account=ACCOUNT, stage=Stage.ARCHIVE)

    assert desk.ledger.missing_objects.claim(account=ACCOUNT) == []


def test_a_missing_object_is_settled_once_however_many_processes_ask(desk: Desk) -> None:
    """Two processes have the same doubt."""
    desk.bring(State.ARCHIVED)
    desk.clock.advance(HOUR)
    doubt(desk)
    desk.clock.advance(HOUR)
    doubts = desk.ledger.missing_objects.claim(account=ACCOUNT)

    assert len(desk.ledger.missing_objects.settle(found=[], missing=doubts)) == 1
    assert desk.ledger.missing_objects.settle(found=[], missing=doubts) == []
    assert [line["event"] for line in desk.shown()["history"]].count("object.missing") == 1


def test_an_object_that_is_missing_again_after_it_was_put_back_is_left_alone(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    desk.clock.advance(HOUR)
    doubt(desk)
    desk.clock.advance(HOUR)
    assert settle(desk, missing=True) == [MissingState.WANTED]
    desk.write("UPDATE missing_objects SET state = 'restored', restored_at = 1, problem_since = NULL")
    desk.write(
        "INSERT INTO second_looks (task, account, due_at) SELECT task, account, 0 FROM missing_objects"
    )

    doubt(desk)
    desk.clock.advance(HOUR)
    assert settle(desk, missing=True) == [MissingState.LEFT_ALONE]

    assert desk.ledger.views.status().missing_objects == ()
    desk.write(
        "INSERT INTO second_looks (task, account, due_at) SELECT task, account, 0 FROM missing_objects"
    )
    (folder,) = desk.ledger.second_looks.claim(account=ACCOUNT)
    assert list(folder.sizes) == ["f/manifest.json"]


def test_trust_is_earned_by_a_thousand_objects_and_lost_by_the_first_that_is_missing(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    desk.clock.advance(HOUR)
    (folder,) = desk.ledger.second_looks.claim(account=ACCOUNT)
    desk.ledger.second_looks.finish([folder], place="bucket")
    assert desk.ledger.trust.of("bucket").objects == len(folder.sizes) == 2

    desk.write("UPDATE trust SET objects = 998")
    desk.ledger.second_looks.finish([folder], place="bucket")
    assert desk.ledger.trust.of("bucket").is_earned
    assert not desk.ledger.trust.of("another bucket").is_earned

    missing = [DoubtedObject(folder.row_id, stored().key)]
    desk.ledger.second_looks.finish([folder], place="bucket", doubted=missing)
    assert desk.ledger.trust.of("bucket").objects == 0


def test_what_doctor_learns_of_a_store_is_known_before_any_work_and_earns_no_trust(desk: Desk) -> None:
    desk.ledger.trust.note_second_put("bucket", "refused")
    desk.ledger.trust.note_second_put("bucket", "respected")

    known = desk.ledger.trust.of("bucket")
    assert (known.second_put, known.objects, known.is_earned) == ("respected", 0, False)
