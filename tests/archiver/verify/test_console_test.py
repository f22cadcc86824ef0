"""The test callback of Kling's developer console is answered as any other, and nothing of it stays.

Its body is written out as archiver/kling/API.md 1.5 has it: the new standard, a made-up id, `submitted`, nothing else.
"""

import json
import pathlib
from typing import Any

import pytest
from structlog.typing import EventDict

from archiver.ledger.outcomes import GRACE_MS
from archiver.model import Callback, State
from receiver.callbacks import payload
from tests.harness.ledgers import ACCOUNT, FAMILY, MINUTE
from tests.harness.questions import Questions

pytestmark = pytest.mark.usefixtures("lines")

BODY: dict[str, Any] = {
    "id": "930810057590833241",
    "status": "submitted",
    "message": "",
    "create_time": 1781080778802,
    "update_time": 1781080778802,
    "outputs": [],
}


def read(body: dict[str, Any], *, family: str | None = FAMILY) -> Callback:
    callback = payload.parse(json.dumps(body).encode(), account=ACCOUNT, family_hint=family)
    assert isinstance(callback, Callback)
    return callback


def pass_time(questions: Questions, *, milliseconds: int) -> None:
    """Time goes by, and whatever is due is asked for."""
    end = questions.clock() + milliseconds
    while questions.clock() < end:
        questions.verify_all()
        questions.clock.advance(MINUTE // 2)


@pytest.mark.parametrize(
    ("api_key", "family", "count"),
    [
        (False, None, 1),
        (False, FAMILY, 1),
        (False, "tasks/video", 1),
        (True, None, 10),
        (True, FAMILY, 1),
        (True, "tasks/video", 1),
    ],
)
def test_nothing_of_it_stays_when_the_grace_period_is_over(
    tmp_path: pathlib.Path, lines: list[EventDict], api_key: bool, family: str | None, count: int
) -> None:
    with Questions(tmp_path, api_key=api_key) as questions:
        bodies = [BODY | {"id": f"93081005759083324{number}"} for number in range(count)]
        questions.desk.ledger.callbacks.record([read(body, family=family) for body in bodies])
        assert len(questions.desk.rows("SELECT * FROM tasks")) == count
        pass_time(questions, milliseconds=GRACE_MS + 5 * MINUTE)

        assert questions.desk.rows("SELECT * FROM tasks") == []
        assert questions.desk.rows("SELECT * FROM history") == []
        assert questions.desk.ledger.holds.all() == ()
        assert [line["event"] for line in lines] == []  # no alarm about ten unknown ids either
        assert questions.sim.complaints == []


def test_a_genuine_task_whose_first_callback_looks_the_same_is_followed(tmp_path: pathlib.Path) -> None:
    with Questions(tmp_path, api_key=True) as questions:
        task_id = questions.sim.create_task(family="tasks/video")
        questions.desk.ledger.callbacks.record([read(BODY | {"id": task_id})])
        pass_time(questions, milliseconds=GRACE_MS + 5 * MINUTE)
        assert questions.states(task_id) == {State.RUNNING}
        questions.sim.succeed(task_id)
        pass_time(questions, milliseconds=10 * MINUTE)

        assert questions.states(task_id) == {State.SUCCEEDED}


def test_a_later_callback_about_the_id_makes_it_an_id_like_any_other(tmp_path: pathlib.Path) -> None:
    with Questions(tmp_path, api_key=True) as questions:
        later = BODY | {"status": "processing", "update_time": BODY["create_time"] + 1}
        for body in (BODY, later):
            questions.desk.ledger.callbacks.record([read(body)])
        pass_time(questions, milliseconds=GRACE_MS + 5 * MINUTE)

        assert questions.states(BODY["id"]) == {State.UNKNOWN}


@pytest.mark.parametrize(
    "change",
    [
        {"status": "succeeded"},
        {"status": "processing"},
        {"message": "x"},
        {"outputs": [{"type": "image", "url": "https://cdn.klingai.com/0.png"}]},
        {"outputs": None},
        {"update_time": 1781080778803},
        {"create_time": None, "update_time": None},
        {"task_id": "1"},
    ],
)
def test_a_callback_that_differs_from_the_documented_test_is_no_test(change: dict[str, Any]) -> None:
    assert read(BODY).is_console_test is True
    assert read(BODY | change).is_console_test is False
