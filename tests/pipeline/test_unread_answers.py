"""A task that the API shows in words that this version cannot read: it exists, and must not be forgotten."""

from archiver.problems import Expected, find_problems
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR, MINUTE
from tests.harness.service import Service


def problems(service: Service) -> dict[str, str]:
    """Code → message."""
    service.upkeep.beat()
    expected = Expected({ACCOUNT: (FAMILY,)}, 5 * MINUTE)
    return {
        problem.code: problem.message for problem in find_problems(service.ledger.views.status(), expected)
    }


def spoil(service: Service, task_id: str) -> None:
    """A status word of tomorrow, in every answer about the task."""
    row = {"task_id": task_id, "task_status": "succeed_partly", "created_at": service.clock()}
    service.sim.override(task_id, row | {"updated_at": service.clock(), "task_result": {}})


def leap(service: Service, milliseconds: int) -> None:
    """Days in which nothing is done but at their end."""
    service.clock.advance(milliseconds - 20 * MINUTE)
    service.pass_time(20 * MINUTE)


def test_a_task_whose_status_word_is_unknown_is_a_problem_after_an_hour_and_lost_at_its_deadline(
    service: Service,
) -> None:
    service.pass_time(MINUTE)
    told = [service.sim.create_task(status="succeed") for _ in range(2)]
    for task_id in told:
        spoil(service, task_id)
        service.sim.hide_from_list(task_id)
    service.tell(*told)
    service.pass_time(50 * MINUTE)
    assert "waiting" not in problems(service)

    service.pass_time(15 * MINUTE)
    assert problems(service)["waiting"].startswith(
        "2 tasks that the API shows in a format unknown to this version"
    )
    assert service.states(*told) == {"running"}

    leap(service, 24 * DAY)
    assert "deadline" in problems(service)

    leap(service, 6 * DAY)
    assert service.states(*told) == {"lost"}
    assert "lost" in problems(service)
    assert service.metrics.tasks_lost_total._value.get() == 2  # noqa: SLF001 -- the client library has no other way


def test_a_task_that_only_a_list_shows_in_unknown_words_is_known_too(service: Service) -> None:
    for _ in range(3):
        service.sim.create_task(status="succeed")
    odd = service.sim.create_task(status="succeed")
    spoil(service, odd)
    service.pass_time(10 * MINUTE)
    assert service.states(odd) == {"running"}

    service.pass_time(HOUR)
    assert odd in problems(service)["waiting"]

    service.sim.override(odd, None)
    service.pass_time(20 * MINUTE)
    assert service.states(odd) == {"archived"}
    assert "waiting" not in problems(service)
