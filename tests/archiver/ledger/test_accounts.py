"""Several accounts in one ledger: each task is one account's, whatever its id; and an account can be renamed."""

import pytest

from archiver.failures import ApiCredentialsRefused
from archiver.ledger.accounts import Renaming
from archiver.model import Callback, DiscoveredBy, Lease, Stage, State, Status
from tests.harness.ledgers import DAY, FAMILY, RAND, START, Desk, answer, claim_archive

EU, US = "eu", "us"


def say(desk: Desk, account: str, *task_ids: str) -> None:
    """The API's word: these tasks of the account have succeeded."""
    tasks = [answer(task_id) for task_id in task_ids]
    desk.ledger.records.record(tasks, account=account, discovered_by=DiscoveredBy.SWEEP, rand=RAND)


def archive(desk: Desk, account: str, task_id: str) -> None:
    (lease,) = claim_archive(desk.ledger, count=1, account=account)
    assert lease.task_id == task_id
    desk.ledger.outcomes.archived(
        lease, manifest_key=f"{account}/manifest.json", archived_at=START, stored=[]
    )


def state(desk: Desk, account: str, task_id: str) -> str | None:
    shown = desk.ledger.views.show(task_id, account=account)
    return None if shown is None else str(shown.state)


# --- whose task it is -----------------------------------------------------------------------------------------------


def test_the_same_id_in_two_accounts_is_two_tasks(desk: Desk) -> None:
    desk.ledger.callbacks.record(
        [Callback(account, "t", Status.SUCCEEDED, FAMILY) for account in (EU, US, EU)]
    )
    say(desk, EU, "t")
    archive(desk, EU, "t")

    assert (state(desk, EU, "t"), state(desk, US, "t")) == ("archived", "reported")
    assert [row["callbacks"] for row in desk.rows("SELECT callbacks FROM tasks ORDER BY account")] == [2, 1]


@pytest.mark.parametrize("stage", [Stage.VERIFY, Stage.ARCHIVE])
def test_a_claim_takes_the_tasks_of_its_account_only(desk: Desk, stage: Stage) -> None:
    if stage is Stage.ARCHIVE:
        say(desk, EU, *(f"e{number}" for number in range(20)))
        say(desk, US, "u")
    else:
        desk.ledger.callbacks.record([Callback(EU, f"e{number}", None, FAMILY) for number in range(20)])
        desk.ledger.callbacks.record([Callback(US, "u", None, FAMILY)])

    def claim(count: int, account: str) -> list[Lease]:
        if stage is Stage.ARCHIVE:
            return claim_archive(desk.ledger, count=count, account=account)
        return desk.ledger.claims.verify(count=count, offset=0, account=account)

    assert not desk.ledger.claims.any_due(stage, account="nobody")
    assert [lease.task_id for lease in claim(8, US)] == ["u"]
    assert not desk.ledger.claims.any_due(stage, account=US)
    assert {lease.account for lease in claim(30, EU)} == {EU}
    assert claim(30, EU) == []


def test_a_hold_of_one_account_stops_no_other_and_is_probed_by_its_own(desk: Desk) -> None:
    say(desk, EU, "e")
    say(desk, US, "u")
    desk.ledger.holds.set(ApiCredentialsRefused("1102"), account=EU, stage=Stage.ARCHIVE)

    assert not desk.ledger.claims.any_due(Stage.ARCHIVE, account=EU)
    assert claim_archive(desk.ledger, count=4, account=EU) == []
    desk.clock.advance(30_000)
    assert [lease.task_id for lease in claim_archive(desk.ledger, count=4, account=US)] == ["u"]
    (probe,) = claim_archive(desk.ledger, count=4, account=EU)
    assert (probe.task_id, probe.is_probe) == ("e", True)


def test_deadlines_are_not_decided_for_accounts_whose_clock_is_in_doubt(desk: Desk) -> None:
    say(desk, EU, "e")
    say(desk, US, "u")
    desk.clock.advance(30 * DAY)

    assert [
        (expiry.account, expiry.verdict) for expiry in desk.ledger.deadlines.expire(except_accounts=[EU])
    ] == [(US, State.LOST)]
    assert [(expiry.account, expiry.verdict) for expiry in desk.ledger.deadlines.expire()] == [
        (EU, State.LOST)
    ]


def test_a_family_of_several_accounts_was_swept_when_the_last_of_them_was(desk: Desk) -> None:
    def sweep(account: str, at: int) -> None:
        token = desk.ledger.sweeps.begin(account=account, family=FAMILY)
        assert token is not None
        desk.ledger.sweeps.end(token, succeeded_at=at, full=True, oldest_first=False, last_page=None)

    sweep(EU, START + DAY)
    sweep(US, START)

    assert desk.ledger.views.status().last_sweep == desk.ledger.views.status(accounts=[US]).last_sweep
    assert desk.ledger.views.status().last_sweep != desk.ledger.views.status(accounts=[EU]).last_sweep
    assert desk.ledger.sweeps.begin(account="new", family=FAMILY) is not None
    assert desk.ledger.views.status().last_sweep == {FAMILY: None}


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_ledger_knows_the_accounts_it_has_tasks_or_sweeps_of(desk: Desk) -> None:
    assert desk.ledger.accounts.names() == []
    say(desk, US, *(f"u{number}" for number in range(10)))
    desk.ledger.registrations.register("r", account=EU, family=FAMILY)
    desk.ledger.sweeps.begin(account="asia", family=FAMILY)

    assert desk.ledger.accounts.names() == ["asia", EU, US]


def test_an_account_without_a_process_is_counted_by_its_waiting_tasks(desk: Desk) -> None:
    say(desk, US, "done", "waiting")
    (first, _) = claim_archive(desk.ledger, count=2, account=US)
    desk.ledger.outcomes.archived(first, manifest_key="m", archived_at=START, stored=[])
    say(desk, EU, "e")

    assert desk.ledger.accounts.stranded(known=[EU]) == {US: 1}
    assert desk.ledger.accounts.stranded(known=[EU, US, "new"]) == {}


def test_holds_of_accounts_without_a_process_are_dropped(desk: Desk) -> None:
    for account in (EU, US):
        desk.ledger.holds.set(ApiCredentialsRefused("1002"), account=account, stage=Stage.SWEEP)

    desk.ledger.accounts.forget_holds(known=[US])

    assert [hold.account for hold in desk.ledger.holds.all()] == [US]


def test_an_account_of_another_living_process_is_left_alone(desk: Desk) -> None:
    say(desk, EU, "e")
    desk.ledger.holds.set(ApiCredentialsRefused("1002"), account=EU, stage=Stage.SWEEP)
    desk.ledger.duties.take_part("other", accounts=[EU])

    desk.ledger.accounts.forget_holds(known=[US])

    assert [hold.account for hold in desk.ledger.holds.all()] == [EU]
    assert desk.ledger.accounts.stranded(known=[US]) == {}


def test_a_renamed_account_keeps_every_task_its_sweeps_and_its_history(desk: Desk) -> None:
    say(desk, EU, "done", "waiting")
    (first, second) = claim_archive(desk.ledger, count=2, account=EU)
    desk.ledger.outcomes.archived(first, manifest_key="m", archived_at=START, stored=[])
    desk.ledger.outcomes.give_back(second)
    desk.ledger.callbacks.record([Callback(EU, "new", None, FAMILY)])
    desk.ledger.sweeps.begin(account=EU, family=FAMILY)
    desk.ledger.holds.set(ApiCredentialsRefused("1002"), account=EU, stage=Stage.SWEEP)
    history = desk.rows("SELECT * FROM history")

    assert desk.ledger.accounts.rename(EU, "team-eu") == 3
    desk.reopen()
    assert desk.ledger.accounts.last_renaming(EU) == Renaming("team-eu", 3, START)
    assert desk.ledger.accounts.last_renaming("team-eu") is None
    assert desk.ledger.accounts.names() == ["team-eu"]
    assert desk.rows("SELECT * FROM history") == history
    assert (state(desk, "team-eu", first.task_id), state(desk, EU, first.task_id)) == ("archived", None)
    assert len(claim_archive(desk.ledger, count=9, account="team-eu")) == 1
    assert desk.ledger.holds.all() == ()
    assert desk.rows("SELECT DISTINCT account FROM sweeps") == [{"account": "team-eu"}]


@pytest.mark.parametrize(("old", "new"), [("nobody", "x"), (EU, US), (US, EU)])
def test_two_accounts_never_become_one(desk: Desk, old: str, new: str) -> None:
    say(desk, EU, "t")
    say(desk, US, "t")
    before = desk.rows("SELECT * FROM tasks")

    assert desk.ledger.accounts.rename(old, new) is None
    assert desk.ledger.accounts.last_renaming(old) is None
    assert desk.rows("SELECT * FROM tasks") == before


@pytest.mark.sqlite_only("a trigger in SQLite's words")
def test_a_rename_that_fails_has_renamed_nothing(desk: Desk) -> None:
    say(desk, EU, "t")
    desk.ledger.sweeps.begin(account=EU, family=FAMILY)
    desk.rows("CREATE TRIGGER refuse BEFORE UPDATE OF account ON tasks BEGIN SELECT RAISE(ABORT, 'no'); END")

    with pytest.raises(Exception, match="no"):
        desk.ledger.accounts.rename(EU, "team-eu")
    desk.close()
    desk.reopen()
    assert desk.ledger.accounts.names() == [EU]
    assert desk.ledger.accounts.last_renaming(EU) is None
