"""Leases by two clocks: the ledger's wall clock, and the monotonic clock."""

import contextlib
import pathlib
import time
from collections.abc import Iterator

import pytest

from archiver.failures import LeaseLost, LedgerUnavailable
from archiver.leases import LeaseKeeper
from archiver.ledger.claims import LEASE_SECONDS, TAKEOVER_SECONDS
from archiver.model import Lease, Stage, State
from tests.harness.ledgers import HOUR, SECOND, Desk


class Keeping:
    """A keeper whose monotonic clock runs beside the ledger's."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.monotonic = 1000.0
        self.keeper = LeaseKeeper(desk.ledger, monotonic=lambda: self.monotonic)

    def claim(self, task_id: str = "t") -> Lease:
        self.desk.bring(State.SUCCEEDED, task_id)
        asked_at = self.keeper.asking()
        lease = self.desk.claim(Stage.ARCHIVE)
        self.keeper.keep([lease], asked_at=asked_at)
        return lease

    def pass_seconds(self, seconds: float) -> None:
        self.monotonic += seconds
        self.desk.clock.advance(int(seconds * SECOND))


@pytest.fixture
def keeping(tmp_path: pathlib.Path) -> Iterator[Keeping]:
    desk = Desk(tmp_path)
    yield Keeping(desk)
    desk.close()


def test_a_lease_holds_for_30_seconds_and_not_longer(keeping: Keeping) -> None:
    lease = keeping.claim()

    keeping.pass_seconds(LEASE_SECONDS - 0.1)
    keeping.keeper.check(lease)
    keeping.pass_seconds(0.1)
    with pytest.raises(LeaseLost):
        keeping.keeper.check(lease)


def test_ours_ends_before_the_ledgers_since_it_counts_from_before_the_claim(keeping: Keeping) -> None:
    keeping.desk.bring(State.SUCCEEDED)
    asked_at = keeping.keeper.asking()
    keeping.pass_seconds(5)  # the claim takes its time
    lease = keeping.desk.claim(Stage.ARCHIVE)
    keeping.keeper.keep([lease], asked_at=asked_at)

    keeping.pass_seconds(LEASE_SECONDS - 5)

    with pytest.raises(LeaseLost):
        keeping.keeper.check(lease)
    assert keeping.desk.claim_all(Stage.ARCHIVE) == []


def test_a_wall_clock_that_is_set_back_does_not_make_a_lease_last_longer(keeping: Keeping) -> None:
    lease = keeping.claim()

    keeping.pass_seconds(LEASE_SECONDS)
    keeping.desk.clock.advance(-HOUR)

    with pytest.raises(LeaseLost):
        keeping.keeper.check(lease)


@pytest.mark.skipif(
    not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no clock that runs in suspend"
)
def test_a_lease_is_over_after_the_machine_was_suspended(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monotonic clock stands still in suspend; the program's own goes on."""
    with contextlib.closing(Desk(tmp_path)) as desk:
        desk.bring(State.SUCCEEDED)
        keeper = LeaseKeeper(desk.ledger)
        asked_at = keeper.asking()
        lease = desk.claim(Stage.ARCHIVE)
        keeper.keep([lease], asked_at=asked_at)
        keeper.check(lease)

        truth = time.clock_gettime
        monkeypatch.setattr(
            time,
            "clock_gettime",
            lambda clock: truth(clock) + (LEASE_SECONDS if clock == time.CLOCK_BOOTTIME else 0),
        )

        with pytest.raises(LeaseLost):
            keeper.check(lease)


def test_renewal_keeps_it_for_as_long_as_the_work_takes(keeping: Keeping) -> None:
    lease = keeping.claim()
    for _ in range(60):
        keeping.pass_seconds(10)
        keeping.keeper.renew()
        keeping.keeper.check(lease)

    assert keeping.desk.claim_all(Stage.ARCHIVE) == []


def test_a_lease_that_another_worker_took_over_ends_at_the_next_renewal(keeping: Keeping) -> None:
    lease = keeping.claim()
    keeping.desk.clock.advance(
        (LEASE_SECONDS + TAKEOVER_SECONDS) * SECOND
    )  # this process stood still, its own clock with it
    other = keeping.desk.claim(Stage.ARCHIVE)
    keeping.keeper.check(lease)

    keeping.keeper.renew()

    with pytest.raises(LeaseLost):
        keeping.keeper.check(lease)
    assert keeping.desk.row()["lease_token"] == other.token


def test_confirming_detects_that_another_worker_holds_the_lease(keeping: Keeping) -> None:
    lease = keeping.claim()
    keeping.desk.clock.advance((LEASE_SECONDS + TAKEOVER_SECONDS) * SECOND)
    keeping.desk.claim(Stage.ARCHIVE)

    with pytest.raises(LeaseLost):
        keeping.keeper.confirm(lease)
    assert keeping.keeper.held() == []


@pytest.mark.parametrize("seconds", [0, 10, 14, 16, 29])
def test_after_confirming_there_is_time_left_for_the_put(keeping: Keeping, seconds: float) -> None:
    lease = keeping.claim()
    keeping.pass_seconds(seconds)

    keeping.keeper.confirm(lease)

    keeping.pass_seconds(14)
    keeping.keeper.check(lease)
    assert keeping.desk.claim_all(Stage.ARCHIVE) == []


def test_an_expired_lease_is_not_confirmed_even_if_no_other_worker_holds_it(keeping: Keeping) -> None:
    lease = keeping.claim()
    keeping.pass_seconds(LEASE_SECONDS)

    with pytest.raises(LeaseLost):
        keeping.keeper.confirm(lease)


def test_a_ledger_that_is_away_costs_a_renewal_and_not_the_lease(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> set[int]:
        raise LedgerUnavailable("locked")

    lease = keeping.claim()
    with monkeypatch.context() as patched:
        patched.setattr(keeping.desk.ledger.claims, "renew", away)
        for _ in range(2):
            keeping.pass_seconds(10)
            keeping.keeper.renew()
    keeping.keeper.check(lease)
    keeping.pass_seconds(9)
    keeping.keeper.renew()

    keeping.pass_seconds(20)
    keeping.keeper.check(lease)


def test_work_that_has_ended_is_renewed_no_more(keeping: Keeping) -> None:
    lease = keeping.claim()

    keeping.keeper.drop(lease)
    keeping.keeper.renew()

    assert keeping.keeper.held() == []
    with pytest.raises(LeaseLost):
        keeping.keeper.check(lease)
    keeping.pass_seconds(LEASE_SECONDS + TAKEOVER_SECONDS)
    assert keeping.desk.claim(Stage.ARCHIVE).attempt == 2


def test_the_end_of_an_old_lease_does_not_end_the_new_one_on_the_same_task(keeping: Keeping) -> None:
    old = keeping.claim()
    keeping.pass_seconds(LEASE_SECONDS + TAKEOVER_SECONDS)
    asked_at = keeping.keeper.asking()
    new = keeping.desk.claim(Stage.ARCHIVE)
    keeping.keeper.keep([new], asked_at=asked_at)

    keeping.keeper.drop(old)

    keeping.keeper.check(new)
    with pytest.raises(LeaseLost):
        keeping.keeper.check(old)


def test_leases_of_different_claims_are_renewed_together(keeping: Keeping) -> None:
    first, second = keeping.claim("a"), keeping.claim("b")
    assert first.token != second.token

    keeping.pass_seconds(20)
    keeping.keeper.renew()
    keeping.pass_seconds(20)

    keeping.keeper.check(first)
    keeping.keeper.check(second)
