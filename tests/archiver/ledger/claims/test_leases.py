"""A claim leases a task: the lease is committed first, renewed, fenced by its token, and ended once."""

from collections.abc import Callable

import pytest

from archiver.failures import (
    ApiTimeout,
    BucketMissing,
    Bury,
    LeaseLost,
    NeverMedia,
    Retry,
    StoreError,
)
from archiver.ledger import Ledger
from archiver.ledger.claims import LEASE_SECONDS, TAKEOVER_MS
from archiver.model import Lease, Stage, State
from tests.harness.ledgers import (
    ACCOUNT,
    DAY,
    MINUTE,
    RAND,
    SECOND,
    START,
    Desk,
    answer,
    asset,
    stored,
)


def test_a_claim_is_written_down_before_any_work(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)

    lease = desk.claim(Stage.ARCHIVE)

    row = desk.row()
    assert (row["lease_token"], row["lease_until"]) == (lease.token, START + 30 * SECOND)
    assert (row["attempts"], row["due_at"], lease.attempt) == (1, START + 30 * SECOND + TAKEOVER_MS, 1)


def test_a_leased_task_is_claimed_by_no_other_worker(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    desk.claim(Stage.ARCHIVE)

    desk.clock.advance(30 * SECOND - 1)

    assert desk.claim_all(Stage.ARCHIVE) == []
    assert not desk.ledger.claims.any_due(Stage.ARCHIVE, account=ACCOUNT)


@pytest.mark.parametrize("stage", [Stage.VERIFY, Stage.ARCHIVE])
def test_a_dead_workers_task_is_claimable_within_a_minute_and_counts_as_tried(
    desk: Desk, stage: Stage
) -> None:
    desk.bring(State.SUCCEEDED if stage is Stage.ARCHIVE else State.REPORTED)
    desk.claim(stage)

    desk.clock.advance(35 * SECOND)

    assert desk.ledger.claims.any_due(stage, account=ACCOUNT)
    assert desk.claim(stage).attempt == 2


@pytest.mark.parametrize("stage", [Stage.VERIFY, Stage.ARCHIVE])
def test_a_lease_is_left_alone_for_five_seconds_after_its_end(desk: Desk, stage: Stage) -> None:
    """Its holder's clock may be a little behind, and the last piece of a body on its way."""
    desk.bring(State.SUCCEEDED if stage is Stage.ARCHIVE else State.REPORTED)
    lease = desk.claim(stage)

    desk.clock.advance(35 * SECOND - 1)

    assert not desk.ledger.claims.any_due(stage, account=ACCOUNT)
    assert desk.claim_all(stage) == []
    desk.ledger.registrations.retry(["t"], account=ACCOUNT)
    desk.tell()
    assert desk.claim_all(stage) == []
    assert desk.ledger.claims.renew([lease]) == {lease.row_id}


@pytest.mark.sqlite_only("a start frees leases on SQLite only")
def test_a_starting_daemon_does_not_wait_for_the_leases_of_a_dead_one(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    desk.claim(Stage.ARCHIVE)

    desk.reopen()

    assert desk.claim(Stage.ARCHIVE).attempt == 2


def test_a_renewed_lease_lasts_another_30_seconds(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    lease = desk.claim(Stage.ARCHIVE)
    for _ in range(10):
        desk.clock.advance(29 * SECOND)
        assert desk.ledger.claims.renew([lease]) == {lease.row_id}
        assert desk.claim_all(Stage.ARCHIVE) == []

    desk.clock.advance(LEASE_SECONDS * SECOND + TAKEOVER_MS)
    other = desk.claim(Stage.ARCHIVE)

    assert desk.ledger.claims.renew([lease, other]) == {other.row_id}
    assert desk.row()["lease_token"] == other.token


def test_work_given_back_is_due_at_once_and_costs_no_attempt(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)

    desk.ledger.outcomes.give_back(desk.claim(Stage.ARCHIVE))

    assert desk.claim(Stage.ARCHIVE).attempt == 1


ENDINGS: dict[str, Callable[[Desk, Lease], object]] = {
    "archived": lambda desk, lease: desk.archived(lease),
    "retry": lambda desk, lease: desk.ledger.outcomes.retry(
        lease, StoreError("500"), Retry(due_at=0), stored=[stored()], failed={"0": StoreError("500")}
    ),
    "bury": lambda desk, lease: desk.ledger.outcomes.bury(
        lease, NeverMedia("html"), Bury(due_at=0), stored=[stored()], failed={"0": NeverMedia("html")}
    ),
    "hold": lambda desk, lease: desk.ledger.outcomes.hold(lease, BucketMissing("gone"), stored=[stored()]),
    "not_found": lambda desk, lease: desk.ledger.outcomes.not_found(lease, rand=RAND),
    "give_back": lambda desk, lease: desk.ledger.outcomes.give_back(lease),
}


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_a_worker_that_lost_its_lease_changes_nothing(desk: Desk, ending: str) -> None:
    desk.bring(State.SUCCEEDED)
    lost = desk.claim(Stage.ARCHIVE)
    desk.clock.advance(LEASE_SECONDS * SECOND + TAKEOVER_MS)
    desk.claim(Stage.ARCHIVE)
    tables = ("tasks", "assets", "history", "holds")
    before = [desk.rows(f"SELECT * FROM {table}") for table in tables]  # noqa: S608 -- names from above

    with pytest.raises(LeaseLost):
        ENDINGS[ending](desk, lost)

    assert [desk.rows(f"SELECT * FROM {table}") for table in tables] == before  # noqa: S608 -- as above


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_a_task_that_is_gone_from_the_ledger_is_a_lost_lease(desk: Desk, ending: str) -> None:
    desk.tell()
    lease = desk.claim(Stage.VERIFY)
    # The API answers under another id: the row of the external id is merged into that one's.
    desk.say(answer("real", external_task_id="t"))
    desk.say(answer("real", external_task_id="t"), asked_as="t")

    with pytest.raises(LeaseLost):
        ENDINGS[ending](desk, lease)


def test_a_lease_that_the_api_s_word_has_ended_can_end_nothing_any_more(desk: Desk) -> None:
    desk.bring(State.RUNNING)
    desk.clock.advance(MINUTE)
    lease = desk.claim(Stage.VERIFY)

    desk.say(answer())  # a list page was faster

    with pytest.raises(LeaseLost):
        desk.ledger.outcomes.retry(lease, ApiTimeout("slow"), Retry(due_at=START + DAY))
    assert desk.claim(Stage.ARCHIVE).attempt == 1


def test_fresh_urls_reach_a_leased_task_without_ending_its_lease(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    lease = desk.claim(Stage.ARCHIVE)

    desk.say(answer(assets=(asset(url="https://cdn.klingai.com/fresh.png"), asset("0.watermark"))))

    urls = [leased.asset.url for leased in desk.ledger.claims.assets(lease) or ()]
    assert urls == ["https://cdn.klingai.com/fresh.png", "https://cdn.klingai.com/0.watermark.png"]
    desk.archived(lease)


def test_a_leased_task_without_files_has_no_assets_and_a_lost_lease_gets_none(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    lease = desk.claim(Stage.ARCHIVE)
    assert len(desk.ledger.claims.assets(lease) or ()) == 1

    desk.write("delete from assets")
    assert desk.ledger.claims.assets(lease) == ()
    desk.ledger.outcomes.give_back(lease)
    assert desk.ledger.claims.assets(lease) is None


@pytest.mark.sqlite_only("a start frees leases on SQLite only")
def test_a_starting_daemon_frees_every_lease(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED, "a")
    desk.bring(State.REPORTED, "b")
    desk.claim(Stage.ARCHIVE)
    desk.claim(Stage.VERIFY)

    desk.reopen()

    assert [desk.claim(stage).attempt for stage in (Stage.ARCHIVE, Stage.VERIFY)] == [2, 2]


@pytest.mark.sqlite_only("a start frees leases on SQLite only")
def test_a_task_whose_work_kills_the_process_is_not_first_for_ever(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    waits = []
    for _ in range(6):
        desk.claim(Stage.ARCHIVE)
        desk.reopen()
        waits.append(desk.seconds_until_due())
        desk.clock.now = desk.row()["due_at"]

    assert waits == [0, 0, 5, 5, 30, 30]


def test_a_command_beside_the_daemon_frees_no_lease(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    lease = desk.claim(Stage.ARCHIVE)

    command = Ledger.open(desk.by_hand.url, daemon=False, now=desk.clock)
    command.close()

    assert desk.ledger.claims.renew([lease]) == {lease.row_id}
