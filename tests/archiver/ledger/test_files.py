"""What the ledger says of one file."""

import contextlib
from collections.abc import Iterator

import pytest

from archiver.model import State
from tests.harness.ledgers import ACCOUNT, DAY, Desk, Place, answer, asset, stored


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    with contextlib.closing(Desk(place)) as desk:
        yield desk


def is_tried(desk: Desk, stem: str = "0") -> bool:
    found = desk.ledger.files.find(account=ACCOUNT, task_id="t", stem=stem)
    assert found is not None
    assert found.stored is None
    return found.is_tried


def test_a_stored_file_is_found_as_it_lies_in_the_bucket(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    found = desk.ledger.files.find(account=ACCOUNT, task_id="t", stem="0")

    assert found is not None
    assert found.stored is not None
    assert found.asset.stem == "0"
    for name in ("key", "name", "bytes", "sha256", "content_type"):
        assert getattr(found.stored, name) == getattr(stored(), name)


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.BURIED, State.LOST])
def test_a_file_of_a_task_that_waits_is_still_tried(desk: Desk, state: State) -> None:
    desk.bring(state)

    assert is_tried(desk)


def test_a_file_of_a_lost_task_is_tried_no_more_once_the_task_waits_for_nothing(desk: Desk) -> None:
    desk.bring(State.LOST)
    desk.write("UPDATE tasks SET due_at = NULL, claim_group = NULL")

    assert not is_tried(desk)


def test_a_later_file_of_an_archived_task_is_tried_until_its_amendment_is_given_up(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    desk.say(answer(assets=(asset(), asset("0.watermark"))))
    is_tried_at_first = is_tried(desk, "0.watermark")
    desk.clock.advance(40 * DAY)
    desk.write("DELETE FROM folder_work")

    assert is_tried_at_first
    assert not is_tried(desk, "0.watermark")


@pytest.mark.parametrize("given", [{"account": "other"}, {"task_id": "u"}, {"stem": "1"}])
def test_no_other_file_is_found(desk: Desk, given: dict[str, str]) -> None:
    desk.bring(State.ARCHIVED)

    assert desk.ledger.files.find(**{"account": ACCOUNT, "task_id": "t", "stem": "0"} | given) is None
