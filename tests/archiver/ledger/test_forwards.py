"""What applications are still to be told, as the ledger keeps it."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event

from archiver.failures import LeaseLost
from archiver.ledger import ForwardEvent, ForwardLease, ForwardState, ForwardTarget
from archiver.ledger.forwards import DueConsumers, SendProgress
from archiver.ledger.forwards.forwards import LEASE_SECONDS
from archiver.ledger.tables.forwards import forward_counts, queue_for_client
from archiver.model import FolderWorkKind, Stage, State, Status
from tests.harness.ledgers import (
    ACCOUNT,
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    START,
    Desk,
    Place,
    answer,
    asset,
    stored,
)

CLIENT_URL = "https://app.example.com/hooks/kling?key=of-the-client"
CLIENT = "https://app.example.com:"
OPERATOR = ""


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    made = Desk(place)
    made.ledger.forwards.set_operator(is_told=True)
    yield made
    counted = {row["state"]: row["n"] for row in made.rows(_COUNTED)}
    assert counts(made) == {**dict.fromkeys(map(str, ForwardState), 0), **counted}
    made.close()


_COUNTED = (
    "SELECT state, count(*) AS n FROM forwards WHERE event NOT IN ('submitted', 'processing') GROUP BY state"
)


def counts(desk: Desk) -> dict[str, int]:
    with desk.ledger.database.read() as connection:
        return {str(state): count for state, count in forward_counts(connection).items()}


def queued(desk: Desk) -> list[tuple[str, str]]:
    rows = desk.rows("SELECT target, event, number FROM forwards ORDER BY id, target")
    return [(row["target"], row["event"]) for row in rows]


def claim(desk: Desk, consumer: str = OPERATOR, *, count: int = 10) -> list[ForwardLease]:
    return desk.ledger.forwards.claim(consumer, accounts=[ACCOUNT], count=count)


def claim_one(desk: Desk, consumer: str = OPERATOR) -> ForwardLease:
    (lease,) = claim(desk, consumer)
    return lease


def created_through_the_gateway(desk: Desk, task_id: str = "t") -> None:
    desk.tell(task_id)
    desk.write("UPDATE tasks SET client_callback_url = ? WHERE task_id = ?", CLIENT_URL, task_id)


def test_a_task_that_is_archived_failed_or_lost_is_queued_in_the_same_transaction(desk: Desk) -> None:
    desk.bring(State.ARCHIVED, "a")
    desk.bring(State.FAILED, "f")
    desk.bring(State.LOST, "l")

    assert queued(desk) == [("operator", "archived"), ("operator", "failed"), ("operator", "lost")]
    rows = desk.rows("SELECT webhook_id, document FROM forwards")
    assert all(row["webhook_id"].startswith("fwd_") and len(row["webhook_id"]) == 36 for row in rows)
    assert len({row["webhook_id"] for row in rows}) == 3
    assert '"task_id":"a"' in rows[0]["document"]  # the task's own row has lost it


def test_a_running_task_that_never_finished_has_failed(desk: Desk) -> None:
    desk.say(answer("t", Status.RUNNING))
    for _ in range(31):
        desk.clock.advance(DAY)
        desk.say(answer("t", Status.RUNNING))
    desk.ledger.deadlines.expire()

    assert (desk.state(), queued(desk)) == (State.FAILED, [("operator", "failed")])


def test_nothing_is_queued_without_a_target(desk: Desk) -> None:
    desk.ledger.forwards.set_operator(is_told=False)
    for state in (State.ARCHIVED, State.FAILED, State.LOST):
        desk.bring(state, state)

    assert queued(desk) == []


def test_a_failed_task_that_fails_again_queues_no_second_forward(desk: Desk) -> None:
    desk.bring(State.FAILED)
    desk.ledger.registrations.retry(["t"], account=ACCOUNT)
    desk.say(answer("t", Status.FAILED))
    desk.say(answer("t"))
    desk.archived(desk.claim(Stage.ARCHIVE))

    assert queued(desk) == [("operator", "failed"), ("operator", "archived")]


def test_a_task_that_ended_before_the_first_start_is_forwarded_to_a_client_only(desk: Desk) -> None:
    created_through_the_gateway(desk, "of-a-client")
    for task_id in ("old", "of-a-client"):
        desk.say(answer(task_id, updated_at=START - 1, created_at=START - HOUR))
    for lease in desk.claim_all(Stage.ARCHIVE):
        desk.archived(lease)

    assert queued(desk) == [("client", "archived")]


def test_a_manifest_that_was_found_in_the_bucket_queues_no_forward(desk: Desk) -> None:
    desk.say(answer())
    desk.ledger.outcomes.archived(
        desk.claim(Stage.ARCHIVE),
        manifest_key="f/manifest.json",
        archived_at=START - 1,
        stored=[stored()],
        is_adopted=True,
    )

    assert queued(desk) == []


def test_a_clock_that_is_set_back_before_the_manifest_is_put_suppresses_no_forward(desk: Desk) -> None:
    desk.say(answer())
    lease = desk.claim(Stage.ARCHIVE)
    desk.clock.advance(-90 * SECOND)
    desk.archived(lease)

    assert queued(desk) == [("operator", "archived")]


def test_a_task_that_still_ran_after_the_first_start_is_forwarded_whatever_its_times_say(desk: Desk) -> None:
    def say(task_id: str, status: Status, *, updated_at: int | None) -> None:
        desk.say(answer(task_id, status, created_at=START - HOUR, updated_at=updated_at))

    say("untimed", Status.RUNNING, updated_at=None)
    say("failed", Status.RUNNING, updated_at=None)
    say("unfinished", Status.RUNNING, updated_at=START - HOUR + SECOND)
    desk.clock.advance(HOUR)
    say("untimed", Status.SUCCEEDED, updated_at=None)
    say("failed", Status.FAILED, updated_at=None)
    desk.archived(desk.claim(Stage.ARCHIVE))
    for _ in range(31):
        desk.clock.advance(DAY)
        say("unfinished", Status.RUNNING, updated_at=START - HOUR + SECOND)
    desk.ledger.deadlines.expire()

    assert desk.state("unfinished") is State.FAILED
    assert queued(desk) == [("operator", "failed"), ("operator", "archived"), ("operator", "failed")]


def test_an_event_has_the_same_id_after_its_account_was_renamed(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    ids = []
    for account in (ACCOUNT, "renamed"):
        if account != ACCOUNT:
            desk.write("DELETE FROM forwards")
            desk.write("DELETE FROM forward_counts")
            desk.ledger.accounts.rename(ACCOUNT, account)
            desk.ledger.forward_orders.send(
                State.ARCHIVED, account=account, since=0, until=desk.clock(), after=(0, 0)
            )
        ids += [row["webhook_id"] for row in desk.rows("SELECT webhook_id FROM forwards")]

    assert len(ids) == 2
    assert len(set(ids)) == 1


def test_each_new_amendment_is_forwarded_and_none_that_lay_beside_an_adopted_manifest(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    desk.say(answer(assets=(asset(), asset("0.watermark"))))
    work = desk.ledger.folder_work.claim(account=ACCOUNT)
    assert work is not None
    assert work.kind is FolderWorkKind.AMEND
    files = [stored(), stored("0.watermark")]
    desk.ledger.folder_work.amended(work.lease, keys=["f/amendment-1.json"], stored=files)
    desk.say(answer("adopted"))
    desk.ledger.outcomes.archived(
        desk.claim(Stage.ARCHIVE),
        manifest_key="g/manifest.json",
        archived_at=START - 1,
        stored=[stored()],
        amendment_keys=["g/amendment-1.json"],
        is_adopted=True,
    )

    assert queued(desk) == [("operator", "archived"), ("operator", "amended")]
    (amended,) = desk.rows("SELECT number, document FROM forwards WHERE event = 'amended'")
    assert (amended["number"], "0.watermark" in amended["document"]) == (1, True)


def test_a_client_gets_each_running_status_once_and_nothing_after_the_end(desk: Desk) -> None:
    created_through_the_gateway(desk)
    for word in ("submitted", "submitted", "processing", "submitted", "succeed", "processing"):
        status = Status.SUCCEEDED if word == "succeed" else Status.RUNNING
        document = {"task_id": "t", "task_status": word}
        desk.say(dataclasses.replace(answer(status=status), document=document))

    assert queued(desk) == [("client", "submitted"), ("client", "processing")]
    assert desk.ledger.forward_orders.list(account=ACCOUNT) == []
    assert desk.shown()["forwards"] == []


def test_a_client_whose_url_came_after_the_end_still_gets_its_forward(desk: Desk) -> None:
    desk.ledger.forwards.set_operator(is_told=False)
    desk.bring(State.FAILED)
    desk.write("UPDATE tasks SET client_callback_url = ?", CLIENT_URL)
    with desk.ledger.database.write() as connection:
        queue_for_client(connection, desk.row()["id"], now=desk.clock())
        queue_for_client(connection, desk.row()["id"], now=desk.clock())

    assert queued(desk) == [("client", "failed")]


def test_events_of_one_task_to_one_target_go_in_their_order(desk: Desk) -> None:
    created_through_the_gateway(desk)
    desk.bring(State.LOST)
    desk.archived(desk.claim(Stage.ARCHIVE))
    (first,), (to_client,) = claim(desk), claim(desk, CLIENT)
    assert (first.event, first.target) == (ForwardEvent.LOST, ForwardTarget.OPERATOR)
    assert (to_client.event, to_client.target) == (ForwardEvent.LOST, ForwardTarget.CLIENT)
    desk.ledger.forwards.retry(first, due_at=desk.clock() + HOUR, status=500, reason="http_500")
    assert claim(desk) == []

    desk.clock.advance(HOUR)
    desk.ledger.forwards.delivered(claim_one(desk), status=200)
    assert claim_one(desk).event is ForwardEvent.ARCHIVED


@pytest.mark.parametrize("way", ["dead", "delivered", "expired"])
def test_the_seven_days_of_an_event_begin_with_its_turn(desk: Desk, way: str) -> None:
    desk.bring(State.LOST)
    desk.archived(desk.claim(Stage.ARCHIVE))
    first = claim_one(desk)
    desk.clock.advance(15 * DAY)
    if way == "dead":
        desk.ledger.forwards.dead(first, status=500, reason="http_500", is_problem=True)
    elif way == "delivered":
        desk.ledger.forwards.delivered(first, status=200)
    else:
        assert desk.ledger.forward_upkeep.expire() == 1

    second = claim_one(desk)
    assert (second.event, second.queued_at) == (ForwardEvent.ARCHIVED, desk.clock())
    desk.clock.advance(DAY)
    assert claim_one(desk).queued_at == second.queued_at


def test_a_forward_that_kills_processes_is_given_up_although_its_last_lease_was_never_ended(
    desk: Desk,
) -> None:
    desk.bring(State.FAILED)
    late = claim_one(desk)
    desk.clock.advance(15 * DAY)
    again = claim_one(desk)
    assert desk.ledger.forward_upkeep.expire() == 0  # it is being tried
    desk.clock.advance((LEASE_SECONDS + 1) * SECOND)

    assert desk.ledger.forward_upkeep.expire() == 1
    assert counts(desk) == {"waiting": 0, "delivered": 0, "dead": 1}
    for lease in (late, again):
        with pytest.raises(LeaseLost):
            desk.ledger.forwards.delivered(lease, status=200)


def test_an_abandoned_lease_ends_by_itself_and_its_late_end_changes_nothing(desk: Desk) -> None:
    desk.bring(State.FAILED)
    late = claim_one(desk)
    assert claim(desk) == []
    desk.clock.advance((LEASE_SECONDS + 5) * SECOND)
    again = claim_one(desk)

    with pytest.raises(LeaseLost):
        desk.ledger.forwards.delivered(late, status=200)
    assert (late.attempt, again.attempt) == (1, 2)
    desk.ledger.forwards.delivered(again, status=200)
    with pytest.raises(LeaseLost):
        desk.ledger.forwards.retry(again, due_at=0, status=None, reason="timeout")


def test_a_forward_that_was_given_back_is_due_at_once_and_has_cost_no_attempt(desk: Desk) -> None:
    desk.bring(State.FAILED)
    desk.ledger.forwards.give_back(claim_one(desk))

    assert claim_one(desk).attempt == 1


@pytest.mark.sqlite_only
def test_a_starting_daemon_frees_the_forwards_of_a_dead_one(desk: Desk) -> None:
    desk.bring(State.FAILED)
    claim_one(desk)
    desk.reopen()

    assert claim_one(desk).attempt == 2


def test_a_clock_that_is_set_back_delays_no_forward(desk: Desk) -> None:
    desk.bring(State.FAILED)
    desk.clock.advance(-DAY)

    assert desk.ledger.forwards.due_consumers().names == (OPERATOR,)
    assert len(claim(desk)) == 1


def test_consumers_with_something_due_are_found_one_after_the_other(desk: Desk) -> None:
    for place in range(5):
        created_through_the_gateway(desk, f"t{place}")
        desk.write(
            "UPDATE tasks SET client_callback_url = ? WHERE task_id = ?", f"http://h{place}/", f"t{place}"
        )
        desk.bring(State.FAILED, f"t{place}")
    desk.ledger.forwards.delivered(claim_one(desk, "http://h1:"), status=200)
    (waits,) = claim(desk, "http://h3:")
    desk.ledger.forwards.retry(waits, due_at=desk.clock() + MINUTE, status=None, reason="timeout")

    due = ("", "http://h0:", "http://h2:", "http://h4:")
    assert desk.ledger.forwards.due_consumers() == DueConsumers(due, None)
    assert desk.ledger.forwards.due_consumers(after="http://h0:") == DueConsumers(due[2:], None)


def test_a_consumer_that_left_two_tries_of_a_forward_unanswered_is_known_by_that(desk: Desk) -> None:
    tries: dict[str, list[tuple[int | None, str]]] = {
        "hangs": [(None, "consumer_not_reached")] * 2,
        "hangs-under-way": [(None, "consumer_not_reached")] * 2,
        "once": [(None, "consumer_not_reached")],
        "refuses": [(500, "consumer_refused")] * 2,
        "our-fault": [(None, "store_unreachable")] * 2,
    }
    for host, failures in tries.items():
        for task_id in (f"{host}0", f"{host}1"):
            created_through_the_gateway(desk, task_id)
            desk.write(
                "UPDATE tasks SET client_callback_url = ? WHERE task_id = ?", f"http://{host}/", task_id
            )
            desk.bring(State.FAILED, task_id)
        for status, reason in failures:
            [lease] = claim(desk, f"http://{host}:", count=1)
            desk.ledger.forwards.retry(lease, due_at=desk.clock() - SECOND, status=status, reason=reason)
        desk.write("UPDATE forwards SET due_at = ? WHERE id = ?", desk.clock() + SECOND, lease.row_id)
    created_through_the_gateway(desk, "hangs-under-way2")
    desk.write(
        "UPDATE tasks SET client_callback_url = 'http://hangs-under-way/' WHERE task_id = 'hangs-under-way2'"
    )
    desk.bring(State.FAILED, "hangs-under-way2")
    claim(desk, "http://hangs-under-way:", count=1)  # due last, for its process is dead

    found = desk.ledger.forwards.due_consumers()
    assert set(found.names) == {OPERATOR, *(f"http://{host}:" for host in tries)}
    assert found.unanswered == {"http://hangs:", "http://hangs-under-way:"}
    desk.clock.advance(HOUR)
    assert desk.ledger.forwards.due_consumers().unanswered == frozenset()


@pytest.mark.sqlite_only("how SQLite goes about it")
def test_the_consumers_of_a_round_are_found_along_one_index(desk: Desk) -> None:
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        desk.ledger.forwards.due_consumers()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    [(statement, parameters)] = [each for each in statements if each[0].startswith("WITH")]
    plan = [str(row["detail"]) for row in desk.rows(f"EXPLAIN QUERY PLAN {statement}", *parameters)]

    of_forwards = [detail for detail in plan if "forwards" in detail]
    assert of_forwards
    for detail in of_forwards:
        assert re.search(r"^SEARCH forwards USING (COVERING )?INDEX forwards_due\b", detail), detail
    assert "USE TEMP B-TREE FOR LAST TERM OF ORDER BY" not in plan


def test_a_claim_takes_only_forwards_of_its_accounts(desk: Desk) -> None:
    desk.bring(State.FAILED)

    assert desk.ledger.forwards.claim(OPERATOR, accounts=["another"], count=5) == []


def test_the_content_of_a_forward_has_every_file_and_amendment(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    content = desk.ledger.forwards.content(claim_one(desk))

    assert content.document is not None
    assert '"task_status":"succeeded"' in content.document
    assert (content.task_id, content.manifest_key) == ("t", "f/manifest.json")
    (file,) = content.assets
    assert file.stored is not None
    assert (file.asset.stem, file.stored.key) == ("0", stored().key)


def test_a_delivered_forward_keeps_only_what_the_bucket_has_not_and_a_dead_one_is_a_problem_until_it_is_sent_again(
    desk: Desk,
) -> None:
    desk.bring(State.FAILED, "f")
    desk.bring(State.ARCHIVED, "a")
    first, second = claim(desk)
    desk.ledger.forwards.delivered(first, status=204)
    desk.ledger.forwards.dead(second, status=500, reason="http_500", is_problem=True)

    (delivered,) = desk.rows("SELECT document, last_status FROM forwards WHERE state = 'delivered'")
    assert delivered["last_status"] == 204
    assert '"task_id":"f"' in delivered["document"]
    (dead,) = desk.ledger.views.status().dead_forwards
    assert (dead.account, dead.count, dead.task_ids) == (ACCOUNT, 1, ("a",))
    assert desk.ledger.forward_orders.retry(["a", "nobody"], account=ACCOUNT) == {"a": 1}
    assert desk.ledger.views.status().dead_forwards == ()
    again = claim_one(desk)
    assert again.attempt == 1
    desk.ledger.forwards.delivered(again, status=200)
    assert desk.rows("SELECT document FROM forwards WHERE event = 'archived'") == [{"document": None}]


def test_dead_forwards_are_sent_again_by_their_ids_or_all_together(desk: Desk) -> None:
    for place in range(3):
        desk.bring(State.FAILED, f"t{place}")
    for lease in claim(desk):
        desk.ledger.forwards.dead(lease, status=None, reason="timeout", is_problem=True)
    by_webhook = desk.rows("SELECT webhook_id FROM forwards ORDER BY id")[0]["webhook_id"]

    orders = desk.ledger.forward_orders
    assert orders.retry([by_webhook], account=ACCOUNT) == {by_webhook: 1}
    assert orders.retry([by_webhook], account="another") == {}
    assert (orders.retry_dead(account=ACCOUNT), orders.retry_dead(account=ACCOUNT)) == (2, 0)
    assert [view.state for view in orders.list(account=ACCOUNT)] == [ForwardState.WAITING] * 3
    assert orders.list(account=ACCOUNT, state=ForwardState.DEAD) == []


def test_forwards_to_send_again_are_looked_for_while_others_write(desk: Desk) -> None:
    orders = desk.ledger.forward_orders
    desk.bring(State.FAILED, "t")

    with desk.ledger.database.write():
        assert orders.retry(["fwd_0", "nobody"], account=ACCOUNT) == {}
        assert orders.retry(["t"], account="another") == {}
        assert orders.retry_dead(account=ACCOUNT) == 0
        assert orders.send(State.ARCHIVED, account=ACCOUNT, since=0, until=desk.clock(), after=(0, 0)).is_done


@pytest.mark.sqlite_only("how SQLite goes about it")
def test_forwards_to_send_again_are_found_along_indexes(desk: Desk) -> None:
    desk.bring(State.FAILED, "t")
    desk.ledger.forwards.dead(claim_one(desk), status=500, reason="http_500", is_problem=True)
    (forward,) = desk.ledger.forward_orders.list(account=ACCOUNT)
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        desk.ledger.forward_orders.retry([forward.webhook_id], account=ACCOUNT, task_id="t")
        desk.ledger.forward_orders.retry_dead(account=ACCOUNT)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    plans = [
        " ; ".join(str(row["detail"]) for row in desk.rows(f"EXPLAIN QUERY PLAN {statement}", *parameters))
        for statement, parameters in statements
        if statement.startswith(("SELECT forwards", "UPDATE forwards"))
    ]

    assert re.fullmatch(r"SEARCH forwards USING INDEX \S+ \(task=\?\)", plans[0])
    assert plans[-1] == "SCAN forwards USING INDEX forwards_dead"
    assert all("PRIMARY KEY" in plan for plan in plans[1:-1])


def test_tasks_that_ended_before_the_application_was_named_are_sent_on_request(desk: Desk) -> None:
    desk.ledger.forwards.set_operator(is_told=False)
    for place in range(3):
        desk.bring(State.ARCHIVED, f"t{place}")
        desk.clock.advance(HOUR)
    desk.ledger.forwards.set_operator(is_told=True)
    desk.bring(State.ARCHIVED, "told")
    desk.ledger.forwards.delivered(claim_one(desk), status=200)

    def send(after: tuple[int, int]) -> SendProgress:
        orders, until = desk.ledger.forward_orders, desk.clock()
        return orders.send(State.ARCHIVED, account=ACCOUNT, since=START + HOUR, until=until, after=after)

    done = send((0, 0))

    assert (done.looked_at, done.queued, done.is_done) == (3, 3, True)
    again = send(done.after)
    assert (again.looked_at, again.is_done) == (0, True)
    assert {view.task_id for view in desk.ledger.forward_orders.list(account=ACCOUNT)} == {"t1", "t2", "told"}
    assert all(desk.ledger.forwards.content(lease).document is None for lease in claim(desk))


def test_old_forwards_are_dropped_and_hopeless_ones_are_given_up(desk: Desk) -> None:
    for place in range(4):
        desk.bring(State.FAILED, f"t{place}")
    delivered, dead, *_ = claim(desk, count=2)
    desk.ledger.forwards.delivered(delivered, status=200)
    desk.ledger.forwards.dead(dead, status=None, reason="timeout", is_problem=True)
    upkeep = desk.ledger.forward_upkeep
    assert (upkeep.prune(), upkeep.expire()) == (0, 0)
    desk.clock.advance(14 * DAY + 1)

    assert (upkeep.prune(), upkeep.expire()) == (0, 2)
    assert counts(desk) == {"waiting": 0, "delivered": 1, "dead": 3}
    desk.clock.advance(17 * DAY)
    assert upkeep.prune() == 1
    desk.clock.advance(90 * DAY)
    assert upkeep.prune() == 3
    assert counts(desk) == {"waiting": 0, "delivered": 0, "dead": 0}


def test_waiting_forwards_are_dropped_when_the_operator_wants_none(desk: Desk) -> None:
    desk.bring(State.FAILED)
    desk.ledger.forwards.set_operator(is_told=False)
    desk.clock.advance(7 * DAY + 1)

    assert desk.ledger.forward_upkeep.expire() == 1
    assert queued(desk) == []


def test_counts_of_forwards_are_folded(desk: Desk) -> None:
    desk.bring(State.FAILED)
    for _ in range(110):
        lease = claim_one(desk)
        desk.ledger.forwards.dead(lease, status=None, reason="timeout", is_problem=True)
        desk.ledger.forward_orders.retry(["t"], account=ACCOUNT)

    assert desk.ledger.forward_upkeep.fold_counts() == 440  # of 441 rows
    assert desk.ledger.forward_upkeep.fold_counts() == 0
    assert counts(desk) == {"waiting": 1, "delivered": 0, "dead": 0}
