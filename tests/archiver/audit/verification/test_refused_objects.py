"""Objects that the store refuses: by a policy on some of them, or to credentials that may read none."""

import pytest

from archiver.audit.unread import REFUSALS_AT_FIRST_MAX, REFUSALS_IN_A_ROW_MAX, UnreadObjects
from archiver.failures import BucketForbidden
from tests.harness.audited import Audited, rot
from tests.harness.ledgers import FAMILY


def refusing(audited: Audited, below: str) -> None:
    """As a policy does that allows LIST, and nothing else below here."""

    def hook(operation: str, about: str) -> tuple[bool, BaseException | None]:
        is_refused = operation in ("read", "digest", "head") and about.startswith(below)
        return True, BucketForbidden("no s3:GetObject") if is_refused else None

    audited.store.hook = hook


def test_a_folder_that_a_policy_refuses_hides_no_fault_behind_it(audited: Audited) -> None:
    """Also at the beginning, and where a run goes on in it."""
    refused = [audited.archive(f"1{number:02}") for number in range(REFUSALS_AT_FIRST_MAX // 2 - 1)]
    rotten = audited.archive("900", family="videos/text2video")
    rot(audited, rotten)
    refusing(audited, f"{FAMILY}/")

    faults = audited.faults()

    assert [fault.key for fault in faults if fault.symbol == "*"] == [rotten.asset(0).key]
    refusals = [fault for fault in faults if fault.symbol == "!"]
    assert {fault.message for fault in refusals} == {"no s3:GetObject"}
    assert len(refusals) == 2 * len(refused)


def test_many_refused_objects_behind_one_that_was_read_end_nothing(audited: Audited) -> None:
    audited.archive("881", family="images/editing/expand")
    for number in range(REFUSALS_AT_FIRST_MAX):
        audited.archive(f"1{number:02}")
    rotten = audited.archive("900", family="videos/text2video")
    rot(audited, rotten)
    refusing(audited, f"{FAMILY}/")
    first = audited.verification()
    for finding in first.run():
        if finding.is_fault and first.counts.folders > REFUSALS_AT_FIRST_MAX // 2:
            break
    first.save()

    second = audited.verification()
    assert second.resume()
    rest = [finding for finding in second.run() if finding.symbol == "*"]

    assert [finding.key for finding in rest] == [rotten.asset(0).key]


def test_credentials_that_may_list_and_not_read_end_the_run(audited: Audited) -> None:
    for number in range(REFUSALS_AT_FIRST_MAX):
        audited.archive(f"9{number:02}")
    refusing(audited, "")

    with pytest.raises(BucketForbidden, match="GetObject"):
        audited.lines()


def test_credentials_that_lose_the_right_to_read_end_the_run_at_last() -> None:
    unread = UnreadObjects(has_read=True)
    refusals = [BucketForbidden("403")] * (REFUSALS_IN_A_ROW_MAX - 1)
    unread.note(refusals, has_read=False)
    unread.note([], has_read=True)
    unread.note(refusals, has_read=False)

    with pytest.raises(BucketForbidden):
        unread.note(refusals, has_read=False)
