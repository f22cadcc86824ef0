"""Watermarked files that only list rows name (images/editing/expand) are in the ledger before anything is archived."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.failures import Failure
from archiver.model import Stage, State
from archiver.verify.stage import DELAY_ATTEMPTS_MAX
from tests.harness.ledgers import MINUTE
from tests.harness.questions import Questions
from tests.simulator import faults

FAMILY = "images/editing/expand"


@pytest.fixture
def questions(tmp_path: Path) -> Iterator[Questions]:
    with Questions(tmp_path, families=(FAMILY,)) as made:
        yield made
        assert made.sim.complaints == []


def hear_of(questions: Questions, *, watermark: bool, images: int = 1) -> None:
    """A callback names a task that has succeeded."""
    task_id = questions.sim.create_task(family=FAMILY, images=images, watermark=watermark, status="succeed")
    questions.tell(task_id, family=FAMILY)


def stems_to_archive(questions: Questions) -> list[str]:
    return [leased.asset.stem for leased in questions.desk.claim(Stage.ARCHIVE).assets]


def test_the_watermarked_file_that_only_the_list_names_is_archived_too(questions: Questions) -> None:
    hear_of(questions, images=2, watermark=True)

    assert questions.ask_due() is State.SUCCEEDED
    assert stems_to_archive(questions) == ["0", "0.watermark", "1", "1.watermark"]


def test_without_a_watermark_the_list_is_not_asked(questions: Questions) -> None:
    hear_of(questions, images=2, watermark=False)

    assert questions.ask_due() is State.SUCCEEDED
    assert stems_to_archive(questions) == ["0", "1"]
    assert questions.sim.requests["list"] == 0


def test_a_list_that_cannot_be_read_delays_the_task_and_does_not_stop_it(questions: Questions) -> None:
    hear_of(questions, watermark=True)
    questions.sim.fault("list", faults.server_error())

    for _ in range(DELAY_ATTEMPTS_MAX):
        assert isinstance(questions.ask_due(), Failure)
        questions.clock.advance(20 * MINUTE)

    assert questions.ask_due() is State.SUCCEEDED
    assert stems_to_archive(questions) == ["0"]
