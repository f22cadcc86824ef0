"""With an API Key: what only `/tasks` and `/solutions` know is verified by the dozen."""

import pathlib
from collections.abc import Callable

import pytest
from structlog.typing import EventDict

from archiver.failures import ApiAnswerUnreadable, ApiForbidden, ApiServerError
from archiver.kling.limiter import Priority
from archiver.model import Callback, Stage, State, Status
from tests.harness.ledgers import ACCOUNT, FAMILY, MINUTE, SECOND
from tests.harness.questions import FAMILIES, Questions
from tests.simulator import faults

pytestmark = pytest.mark.usefixtures("lines")

VIDEO, SOLUTION = "tasks/video", "solutions/virtual_try_on"


@pytest.fixture
def questions(open_account: Callable[..., Questions]) -> Questions:
    """An account whose four image families are configured."""
    return open_account()


def events(lines: list[EventDict], name: str) -> list[EventDict]:
    return [line for line in lines if line["event"] == name]


# --- ids that callbacks name ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hint", "count"), [(None, 1000), (VIDEO, 200)])
def test_a_thousand_callbacks_that_only_tasks_can_tell_cost_six_calls_a_hundred(
    questions: Questions, hint: str | None, count: int
) -> None:
    ids = questions.history(count, family=VIDEO)
    for start in range(0, count, 200):
        questions.tell(*ids[start : start + 200], family=hint)
    questions.verify_all()

    for start in range(0, count, 500):
        assert questions.states(*ids[start : start + 500]) == {State.SUCCEEDED}
    assert sum(questions.calls.values()) <= 0.06 * count
    assert questions.desk.shown(ids[0])["family"] == VIDEO


def test_a_thousand_callbacks_of_a_family_of_its_own_are_matched_by_the_list(questions: Questions) -> None:
    ids = questions.history(1000)
    questions.tell(*ids, family=None)
    questions.verify_all()

    assert questions.states(*ids[:500]) == questions.states(*ids[500:]) == {State.SUCCEEDED}
    assert sum(questions.calls.values()) <= 0.01 * 1000


def test_forged_ids_are_dismissed_twenty_a_call(questions: Questions) -> None:
    questions.tell(*(f"forged-{number}" for number in range(400)), family=None)
    questions.verify_all()

    assert questions.calls["tasks"] == 20
    assert questions.calls.get("query", 0) == 0
    assert set(questions.limiter.heard) <= {Priority.BACKGROUND, Priority.MATCH}


def test_a_forged_id_costs_a_few_questions_until_it_is_given_up(questions: Questions) -> None:
    questions.tell(*(f"forged-{number}" for number in range(20)), family=None)
    for _ in range(30):
        questions.verify_all()
        questions.clock.advance(MINUTE // 2)

    assert questions.states(*(f"forged-{number}" for number in range(20))) == {State.UNKNOWN}
    assert sum(questions.calls.values()) <= 20 * 5 * len(FAMILIES)  # with a pair of keys it is twice as many


def test_an_id_that_tasks_leaves_out_is_found_by_its_own_path(questions: Questions) -> None:
    questions.sim.switches.tasks_show = frozenset()
    task_id = questions.sim.create_task(status="succeed")
    questions.tell(task_id, family=None)
    for _ in range(4):
        questions.verify_all()
        questions.clock.advance(10 * SECOND)

    assert questions.states(task_id) == {State.SUCCEEDED}
    assert questions.desk.shown(task_id)["family"] == FAMILY


def test_a_legacy_task_without_a_family_is_read_by_its_own_path(questions: Questions) -> None:
    task_id = questions.sim.create_task(family="images/omni-image", series=True, images=2, status="succeed")
    questions.tell(task_id, family=None)
    questions.verify_all()

    (lease,) = questions.desk.claim_all(Stage.ARCHIVE)
    assert lease.family == "images/omni-image"
    assert lease.document["task_result"]["result_type"] == "series"  # type: ignore[index]  # any JSON


def test_a_family_that_is_not_configured_is_known_by_what_it_has_made(questions: Questions) -> None:
    video = questions.sim.create_task(family="videos/effects", status="succeed")
    image = questions.sim.create_task(family="images/kolors-virtual-try-on", status="succeed")
    audio = questions.sim.create_task(family="audio/text-to-audio", status="succeed")
    questions.tell(video, image, audio, family=None)
    questions.verify_all()

    families = [questions.desk.shown(task_id)["family"] for task_id in (video, image, audio)]
    assert families == ["tasks/video", "tasks/image", "audio/text-to-audio"]


def test_a_task_that_runs_is_settled_by_what_it_has_made_in_the_end(
    questions: Questions, lines: list[EventDict]
) -> None:
    task_id = questions.sim.create_task(family="tasks/image")
    questions.tell(task_id, family=None, status=Status.RUNNING)
    questions.verify_all()
    assert questions.desk.shown(task_id)["state"] == "running"
    questions.sim.succeed(task_id)
    questions.clock.advance(MINUTE)
    questions.verify_all()

    shown = questions.desk.shown(task_id)
    assert (shown["state"], shown["family"]) == ("succeeded", "tasks/image")
    assert events(lines, "family.contradicted") == []


def test_callbacks_about_what_still_runs_cost_no_more(questions: Questions) -> None:
    ids = questions.history(400, family=VIDEO, status="processing")
    questions.tell(*ids, family=None, status=Status.RUNNING)
    questions.verify_all()

    assert questions.states(*ids) == {State.RUNNING}
    assert sum(questions.calls.values()) <= 0.06 * 400


def test_a_legacy_task_that_ran_when_it_was_called_back_is_read_by_its_own_path_in_the_end(
    questions: Questions, lines: list[EventDict]
) -> None:
    task_id = questions.sim.create_task(images=2, indexes=[4, 2])
    questions.tell(task_id, family=None, status=Status.RUNNING)
    questions.verify_all()
    assert questions.desk.shown(task_id)["family"] == VIDEO
    questions.sim.succeed(task_id)
    questions.clock.advance(MINUTE)
    questions.verify_all()

    (lease,) = questions.desk.claim_all(Stage.ARCHIVE)
    assert (lease.family, lease.document["task_id"]) == (FAMILY, task_id)
    assert [asset.asset.index for asset in lease.assets] == [4, 2]
    assert events(lines, "family.contradicted") == []


IMAGE = "tasks/image"


@pytest.mark.parametrize("how", ["callbacks", "sweep"])
def test_an_image_that_only_tasks_knows_does_not_cost_a_question_at_every_image_path(
    questions: Questions, how: str
) -> None:
    ids = questions.history(60, family=IMAGE)
    if how == "callbacks":
        questions.tell(*ids, family=None)
    else:
        questions.clock.advance(SECOND)
        questions.sweeper.sweep("tasks/all", full=True)
    questions.verify_all()

    assert questions.states(*ids) == {State.SUCCEEDED}
    assert {questions.desk.shown(task_id)["family"] for task_id in ids} == {IMAGE}
    assert questions.calls["query"] <= len(FAMILIES) * (5 + 60 // 20)


def test_a_legacy_image_among_those_that_only_tasks_knows_is_still_read_by_its_own_path(
    questions: Questions,
) -> None:
    """Its list could not show it yet: the last sweep of the list began before the task was created."""
    questions.tell(*questions.history(20, family=IMAGE), family=None)
    questions.verify_all()
    for family in FAMILIES:
        questions.sweeper.sweep(family, full=True)
    questions.clock.advance(MINUTE)
    legacy = questions.sim.create_task(images=2, indexes=[4, 2], status="succeed")
    questions.clock.advance(SECOND)
    questions.sweeper.sweep("tasks/all", full=False)
    questions.verify_all()

    assert questions.desk.shown(legacy)["family"] == FAMILY


def test_the_family_that_answered_last_is_asked_first(questions: Questions) -> None:
    omni = [questions.sim.create_task(family="images/omni-image", status="succeed") for _ in range(2)]
    for task_id in omni:
        questions.tell(task_id, family=None)
        before = questions.calls.get("query", 0)
        questions.verify_all()

    assert {questions.desk.shown(task_id)["family"] for task_id in omni} == {"images/omni-image"}
    assert questions.calls["query"] - before == 1


def test_a_path_that_has_denied_a_task_is_not_asked_for_it_again(questions: Questions) -> None:
    (task_id,) = questions.history(1, family=IMAGE)
    last = FAMILIES[-1]
    questions.sim.fault("query", faults.ErrorCode(500, 5000), times=2, match=last)
    questions.tell(task_id, family=None)
    for _ in range(4):
        questions.verify_all()
        questions.clock.advance(MINUTE)

    assert questions.desk.shown(task_id)["family"] == IMAGE
    assert questions.calls["query"] == len(FAMILIES) + 2


def test_a_registered_external_id_is_found_by_that_name(questions: Questions) -> None:
    task_id = questions.sim.create_task(family=VIDEO, status="succeed", external_task_id="order-7")
    questions.desk.ledger.registrations.register("order-7", account=ACCOUNT, family=VIDEO)
    questions.verify_all()

    assert questions.states(task_id) == {State.SUCCEEDED}
    assert questions.desk.shown("order-7")["task_id"] == task_id


def test_an_id_that_the_api_will_not_take_keeps_no_other_from_its_answer(questions: Questions) -> None:
    known, *ids = questions.history(7, family=VIDEO)
    questions.tell(known, family=VIDEO)
    questions.verify_all()
    questions.sim.fault("tasks", faults.ErrorCode(400, 1201), match="poison")
    questions.tell(*ids[:3], "poison", *ids[3:], family=VIDEO)
    questions.verify_all()

    assert questions.states(*ids) == {State.SUCCEEDED}
    assert questions.states("poison") == {State.REPORTED}


def _nested(depth: int) -> list[object]:
    return [_nested(depth - 1)] if depth else []


def test_a_row_that_cannot_be_read_is_not_taken_for_an_id_that_is_not_known(questions: Questions) -> None:
    broken, sound = questions.history(2, family=VIDEO)
    questions.sim.override(broken, {"id": broken, "status": "succeeded", "outputs": [], "x": _nested(100)})
    questions.tell(broken, sound, family=VIDEO)

    answers = questions.ask_batch()

    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [ApiAnswerUnreadable]
    assert questions.states(sound) == {State.SUCCEEDED}
    questions.sim.override(broken, None)
    questions.clock.advance(MINUTE)
    questions.verify_all()
    assert questions.states(broken) == {State.SUCCEEDED}


def test_an_outage_costs_every_id_a_try_and_none_its_place(questions: Questions) -> None:
    ids = questions.history(5, family=VIDEO)
    questions.tell(*ids, family=None)
    questions.sim.fault(None, faults.server_error(), times=1, match="/tasks")

    assert [type(answer) for answer in questions.ask_batch()] == [ApiServerError] * 5
    questions.clock.advance(MINUTE)
    questions.verify_all()

    assert questions.states(*ids) == {State.SUCCEEDED}


def test_a_family_that_the_key_may_not_read_does_not_keep_a_task_that_tasks_shows(
    questions: Questions,
) -> None:
    task_id = questions.sim.create_task(family="tasks/image", status="succeed")
    questions.sim.fault(None, faults.ErrorCode(403, 1103), match="omni-image")
    questions.tell(task_id, family=None)
    questions.verify_all()

    assert questions.states(task_id) == {State.SUCCEEDED}
    assert questions.desk.ledger.holds.any() is False


def test_a_key_without_the_right_to_tasks_reads_the_families_own_paths(
    questions: Questions, lines: list[EventDict]
) -> None:
    task_id = questions.sim.create_task(status="succeed")
    questions.sim.fault("tasks", faults.ErrorCode(403, 1103))
    questions.tell(task_id, family=None)
    questions.verify_all()

    assert questions.states(task_id) == {State.SUCCEEDED}
    assert questions.desk.ledger.holds.any() is False
    assert len(events(lines, "endpoint.unoffered")) == 1
    assert ApiForbidden.reason not in str(questions.desk.ledger.holds.all())


@pytest.mark.parametrize("shape", ["outputs", "images"])
@pytest.mark.parametrize("configured", [True, False])
def test_a_solution_is_found_at_its_own_path_in_either_shape(
    open_account: Callable[..., Questions], shape: str, configured: bool
) -> None:
    questions = open_account(FAMILY, *([SOLUTION] if configured else []))
    questions.sim.switches.solution_shape = "outputs" if shape == "outputs" else "images"
    task_id = questions.sim.create_task(family=SOLUTION, status="succeed", images=2)
    questions.tell(task_id, family=None)
    questions.verify_all()
    questions.clock.advance(10 * SECOND)
    questions.verify_all()

    shown = questions.desk.shown(task_id)
    assert (shown["state"], shown["family"], len(shown["assets"])) == ("succeeded", SOLUTION, 2)


def test_a_solution_is_buried_with_the_reason_where_solutions_are_not_offered(questions: Questions) -> None:
    solution, video = questions.history(1, family=SOLUTION)[0], questions.history(1, family=VIDEO)[0]
    questions.sim.fault("solutions", faults.ErrorCode(404, 1203))
    questions.tell(solution, family=SOLUTION)
    questions.tell(video, family=VIDEO)
    questions.verify_all()

    shown = questions.desk.shown(solution)
    assert (shown["state"], shown["reason"]) == ("buried", "api_not_offered")
    assert questions.states(video) == {State.SUCCEEDED}


# --- without an API Key -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [None, FAMILY, VIDEO])
def test_with_a_pair_of_keys_a_finished_task_of_the_new_standard_is_buried_and_tasks_never_asked(
    tmp_path: pathlib.Path, family: str | None
) -> None:
    with Questions(tmp_path) as questions:
        task_id = questions.sim.create_task(family=VIDEO, status="succeed")
        questions.desk.ledger.callbacks.record(
            [Callback(ACCOUNT, task_id, Status.SUCCEEDED, family, None, ("outputs",))]
        )
        for _ in range(2):
            questions.verify_all()
            questions.clock.advance(10 * SECOND)

        shown = questions.desk.shown(task_id)
        assert (shown["state"], shown["reason"]) == ("buried", "needs_api_key")
        assert questions.sim.complaints == []
        assert questions.desk.ledger.records.states(account=ACCOUNT, task_ids=[task_id]) == {
            task_id: State.BURIED
        }
