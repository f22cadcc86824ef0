"""What a claim may take beside held and failing hosts, for which tasks fresh URLs are requested, and what it costs."""

import pathlib
from typing import Any

import pytest
import sqlalchemy as sa

from archiver.failures import (
    ApiForbidden,
    ApiServerError,
    ApiTimeout,
    AssetGone,
    BucketMissing,
    Failure,
    FetchRefused,
    FetchTimeout,
    HostDown,
    HostRefusing,
    StoreError,
)
from archiver.ledger.tables import schema
from archiver.model import Lane, Lease, Stage, State, Status, Task
from tests.harness.ledgers import (
    ACCOUNT,
    DAY,
    FAMILY,
    HOUR,
    MINUTE,
    SECOND,
    START,
    Desk,
    answer,
    asset,
    steps,
)

# --- hosts ------------------------------------------------------------------------------------------------------

ONE, TWO = "one.klingai.com", "two.klingai.com"
ALL_LANES = dict.fromkeys((Lane.DEADLINE, Lane.ATTEMPTS, Lane.NEWEST, Lane.LOST), 9)


def on(host: str, task_id: str, **more: Any) -> Task:
    return answer(task_id, assets=(asset(url=f"https://{host}/0.png"),), **more)


def refused(desk: Desk, *task_ids: str, host: str = ONE) -> None:
    """Tasks that were tried on `host`, and are due again."""
    for task_id in task_ids:
        desk.say(on(host, task_id))
    for lease in desk.claim_all(Stage.ARCHIVE):
        desk.fail(lease, FetchRefused("HTTP 403", host=lease.asset_host))
    desk.clock.advance(MINUTE)


def claimed(desk: Desk, **limits: Any) -> dict[str, bool]:
    """The ids that the archive stage may take now, and whether it is their first try."""
    leases = desk.ledger.claims.archive(slots=ALL_LANES, count_max=9, account=ACCOUNT, **limits)
    return {lease.task_id: lease.is_first_try for lease in leases}


def test_a_task_that_was_never_tried_on_a_held_host_gets_its_first_try(desk: Desk) -> None:
    refused(desk, "tried")
    error = HostRefusing("refused", host=ONE)
    desk.ledger.holds.set(error, account=ACCOUNT, stage=Stage.ARCHIVE)
    desk.say(on(ONE, "fresh"))
    desk.say(on(TWO, "elsewhere"))

    assert claimed(desk) == {"fresh": True, "elsewhere": True}


def test_a_failing_host_may_be_left_to_first_tries_only_or_altogether(desk: Desk) -> None:
    refused(desk, "tried")
    desk.say(on(ONE, "fresh"))

    assert claimed(desk, hosts_avoided={ONE}) == {}
    assert claimed(desk, hosts_first_tries_only={ONE}) == {"fresh": True}
    assert claimed(desk) == {"tried": False}


def test_a_held_host_that_has_its_share_of_the_slots_is_not_probed_beyond_it(desk: Desk) -> None:
    refused(desk, "tried")
    desk.ledger.holds.set(HostDown("down", host=ONE), account=ACCOUNT, stage=Stage.ARCHIVE)
    desk.clock.advance(MINUTE)

    assert claimed(desk, hosts_avoided={ONE}) == {}
    assert claimed(desk, hosts_first_tries_only={ONE}) == {}
    assert [lease.is_probe for lease in desk.claim_all(Stage.ARCHIVE)] == [True]


def test_a_task_waits_for_the_host_that_failed_and_not_for_that_of_its_first_file(desk: Desk) -> None:
    files = (asset("0", url=f"https://{ONE}/0.png"), asset("1", url=f"https://{TWO}/1.png"))
    desk.say(answer("two files", assets=files))
    (lease,) = desk.claim_all(Stage.ARCHIVE)
    desk.fail(lease, FetchTimeout("slow", host=TWO))
    desk.clock.advance(MINUTE)
    desk.ledger.holds.set(HostDown("down", host=TWO), account=ACCOUNT, stage=Stage.ARCHIVE)
    assert claimed(desk) == {}

    assert desk.ledger.holds.release_host(account=ACCOUNT, host=TWO, reasons=["host_down"]) == ["host_down"]
    desk.ledger.holds.set(HostDown("down", host=ONE), account=ACCOUNT, stage=Stage.ARCHIVE)
    assert claimed(desk) == {"two files": False}


def test_an_answer_of_a_host_lifts_the_holds_that_it_disproves_and_no_other(desk: Desk) -> None:
    for host in (ONE, TWO):
        desk.ledger.holds.set(HostRefusing("x", host=host), account=ACCOUNT, stage=Stage.ARCHIVE)

    assert desk.ledger.holds.release_host(account=ACCOUNT, host=ONE, reasons=["host_down"]) == []
    assert desk.ledger.holds.release_host(account=ACCOUNT, host=ONE, reasons=["host_refusing"]) == [
        "host_refusing"
    ]
    assert [hold.host for hold in desk.ledger.holds.all()] == [TWO]


def test_lost_tasks_are_in_their_own_lane_only(desk: Desk) -> None:
    desk.say(on(ONE, "lost", created_at=START - 29 * DAY))
    for lease in desk.claim_all(Stage.ARCHIVE):
        desk.fail(lease, StoreError("500"))
    desk.clock.advance(2 * DAY)
    desk.ledger.deadlines.expire()
    desk.say(on(ONE, "fresh"))
    assert desk.row("lost")["state"] == State.LOST

    others = dict.fromkeys((Lane.DEADLINE, Lane.ATTEMPTS, Lane.NEWEST), 9)
    first = desk.ledger.claims.archive(slots=others, count_max=9, account=ACCOUNT)
    second = desk.ledger.claims.archive(slots={Lane.LOST: 9}, count_max=9, account=ACCOUNT)

    assert [(lease.task_id, lease.lane is Lane.LOST) for lease in first] == [("fresh", False)]
    assert [(lease.task_id, lease.lane) for lease in second] == [("lost", Lane.LOST)]


def test_a_hold_that_no_task_is_left_for_is_dropped_and_the_others_stay(desk: Desk) -> None:
    refused(desk, "waiting", host=TWO)
    for host in (ONE, TWO):
        desk.ledger.holds.set(HostRefusing("x", host=host), account=ACCOUNT, stage=Stage.ARCHIVE)
    desk.ledger.holds.set(ApiForbidden("x", family=FAMILY), account=ACCOUNT, stage=Stage.VERIFY)
    desk.ledger.holds.set(ApiForbidden("x", family=FAMILY), account=ACCOUNT, stage=Stage.SWEEP)
    desk.ledger.holds.set(BucketMissing("x"), account=ACCOUNT, stage=Stage.ARCHIVE)

    dropped = desk.ledger.holds.drop_idle()

    assert [(hold.stage, hold.host, hold.family) for hold in dropped] == [
        (Stage.ARCHIVE, ONE, None),
        (Stage.VERIFY, None, FAMILY),
    ]
    assert len(desk.ledger.holds.all()) == 3
    assert desk.ledger.holds.drop_idle() == []


# --- fresh URLs -------------------------------------------------------------------------------------------------


def wanting(desk: Desk) -> Lease:
    """A task whose URLs do not work, leased to verification."""
    desk.say(on(ONE, "t1"))
    (lease,) = desk.claim_all(Stage.ARCHIVE)
    desk.ledger.outcomes.want_fresh(lease, AssetGone("404", host=ONE))
    (asked,) = desk.ledger.claims.fresh(account=ACCOUNT, count=9)
    return asked


def test_a_task_that_wants_fresh_urls_is_verification_s_and_then_the_archive_stage_s_again(
    desk: Desk,
) -> None:
    asked = wanting(desk)
    assert (asked.stage, asked.task_id, asked.state) == (Stage.VERIFY, "t1", State.SUCCEEDED)
    assert claimed(desk) == {}
    assert desk.ledger.claims.fresh(account=ACCOUNT, count=9) == []

    desk.ledger.outcomes.refreshed(asked, got_urls=True)

    (lease,) = desk.claim_all(Stage.ARCHIVE)
    assert (lease.fresh_asked_at, lease.fresh_wanted_at) == (desk.clock(), None)


def test_while_the_api_cannot_be_asked_it_is_asked_again_and_after_an_hour_the_old_url_is_tried(
    desk: Desk,
) -> None:
    asked = wanting(desk)
    desk.fail(asked, ApiTimeout("slow"))
    assert desk.ledger.claims.fresh(account=ACCOUNT, count=9) == []
    desk.clock.advance(10 * SECOND)
    assert [lease.task_id for lease in desk.ledger.claims.fresh(account=ACCOUNT, count=9)] == ["t1"]
    assert claimed(desk) == {}

    desk.clock.advance(HOUR)
    assert claimed(desk) == {"t1": False}


@pytest.mark.sqlite_only("a start frees leases on SQLite only")
def test_a_worker_that_dies_while_it_asks_for_fresh_urls_costs_one_more_question(desk: Desk) -> None:
    wanting(desk)
    desk.reopen()

    assert [lease.task_id for lease in desk.ledger.claims.fresh(account=ACCOUNT, count=9)] == ["t1"]


@pytest.mark.parametrize("family", [None, FAMILY])
def test_while_queries_are_held_no_fresh_url_is_asked_for(desk: Desk, family: str | None) -> None:
    desk.say(on(ONE, "t1"))
    (lease,) = desk.claim_all(Stage.ARCHIVE)
    desk.ledger.outcomes.want_fresh(lease, AssetGone("404", host=ONE))
    desk.ledger.holds.set(ApiServerError("x", family=family), account=ACCOUNT, stage=Stage.VERIFY)

    assert desk.ledger.claims.fresh(account=ACCOUNT, count=9) == []


# --- a claim costs the same beside any backlog ------------------------------------------------------------------


def backlog_of(folder: pathlib.Path, shape: str, rows: int) -> Desk:
    """A ledger with one task that may be taken, and `rows` that may not."""
    made = Desk(folder)
    made.is_forged = True
    host, family = ("held.klingai.com", "videos/text2video")
    values = [
        {
            "account": ACCOUNT,
            "task_id": f"t{number}",
            "family": family if shape == "held family" else FAMILY,
            "result_arrays": "",
            "state": "running" if shape == "held family" else "lost" if shape == "lost" else "succeeded",
            "queue": "verify" if shape == "held family" else "archive",
            "reason": "deadline_passed",
            "attempts": 3,
            "held": 0,
            "host_tried": True,
            "asset_host": host,
            "due_at": START + (DAY if shape == "in back-off" else -DAY),
            "created_at": START - number,
            "deadline_at": START - number + DAY,
            "first_seen_at": START - number,
            "confirmed_at": START,
            "document": "{}",
            "asked": 0,
            "query_individually": False,
            "discovered_by": "callback",
            "callbacks": 1,
        }
        for number in range(rows)
    ]
    with made.ledger.database.write() as connection:
        connection.execute(sa.insert(schema.tasks), values)
    hold: Failure = HostDown("x", host=host)
    if shape == "held family":
        hold = ApiForbidden("x", family=family)
    stage = Stage.VERIFY if shape == "held family" else Stage.ARCHIVE
    if shape.startswith("held"):
        made.ledger.holds.set(hold, account=ACCOUNT, stage=stage)
    for _ in range(rows // 500 + 1):  # all due rows are in their groups
        made.ledger.claims.archive(slots={}, count_max=0, account=ACCOUNT)
        made.ledger.claims.verify(count=0, offset=0, account=ACCOUNT)
    made.say(answer("free", status=Status.RUNNING if shape == "held family" else Status.SUCCEEDED))
    made.clock.advance(MINUTE)
    return made


@pytest.mark.parametrize("shape", ["held host", "held family", "in back-off", "lost"])
def test_a_claim_takes_as_many_steps_beside_a_backlog_that_it_may_not_take_as_without(
    tmp_path: pathlib.Path, shape: str
) -> None:
    taken = {}
    for rows in (300, 3_000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        desk = backlog_of(folder, shape, rows)
        leases: list[Lease] = []

        def claim(desk: Desk = desk, leases: list[Lease] = leases) -> None:
            lanes = dict.fromkeys((Lane.DEADLINE, Lane.ATTEMPTS, Lane.NEWEST), 1)
            leases += desk.ledger.claims.archive(slots=lanes, count_max=2, account=ACCOUNT)
            leases += desk.ledger.claims.verify(count=2, offset=0, account=ACCOUNT)

        taken[rows] = steps(desk, claim)
        assert "free" in [lease.task_id for lease in leases]
        desk.close()

    assert taken[3_000] <= 1.5 * taken[300]
