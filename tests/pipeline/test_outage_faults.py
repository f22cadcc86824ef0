"""Hours and days without Kling: nothing is lost, nothing is hammered, and all goes on when it answers again.

The whole engine works here in one thread and on one clock that only the test moves: real ledger, real client with its
real limiter, real downloads from the simulator, and the store that complains. Waiting costs no time, so three days
take seconds, and every question that the API was asked in them is counted.
"""

from collections.abc import Mapping

import httpx2
import pytest

from tests.harness.ledgers import HOUR, MINUTE, SECOND
from tests.harness.service import RATE_PER_SECOND, SWEEP_SECONDS, Service
from tests.simulator import faults
from tests.simulator.request_log import Kind

ENDPOINTS: tuple[Kind, ...] = ("query", "list", "tasks")


SERVER_ERROR = faults.server_error()
KINDS: Mapping[str, faults.Fault | httpx2.TransportError] = {
    "server error": SERVER_ERROR,
    "maintenance": faults.ErrorCode(503, 5001),
    "too fast": faults.too_fast(),
    "a gateway's page": faults.Html(502),
    "a gateway's empty body": faults.Empty(504),
    "half an answer": faults.Cut(),
    "refused": httpx2.ConnectError("refused"),
    "silence": httpx2.ReadTimeout("silence"),
}


class Outage:
    """The API gives no answer from `begin` until `end`; counts the queries meanwhile."""

    def __init__(self, service: Service, trouble: faults.Fault | httpx2.TransportError) -> None:
        self._service = service
        self._trouble = trouble
        self._asked = 0

    def begin(self) -> None:
        self._asked = self._service.questions
        if isinstance(self._trouble, httpx2.TransportError):
            self._service.network.down = self._trouble
            return
        for endpoint in ENDPOINTS:
            self._service.sim.fault(endpoint, self._trouble)

    def end(self) -> int:
        """The API is back; how many questions it was asked in vain."""
        self._service.network.down = None
        self._service.sim.clear_faults()
        return self._service.questions - self._asked


@pytest.mark.parametrize("kind", KINDS)
def test_an_hour_without_the_api_loses_nothing_and_costs_a_few_hundred_questions(
    service: Service, kind: str
) -> None:
    """Some tasks wait all the time; callbacks go on coming, and one task succeeds without a callback."""
    before = service.called_back(3)
    service.pass_time(10 * MINUTE)
    service.assert_archived(*before)
    outage = Outage(service, KINDS[kind])
    outage.begin()
    waiting = service.called_back(4)
    for _ in range(3):
        waiting += service.called_back(1)
        waiting.append(service.sim.create_task(status="succeed"))
        service.pass_time(20 * MINUTE)
    assert service.states(*waiting) <= {"reported"}
    asked = outage.end()

    service.pass_time(20 * MINUTE)
    service.assert_archived(*before, *waiting)
    assert service.ledger.holds.all() == ()
    # A probe of each held stage every 30 s is 240; where nothing is held, each task ever more rarely, down to once in a
    # quarter of an hour, and the list every five minutes.
    assert 33 <= asked <= 280


def test_a_night_without_the_api_loses_nothing_and_costs_some_questions_a_minute(service: Service) -> None:
    outage = Outage(service, KINDS["refused"])
    waiting = service.called_back(3)
    outage.begin()
    service.pass_time(6 * HOUR)
    waiting += service.called_back(1)
    service.pass_time(2 * HOUR)
    assert service.states(*waiting) == {"reported"}
    asked = outage.end()

    service.pass_time(20 * MINUTE)
    service.assert_archived(*waiting)
    assert 8 <= asked <= 8 * 250


def test_however_much_waits_an_api_that_is_down_is_asked_a_tenth_as_often(service: Service) -> None:
    outage = Outage(service, KINDS["refused"])
    waiting = service.called_back(400)
    outage.begin()
    service.pass_time(HOUR)
    asked = outage.end()

    service.pass_time(10 * MINUTE)
    service.assert_archived(*waiting)
    assert asked <= 3600 * RATE_PER_SECOND / 10


def test_tasks_that_are_being_archived_when_the_api_fails_need_no_api(service: Service) -> None:
    outage = Outage(service, SERVER_ERROR)
    ids = service.called_back(3)
    service.verify_all()
    outage.begin()

    service.pass_time(MINUTE)
    service.assert_archived(*ids)
    outage.end()


def test_a_burst_of_1302_slows_the_questions_down_and_each_is_answered_in_the_end(service: Service) -> None:
    """Too many questions at first: every other one is refused for five minutes."""
    waiting = service.called_back(2)
    for _ in range(30):
        service.sim.fault("query", faults.too_fast(), times=1)
        service.sim.fault("list", faults.too_fast(), times=1)
        waiting += service.called_back(1)
        service.pass_time(10 * SECOND)
    refused = service.refused(1302)
    service.pass_time(20 * MINUTE)

    service.assert_archived(*waiting)
    assert refused >= 30
    assert service.questions < 5 * 60 * RATE_PER_SECOND


def test_a_list_that_cannot_be_read_is_tried_ever_more_rarely_and_as_soon_as_before_once_it_can(
    service: Service,
) -> None:
    def tried_in(seconds: int) -> list[int]:
        """The seconds in which the list was asked for."""
        tried = []
        for second in range(0, seconds, 10):
            before = service.sim.requests["list"]
            service.sweeps.step()
            tried += [second] if service.sim.requests["list"] > before else []
            service.clock.advance(10 * SECOND)
        return tried

    service.sweeps.step()  # a list that has never answered might be one that is not offered
    service.clock.advance(int(SWEEP_SECONDS * SECOND))
    service.sim.fault("list", faults.ErrorCode(400, 1299))
    assert tried_in(800) == [0, 30, 90, 210, 450, 750]

    service.sim.clear_faults()
    assert tried_in(500) == [250]
    service.sim.fault("list", faults.ErrorCode(400, 1299))
    assert tried_in(100) == [50, 80]
