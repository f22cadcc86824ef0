"""The daemon finds out by looking whether the API works for it."""

from collections.abc import Callable, Mapping

import pytest

from archiver.engine.looks.look import NO_TASK_ID, ApiLook, Look
from archiver.failures import ApiTimeout, Outside
from archiver.kling.limiter import Priority
from archiver.model import Stage
from tests.harness.engine import FAMILY
from tests.harness.looks import CLOSED, HOUR, MINUTE, UNKNOWN, Daemon, api_look, client_with_key, right_look
from tests.simulator import KlingSimulator, faults


def closed_port(_sim: KlingSimulator) -> Look:
    return api_look(CLOSED)


def unresolvable(_sim: KlingSimulator) -> Look:
    return api_look(UNKNOWN)


def refused_keys(sim: KlingSimulator) -> Look:
    return api_look(sim.base_url)


def answering(fault: faults.Fault) -> Callable[[KlingSimulator], Look]:
    def look(sim: KlingSimulator) -> Look:
        for endpoint in ("list", "query", "tasks"):
            sim.fault(endpoint, fault)
        return right_look(sim)

    return look


API_TROUBLES: Mapping[str, tuple[Callable[[KlingSimulator], Look], set[str]]] = {
    "closed port": (closed_port, {"api_unreachable"}),
    "unresolvable name": (unresolvable, {"api_unreachable"}),
    "refused keys": (refused_keys, {"api_credentials_refused"}),
    "server errors": (answering(faults.server_error()), {"api_server_error"}),
    "a page of HTML": (answering(faults.Html(200)), {"api_answer_unreadable"}),
    "a login page": (answering(faults.Html(403)), {"api_answer_unreadable", "api_bad_parameter"}),
    "a web server that is not Kling's": (answering(faults.Html(404)), {"api_bad_parameter"}),
    "a web server that answers in JSON": (
        answering(faults.Json({"detail": "Not Found"}, status=404)),
        {"api_bad_parameter"},
    ),
    "a gateway with codes of its own": (answering(faults.ErrorCode(404, 404)), {"api_bad_parameter"}),
    "an empty body": (answering(faults.Empty(200)), {"api_answer_unreadable"}),
    "half an answer": (answering(faults.Cut()), {"api_answer_unreadable", "api_unreachable"}),
    "arrears": (answering(faults.ErrorCode(429, 1101)), {"api_account_in_arrears"}),
}


@pytest.mark.parametrize("trouble", API_TROUBLES)
def test_an_api_that_is_not_there_at_start_is_a_hold_at_once_on_an_empty_account(
    sim: KlingSimulator, started: Callable[[Look], Daemon], trouble: str
) -> None:
    wrong, reasons = API_TROUBLES[trouble]
    daemon = started(wrong(sim))

    daemon.begin()

    assert daemon.reasons() <= reasons
    assert daemon.held() == {"verify", "sweep"}
    assert all(hold.what_to_do for hold in daemon.ledger.holds.all())


@pytest.mark.parametrize("trouble", API_TROUBLES)
def test_an_api_that_fails_later_is_a_hold_within_a_minute_of_the_first_work_that_it_stops(
    sim: KlingSimulator, started: Callable[[Look], Daemon], trouble: str
) -> None:
    daemon = started(right_look(sim))
    daemon.begin()
    assert daemon.held() == set()
    daemon.look.current = API_TROUBLES[trouble][0](sim)
    daemon.fail(ApiTimeout("no answer"))

    seconds = daemon.pass_time(MINUTE, until=lambda: bool(daemon.held()))

    assert seconds < MINUTE
    assert daemon.held() == {"verify", "sweep"}


@pytest.mark.parametrize("families", [(FAMILY,), ("tasks/image",)])
def test_a_server_without_any_of_kling_s_paths_is_a_hold_that_names_the_base_url(
    sim: KlingSimulator, started: Callable[[Look], Daemon], families: tuple[str, ...]
) -> None:
    for endpoint in ("list", "query", "tasks"):
        sim.fault(endpoint, faults.Html(404))
    daemon = started(ApiLook(client_with_key(sim), families))
    daemon.begin()

    assert daemon.held() == {"verify", "sweep"}
    assert all("KLING_BASE_URL" in hold.what_to_do for hold in daemon.ledger.holds.all())
    assert all("path" in hold.what_to_do for hold in daemon.ledger.holds.all())


def test_a_path_that_is_lost_while_the_daemon_runs_is_a_hold_within_a_minute_of_the_first_task_that_is_denied(
    sim: KlingSimulator, started: Callable[[Look], Daemon]
) -> None:
    look = right_look(sim)
    look.client.query(FAMILY, sim.create_task(), priority=Priority.VERIFY)
    daemon = started(look)
    daemon.begin()
    for endpoint in ("list", "query"):
        sim.fault(endpoint, faults.Html(404))
    daemon.outages.of(Outside.API).suspect()

    assert daemon.pass_time(MINUTE, until=lambda: bool(daemon.held())) < MINUTE


def test_a_gateway_without_lists_that_denies_ids_in_its_own_words_is_queried_for_a_known_task(
    sim: KlingSimulator, started: Callable[[Look], Daemon]
) -> None:
    look = right_look(sim)
    look.client.query(FAMILY, sim.create_task(), priority=Priority.VERIFY)
    sim.fault("list", faults.Html(404))
    sim.fault("query", faults.Html(404), match=f"/{NO_TASK_ID}")
    daemon = started(look)
    daemon.begin()
    for _ in range(10):
        daemon.outages.of(Outside.API).suspect()
        daemon.pass_time(MINUTE)

    assert daemon.held() == set()
    assert daemon.look.looks == 11


def test_suspicions_without_end_call_for_two_looks_a_minute(
    sim: KlingSimulator, started: Callable[[Look], Daemon]
) -> None:
    daemon = started(right_look(sim))
    daemon.begin()
    for _ in range(10 * MINUTE):
        daemon.outages.of(Outside.API).suspect()
        daemon.pass_time(1)

    assert daemon.look.looks <= 21


def test_an_idle_daemon_finds_out_within_five_minutes_and_then_within_one(
    sim: KlingSimulator, started: Callable[[Look], Daemon]
) -> None:
    daemon = started(right_look(sim))
    daemon.begin()
    daemon.pass_time(MINUTE)
    daemon.look.current, looks = api_look(CLOSED), daemon.look.looks

    daemon.pass_time(5 * MINUTE, until=lambda: daemon.look.looks > looks)
    assert daemon.held() == set()
    assert daemon.pass_time(MINUTE, until=lambda: bool(daemon.held())) < MINUTE


def test_a_look_that_succeeds_ends_the_hold_that_looks_have_set_and_wakes_what_it_held(
    sim: KlingSimulator, started: Callable[[Look], Daemon]
) -> None:
    daemon = started(api_look(CLOSED))
    daemon.begin()
    daemon.look.current = right_look(sim)

    assert daemon.pass_time(MINUTE, until=lambda: not daemon.held()) <= 10
    assert set(daemon.woken) == {Stage.VERIFY, Stage.SWEEP}


def test_an_api_that_hangs_costs_a_look_one_wait(sim: KlingSimulator) -> None:
    for endpoint_name in ("list", "query"):
        sim.fault(endpoint_name, faults.Hang())

    with pytest.raises(ApiTimeout):
        right_look(sim).look()
    assert sim.requests["query"] == 0


def test_a_gateway_without_lists_is_no_outage(sim: KlingSimulator, started: Callable[[Look], Daemon]) -> None:
    for fault in (faults.Html(200), faults.Html(404), faults.server_error()):
        sim.fault("list", fault)
        daemon = started(right_look(sim))
        daemon.begin()

        assert daemon.held() == set()
        sim.clear_faults()
        daemon.ledger.close()


def test_a_family_that_the_keys_may_not_use_is_no_outage(
    sim: KlingSimulator, started: Callable[[Look], Daemon]
) -> None:
    sim.fault("list", faults.ErrorCode(403, 1103))
    daemon = started(right_look(sim))
    daemon.begin()

    assert daemon.held() == set()


def test_looks_are_few_while_all_is_well(sim: KlingSimulator, started: Callable[[Look], Daemon]) -> None:
    """Twelve an hour on an idle account; the hour's one where work succeeds all the time."""
    daemon = started(right_look(sim))
    daemon.begin()
    daemon.pass_time(HOUR)
    idle, outage = daemon.look.looks, daemon.outages.of(Outside.API)
    for _ in range(HOUR // 10):
        daemon.pass_time(10)
        outage.worked()

    assert (idle, daemon.look.looks - idle) == (13, 1)
    assert {request.path.split("?")[0] for request in sim.log} == {f"/v1/{FAMILY}"}


def test_a_look_during_an_outage_is_made_every_ten_seconds_and_refused_keys_are_left_alone_for_thirty(
    sim: KlingSimulator, started: Callable[[Look], Daemon]
) -> None:
    daemon = started(api_look(CLOSED))
    daemon.begin()
    daemon.pass_time(10 * MINUTE)
    unreachable = daemon.look.looks
    daemon.look.current = refused_keys(sim)
    daemon.pass_time(10 * MINUTE)

    assert unreachable in range(58, 64)
    assert daemon.look.looks - unreachable in range(18, 24)
