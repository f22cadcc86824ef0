"""What `show` and `status` read: tasks, states, daemons."""

import os
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from archiver.failures import (
    ApiModelMissing,
    ApiTimeout,
    BucketMissing,
    StoreError,
)
from archiver.ledger.daemons import Service
from archiver.model import DiscoveredBy, Problem, Stage, State, Status
from tests.harness.ledgers import (
    ACCOUNT,
    FAMILY,
    MINUTE,
    SECOND,
    START,
    Desk,
    answer,
    asset,
)


def test_show_tells_of_a_task_in_the_agreed_shape(desk: Desk) -> None:
    desk.tell()
    desk.say(answer(assets=(asset("0"), asset("0.watermark")), external_task_id="mine"))
    desk.fail(desk.claim(Stage.ARCHIVE), StoreError("500"))

    shown = desk.shown()

    assert shown.pop("history") == [
        {"at": "2026-09-21T14:13:20.000Z", "event": "task.moved", "detail": "reported → succeeded"},
        {"at": "2026-09-21T14:13:20.000Z", "event": "task.retried", "detail": "store_error: 500"},
    ]
    nothing = {"name": None, "key": None, "stored": False, "bytes": None, "sha256": None, "reason": None}
    nothing["link"] = None
    assert shown == {
        "task_id": "t",
        "account": ACCOUNT,
        "family": FAMILY,
        "external_task_id": "mine",
        "state": "succeeded",
        "reason": "store_error",
        "message": "500",
        "what_to_do": StoreError.what_to_do,
        "attempts": 1,
        "due_at": "2026-09-21T14:13:21.500Z",
        "created_at": "2026-09-21T14:13:20.000Z",
        "updated_at": "2026-09-21T14:13:44.000Z",
        "expires_at": "2026-10-21T14:13:20.000Z",
        "discovered_by": "callback",
        "callbacks": 1,
        "manifest_key": None,
        "amendment_keys": [],
        "assets": [{"stem": stem, "url": asset(stem).url, **nothing} for stem in ("0", "0.watermark")],
        "forwards": [],
    }


def test_an_archived_task_shows_where_it_is_and_no_trouble_any_more(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    desk.fail(desk.claim(Stage.ARCHIVE), StoreError("500"))
    desk.clock.advance(MINUTE)

    desk.archived(desk.claim(Stage.ARCHIVE))

    shown = desk.shown()
    assert (shown["state"], shown["reason"], shown["message"], shown["due_at"]) == (
        "archived",
        None,
        None,
        None,
    )
    assert shown["manifest_key"] == "f/manifest.json"
    assert (shown["assets"][0]["name"], shown["assets"][0]["url"]) == ("0.png", None)


def test_an_unexpected_error_is_written_down_however_strange_its_words(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    strange = ApiTimeout("\x00 \ud800 " + "x" * 10_000)

    desk.fail(desk.claim(Stage.ARCHIVE), strange)

    assert len(desk.shown()["message"]) <= 2000


def test_an_id_that_never_came_is_unknown(desk: Desk) -> None:
    assert desk.ledger.views.show("t", account=ACCOUNT) is None
    desk.bring(State.RUNNING)
    assert desk.ledger.views.show("t", account="other") is None


def test_status_names_every_state_and_all_that_an_operator_needs(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED, "a")
    desk.clock.advance(1)
    desk.tell("b")
    token = desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
    assert token is not None
    desk.ledger.sweeps.end(token, succeeded_at=START, full=True, oldest_first=False, last_page=None)
    desk.ledger.holds.set(BucketMissing("gone"), account=ACCOUNT, stage=Stage.ARCHIVE)
    desk.ledger.daemons.beat("d1", version="0.1.0", started_at=START, clock_skew_ms=-2500)

    view = desk.ledger.views.status()
    status: dict[str, Any] = view.as_json(several_accounts=False)

    assert [daemon["name"] for daemon in status.pop("daemons")] == ["d1"]
    (hold,) = status.pop("holds")
    assert hold.items() >= {"stage": "archive", "reason": "bucket_missing"}.items()
    assert (hold["since"], hold["what_to_do"]) == ("2026-09-21T14:13:20.001Z", BucketMissing.what_to_do)
    assert status == {
        "states": dict.fromkeys(State, 0) | {"succeeded": 1, "reported": 1},
        "earliest_deadline": "2026-10-21T14:13:20.000Z",
        "last_callback_at": "2026-09-21T14:13:20.001Z",
        "last_sweep": {FAMILY: "2026-09-21T14:13:20.000Z"},
        "missed_callbacks": {FAMILY: 0},
    }
    assert view.clock_skew_ms == -2500


def test_an_unconfirmed_id_has_no_deadline_to_warn_of(desk: Desk) -> None:
    desk.tell()
    desk.fail(desk.claim(Stage.VERIFY), ApiModelMissing("no such path"))
    assert desk.state() is State.BURIED

    assert desk.ledger.views.status().earliest_deadline is None


def test_the_status_of_a_fresh_ledger_is_empty(desk: Desk) -> None:
    view = desk.ledger.views.status()

    assert view.clock_skew_ms is None
    assert view.as_json(several_accounts=False) == {
        "states": dict.fromkeys(State, 0),
        "earliest_deadline": None,
        "last_callback_at": None,
        "last_sweep": {},
        "missed_callbacks": {},
        "holds": [],
        "daemons": [],
    }


def test_a_daemon_is_listed_while_it_gives_signs_of_life(desk: Desk) -> None:
    desk.ledger.daemons.beat("d1", version="1", started_at=START)
    desk.clock.advance(119 * SECOND)
    desk.ledger.daemons.beat("d2", version="1", started_at=START)
    assert [daemon.name for daemon in desk.ledger.views.status().alive_daemons] == ["d1", "d2"]

    desk.clock.advance(SECOND)
    assert [daemon.name for daemon in desk.ledger.views.status().alive_daemons] == ["d2"]
    desk.ledger.daemons.leave("d2")
    assert desk.ledger.views.status().alive_daemons == ()
    desk.ledger.daemons.beat("d2", version="1", started_at=START)
    assert [daemon.name for daemon in desk.ledger.daemons.alive()] == ["d2"]


@pytest.mark.sqlite_only("on PostgreSQL daemons work beside each other")
def test_a_daemon_that_was_killed_is_not_listed_beside_the_next(desk: Desk) -> None:
    desk.ledger.daemons.beat("killed", version="1", started_at=START)
    desk.reopen()
    desk.ledger.daemons.beat("next", version="1", started_at=START)

    assert [daemon.name for daemon in desk.ledger.daemons.alive()] == ["next"]


def test_status_tells_scripts_what_each_daemon_does(desk: Desk) -> None:
    desk.ledger.daemons.beat("d1", version="0.1.0", started_at=START)
    desk.clock.advance(5 * SECOND)
    desk.ledger.daemons.beat(
        "d1", version="0.1.0", started_at=START, serves=[Service.WORK], accounts=["a"], leases=3
    )

    (daemon,) = desk.ledger.views.status().alive_daemons

    assert daemon.as_json() == {
        "serves": ["work"],
        "accounts": ["a"],
        "leases": 3,
        "name": "d1",
        "pid": os.getpid(),
        "version": "0.1.0",
        "since": "2026-09-21T14:13:20.000Z",
        "seen_at": "2026-09-21T14:13:25.000Z",
    }


def test_a_daemon_warns_until_it_says_otherwise(desk: Desk) -> None:
    warning = Problem("settings", "the clock is unchecked", "keep it right by NTP", ACCOUNT, START)
    desk.ledger.daemons.beat("d1", version="1", started_at=START)
    desk.ledger.daemons.warn("d1", [warning])
    desk.ledger.daemons.beat("d1", version="1", started_at=START)
    assert desk.ledger.views.status().alive_daemons[0].warnings == (warning,)

    desk.ledger.daemons.warn("d1", [])
    assert desk.ledger.views.status().alive_daemons[0].warnings == ()


def test_ids_in_a_state_come_nearest_deadline_first(desk: Desk) -> None:
    for number, task_id in enumerate("abc"):
        desk.say(answer(task_id, created_at=START - number))

    assert desk.ledger.views.ids_in(State.SUCCEEDED, account=ACCOUNT) == ["c", "b", "a"]
    assert desk.ledger.views.ids_in(State.SUCCEEDED, account=ACCOUNT, count_max=1) == ["c"]


def test_status_takes_no_statement_more_for_an_account_of_which_there_is_nothing_to_say(desk: Desk) -> None:
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    def count() -> int:
        statements.clear()
        desk.ledger.views.status()
        return len(statements)

    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        desk.say(answer("t", Status.FAILED, message="policy"))
        few = count()
        for account in ("a", "b", "c"):
            failed = answer(f"of-{account}", Status.FAILED, message="policy")
            desk.ledger.records.record([failed], account=account, discovered_by=DiscoveredBy.SWEEP, rand=0.5)

        assert count() == few
        assert len(desk.ledger.views.status().accounts) == 4
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)
