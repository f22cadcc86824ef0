"""From a named id to the API's word: the real client against a simulated account, every query counted."""

import pathlib

import pytest
import structlog.testing

from archiver.failures import (
    ApiAnswerUnreadable,
    ApiForbidden,
    ApiRateLimited,
    ApiServerError,
    NeedsApiKey,
)
from archiver.kling.limiter import Priority
from archiver.ledger.gateway_creates.registering import CreatedTask, GatewayCreate
from archiver.model import Callback, Stage, State, Status
from archiver.verify.matching import LIST_IDS_MIN
from archiver.verify.unknown_ids import UnknownIdAlarm
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR, MINUTE, SECOND, answer
from tests.harness.questions import FAMILIES, Questions
from tests.simulator import faults

pytestmark = pytest.mark.usefixtures("lines")

EXPAND = "images/editing/expand"


# --- one question ---------------------------------------------------------------------------------------------------


def test_a_callback_costs_one_question_and_only_its_answer_is_believed(questions: Questions) -> None:
    task_id = questions.sim.create_task()
    questions.tell(task_id, status=Status.SUCCEEDED)

    assert questions.ask_due() is State.RUNNING
    assert questions.calls == {"query": 1}


@pytest.mark.parametrize(
    ("status", "state"),
    [("processing", State.RUNNING), ("succeed", State.SUCCEEDED), ("failed", State.FAILED)],
)
def test_the_answer_decides_the_state(questions: Questions, status: str, state: State) -> None:
    task_id = questions.sim.create_task(status=status, message="policy" if status == "failed" else "")
    questions.tell(task_id)

    assert questions.ask_due() is state
    shown = questions.desk.shown(task_id)
    assert (shown["state"], shown["family"]) == (state, FAMILY)
    assert shown["message"] == ("policy" if status == "failed" else None)


def test_the_hint_alone_is_asked_first_and_every_family_after_it_failed(questions: Questions) -> None:
    task_id = questions.sim.create_task(family=EXPAND, status="succeed")
    questions.tell(task_id, family="images/omni-image")

    assert questions.ask_due() is State.REPORTED
    assert questions.sim.paths == {f"/v1/images/omni-image/{task_id}": 1}
    questions.clock.advance(2 * SECOND)
    assert questions.ask_due() is State.SUCCEEDED
    assert questions.desk.shown(task_id)["family"] == EXPAND


@pytest.mark.parametrize(
    "answer",
    [
        faults.ErrorCode(404, 1203),
        faults.ErrorCode(403, 1103),
        faults.ErrorCode(400, 1200),
        faults.ErrorCode(401, 1002),
        faults.Html(404),
        faults.Html(401),
        faults.server_error(),
    ],
)
@pytest.mark.parametrize("family", ["foo/bar", "images/kolors-virtual-try-on"])
def test_an_answer_from_a_wrong_familys_path_is_no_verdict_on_a_genuine_task(
    questions: Questions, family: str, answer: faults.Fault
) -> None:
    task_id = questions.sim.create_task(status="succeed")
    questions.sim.fault(None, answer, match=family)
    questions.tell(task_id, family=family)

    assert questions.ask_due() is State.SUCCEEDED
    assert questions.desk.shown(task_id)["family"] == FAMILY
    assert questions.desk.ledger.holds.any() is False
    questions.sim.complaints.clear()  # of a family that does not exist


@pytest.mark.parametrize(
    "answer", [faults.ErrorCode(404, 1203), faults.ErrorCode(403, 1103), faults.Html(404)]
)
def test_a_forged_id_of_a_family_that_does_not_exist_buries_and_holds_nothing(
    questions: Questions, answer: faults.Fault
) -> None:
    questions.sim.fault(None, answer, match="foo/bar")
    questions.tell("forged", family="foo/bar")

    assert questions.ask_due() is State.REPORTED
    assert questions.desk.ledger.holds.any() is False
    questions.sim.complaints.clear()  # of a family that does not exist


def test_a_family_without_a_right_to_it_is_held_where_no_other_family_knows_the_task(
    questions: Questions,
) -> None:
    questions.sim.fault(None, faults.ErrorCode(403, 1103), match=FAMILY)
    questions.tell("t")

    assert isinstance(questions.ask_due(), ApiForbidden)
    assert [hold.reason for hold in questions.desk.ledger.holds.all()] == ["api_forbidden"]


def test_a_settled_family_is_the_only_one_that_is_asked(questions: Questions) -> None:
    task_id = questions.sim.create_task(family=EXPAND, status="processing")
    questions.tell(task_id, family=None)
    assert questions.ask_due() is State.RUNNING
    asked = questions.sim.requests["query"]

    questions.clock.advance(MINUTE)
    assert questions.ask_due() is State.RUNNING

    assert questions.sim.requests["query"] == asked + 1
    assert questions.sim.log[-1].path == f"/v1/{EXPAND}/{task_id}"


def test_without_a_hint_the_families_that_fit_the_callbacks_arrays_are_asked_first(
    questions: Questions,
) -> None:
    task_id = questions.sim.create_task(family="images/omni-image", series=True, images=2, status="succeed")
    questions.desk.ledger.callbacks.record(
        [Callback(ACCOUNT, task_id, Status.SUCCEEDED, None, None, ("series_images",))]
    )

    assert questions.ask_due() is State.SUCCEEDED
    assert questions.calls == {"query": 1}


def test_an_external_id_leads_to_the_task_and_never_to_two_rows(questions: Questions) -> None:
    task_id = questions.sim.create_task(external_task_id="my order/7", status="succeed")
    questions.desk.ledger.registrations.register(
        "my order/7", account=ACCOUNT, family=FAMILY, request={"n": 1}
    )

    assert questions.ask_due() is State.SUCCEEDED
    assert [row["task_id"] for row in questions.desk.rows("SELECT task_id FROM tasks")] == [task_id]
    assert questions.desk.shown("my order/7")["discovered_by"] == "registration"


def test_a_confirmed_id_that_is_answered_for_with_another_task_is_asked_again(questions: Questions) -> None:
    questions.desk.say(answer("828338674605228111", Status.RUNNING))
    other = questions.sim.create_task(external_task_id="828338674605228111", status="succeed")
    questions.clock.advance(MINUTE)

    assert isinstance(questions.ask_due(), ApiAnswerUnreadable)
    row = questions.desk.row("828338674605228111")
    assert (row["state"], row["lease_token"]) == ("running", None)
    assert questions.desk.ledger.views.show(other, account=ACCOUNT) is None


def test_an_id_of_a_create_that_is_answered_for_with_another_task_is_asked_again(
    questions: Questions,
) -> None:
    own = "828338674605228111"
    created = GatewayCreate("r-1", ACCOUNT, FAMILY, None, "https://app.example.com/", None)
    questions.desk.ledger.gateway_creates.commit(created=[CreatedTask(created, own)])
    other = questions.sim.create_task(external_task_id=own, status="succeed")

    assert isinstance(questions.ask_due(), ApiAnswerUnreadable)
    row = questions.desk.row(own)
    assert (row["state"], row["client_callback_url"]) == ("reported", "https://app.example.com/")
    assert questions.desk.ledger.views.show(other, account=ACCOUNT) is None


def test_an_answer_about_another_task_is_none(questions: Questions) -> None:
    task_id = questions.sim.create_task(status="succeed")
    questions.sim.override(task_id, {"task_id": "999", "task_status": "succeed", "task_result": {}})
    questions.tell(task_id)

    assert isinstance(questions.ask_due(), ApiAnswerUnreadable)
    assert questions.desk.shown(task_id)["reason"] == "api_answer_unreadable"
    assert questions.desk.seconds_until_due(task_id) == 1.5


def test_a_task_of_the_new_standard_without_an_api_key_is_buried_with_what_to_do(
    questions: Questions,
) -> None:
    questions.tell("930810057590833241", family="tasks/image")

    assert isinstance(questions.ask_due(), NeedsApiKey)
    shown = questions.desk.shown("930810057590833241")
    assert (shown["state"], shown["reason"]) == ("buried", "needs_api_key")
    # not before the families that can be asked were asked: the URL may be the wrong one
    assert questions.calls == {"query": len(questions.verifier.families)}


def test_a_task_of_the_new_standard_is_asked_for_with_an_api_key(tmp_path: pathlib.Path) -> None:
    with Questions(tmp_path, api_key=True) as questions:
        ids = questions.history(LIST_IDS_MIN)
        questions.tell(*ids, family="tasks/image")
        questions.verify_all()

        assert questions.states(*ids) == {State.SUCCEEDED}
        assert questions.calls == {"tasks": 1}
        assert questions.sim.complaints == []


@pytest.mark.parametrize("fault", [faults.server_error(), faults.Html(), faults.Cut(kept=0)])
def test_an_answer_that_fails_is_asked_for_again(questions: Questions, fault: faults.Fault) -> None:
    task_id = questions.sim.create_task(status="succeed")
    questions.tell(task_id)
    questions.sim.fault("query", fault, times=1)

    assert isinstance(questions.ask_due(), Exception)
    assert questions.desk.state(task_id) is State.REPORTED
    questions.clock.advance(2 * SECOND)
    assert questions.ask_due() is State.SUCCEEDED


def test_too_fast_slows_all_queries_and_only_postpones_the_task(questions: Questions) -> None:
    task_id = questions.sim.create_task(status="succeed")
    questions.tell(task_id)
    questions.sim.fault("query", faults.too_fast(), times=1)

    assert isinstance(questions.ask_due(), ApiRateLimited)
    assert questions.limiter.halved == 1
    assert questions.desk.ledger.holds.all() == ()


# --- ids that the API does not know ----------------------------------------------------------------------------------


def test_a_confirmed_id_is_asked_for_with_precedence(questions: Questions) -> None:
    (task_id,) = questions.history(1, status="processing")
    questions.tell(task_id)
    questions.ask_due()
    questions.clock.advance(MINUTE)
    questions.limiter.heard.clear()

    questions.ask_due()

    assert questions.limiter.heard == [Priority.VERIFY]


def test_an_id_that_the_api_never_confirms_ends_as_unknown_and_is_asked_for_once_a_day(
    questions: Questions,
) -> None:
    questions.tell("console-test", status=Status.RUNNING)
    for _ in range(60):
        questions.clock.advance(15 * SECOND)
        questions.step()
    assert questions.desk.state("console-test") is State.UNKNOWN
    asked = questions.sim.requests["query"]
    assert asked <= 12 * len(FAMILIES)

    for _ in range(3 * 24):
        questions.clock.advance(HOUR)
        questions.step()
    assert questions.sim.requests["query"] <= asked + 3 * len(FAMILIES)


def test_ten_unknown_ids_and_none_confirmed_within_an_hour_are_logged_once(
    questions: Questions, lines: list[structlog.typing.EventDict]
) -> None:
    for number in range(12):
        questions.tell(f"t{number}")
        questions.ask_due()
    questions.clock.advance(11 * MINUTE)
    questions.verify_all()

    said = [line for line in lines if line["event"] == "ids.unconfirmed"]
    assert len(said) == 1
    assert "KLING_BASE_URL" in said[0]["what_to_do"]
    (problem,) = questions.verifier.problems()
    assert (problem.code, problem.account) == ("settings", ACCOUNT)

    genuine = questions.sim.create_task(status="succeed")
    questions.tell(genuine)
    questions.ask_due()
    assert questions.verifier.problems() == ()


def test_the_watch_is_quiet_where_anything_was_confirmed_or_the_hour_was_over() -> None:
    watch = UnknownIdAlarm()
    assert [watch.unknown(now=number) for number in range(9)] == [False] * 9
    watch.confirmed(now=8)
    assert [watch.unknown(now=number) for number in range(9)] == [False] * 9
    assert not watch.unknown(now=HOUR)
    assert [watch.unknown(now=HOUR + number) for number in range(20)].count(True) == 1
    assert [watch.unknown(now=2 * HOUR + 30) for _ in range(10)].count(True) == 1


# --- holds ----------------------------------------------------------------------------------------------------------

HOLDING = [
    (401, 1000, "api_credentials_refused", None),
    (401, 1001, "api_credentials_refused", None),
    (401, 1002, "api_credentials_refused", None),
    (429, 1100, "api_account_abnormal", None),
    (429, 1101, "api_account_in_arrears", None),
    (429, 1102, "api_pack_used_up", None),
    (403, 1103, "api_forbidden", FAMILY),
    (429, 1304, "api_address_not_allowed", None),
    (503, 5001, "api_maintenance", None),
]


@pytest.mark.parametrize(("status", "code", "reason", "family"), HOLDING)
@pytest.mark.parametrize("count", [1, 5])
def test_a_failure_of_the_account_holds_verification_until_a_probe_succeeds(
    questions: Questions, status: int, code: int, reason: str, family: str | None, count: int
) -> None:
    ids = questions.history(count)
    questions.tell(*ids)
    questions.sim.fault(None, faults.ErrorCode(status, code))

    questions.step()
    (hold,) = questions.desk.ledger.holds.all()
    assert (hold.stage, hold.reason, hold.family) == ("verify", reason, family)
    assert hold.what_to_do
    asked = sum(questions.calls.values())
    questions.clock.advance(SECOND)
    questions.step()
    assert sum(questions.calls.values()) == asked
    assert {questions.desk.row(task_id)["attempts"] for task_id in ids} == {0}

    questions.sim.clear_faults()
    questions.clock.advance(2 * SECOND)
    questions.list_matcher.match()
    (probe,) = questions.desk.claim_all(Stage.VERIFY)
    assert probe.is_probe
    assert questions.ask(probe) is State.SUCCEEDED
    assert questions.desk.ledger.holds.release(
        account=ACCOUNT, stages=(Stage.VERIFY,), family=probe.family_hint
    ) == [reason]
    questions.step()
    assert questions.states(*ids) == {State.SUCCEEDED}


def test_a_family_without_the_right_to_it_does_not_stop_the_others(questions: Questions) -> None:
    questions.sim.fault(None, faults.ErrorCode(403, 1103), match=FAMILY)
    stuck = questions.history(5)
    free = questions.history(5, family=EXPAND)
    questions.tell(*stuck)
    questions.tell(*free, family=EXPAND)

    questions.step()

    assert questions.states(*free) == {State.SUCCEEDED}
    assert questions.states(*stuck) == {State.REPORTED}


def test_maintenance_does_not_start_the_grace_of_an_unknown_id(questions: Questions) -> None:
    questions.tell("t")
    questions.sim.fault(None, faults.ErrorCode(503, 5001))
    for _ in range(100):
        questions.step()
        questions.clock.advance(MINUTE)
    questions.sim.clear_faults()
    questions.step()

    assert questions.desk.state("t") is State.REPORTED
    assert questions.desk.row("t")["attempts"] == 0


# --- what is left for the sweep ---------------------------------------------------------------------------------


def test_a_task_named_long_after_its_deadline_still_gets_its_one_try(questions: Questions) -> None:
    questions.sim.switches.purge_rows = False
    (task_id,) = questions.history(1, age=40 * DAY)
    questions.tell(task_id)

    assert questions.ask_due() is State.SUCCEEDED
    assert questions.desk.ledger.deadlines.expire() == []
    questions.desk.fail(questions.desk.claim(Stage.ARCHIVE), ApiServerError("x"))
    assert [expired.verdict for expired in questions.desk.ledger.deadlines.expire()] == [State.LOST]
