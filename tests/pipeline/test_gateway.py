"""A gateway passes on questions for one task, and perhaps nothing else: it is used for what it offers."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Literal

import pytest
import structlog.testing
from structlog.typing import EventDict

from archiver.engine.sweep_loop import SweepLoop
from archiver.failures import ApiAnswerUnreadable, ApiServerError, NotOffered
from archiver.model import Problem, State
from archiver.problems import Expected, find_problems
from archiver.sweep.loop import PAGE_TRIES
from archiver.verify.availability import STRIKES, Availability
from tests.harness.journal import Impatient
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, MINUTE, SECOND, Desk
from tests.harness.questions import Questions
from tests.simulator import Switches, faults

NAMES = (FAMILY, "tasks/all")


@pytest.fixture(autouse=True)
def lines() -> Iterator[list[EventDict]]:
    """What is logged."""
    with structlog.testing.capture_logs() as captured:
        yield captured


def said(lines: list[EventDict], event: str) -> list[str]:
    return sorted(str(line.get("name") or line.get("family")) for line in lines if line["event"] == event)


class Gateway(Questions):
    """An API at a path of its own, with a static key, that lists nothing."""

    def __init__(self, folder: pathlib.Path, *, answer: Literal["404", "405", "html"] = "404") -> None:
        switches = Switches(
            lists_offered=False, tasks_offered=False, tokens_taken=False, unoffered_answer=answer
        )
        super().__init__(folder, api_key=True, switches=switches, families=(FAMILY,), prefix="/kling")
        self.swept: list[str] = []
        self.loop = SweepLoop(
            sweeper=self.sweeper,
            families=NAMES,
            ledger=self.desk.ledger,
            interval_seconds=300,
            stop=Impatient(),
            on_swept=self.swept.append,
            monotonic=lambda: self.clock() / 1000,
        )

    def problems(self, families: Sequence[str]) -> list[Problem]:
        return find_problems(self.desk.ledger.views.status(), Expected({ACCOUNT: families}, 300_000))

    def sweep(self, *, minutes: int) -> None:
        """The sweep loop's turns in so many minutes."""
        for _ in range(minutes * 2):
            self.loop.step()
            self.clock.advance(30 * SECOND)


@pytest.fixture
def gateway(tmp_path: pathlib.Path) -> Iterator[Gateway]:
    with Gateway(tmp_path) as made:
        yield made
        assert made.sim.complaints == []


def test_a_task_is_verified_at_the_gateways_own_path(gateway: Gateway) -> None:
    with_family, without = gateway.history(2)
    gateway.tell(with_family)
    gateway.tell(without, family=None)
    gateway.verify_all()

    assert gateway.states(with_family, without) == {State.SUCCEEDED}
    assert {path for path in gateway.sim.paths if "generations" in path} == {
        f"/kling/v1/{FAMILY}/{task_id}" for task_id in (with_family, without)
    }


@pytest.mark.parametrize("answer", ["404", "405", "html"])
def test_an_unlisted_family_is_logged_once_and_asked_for_ever_more_rarely(
    tmp_path: pathlib.Path, lines: list[EventDict], answer: Literal["404", "405", "html"]
) -> None:
    with Gateway(tmp_path, answer=answer) as gateway:
        gateway.sweep(minutes=10)
        asked = sum(gateway.calls.values())
        gateway.sweep(minutes=60)

        tries = PAGE_TRIES if answer == "html" else 1
        assert sum(gateway.calls.values()) <= asked + 3 * tries * len(NAMES)  # after 10, 20 and 40 minutes
        assert said(lines, "endpoint.unoffered") == list(NAMES)
        assert len(said(lines, "sweep.failed")) == (2 * (STRIKES - 1) if answer == "html" else 0)
        assert gateway.desk.ledger.holds.all() == ()

        asked = sum(gateway.calls.values())
        gateway.clock.advance(DAY)
        gateway.sweep(minutes=5)

        assert sum(gateway.calls.values()) > asked
        assert said(lines, "endpoint.unoffered") == list(NAMES)


def test_an_unlisted_family_is_no_lasting_problem(gateway: Gateway) -> None:
    gateway.sweep(minutes=5)
    gateway.clock.advance(3 * DAY)

    assert "sweep_late" not in {problem.code for problem in gateway.problems(NAMES)}


def test_a_family_that_neither_we_nor_the_api_know_stays_a_problem(gateway: Gateway) -> None:
    gateway.availability.refused("images/generation", NotOffered("404"))
    gateway.clock.advance(3 * DAY)
    (problem,) = [found for found in gateway.problems(["images/generation"]) if found.code == "settings"]

    assert problem.message.startswith("the API has no list of images/generation,")


def test_many_ids_are_queried_individually_without_asking_for_the_list(
    gateway: Gateway, lines: list[EventDict]
) -> None:
    ids = gateway.history(12)
    for some in (ids[:6], ids[6:]):
        gateway.tell(*some)
        gateway.verify_all()

    assert gateway.states(*ids) == {State.SUCCEEDED}
    assert gateway.calls["list"] == 1
    assert said(lines, "list.unreadable") == []


def test_a_gateway_that_learns_to_list_is_noticed_within_a_day(
    gateway: Gateway, lines: list[EventDict]
) -> None:
    gateway.sweep(minutes=5)
    gateway.sim.switches.lists_offered = gateway.sim.switches.tasks_offered = True
    gateway.clock.advance(DAY)
    task_id = gateway.sim.create_task(status="succeed")
    gateway.sweep(minutes=10)

    assert gateway.states(task_id) == {State.SUCCEEDED}
    assert said(lines, "endpoint.found") == list(NAMES)
    assert gateway.desk.ledger.availability.unavailable(account=ACCOUNT) == {}


def test_an_id_that_only_tasks_could_tell_is_buried_with_the_reason(gateway: Gateway) -> None:
    gateway.tell("930810057590833241", family="tasks/video")
    gateway.verify_all()

    assert gateway.desk.shown("930810057590833241")["reason"] == "api_not_offered"


def test_html_for_tasks_keeps_no_task_from_its_own_path(tmp_path: pathlib.Path) -> None:
    with Gateway(tmp_path, answer="html") as gateway:
        ids = gateway.history(3)
        gateway.tell(*ids, family=None)
        gateway.verify_all()

        assert gateway.states(*ids) == {State.SUCCEEDED}


# --- what counts as not offered -------------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path: pathlib.Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def offers_of(desk: Desk) -> Availability:
    return Availability(account=ACCOUNT, ledger=desk.ledger, now=desk.clock)


def test_what_has_answered_before_takes_several_refusals_some_time_apart(desk: Desk) -> None:
    offers = offers_of(desk)
    offers.answered(FAMILY)
    assert [offers.refused(FAMILY, NotOffered("404")) for _ in range(5)] == [False] * 5
    desk.clock.advance(MINUTE)
    assert offers.refused(FAMILY, NotOffered("404")) is False
    desk.clock.advance(MINUTE)

    assert offers.refused(FAMILY, NotOffered("404")) is True
    assert offers.is_unavailable(FAMILY) is True


def test_html_is_never_proof_against_a_list_that_was_once_swept(desk: Desk) -> None:
    token = desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
    assert token is not None
    desk.ledger.sweeps.end(token, succeeded_at=desk.clock(), full=True, oldest_first=False, last_page=None)
    offers = offers_of(desk)
    for _ in range(10):
        desk.clock.advance(MINUTE)
        assert offers.refused(FAMILY, ApiAnswerUnreadable("html")) is False


def test_an_outage_is_no_proof_at_all(desk: Desk) -> None:
    offers = offers_of(desk)
    for _ in range(10):
        desk.clock.advance(MINUTE)
        assert offers.refused(FAMILY, ApiServerError("500")) is False


def test_an_answer_in_between_begins_the_count_anew(desk: Desk) -> None:
    offers = offers_of(desk)
    for _ in range(STRIKES):
        offers.answered(FAMILY)
        desk.clock.advance(MINUTE)
        assert offers.refused(FAMILY, NotOffered("404")) is False


def test_a_restart_does_not_log_it_again(desk: Desk, lines: list[EventDict]) -> None:
    offers_of(desk).refused(FAMILY, NotOffered("404"))
    desk.reopen()
    again = offers_of(desk)
    assert again.is_unavailable(FAMILY) is True
    desk.clock.advance(DAY)
    assert again.is_unavailable(FAMILY) is False
    again.refused(FAMILY, NotOffered("404"))

    assert again.is_unavailable(FAMILY) is True
    assert said(lines, "endpoint.unoffered") == [FAMILY]


def test_what_has_answered_a_page_is_a_list_although_its_sweep_broke_off(gateway: Gateway) -> None:
    gateway.sim.switches.lists_offered, gateway.sim.switches.list_page_rows_max = True, 10
    ids = gateway.history(40)
    gateway.sim.fault("list", faults.Call(lambda: None), times=2)
    gateway.sim.fault("list", faults.ErrorCode(404, 1203), times=1)
    gateway.sweep(minutes=3)

    assert not gateway.availability.is_unavailable(FAMILY)
    assert gateway.states(*ids) == {State.SUCCEEDED}


def test_it_is_asked_again_after_ten_minutes_then_ever_more_rarely_and_at_least_once_a_day(
    desk: Desk,
) -> None:
    offers = offers_of(desk)
    waits = []
    for _ in range(10):
        offers.refused(FAMILY, NotOffered("404"))
        waited = 0
        while offers.is_unavailable(FAMILY):
            desk.clock.advance(MINUTE)
            waited += 1
        waits.append(waited)

    assert waits == [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440]


def test_a_time_that_a_fast_clock_has_noted_delays_no_query(desk: Desk) -> None:
    desk.clock.advance(400 * DAY)
    offers_of(desk).refused(FAMILY, NotOffered("404"))
    desk.clock.advance(-400 * DAY)

    assert not offers_of(desk).is_unavailable(FAMILY)


def test_an_endpoint_that_one_account_lacks_another_may_have(desk: Desk) -> None:
    offers_of(desk).refused(FAMILY, NotOffered("404"))

    assert Availability(account="d_fault", ledger=desk.ledger, now=desk.clock).is_unavailable(FAMILY) is False


def test_a_list_that_says_404_for_a_moment_is_swept_on_where_it_has_been_before(
    tmp_path: pathlib.Path, lines: list[EventDict]
) -> None:
    with Questions(tmp_path) as questions:
        questions.sweeper.sweep(FAMILY, full=True)
        questions.sim.fault("list", faults.ErrorCode(404, 1203), times=1)
        with pytest.raises(NotOffered):
            questions.sweeper.sweep(FAMILY, full=False)
        questions.availability.refused(FAMILY, NotOffered("404"))

        assert questions.availability.is_unavailable(FAMILY) is False
        assert said(lines, "endpoint.unoffered") == []
