"""Watermarked files that only list rows name (images/editing/expand) are in the ledger before anything is archived."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.failures import Failure
from archiver.model import Stage, State
from archiver.verify.stage import DELAY_ATTEMPTS_MAX, WATERMARK_PAGES_MAX
from tests.harness.ledgers import HOUR, MINUTE
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


def old_task(questions: Questions, *, newer: int) -> str:
    """A callback names a task that has so many newer ones before it in the list."""
    sim = questions.sim
    task_id = sim.create_task(family=FAMILY, watermark=True, status="succeed", created_at=sim.now_ms() - HOUR)
    for number in range(newer):
        sim.create_task(family=FAMILY, created_at=sim.now_ms() - HOUR // 2 + number)
    questions.tell(task_id, family=FAMILY)
    return task_id


def test_a_row_that_must_be_older_is_looked_for_on_further_pages(questions: Questions) -> None:
    old_task(questions, newer=5)
    questions.sim.switches.list_page_rows_max = 2

    assert questions.ask_due() is State.SUCCEEDED
    assert stems_to_archive(questions) == ["0", "0.watermark"]
    assert questions.sim.requests["list"] == 3


def test_the_search_for_a_row_ends_at_rows_that_are_older_than_it(questions: Questions) -> None:
    task_id = old_task(questions, newer=1)
    questions.sim.hide_from_list(task_id)
    for number in range(1, 10):
        questions.sim.create_task(family=FAMILY, created_at=questions.sim.now_ms() - HOUR - number * MINUTE)
    questions.sim.switches.list_page_rows_max = 2

    assert questions.ask_due() is State.SUCCEEDED
    assert stems_to_archive(questions) == ["0"]
    assert questions.sim.requests["list"] <= 2


def test_the_search_for_a_row_is_bounded(questions: Questions) -> None:
    old_task(questions, newer=2 * WATERMARK_PAGES_MAX + 2)
    questions.sim.switches.list_page_rows_max = 2

    assert questions.ask_due() is State.SUCCEEDED
    assert stems_to_archive(questions) == ["0"]
    assert questions.sim.requests["list"] == WATERMARK_PAGES_MAX


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
