"""Which process asks for which account and which does the upkeep: leases in the ledger, and the plan behind them."""

import random
from collections import Counter

import hypothesis
import pytest
from hypothesis import strategies

from archiver.failures import AssetHostUnlisted, BucketMissing, Deposed
from archiver.ledger import UPKEEP, DutyLease, Ledger, asking
from archiver.ledger.claims import LEASE_SECONDS, TAKEOVER_SECONDS
from archiver.ledger.duties.plan import assign
from archiver.model import Stage
from tests.harness.ledgers import ACCOUNT, FAMILY, SECOND, Desk

ACCOUNTS = ["a", "b", "c", "d", "e"]
ALL = [asking(account) for account in ACCOUNTS]


class Process:
    """One process's view of its duties."""

    def __init__(
        self, ledger: Ledger, name: str, *, accounts: list[str] = ACCOUNTS, keeps_up: bool = True
    ) -> None:
        self.ledger, self.name, self.accounts, self.keeps_up = ledger, name, accounts, keeps_up
        self.held: tuple[DutyLease, ...] = ()
        self.surplus: tuple[DutyLease, ...] = ()

    def round(self) -> set[str]:
        """The accounts that it asks for then; what others should have, it gives back at once."""
        part = self.ledger.duties.take_part(
            self.name, accounts=self.accounts, keeps_up=self.keeps_up, held=self.held
        )
        self.ledger.duties.release(part.surplus)
        self.held = tuple(lease for lease in part.held if lease not in part.surplus)
        return self.asks()

    def asks(self) -> set[str]:
        return {lease.duty.account for lease in self.held if lease.duty != UPKEEP}

    def is_restless(self) -> bool:
        return self.ledger.duties.is_restless(self.name, accounts=self.accounts, held=self.held)

    def leave(self) -> None:
        self.ledger.duties.leave(self.name, held=self.held)
        self.held = ()


def keepers_of(ledger: Ledger) -> dict[str, str | None]:
    """Account → who asks for it; '' → who does the upkeep."""
    return {view.duty.account: view.holder for view in ledger.duties.all()}


# --- taking and keeping -------------------------------------------------------------------------------------------


def test_the_first_process_has_every_duty_at_once(desk: Desk) -> None:
    first = Process(desk.ledger, "first")

    assert first.round() == set(ACCOUNTS)
    assert {lease.duty for lease in first.held} == {UPKEEP, *ALL}
    assert not first.is_restless()


def test_a_second_process_gets_its_share_as_soon_as_the_first_gives_it_and_no_more(desk: Desk) -> None:
    first, second = Process(desk.ledger, "first"), Process(desk.ledger, "second")
    first.round()

    assert second.round() == set()
    assert first.is_restless()
    assert len(first.round()) == 3
    assert second.is_restless()
    assert second.round() == set(ACCOUNTS) - first.asks()
    assert len(second.asks()) == 2
    assert keepers_of(desk.ledger)[""] == "first"
    assert not first.is_restless()
    assert not second.is_restless()


def test_a_lease_is_kept_by_renewal_and_taken_over_five_seconds_after_its_end(desk: Desk) -> None:
    first, second = Process(desk.ledger, "first"), Process(desk.ledger, "second")
    first.round()
    for _ in range(10):
        desk.clock.advance(10 * SECOND)
        assert len(first.round()) == 5

    desk.clock.advance((LEASE_SECONDS + TAKEOVER_SECONDS) * SECOND - 1)
    assert second.round() == set()
    assert keepers_of(desk.ledger)["a"] == "first"
    desk.clock.advance(1)
    assert second.is_restless()
    assert second.round() == set(ACCOUNTS)
    assert set(keepers_of(desk.ledger).values()) == {"second"}


def test_a_process_that_slept_longer_than_its_lease_has_lost_what_another_has_taken(desk: Desk) -> None:
    first, second = Process(desk.ledger, "first"), Process(desk.ledger, "second")
    first.round()
    desk.clock.advance(40 * SECOND)
    second.round()

    first.round()

    assert first.asks() == set()
    assert desk.ledger.duties.renew(second.held[0])


def test_a_duty_that_no_other_process_has_taken_is_still_its_own(desk: Desk) -> None:
    first = Process(desk.ledger, "first")
    first.round()
    before = first.held
    desk.clock.advance(300 * SECOND)

    first.round()

    assert first.held == before


def test_a_process_that_ends_in_order_hands_over_at_once(desk: Desk) -> None:
    first, second = Process(desk.ledger, "first"), Process(desk.ledger, "second")
    first.round()
    second.round()

    first.leave()

    assert second.is_restless()
    assert second.round() == set(ACCOUNTS)
    assert UPKEEP in {lease.duty for lease in second.held}


def test_a_process_asks_only_for_accounts_of_its_settings_and_others_for_those_it_cannot(desk: Desk) -> None:
    one, other = (
        Process(desk.ledger, "one", accounts=["a", "b", "c"]),
        Process(desk.ledger, "other", accounts=["c"]),
    )
    one.round()
    other.round()
    one.round()
    other.round()

    assert (one.asks(), other.asks()) == ({"a", "b"}, {"c"})


def test_a_process_that_may_not_have_the_upkeep_does_not_get_it(desk: Desk) -> None:
    without, with_it = Process(desk.ledger, "a", keeps_up=False), Process(desk.ledger, "b")
    without.round()
    with_it.round()

    assert keepers_of(desk.ledger)[""] == "b"


def test_a_command_takes_a_duty_that_no_process_has_and_no_other(desk: Desk) -> None:
    lease = desk.ledger.duties.take(asking("a"), holder="command")
    process = Process(desk.ledger, "first")
    assert lease is not None

    assert "a" not in process.round()
    assert desk.ledger.duties.take(asking("b"), holder="command") is None
    assert desk.ledger.duties.renew(lease)
    desk.ledger.duties.release([lease])
    assert not desk.ledger.duties.renew(lease)
    assert process.is_restless()
    assert "a" in process.round()


def test_an_account_is_wanted_while_a_process_lives_that_may(desk: Desk) -> None:
    process = Process(desk.ledger, "first", accounts=["a"])
    assert not desk.ledger.duties.is_wanted("a")
    process.round()
    assert desk.ledger.duties.is_wanted("a")
    assert not desk.ledger.duties.is_wanted("b")
    desk.clock.advance((LEASE_SECONDS + TAKEOVER_SECONDS) * SECOND)
    assert not desk.ledger.duties.is_wanted("a")
    process.round()
    process.leave()
    assert not desk.ledger.duties.is_wanted("a")


def test_the_process_that_takes_an_account_judges_anew_the_holds_that_only_settings_end(
    desk: Desk,
) -> None:
    for account in ("a", "elsewhere"):
        desk.ledger.holds.set(AssetHostUnlisted(["new.example"]), account=account, stage=Stage.ARCHIVE)
        desk.ledger.holds.set(BucketMissing("x"), account=account, stage=Stage.ARCHIVE)

    first = Process(desk.ledger, "first")
    first.round()
    desk.ledger.holds.set(AssetHostUnlisted(["new.example"]), account="b", stage=Stage.ARCHIVE)
    first.round()

    reasons = Counter((hold.account, hold.reason) for hold in desk.ledger.holds.all())
    kept = {("a", "bucket_missing"), ("elsewhere", "bucket_missing")}
    assert set(reasons) == {*kept, ("elsewhere", "asset_host_unlisted"), ("b", "asset_host_unlisted")}


def test_the_clock_of_an_account_is_sound_as_long_as_its_asker_says_so(desk: Desk) -> None:
    def sound_at() -> int | None:
        return next(view.clock_sound_at for view in desk.ledger.duties.all() if view.duty == asking("a"))

    part = desk.ledger.duties.take_part("first", accounts=["a"])
    assert sound_at() is None
    desk.ledger.duties.take_part("first", accounts=["a"], held=part.held, sound=["a"])
    assert sound_at() == desk.clock()
    desk.ledger.duties.take_part("first", accounts=["a"], held=part.held)
    assert sound_at() is None


@pytest.mark.sqlite_only("one daemon alone")
def test_a_start_on_sqlite_waits_for_no_lease(desk: Desk) -> None:
    Process(desk.ledger, "killed").round()
    desk.reopen()

    assert Process(desk.ledger, "next").round() == set(ACCOUNTS)


# --- the fence ----------------------------------------------------------------------------------------------------


def test_the_writes_of_a_process_that_was_deposed_are_refused_and_its_reads_are_not(desk: Desk) -> None:
    first, second = Process(desk.ledger, "first"), Process(desk.ledger, "second")
    first.round()
    token = next(lease.token for lease in first.held if lease.duty == asking("a"))
    fenced = desk.ledger.fenced(asking("a"), lambda: token)
    assert fenced.registrations.register("t1", account="a", family=FAMILY)

    desk.clock.advance(60 * SECOND)
    assert fenced.registrations.register("t2", account="a", family=FAMILY)
    second.round()
    with pytest.raises(Deposed):
        fenced.registrations.register("t3", account="a", family=FAMILY)

    assert [row["task_id"] for row in desk.rows("SELECT task_id FROM tasks ORDER BY id")] == ["t1", "t2"]
    assert fenced.accounts.names() == ["a"]


def test_a_process_without_the_duty_writes_nothing(desk: Desk) -> None:
    fenced = desk.ledger.fenced(asking(ACCOUNT), lambda: None)

    with pytest.raises(Deposed):
        fenced.registrations.register("t", account=ACCOUNT, family=FAMILY)


def test_a_sweep_under_way_can_be_given_back_by_a_process_that_was_deposed(desk: Desk) -> None:
    fenced = desk.ledger.fenced(asking(ACCOUNT), lambda: "no longer")
    token = desk.ledger.sweeps.begin(account=ACCOUNT, family="f")
    assert token is not None

    fenced.sweeps.end(token, succeeded_at=None, full=False, oldest_first=False, last_page=None)

    assert desk.ledger.sweeps.begin(account=ACCOUNT, family="f") is not None


# --- the plan -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("askers", "accounts", "share"), [(1, 5, 5), (2, 5, 3), (3, 5, 2), (5, 5, 1), (8, 5, 1), (2, 0, 0)]
)
def test_no_process_asks_for_more_than_its_share(askers: int, accounts: int, share: int) -> None:
    names = [f"account-{number}" for number in range(accounts)]

    assigned = assign({f"p{number}": names for number in range(askers)}, {})

    assert set(assigned) == set(names)
    assert max(Counter(assigned.values()).values(), default=0) == share


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(seed=strategies.integers(0, 2**32))
def test_each_account_that_any_settings_name_has_an_asker_and_a_plan_that_is_followed_stays(
    seed: int,
) -> None:
    chosen = random.Random(seed)
    names = [f"account-{number}" for number in range(chosen.randrange(7))]
    askers = {
        f"p{n}": {name for name in names if chosen.random() < 0.6} for n in range(chosen.randrange(1, 6))
    }
    holders = {name: f"p{chosen.randrange(7)}" for name in names if chosen.random() < 0.7}

    assigned = assign(askers, holders)

    assert set(assigned) == set().union(*askers.values())
    assert all(account in askers[name] for account, name in assigned.items())
    for _ in range(len(names)):
        holders, assigned = assigned, assign(askers, assigned)
    assert assign(askers, assigned) == assigned
