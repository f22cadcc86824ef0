"""Sweeps that a command requests, and whose progress the process that does them shows."""

from archiver.families import FAMILIES
from archiver.ledger import DRY_RUN, SweepRequest, ToldFailure
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, Desk


def test_a_request_is_open_until_it_has_ended_and_shows_how_far_it_is(desk: Desk) -> None:
    requests = desk.ledger.sweep_requests
    first = requests.request(account=ACCOUNT, family=FAMILY, is_full=True)
    desk.clock.advance(1)
    second = requests.request(account=ACCOUNT, family="other", is_full=False)
    requests.request(account="another", family=FAMILY, is_full=False)

    waiting = [SweepRequest(first, FAMILY, is_full=True), SweepRequest(second, "other", is_full=False)]
    assert requests.open(account=ACCOUNT) == waiting
    requests.advance(first, {"pages": 1})
    shown = requests.progress(first)
    assert shown is not None
    assert (shown.counts, shown.failure, shown.has_ended) == ({"pages": 1}, None, False)
    told = ToldFailure("api_timeout", "It took too long.", "Wait.", concerns_account=False)
    requests.end(first, {"pages": 2}, failure=told)
    shown = requests.progress(first)
    assert shown is not None
    assert (shown.counts, shown.failure, shown.has_ended) == ({"pages": 2}, told, True)
    assert requests.open(account=ACCOUNT) == waiting[1:]


def test_a_dry_run_names_its_families_and_no_older_version_takes_it_for_a_sweep(desk: Desk) -> None:
    families = (FAMILY, "other")
    dry = desk.ledger.sweep_requests.request(
        account=ACCOUNT, family=DRY_RUN, is_full=True, dry_run_of=families
    )

    (waiting,) = desk.ledger.sweep_requests.open(account=ACCOUNT)
    assert (waiting.id, waiting.is_dry_run, waiting.dry_run_of) == (dry, True, families)
    # An older version refuses a family that it does not sweep.
    assert waiting.family not in FAMILIES


def test_a_request_without_a_waiting_command_is_dropped(desk: Desk) -> None:
    requests = desk.ledger.sweep_requests
    withdrawn, forgotten = (requests.request(account=ACCOUNT, family=FAMILY, is_full=False) for _ in range(2))
    requests.withdraw(withdrawn)
    assert requests.progress(withdrawn) is None
    desk.clock.advance(DAY + 1)
    kept = requests.request(account=ACCOUNT, family=FAMILY, is_full=False)

    assert [request.id for request in requests.open(account=ACCOUNT)] == [kept]
    assert requests.progress(forgotten) is None
