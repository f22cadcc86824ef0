"""What an operator has forgotten: gone with all that hung on it, and brought back by nothing."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from archiver.failures import LeaseLost, TaskForgotten
from archiver.ledger import DoubtedObject, Forgotten, RecordOutcome
from archiver.ledger.gateway_creates.registering import CreatedTask, GatewayCreate
from archiver.ledger.tables import schema
from archiver.model import Callback, CallbackOutcome, DiscoveredBy, Stage, State, Status
from tests.harness.ledgers import ACCOUNT, FAMILY, HOUR, MINUTE, RAND, Desk, Place, answer, asset

SECRET = "a red fox in the snow"


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    with contextlib.closing(Desk(place)) as desk:
        yield desk


def forget(desk: Desk, task_id: str = "t") -> Forgotten:
    forgotten = desk.ledger.tombstones.forget(task_id, account=ACCOUNT)
    assert forgotten is not None
    return forgotten


def tables_with_rows(desk: Desk) -> set[str]:
    """Of those that could hold something of a task."""
    of_tasks = [table for table in schema.metadata.sorted_tables if "task" in table.columns]
    with desk.ledger.database.read() as connection:
        return {
            table.name
            for table in (*of_tasks, schema.tasks, schema.gateway_creates)
            if connection.execute(sa.select(table).limit(1)).first() is not None
        }


def create(task_id: str = "t") -> CreatedTask:
    made = GatewayCreate("r", ACCOUNT, FAMILY, "order-1", "https://app.example.com/cb", {"prompt": SECRET})
    return CreatedTask(made, task_id)


@pytest.mark.parametrize("state", State)
def test_a_task_of_any_state_is_gone_with_all_that_hung_on_it_and_its_identity_stays(
    desk: Desk, state: State
) -> None:
    desk.ledger.forwards.set_operator(is_told=True)
    desk.ledger.registrations.register("t", account=ACCOUNT, family=FAMILY, request={"prompt": SECRET})
    desk.bring(state)

    forgotten = forget(desk)

    assert (forgotten.state, forgotten.tombstone.task_id) == (state, "t")
    assert tables_with_rows(desk) == set()
    assert desk.counts() == {}
    assert desk.rows("SELECT state FROM forward_counts GROUP BY state HAVING sum(forwards) <> 0") == []
    assert desk.ledger.views.show("t", account=ACCOUNT) is None
    assert desk.ledger.views.forgotten("t", account=ACCOUNT) == forgotten.tombstone


def test_the_keys_of_its_objects_are_told_once_and_forgetting_again_changes_nothing(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)

    first, again = forget(desk), forget(desk)

    assert [key.rpartition("/")[2] for key in first.keys] == ["0.png", "manifest.json"]
    assert (again.tombstone, again.state, again.keys) == (first.tombstone, None, ())
    assert desk.ledger.tombstones.forget("another", account=ACCOUNT) is None
    assert desk.ledger.tombstones.forget("t", account="another") is None


def callback(desk: Desk) -> object:
    return desk.tell("t")


def registration(desk: Desk) -> object:
    with pytest.raises(TaskForgotten):
        desk.ledger.registrations.register("t", account=ACCOUNT, family=FAMILY)
    return None


def enrolment(desk: Desk) -> object:
    return desk.ledger.registrations.enrol({"t": ["images"]}, account=ACCOUNT)


def gateway_create(desk: Desk) -> object:
    return desk.ledger.gateway_creates.commit(created=[create()])


def of_answer(by: DiscoveredBy) -> Callable[[Desk], object]:
    return lambda desk: desk.say(answer(), by=by).outcome


COMES_AGAIN: dict[str, tuple[Callable[[Desk], object], object]] = {
    "a callback": (callback, CallbackOutcome.DUPLICATE),
    "a registration": (registration, None),
    "an id that a collection shows": (enrolment, 0),
    "a create of the gateway": (gateway_create, [False]),
    "a row of the sweep": (of_answer(DiscoveredBy.SWEEP), RecordOutcome.FORGOTTEN),
    "an answer to a query": (of_answer(DiscoveredBy.REGISTRATION), RecordOutcome.FORGOTTEN),
}


@pytest.mark.parametrize("name", COMES_AGAIN)
def test_nothing_that_names_a_forgotten_task_brings_it_back(desk: Desk, name: str) -> None:
    comes, outcome = COMES_AGAIN[name]
    desk.ledger.forwards.set_operator(is_told=True)
    desk.bring(State.ARCHIVED)
    forget(desk)

    assert comes(desk) == outcome

    desk.clock.advance(HOUR)
    assert desk.claim_all(Stage.VERIFY) + desk.claim_all(Stage.ARCHIVE) == []
    assert tables_with_rows(desk) == set()


def test_of_a_batch_of_callbacks_only_the_forgotten_ids_are_left_out(desk: Desk) -> None:
    desk.bring(State.FAILED)
    forget(desk)
    desk.tell("known")

    outcomes = desk.ledger.callbacks.record(
        [
            Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY)
            for task_id in ("new", "t", "known", "newer", "t")
        ]
    )

    accepted, duplicate = CallbackOutcome.ACCEPTED, CallbackOutcome.DUPLICATE
    assert outcomes == [accepted, duplicate, duplicate, accepted, duplicate]
    assert {row["task_id"] for row in desk.rows("SELECT task_id FROM tasks")} == {"new", "known", "newer"}


def test_a_page_of_the_sweep_with_a_forgotten_task_brings_the_others(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    forget(desk)

    recorded = desk.ledger.records.record(
        [answer("a"), answer("t"), answer("b", Status.RUNNING)],
        account=ACCOUNT,
        discovered_by=DiscoveredBy.SWEEP,
        rand=RAND,
    )

    assert [each.state for each in recorded] == [State.SUCCEEDED, None, State.RUNNING]
    assert {row["task_id"] for row in desk.rows("SELECT task_id FROM tasks")} == {"a", "b"}


# --- who works on it right now ---


def verified(desk: Desk) -> Callable[[], object]:
    desk.bring(State.REPORTED)
    lease = desk.claim(Stage.VERIFY)
    return lambda: desk.ledger.outcomes.not_found(lease, rand=RAND)


def archived(desk: Desk) -> Callable[[], object]:
    desk.bring(State.SUCCEEDED)
    lease = desk.claim(Stage.ARCHIVE)
    return lambda: desk.archived(lease)


def amended(desk: Desk) -> Callable[[], object]:
    desk.bring(State.ARCHIVED)
    desk.say(answer(assets=(asset(), asset("0.watermark"))))
    desk.clock.advance(MINUTE)
    work = desk.ledger.folder_work.claim(account=ACCOUNT)
    assert work is not None
    return lambda: desk.ledger.folder_work.amended(
        work.lease, keys=["f/amendment-1.json"], stored=[], due_at=desk.clock()
    )


def told(desk: Desk) -> Callable[[], object]:
    desk.ledger.forwards.set_operator(is_told=True)
    desk.bring(State.FAILED)
    (lease,) = desk.ledger.forwards.claim("", accounts=[ACCOUNT], count=1)
    return lambda: desk.ledger.forwards.delivered(lease, status=200)


@pytest.mark.parametrize("begins", [verified, archived, amended, told])
def test_a_worker_that_holds_a_lease_on_it_finds_the_lease_lost_and_writes_nothing(
    desk: Desk, begins: Callable[[Desk], Callable[[], object]]
) -> None:
    ends = begins(desk)
    forget(desk)

    with pytest.raises(LeaseLost):
        ends()
    assert tables_with_rows(desk) == set()


def test_a_lease_on_it_is_not_renewed(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    lease = desk.claim(Stage.ARCHIVE)
    forget(desk)

    assert desk.ledger.claims.renew([lease]) == set()
    assert desk.ledger.claims.assets(lease) is None


def test_what_is_missing_of_it_is_neither_doubted_nor_put_back(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    desk.clock.advance(HOUR)
    (folder,) = desk.ledger.second_looks.claim(account=ACCOUNT)
    forget(desk)

    doubted = [DoubtedObject(folder.row_id, key) for key in folder.sizes]
    desk.ledger.second_looks.finish([folder], place="bucket", doubted=doubted)

    assert tables_with_rows(desk) == set()


# --- external ids ---


def test_it_is_forgotten_by_its_external_id_and_found_by_it_after(desk: Desk) -> None:
    desk.say(answer(external_task_id="order-1"))

    forgotten = forget(desk, "order-1")

    assert forgotten.tombstone.task_id == "t"
    assert desk.ledger.views.forgotten("order-1", account=ACCOUNT) == forgotten.tombstone


def test_a_registration_by_its_external_id_ends_with_the_answer_that_names_its_id(desk: Desk) -> None:
    desk.say(answer(external_task_id="order-1"))
    forget(desk)
    desk.ledger.registrations.register("order-1", account=ACCOUNT, family=FAMILY)

    recorded = desk.say(answer(external_task_id="order-1"), asked_as="order-1")

    assert recorded.outcome is RecordOutcome.FORGOTTEN
    assert tables_with_rows(desk) == set()


def test_what_was_forgotten_under_its_external_id_alone_is_forgotten_under_its_own_too(desk: Desk) -> None:
    desk.ledger.registrations.register("order-1", account=ACCOUNT, family=FAMILY)
    forget(desk, "order-1")
    desk.tell("t")

    recorded = desk.say(answer(external_task_id="order-1"))

    assert recorded.outcome is RecordOutcome.FORGOTTEN
    assert tables_with_rows(desk) == set()


def test_a_task_that_is_created_later_under_the_same_external_id_is_another(desk: Desk) -> None:
    desk.ledger.registrations.register("order-1", account=ACCOUNT, family=FAMILY)
    forget(desk, "order-1")

    later = answer("t2", external_task_id="order-1", created_at=desk.clock() + MINUTE)

    assert desk.say(later, by=DiscoveredBy.SWEEP).outcome is RecordOutcome.NEW


def test_a_task_whose_external_id_is_the_own_id_of_a_forgotten_one_is_another(desk: Desk) -> None:
    desk.say(answer("parent"))
    child = answer("child", external_task_id="parent", created_at=desk.clock())
    desk.clock.advance(MINUTE)
    forget(desk, "parent")
    desk.tell("child")

    assert desk.say(child).state is State.SUCCEEDED
    assert desk.state("child") is State.SUCCEEDED


def test_a_task_that_does_not_say_when_it_was_created_is_hidden_by_no_external_id(desk: Desk) -> None:
    desk.ledger.registrations.register("order-1", account=ACCOUNT, family=FAMILY)
    forget(desk, "order-1")
    undated = dataclasses.replace(answer(external_task_id="order-1"), created_at=None)

    assert desk.say(undated).outcome is RecordOutcome.NEW


# --- what is erased, and what goes wrong ---


def test_neither_its_prompt_nor_its_urls_nor_its_document_are_left_anywhere(desk: Desk) -> None:
    desk.ledger.gateway_creates.commit(begun=[create().create])
    told = answer(external_task_id="order-1", assets=(asset(url=f"https://cdn.klingai.com/{SECRET}.png"),))
    document = {**told.document, "prompt": SECRET}
    desk.ledger.registrations.register("t", account=ACCOUNT, family=FAMILY, request={"prompt": SECRET})
    desk.say(dataclasses.replace(told, document=document, message=SECRET))

    forget(desk)

    with desk.ledger.database.read() as connection:
        everything = [connection.execute(sa.select(table)).all() for table in schema.metadata.sorted_tables]
    assert SECRET not in str(everything)


@pytest.mark.sqlite_only("it is a file that can be looked into")
def test_not_a_byte_of_its_prompt_is_left_in_the_file(desk: Desk) -> None:
    desk.ledger.registrations.register("t", account=ACCOUNT, family=FAMILY, request={"prompt": SECRET})
    desk.ledger.close()  # the log goes into the file
    is_there = SECRET.encode() in desk.path.read_bytes()
    desk.reopen()

    forget(desk)
    desk.ledger.close()

    assert is_there
    assert SECRET.encode() not in desk.path.read_bytes()


def test_a_row_that_was_inserted_while_it_was_forgotten_goes_with_its_first_answer(desk: Desk) -> None:
    """Two processes on PostgreSQL can do that."""
    desk.bring(State.REPORTED)
    row = desk.row()
    forget(desk)
    row["query_individually"] = row.pop("ask_singly")
    with desk.ledger.database.write() as connection:
        connection.execute(sa.insert(schema.tasks).values(row))
        kind = {"account": ACCOUNT, "state": "reported", "is_confirmed": False, "tasks": 1}
        connection.execute(sa.insert(schema.task_counts).values(kind))

    assert desk.say(answer()).outcome is RecordOutcome.FORGOTTEN
    assert tables_with_rows(desk) == set()


def test_a_forgetting_that_fails_has_changed_nothing_and_one_that_happened_is_told_as_that(
    desk: Desk,
) -> None:
    desk.bring(State.ARCHIVED)
    before = desk.shown()

    def fail(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("DELETE FROM tasks"):
            raise RuntimeError("killed")

    event.listen(sa.Engine, "before_cursor_execute", fail)
    try:
        with pytest.raises(RuntimeError):
            forget(desk)
    finally:
        event.remove(sa.Engine, "before_cursor_execute", fail)

    assert desk.shown() == before
    assert desk.ledger.views.forgotten("t", account=ACCOUNT) is None
    happened = forget(desk)
    assert forget(desk).tombstone == happened.tombstone


def test_a_renamed_account_keeps_its_tombstones(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    desk.tell("another")
    forget(desk)

    desk.ledger.accounts.rename(ACCOUNT, "renamed")

    assert desk.ledger.views.forgotten("t", account="renamed") is not None


def test_its_tombstone_is_shown_with_the_keys_of_a_task_and_the_identity_alone(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    keys = desk.shown().keys()

    shown: dict[str, Any] = forget(desk).tombstone.as_json()

    assert shown.keys() - keys == {"forgotten_at"}
    assert keys - shown.keys() == set()
    assert (shown["task_id"], shown["state"], shown["assets"]) == ("t", "forgotten", [])
    assert [line["event"] for line in shown["history"]] == ["task.forgotten"]


def test_a_file_of_it_is_neither_known_nor_unknown(desk: Desk) -> None:
    desk.bring(State.ARCHIVED)
    forget(desk)

    with pytest.raises(TaskForgotten):
        desk.ledger.files.find(account=ACCOUNT, task_id="t", stem="0")
    assert desk.ledger.files.find(account=ACCOUNT, task_id="u", stem="0") is None
