"""The one way of the API's word into the ledger: counted, logged, and no row costs another its place."""

from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from structlog.typing import EventDict

from archiver.failures import LedgerUnavailable
from archiver.ledger import RecordedTask, RecordOutcome
from archiver.metrics import Metrics
from archiver.model import DiscoveredBy, State, Status, Task
from archiver.record import ROWS_MAX, Recorder
from tests.harness.ledgers import ACCOUNT, RAND, Desk, answer

pytestmark = pytest.mark.usefixtures("lines")


@pytest.fixture
def recorder(desk: Desk) -> Recorder:
    return Recorder(ACCOUNT, desk.ledger, Metrics(), lambda: RAND)


def verified(recorder: Recorder, status: Status) -> float:
    name = "kling_verifications_total"
    return recorder.metrics.registry.get_sample_value(name, {"result": status.value}) or 0


def refuse(monkeypatch: pytest.MonkeyPatch, desk: Desk, refused: set[str], error: Exception) -> None:
    """From now on the ledger raises `error` for a transaction with one of these ids."""
    record = desk.ledger.records.record

    def record_or_refuse(tasks: Sequence[Task], **named: Any) -> list[RecordedTask]:
        if refused & {task.task_id for task in tasks}:
            raise error
        return record(tasks, **named)

    monkeypatch.setattr(desk.ledger.records, "record", record_or_refuse)


def test_a_change_of_state_is_counted_and_logged_once(
    desk: Desk, recorder: Recorder, lines: list[EventDict]
) -> None:
    outcomes = [
        recorder.record([answer("t", status)], discovered_by=DiscoveredBy.CALLBACK)[0].outcome
        for status in (Status.RUNNING, Status.SUCCEEDED, Status.SUCCEEDED)
    ]

    assert outcomes == [RecordOutcome.NEW, RecordOutcome.MOVED, RecordOutcome.UNCHANGED]
    assert [(line["event"], line["state"]) for line in lines] == [
        ("task.verified", State.RUNNING),
        ("task.verified", State.SUCCEEDED),
    ]
    assert (verified(recorder, Status.RUNNING), verified(recorder, Status.SUCCEEDED)) == (1, 1)
    assert desk.shown("t")["discovered_by"] == DiscoveredBy.CALLBACK


def test_a_succeeded_task_without_results_is_logged_as_buried(
    recorder: Recorder, lines: list[EventDict]
) -> None:
    recorder.record_page([answer("t", assets=())])

    assert [(line["event"], line.get("reason")) for line in lines] == [
        ("task.verified", None),
        ("task.buried", "results_missing"),
    ]


def test_another_family_for_a_known_task_is_logged(recorder: Recorder, lines: list[EventDict]) -> None:
    recorder.record_page([answer("t")])
    recorder.record_page([answer("t", family="images/omni-image")])

    (line,) = (line for line in lines if line["event"] == "family.contradicted")
    assert (line["task_id"], line["said"]) == ("t", "images/omni-image")


def test_a_page_of_any_size_is_recorded_500_rows_a_transaction(recorder: Recorder) -> None:
    commits: list[object] = []

    def note(connection: object) -> None:
        commits.append(connection)

    event.listen(sa.Engine, "commit", note)
    try:
        recorded = recorder.record_page([answer(f"t{number}") for number in range(1201)])
    finally:
        event.remove(sa.Engine, "commit", note)

    assert (len(recorded), len(commits), ROWS_MAX) == (1201, 3, 500)


@pytest.mark.parametrize("refused", [{"t0"}, {"t7"}, {"t3", "t4"}, {"t19"}])
def test_rows_that_the_ledger_cannot_take_are_left_out_of_their_page(
    desk: Desk,
    recorder: Recorder,
    lines: list[EventDict],
    monkeypatch: pytest.MonkeyPatch,
    refused: set[str],
) -> None:
    ids = [f"t{number}" for number in range(20)]
    refuse(monkeypatch, desk, refused, ValueError("a shape that no CHECK allows"))

    recorded = recorder.record_page([answer(task_id) for task_id in ids])

    assert [result.task_id for result in recorded] == [task_id for task_id in ids if task_id not in refused]
    unrecorded = [line for line in lines if line["event"] == "task.unrecorded"]
    assert {line["task_id"] for line in unrecorded} == refused
    assert [type(line["exc_info"]) for line in unrecorded] == [ValueError] * len(refused)


def test_a_page_of_which_no_row_can_be_recorded_is_an_error(
    desk: Desk, recorder: Recorder, lines: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, desk, {"t0", "t1", "t2"}, ValueError("a shape that no CHECK allows"))

    with pytest.raises(ValueError, match="a shape"):
        recorder.record_page([answer(f"t{number}") for number in range(3)])

    assert lines == []


def test_a_ledger_that_is_away_is_not_asked_row_by_row(
    desk: Desk, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, desk, {"t1"}, LedgerUnavailable("full"))

    with pytest.raises(LedgerUnavailable):
        recorder.record_page([answer(f"t{number}") for number in range(3)])

    assert desk.rows("SELECT * FROM tasks") == []
