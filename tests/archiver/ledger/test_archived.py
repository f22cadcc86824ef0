"""What is left of a task once it is in the bucket, and what still works with it."""

import pathlib

import pytest

from archiver.model import CallbackOutcome, DiscoveredBy, Stage, State
from tests.harness.ledgers import DAY, Desk, answer, stored
from tests.harness.repository import SAMPLES


def kept(desk: Desk) -> str:
    """All text that the ledger has of its tasks and assets."""
    return repr(desk.rows("SELECT * FROM tasks") + desk.rows("SELECT * FROM assets"))


def test_neither_the_document_nor_a_url_of_an_archived_task_is_kept(desk: Desk) -> None:
    desk.say(answer())
    assert "https://" in kept(desk)

    desk.archived(desk.claim(Stage.ARCHIVE))

    assert "https://" not in kept(desk)
    assert "task_status" not in kept(desk)


def test_what_show_says_of_an_archived_task_and_the_names_of_its_assets_stay(desk: Desk) -> None:
    desk.say(answer(external_task_id="mine"))

    desk.archived(desk.claim(Stage.ARCHIVE))

    shown = desk.shown("mine")
    assert (shown["state"], shown["manifest_key"]) == (State.ARCHIVED, "f/manifest.json")
    (image,) = shown["assets"]
    assert (image["name"], image["key"], image["sha256"]) == ("0.png", stored().key, stored().sha256)
    assert [row["stem"] for row in desk.rows("SELECT stem FROM assets")] == ["0"]


def test_a_callback_and_a_sweeps_row_of_a_year_later_are_no_news(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    before = desk.row()
    desk.clock.advance(365 * DAY)

    assert desk.tell() is CallbackOutcome.DUPLICATE
    assert desk.say(answer(), by=DiscoveredBy.SWEEP).state is State.ARCHIVED
    after = desk.row()
    assert (after["document"], after["due_at"]) == (before["document"], None)


def test_a_task_that_is_not_in_the_bucket_yet_keeps_what_it_needs(desk: Desk) -> None:
    desk.bring(State.BURIED)

    assert desk.row()["document"] != "{}"
    assert [row["url"] for row in desk.rows("SELECT url FROM assets")] == ["https://cdn.klingai.com/0.png"]


def test_upkeep_drops_them_of_tasks_that_an_earlier_version_archived_and_then_rests(
    tmp_path: pathlib.Path,
) -> None:
    desk = Desk(tmp_path)
    desk.close()
    desk.path.unlink()
    desk.write_script((SAMPLES / "ledger_0002.sql").read_text())
    desk.reopen()
    assert desk.row("archived")["document"] != "{}"

    while desk.ledger.deadlines.slim_archived():
        pass

    assert desk.row("archived")["document"] == "{}"
    assert desk.row("succeeded")["document"] != "{}"
    urls = desk.rows("SELECT url, source_url FROM assets ORDER BY task")
    assert urls == [
        {"url": "", "source_url": ""},
        {"url": "https://cdn.klingai.com/0.png", "source_url": None},
    ]
    assert desk.rows("SELECT value FROM facts WHERE name = 'rows_to_slim'") == []
    desk.close()


@pytest.mark.sqlite_only("changes ids that others refer to")
def test_thousands_of_old_tasks_are_done_a_few_at_a_time(desk: Desk) -> None:
    for number in range(3):
        desk.bring(State.ARCHIVED, f"t{number}")
    desk.write("UPDATE tasks SET document = ?", "old")
    desk.write("UPDATE tasks SET id = id + 1000 WHERE task_id = ?", "t2")
    desk.write("INSERT INTO facts (name, value) VALUES (?, ?)", "rows_to_slim", "1003")

    rounds = [desk.ledger.deadlines.slim_archived() for _ in range(22)]

    assert rounds == [*range(953, 0, -50), 0, 0]
    assert {row["document"] for row in desk.rows("SELECT document FROM tasks")} == {"{}"}
