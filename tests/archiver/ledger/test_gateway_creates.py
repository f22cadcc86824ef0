"""Creates of the gateway's clients: known before they are sent, and joined with their tasks whatever dies when."""

from typing import Any

import pytest

from archiver.ledger.gateway_creates import matching
from archiver.ledger.gateway_creates.by_time import AFTER_MS, CLOCKS_MS, MADE_AFTER_MS
from archiver.ledger.gateway_creates.creates import REFERENCE_DAYS_MAX, GivenUp
from archiver.ledger.gateway_creates.joining import JoinedBy
from archiver.ledger.gateway_creates.registering import CreatedTask, GatewayCreate
from archiver.model import Callback, DiscoveredBy, Status
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, MINUTE, SECOND, START, Desk, Place, answer

URL = "https://app.example.com/cb?job=1"


def create(reference: str = "r-1", url: str | None = URL, **fields: Any) -> GatewayCreate:
    known: dict[str, Any] = {"external_task_id": None, "request": {"prompt": "a fox"}} | fields
    return GatewayCreate(reference, ACCOUNT, FAMILY, client_callback_url=url, **known)


def call_back(desk: Desk, task_id: str, reference: str, *, account: str = ACCOUNT) -> None:
    callback = Callback(account, task_id, Status.RUNNING, FAMILY, create_reference=reference)
    desk.ledger.callbacks.record([callback])


def references(desk: Desk) -> list[str]:
    rows = desk.rows("SELECT reference FROM gateway_creates WHERE state = 'open' ORDER BY reference")
    return [row["reference"] for row in rows]


def told(desk: Desk, task_id: str = "t") -> tuple[str | None, str | None]:
    row = desk.row(task_id)
    return row["client_callback_url"], row["request"]


def test_a_created_task_is_registered_and_its_reference_let_go(desk: Desk) -> None:
    creates = desk.ledger.gateway_creates
    creates.commit(begun=[create(external_task_id="e-1")])
    assert references(desk) == ["r-1"]

    assert creates.commit(created=[CreatedTask(create(external_task_id="e-1"), "t")]) == [True]
    assert creates.commit(created=[CreatedTask(create(external_task_id="e-1"), "t")]) == [False]

    row = desk.row()
    assert (row["state"], row["discovered_by"], row["due_at"]) == ("reported", "registration", START)
    assert (row["family_hint"], row["external_task_id"]) == (FAMILY, "e-1")
    assert told(desk) == (URL, '{"prompt": "a fox"}')
    assert references(desk) == []
    assert [line["event"] for line in desk.shown()["history"]] == ["task.registered"]


def test_a_task_that_was_there_before_its_registration_takes_only_what_it_lacks(desk: Desk) -> None:
    desk.say(answer(status=Status.SUCCEEDED))
    desk.ledger.gateway_creates.commit(begun=[create()])

    assert desk.ledger.gateway_creates.commit(created=[CreatedTask(create(), "t")]) == [False]

    assert desk.row()["state"] == "succeeded"
    assert told(desk) == (URL, '{"prompt": "a fox"}')
    desk.ledger.gateway_creates.commit(
        created=[CreatedTask(create("r-2", "https://other.example.com/", request={}), "t")]
    )
    assert told(desk) == (URL, '{"prompt": "a fox"}')


def test_many_creates_are_one_transaction(desk: Desk) -> None:
    creates = [create(f"r-{number}", external_task_id=f"e-{number}") for number in range(5)]
    desk.say(answer("t-1"))
    desk.ledger.gateway_creates.commit(begun=creates[:4])

    created = [CreatedTask(creates[number], f"t-{number}") for number in (3, 1, 0)]
    again = CreatedTask(creates[0], "t-0")
    are_new = desk.ledger.gateway_creates.commit(
        begun=creates[4:], created=[*created, again], refused=["r-2"]
    )

    assert are_new == [True, False, True, False]
    assert references(desk) == ["r-4"]
    assert {told(desk, task.task_id)[0] for task in created} == {URL}


def test_a_create_that_kling_refused_leaves_nothing(desk: Desk) -> None:
    desk.ledger.gateway_creates.commit(begun=[create()])
    desk.ledger.gateway_creates.commit(refused=["r-1"])

    assert references(desk) == []
    assert desk.rows("SELECT * FROM tasks") == []


@pytest.mark.parametrize("known_before", [False, True])
def test_a_callback_that_names_the_reference_of_a_lost_answer_brings_its_client(
    desk: Desk, known_before: bool
) -> None:
    desk.ledger.gateway_creates.commit(begun=[create()])
    if known_before:
        desk.say(answer(status=Status.SUCCEEDED), by=DiscoveredBy.SWEEP)
    call_back(desk, "t", "r-1")
    call_back(desk, "t", "r-1")

    assert told(desk) == (URL, '{"prompt": "a fox"}')
    assert references(desk) == []
    assert "task.joined" in [line["event"] for line in desk.shown()["history"]]
    assert desk.row()["callbacks"] == 2


@pytest.mark.parametrize("way", ["answer", "callback", "external_id"])
def test_a_client_that_is_found_after_its_task_has_ended_still_gets_its_forward(desk: Desk, way: str) -> None:
    desk.ledger.gateway_creates.commit(begun=[create(external_task_id="e-1")])
    desk.say(answer(status=Status.FAILED, external_task_id="e-1"), by=DiscoveredBy.SWEEP)
    assert desk.rows("SELECT * FROM forwards") == []
    if way == "answer":
        desk.ledger.gateway_creates.commit(created=[CreatedTask(create(), "t")])
    elif way == "callback":
        call_back(desk, "t", "r-1")
    else:
        desk.clock.advance(AFTER_MS)
        desk.ledger.gateway_creates.match()

    (forward,) = desk.rows("SELECT target, event, state FROM forwards")
    assert forward == {"target": "client", "event": "failed", "state": "waiting"}


def test_an_unknown_reference_or_one_of_another_account_has_no_effect(desk: Desk) -> None:
    desk.ledger.gateway_creates.commit(begun=[create()])
    call_back(desk, "t", "r-1", account="another")
    call_back(desk, "u", "r-2")

    assert told(desk, "t") == told(desk, "u") == (None, None)
    assert references(desk) == ["r-1"]


@pytest.mark.parametrize("late", [False, True])
def test_a_reference_whose_commit_came_too_late_causes_no_forward(desk: Desk, late: bool) -> None:
    """The body went with the client's own URL, so Kling tells the client."""
    creates = desk.ledger.gateway_creates
    if late:
        creates.abandon(create())
    creates.commit(begun=[create()])
    creates.abandon(create())

    call_back(desk, "t", "r-1")

    assert told(desk) == (None, None)


def test_an_external_id_joins_what_the_sweep_has_found_once_no_answer_can_come(desk: Desk) -> None:
    desk.ledger.gateway_creates.commit(begun=[create(external_task_id="e-1")])
    desk.say(answer(external_task_id="e-1"), by=DiscoveredBy.SWEEP)
    assert desk.ledger.gateway_creates.match() == []
    desk.clock.advance(AFTER_MS)

    (joined,) = desk.ledger.gateway_creates.match()

    assert (joined.task_id, joined.by) == ("t", JoinedBy.EXTERNAL_ID)
    assert told(desk)[0] == URL
    assert desk.ledger.gateway_creates.match() == []


@pytest.mark.parametrize("is_newest", [False, True])
def test_creates_with_external_ids_that_have_made_nothing_do_not_keep_another_from_its_turn(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, is_newest: bool
) -> None:
    monkeypatch.setattr(matching, "CREATES_MAX", 2)
    creates, made_at = desk.ledger.gateway_creates, START
    barren = [create(f"barren-{number}", external_task_id=f"none-{number}") for number in range(3)]
    mine = [create(external_task_id="e-1")]
    for begun in (barren, mine) if is_newest else (mine, barren):
        made_at = desk.clock() if begun is mine else made_at
        creates.commit(begun=begun)
        desk.clock.advance(SECOND)
    desk.say(answer(external_task_id="e-1", created_at=made_at), by=DiscoveredBy.SWEEP)
    desk.clock.advance(AFTER_MS)

    joined = [task.task_id for _ in range(4) for task in creates.match()]

    assert joined == ["t"]


def test_a_rival_for_an_external_id_counts_also_if_another_round_looks_at_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "CREATES_MAX", 1)
    rival = create("r-2", url="https://other.example.com/", external_task_id="e-1")
    desk.ledger.gateway_creates.commit(begun=[create("r-1", external_task_id="e-1"), rival])
    desk.say(answer(external_task_id="e-1", created_at=desk.clock()), by=DiscoveredBy.SWEEP)
    desk.clock.advance(AFTER_MS)

    assert [desk.ledger.gateway_creates.match() for _ in range(3)] == [[], [], []]


def test_a_create_that_names_the_external_id_of_another_task_does_not_join_it(desk: Desk) -> None:
    """Kling refuses such creates, and the answer that says so may be lost."""
    creates = desk.ledger.gateway_creates
    desk.say(answer("old", external_task_id="e-old", created_at=START - CLOCKS_MS - 1), by=DiscoveredBy.SWEEP)
    creates.commit(created=[CreatedTask(create(url=None, request=None, external_task_id="e-own"), "own")])
    desk.say(answer("own", external_task_id="e-own"))
    creates.commit(
        begun=[create(f"r-{name}", external_task_id=name) for name in ("e-old", "e-own", "e-late")]
    )
    late = START + MADE_AFTER_MS + 1
    desk.clock.advance(2 * MADE_AFTER_MS)
    desk.say(answer("late", external_task_id="e-late", created_at=late), by=DiscoveredBy.SWEEP)

    assert creates.match() == []
    assert told(desk, "old") == told(desk, "own") == told(desk, "late") == (None, None)


@pytest.mark.parametrize("seen_first", [False, True])
def test_a_created_task_is_never_taken_for_another_that_has_its_id_as_external_id(
    desk: Desk, seen_first: bool
) -> None:
    if seen_first:
        desk.tell("alice")
    desk.ledger.gateway_creates.commit(created=[CreatedTask(create(), "alice")])

    desk.say(answer("mallory", external_task_id="alice"), by=DiscoveredBy.SWEEP)
    desk.say(answer("mallory", external_task_id="alice"), asked_as="alice")

    assert told(desk, "alice") == (URL, '{"prompt": "a fox"}')
    assert told(desk, "mallory") == (None, None)


def test_a_client_that_polls_by_its_external_id_after_a_lost_answer_gets_its_forward(desk: Desk) -> None:
    desk.ledger.gateway_creates.commit(begun=[create(external_task_id="e-1")])
    desk.say(answer(external_task_id="e-1"), by=DiscoveredBy.REGISTRATION, asked_as="e-1")
    desk.clock.advance(AFTER_MS)

    assert [joined.task_id for joined in desk.ledger.gateway_creates.match()] == ["t"]
    assert told(desk)[0] == URL


def test_of_creates_with_one_external_id_the_task_gets_what_they_agree_on(desk: Desk) -> None:
    creates = desk.ledger.gateway_creates
    alike = [create(f"alike-{number}", external_task_id="e-1") for number in range(2)]
    creates.commit(begun=[*alike, create("one", external_task_id="e-2")])
    creates.commit(begun=[create("two", "https://two.example.com/", external_task_id="e-2")])
    desk.say(answer("t-1", external_task_id="e-1"), by=DiscoveredBy.SWEEP)
    desk.say(answer("t-2", external_task_id="e-2"), by=DiscoveredBy.SWEEP)
    desk.clock.advance(AFTER_MS)

    assert [joined.task_id for joined in creates.match()] == ["t-1"]

    assert told(desk, "t-1")[0] == URL
    assert told(desk, "t-2") == (None, None)
    desk.clock.advance(REFERENCE_DAYS_MAX * DAY + 1)
    assert creates.prune() == [GivenUp(ACCOUNT, FAMILY, 3)]


def test_old_references_are_dropped_and_those_whose_clients_are_not_told_are_counted(desk: Desk) -> None:
    creates = desk.ledger.gateway_creates
    creates.commit(begun=[create("r-1")])
    creates.commit(begun=[create("r-2", None)])
    creates.abandon(create("r-3"))
    assert creates.prune() == []
    desk.clock.advance(REFERENCE_DAYS_MAX * DAY + 1)
    creates.commit(begun=[create("r-4")])

    assert creates.prune() == [GivenUp(ACCOUNT, FAMILY, 1)]
    assert [row["reference"] for row in desk.rows("SELECT reference FROM gateway_creates")] == ["r-4"]


def test_a_flood_of_forged_ids_does_not_drop_a_created_task(place: Place) -> None:
    desk = Desk(place, unconfirmed_max=5)
    desk.ledger.gateway_creates.commit(created=[CreatedTask(create(), "t")])
    desk.clock.advance(MINUTE)
    for number in range(30):
        desk.clock.advance(1)
        desk.tell(f"forged-{number}")

    assert told(desk)[0] == URL
    desk.close()


def test_a_path_that_takes_no_callback_url_is_remembered_for_a_day_by_account(desk: Desk) -> None:
    creates = desk.ledger.gateway_creates
    assert creates.refused_callbacks() == {}
    creates.note_callback_refused(ACCOUNT, "/v1/images/generations")
    desk.clock.advance(DAY - 1)
    creates.note_callback_refused("eu", "/v1/images/generations")
    desk.reopen()

    assert desk.ledger.gateway_creates.refused_callbacks() == {
        (ACCOUNT, "/v1/images/generations"): 1,
        ("eu", "/v1/images/generations"): DAY,
    }
    desk.clock.advance(1)
    assert desk.ledger.gateway_creates.refused_callbacks().keys() == {("eu", "/v1/images/generations")}
