"""Lists that fail, or do not show everything, while single questions are answered well."""

import pytest

from archiver.alerts.book import AlertBook
from archiver.engine.health import Health
from archiver.engine.hold_release import HoldRelease
from archiver.engine.looks.outage import Outages
from archiver.failures import ApiCredentialsRefused, ApiForbidden, ApiServerError, Failure
from archiver.kling.limiter import Priority
from archiver.kling.pages import Page
from archiver.model import Problem, Stage
from archiver.problems import Expected, find_problems
from archiver.sweep import stage as sweep_stage
from tests.harness.ledgers import ACCOUNT, FAMILY, HOUR, MINUTE, SECOND
from tests.harness.service import Service
from tests.simulator import faults

EXPECTED = Expected({ACCOUNT: (FAMILY,)}, 5 * MINUTE)


def problems(service: Service) -> list[Problem]:
    service.upkeep.beat()
    return find_problems(service.ledger.views.status(), EXPECTED)


def codes(service: Service) -> list[str]:
    return [problem.code for problem in problems(service)]


def last_sweeps(service: Service) -> list[str]:
    health = Health(service.ledger, service.metrics, service.upkeep.clocks, EXPECTED)
    health.refresh_gauges()
    lines = service.metrics.render()[0].decode().splitlines()
    return [line for line in lines if line.startswith("kling_last_sweep_success_timestamp_seconds{")]


@pytest.mark.parametrize("has_been_swept", [True, False])
def test_a_list_that_is_not_offered_is_late_only_where_it_has_ever_been_swept(
    service: Service, *, has_been_swept: bool
) -> None:
    if has_been_swept:
        service.pass_time(MINUTE)
    service.sim.fault("list", faults.Raw(404, b"<html>not found</html>"))
    service.pass_time(2 * HOUR)

    assert service.ledger.views.status().unavailable == {(ACCOUNT, FAMILY)}
    assert ("sweep_late" in codes(service)) is has_been_swept
    assert (last_sweeps(service) != []) is has_been_swept


def test_a_list_that_shows_one_full_page_for_every_number_is_not_swept_well(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_stage, "PAGE_ROWS", 5)
    asked = service.client.list_page

    def first_page(family: str, *, page: int, size: int, priority: Priority) -> Page:
        del page
        return asked(family, page=1, size=size, priority=priority)

    monkeypatch.setattr(service.client, "list_page", first_page)
    for _ in range(3):
        service.sim.create_task(status="processing")
    service.pass_time(MINUTE)
    memory = service.ledger.sweeps.memory(account=ACCOUNT, family=FAMILY)
    assert memory.last_success_at is not None, "all of a short list was shown"

    for _ in range(4):
        service.sim.create_task(status="processing")
    service.pass_time(2 * HOUR)
    assert "sweep_late" in codes(service)


def test_lists_that_fail_alone_are_a_hold_within_a_minute(service: Service) -> None:
    service.sim.fault("list", faults.server_error())
    service.pass_time(50 * SECOND)

    (hold,) = service.ledger.holds.all()
    assert (hold.stage, hold.reason) == (Stage.SWEEP, "api_server_error")


def test_a_list_of_which_no_row_can_be_read_is_a_hold_of_its_family_within_a_minute(service: Service) -> None:
    for _ in range(3):
        task_id = service.sim.create_task(status="succeed")
        service.sim.override(
            task_id, {"task_id": task_id, "task_status": "done", "created_at": service.clock()}
        )
    service.pass_time(50 * SECOND)

    (hold,) = service.ledger.holds.all()
    assert (hold.stage, hold.family, hold.reason) == (Stage.SWEEP, FAMILY, "api_answer_unreadable")


def test_a_hold_of_a_family_that_is_not_swept_any_more_ends_at_a_start(service: Service) -> None:
    for family in ("images/omni-image", FAMILY):
        refusal = ApiForbidden("1103", family=family)
        service.ledger.holds.set(refusal, account=ACCOUNT, stage=Stage.SWEEP)

    service.sweeps.begin()

    assert [hold.family for hold in service.ledger.holds.all()] == [FAMILY]


@pytest.mark.parametrize(
    ("failure", "is_disproved"), [(ApiCredentialsRefused("no"), True), (ApiServerError("500"), False)]
)
def test_a_sweep_ends_only_the_holds_of_single_questions_that_a_list_disproves(
    service: Service, failure: Failure, *, is_disproved: bool
) -> None:
    service.ledger.holds.set(failure, account=ACCOUNT, stage=Stage.VERIFY)
    release = HoldRelease(service.ledger, Outages(), account=ACCOUNT, wake=lambda _stage: None)

    release.after_sweep(FAMILY)

    assert (service.ledger.holds.all() == ()) is is_disproved


def test_an_alert_about_a_problem_that_is_gone_for_moments_only_is_sent_after_five_minutes() -> None:
    book, hold = AlertBook([], []), Problem("hold", "verify is held", "wait")
    for seconds in range(0, 330, 10):
        is_there = seconds % 60 != 30
        book.observe([hold] if is_there else [], is_complete=True, now=seconds * SECOND)
    assert [message.key for message in book.messages] == [hold.key]

    book = AlertBook([], [])
    for seconds in range(0, 360, 10):
        is_there = seconds < 100 or seconds > 170
        book.observe([hold] if is_there else [], is_complete=True, now=seconds * SECOND)
    assert book.messages == []
