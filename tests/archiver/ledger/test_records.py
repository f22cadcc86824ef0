"""How callbacks, registrations and answers become rows: counted, united, never two rows for one task."""

import itertools
import json
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from archiver.failures import ApiAnswerUnreadable, ApiRequestInvalid, NeverMedia
from archiver.kling import responses
from archiver.kling.results import read_task
from archiver.ledger import RecordOutcome
from archiver.model import Callback, CallbackOutcome, DiscoveredBy, Stage, State, Status, Task, api_time
from tests.harness.ledgers import (
    ACCOUNT,
    DAY,
    FAMILY,
    MINUTE,
    RAND,
    SECOND,
    START,
    Desk,
    answer,
    asset,
    stored,
)

ACCEPTED, DUPLICATE = CallbackOutcome.ACCEPTED, CallbackOutcome.DUPLICATE


# --- callbacks ------------------------------------------------------------------------------------------------


def test_a_callback_is_due_at_once_and_nothing_of_it_is_believed(desk: Desk) -> None:
    assert desk.tell(status=Status.SUCCEEDED) is ACCEPTED

    row = desk.row()
    assert (row["state"], row["queue"], row["due_at"]) == ("reported", "inquire", START)
    assert (row["family"], row["family_hint"], row["created_at"], row["document"]) == (
        None,
        FAMILY,
        None,
        None,
    )


def test_a_callback_that_tells_nothing_new_is_a_duplicate(desk: Desk) -> None:
    told = [desk.tell(status=status) for status in (Status.RUNNING, Status.RUNNING, Status.SUCCEEDED)]
    told += [desk.tell(status=Status.SUCCEEDED), desk.tell(status=None), desk.tell("other")]

    assert told == [ACCEPTED, DUPLICATE, ACCEPTED, DUPLICATE, ACCEPTED, ACCEPTED]
    assert desk.row()["callbacks"] == 5


@pytest.mark.parametrize("past", [State.ARCHIVED, State.FAILED])
def test_a_callback_that_comes_a_year_later_is_a_duplicate_and_not_a_new_task(
    desk: Desk, past: State
) -> None:
    desk.bring(past)
    desk.clock.advance(365 * DAY)
    desk.ledger.deadlines.expire()
    desk.ledger.deadlines.prune()

    assert desk.tell() is DUPLICATE
    assert desk.state() is past


def test_callbacks_of_one_batch_about_one_task_see_each_other(desk: Desk) -> None:
    desk.tell("known", status=None)
    statuses = [Status.RUNNING, Status.SUCCEEDED, Status.RUNNING, Status.SUCCEEDED]
    batch = [
        Callback(ACCOUNT, task_id, status, FAMILY) for status in statuses for task_id in ("known", "new")
    ]

    receptions = desk.ledger.callbacks.record(batch)

    for task_id, told in (("known", receptions[::2]), ("new", receptions[1::2])):
        assert told == [ACCEPTED, ACCEPTED, ACCEPTED, DUPLICATE]
        assert desk.row(task_id)["callback_status"] == "succeeded"
    assert [desk.row(task_id)["callbacks"] for task_id in ("known", "new")] == [5, 4]


def test_a_late_processing_callback_does_not_hide_that_the_end_was_told(desk: Desk) -> None:
    desk.tell(status=Status.SUCCEEDED)

    desk.tell(status=Status.RUNNING)

    assert desk.row()["callback_status"] == "succeeded"


def test_a_later_callback_brings_the_hints_that_the_first_one_lacked(desk: Desk) -> None:
    desk.tell(status=Status.RUNNING, family=None)
    desk.ledger.callbacks.record([Callback(ACCOUNT, "t", Status.SUCCEEDED, FAMILY, None, ("images",))])
    desk.tell(family="images/editing/expand")

    lease = desk.claim(Stage.VERIFY)
    assert (lease.family_hint, lease.result_arrays) == (FAMILY, ("images",))


def test_the_same_id_in_two_accounts_is_two_tasks(desk: Desk) -> None:
    told = desk.ledger.callbacks.record(
        [Callback(account, "t", Status.SUCCEEDED, FAMILY) for account in ("one", "two")]
    )

    assert told == [ACCEPTED, ACCEPTED]
    assert len(desk.rows("SELECT * FROM tasks")) == 2


def test_500_callbacks_are_one_transaction(desk: Desk) -> None:
    batch = [Callback(ACCOUNT, f"t{number}", Status.SUCCEEDED, FAMILY) for number in range(500)]

    assert desk.ledger.callbacks.record(batch) == [ACCEPTED] * 500
    assert desk.ledger.callbacks.record(batch) == [DUPLICATE] * 500
    assert desk.ledger.callbacks.record([]) == []


# --- answers --------------------------------------------------------------------------------------------------


def test_a_family_is_settled_by_the_first_answer_and_a_later_contradiction_is_reported(desk: Desk) -> None:
    desk.tell(family="images/editing/expand")
    assert desk.say(answer(status=Status.RUNNING)).family_contradicted is None

    said = desk.say(answer(family="images/omni-image"))

    assert (said.family_contradicted, desk.row()["family"]) == ("images/omni-image", FAMILY)


def test_created_at_is_fixed_by_the_first_answer(desk: Desk) -> None:
    desk.say(answer(status=Status.RUNNING))

    desk.say(answer(created_at=START - 5 * DAY))

    assert desk.row()["created_at"] == START
    assert desk.row()["deadline_at"] == START + 30 * DAY


YEAR_2099 = 4_080_000_000_000


@pytest.mark.parametrize(
    ("created_at", "updated_at", "fixed", "source"),
    [
        (START - DAY, START, START - DAY, "api"),
        (None, START - DAY, START - DAY, "updated_at"),
        (None, None, START, "first_seen"),
        (api_time((START - DAY) // 1000), None, START - DAY, "api"),
        (api_time(int("9" * 400)), None, START, "first_seen"),
        (api_time(-1), START - DAY, START - DAY, "updated_at"),
        (YEAR_2099, START - DAY, START - DAY, "updated_at"),
        (YEAR_2099, None, START, "first_seen"),
        (None, YEAR_2099, START, "first_seen"),
        # Both agree: it is this machine's clock that is wrong.
        (YEAR_2099, YEAR_2099 + SECOND, YEAR_2099, "api"),
    ],
)
@pytest.mark.parametrize("named_before", [True, False])
def test_a_created_at_that_is_missing_or_absurd_is_replaced_and_marked(
    desk: Desk, created_at: int | None, updated_at: int | None, fixed: int, source: str, *, named_before: bool
) -> None:
    if named_before:
        desk.tell()
        desk.clock.advance(MINUTE)

    desk.say(answer(created_at=created_at, updated_at=updated_at))

    row = desk.row()
    assert (row["created_at"], row["created_at_from"], row["deadline_at"]) == (
        fixed,
        source,
        fixed + 30 * DAY,
    )


def test_assets_of_all_answers_are_united_and_none_ever_goes(desk: Desk) -> None:
    desk.say(answer(assets=(asset("0", "https://a/0?1"), asset("0.watermark", "https://a/w?1"))))
    full = desk.row()["document"]

    desk.say(answer(assets=(asset("0", "https://a/0?2"),)), by=DiscoveredBy.SWEEP)
    assert desk.row()["document"] == full
    desk.say(answer(assets=(asset("1", "https://a/1?3"), asset("0.watermark"), asset("0", "https://a/0?3"))))

    lease = desk.claim(Stage.ARCHIVE)
    assert [(leased.asset.stem, leased.asset.url) for leased in lease.assets] == [
        ("0", "https://a/0?3"),
        ("0.watermark", "https://cdn.klingai.com/0.watermark.png"),
        ("1", "https://a/1?3"),
    ]
    assert len(lease.document["urls"]) == 3  # type: ignore[arg-type]  # our own document: see `answer`


def test_what_is_stored_of_an_asset_stays_when_its_url_changes(desk: Desk) -> None:
    desk.bring(State.BURIED)
    desk.clock.advance(DAY)
    desk.say(answer())
    lease = desk.claim(Stage.ARCHIVE)
    desk.ledger.outcomes.give_back(lease)
    desk.archived(desk.claim(Stage.ARCHIVE))
    assert desk.shown()["assets"][0]["stored"]

    desk.say(answer(assets=(asset(url="https://a/fresh"),)), by=DiscoveredBy.SWEEP)

    assert desk.rows("SELECT name, sha256, url FROM assets") == [
        {"name": "0.png", "sha256": stored().sha256, "url": ""}
    ]


def test_a_row_that_a_shifting_page_shows_twice_counts_once(desk: Desk) -> None:
    recorded = desk.ledger.records.record(
        [answer(), answer(status=Status.FAILED)], account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=RAND
    )

    assert [task.outcome for task in recorded] == [RecordOutcome.NEW]
    assert desk.state() is State.SUCCEEDED


def test_a_sweep_passes_by_what_it_first_sees_after_its_deadline(desk: Desk) -> None:
    said = desk.say(answer(created_at=START - 30 * DAY), by=DiscoveredBy.SWEEP)

    assert (said.outcome, said.state) == (RecordOutcome.PASSED_BY, None)
    assert desk.rows("SELECT * FROM tasks") == []


def test_what_a_sweep_shows_of_a_task_that_a_callback_named_is_taken_after_its_deadline_too(
    desk: Desk,
) -> None:
    desk.tell()

    desk.say(answer(created_at=START - 40 * DAY), by=DiscoveredBy.SWEEP)

    assert desk.claim(Stage.ARCHIVE).task_id == "t"


def test_an_answer_says_since_when_the_task_was_waiting_for_it(desk: Desk) -> None:
    assert desk.say(answer("new")).waited_since is None
    desk.tell("reported")
    assert desk.say(answer("reported")).waited_since == START
    assert desk.say(answer("reported")).waited_since is None
    desk.bring(State.RUNNING, "running")
    assert desk.say(answer("running", Status.RUNNING)).waited_since is None
    desk.clock.advance(MINUTE)
    assert desk.say(answer("running", Status.RUNNING)).waited_since == START + 7500


fresh_ids = itertools.count()

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.just("https://cdn.klingai.com/\x00\ud800.png")
    | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["images", "url", "index", "watermark_url", "task_info", "external_task_id"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(
    fields=st.dictionaries(
        st.sampled_from(
            ["created_at", "updated_at", "task_status_msg", "task_info", "task_result", "outputs", "extra"]
        ),
        anything,
    ),
    status=st.sampled_from(["succeed", "failed", "processing"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_an_answer_holds_it_is_refused_before_the_ledger_or_kept_by_it(
    desk: Desk, fields: dict[str, object], status: str
) -> None:
    task_id = f"t{next(fresh_ids)}"
    document = {**fields, "task_id": task_id, "task_status": status}
    try:
        task = read_task(responses.sound(document), family=FAMILY)
    except ApiAnswerUnreadable:
        return

    for _ in range(2):
        desk.say(task)

    assert json.loads(desk.row(task_id)["document"])["task_id"] == task_id
    assert desk.shown(task_id)["task_id"] == task_id


# --- what a page costs -----------------------------------------------------------------------------------------


def statements(work: Callable[[], object]) -> int:
    """How many statements `work` executes."""
    executed: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        executed.append(statement)

    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)
    return len(executed)


@pytest.mark.parametrize("before", [None, Status.RUNNING, Status.SUCCEEDED])
def test_a_page_of_500_is_as_many_statements_as_a_page_of_5(desk: Desk, before: Status | None) -> None:
    """Callbacks wait for them. The external ids may be registrations' names."""

    first, second = "https://cdn.klingai.com/first", "https://cdn.klingai.com/second"

    def page(size: int, status: Status, url: str) -> list[Task]:
        return [
            answer(
                f"{size}-{number}",
                status,
                external_task_id=f"mine-{size}-{number}",
                assets=(asset("0", url), asset("1", url)) if status is Status.SUCCEEDED else None,
            )
            for number in range(size)
        ]

    def record(size: int, status: Status, url: str) -> int:
        return statements(
            lambda: desk.ledger.records.record(
                page(size, status, url), account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=RAND
            )
        )

    if before is not None:
        record(5, before, first)
        record(500, before, first)

    assert record(500, Status.SUCCEEDED, second) == record(5, Status.SUCCEEDED, second)


def test_a_page_may_have_every_kind_of_row_and_news_for_each(desk: Desk) -> None:
    desk.bring(State.ARCHIVED, "archived")
    desk.say(answer("running", Status.RUNNING))
    desk.say(answer("known", assets=(asset("0", "https://cdn.klingai.com/old"),)))
    desk.tell("named")
    desk.ledger.registrations.register("mine", account=ACCOUNT, family=FAMILY, external_task_id="mine")
    page = [
        answer("new", Status.RUNNING),
        answer("running"),
        answer("known", assets=(asset("0", "https://cdn.klingai.com/fresh"), asset("1"))),
        answer("archived"),
        answer("named", Status.FAILED, message="policy"),
        answer("registered", external_task_id="mine"),
        answer("new", Status.FAILED),
    ]

    recorded = desk.ledger.records.record(page, account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=RAND)

    assert [(task.task_id, task.outcome, task.state) for task in recorded] == [
        ("new", RecordOutcome.NEW, State.RUNNING),
        ("running", RecordOutcome.MOVED, State.SUCCEEDED),
        ("known", RecordOutcome.UNCHANGED, State.SUCCEEDED),
        ("archived", RecordOutcome.UNCHANGED, State.ARCHIVED),
        ("named", RecordOutcome.MOVED, State.FAILED),
        ("registered", RecordOutcome.MOVED, State.SUCCEEDED),
    ]
    urls = desk.rows("SELECT stem, url FROM assets JOIN tasks ON tasks.id = task WHERE task_id = 'known'")
    assert [row["stem"] for row in urls] == ["0", "1"]
    assert urls[0]["url"] == "https://cdn.klingai.com/fresh"
    assert [line["event"] for line in desk.shown("registered")["history"]] == [
        "task.registered",
        "task.moved",
    ]
    assert [line["event"] for line in desk.shown("new")["history"]] == ["task.recorded"]


# --- registrations and external ids ----------------------------------------------------------------------------


def test_a_registered_id_is_followed_with_what_was_asked_for(desk: Desk) -> None:
    assert desk.ledger.registrations.register(
        "t", account=ACCOUNT, family=FAMILY, request={"prompt": "a cat"}
    )

    lease = desk.claim(Stage.VERIFY)
    assert (lease.family_hint, lease.discovered_by, lease.request) == (
        FAMILY,
        DiscoveredBy.REGISTRATION,
        {"prompt": "a cat"},
    )
    assert desk.shown()["callbacks"] == 0


def test_registering_a_known_task_adds_only_what_is_missing(desk: Desk) -> None:
    desk.say(answer(external_task_id="mine"))

    assert not desk.ledger.registrations.register(
        "t", account=ACCOUNT, family="images/omni-image", external_task_id="yours", request={"n": 1}
    )

    row = desk.row()
    assert (row["state"], row["family"], row["external_task_id"]) == ("succeeded", FAMILY, "mine")
    assert json.loads(row["request"]) == {"n": 1}


def test_a_registered_external_id_survives_an_answer_without_one(desk: Desk) -> None:
    desk.ledger.registrations.register("t", account=ACCOUNT, family=FAMILY, external_task_id="mine")

    desk.say(answer())

    assert desk.shown()["external_task_id"] == "mine"
    assert desk.shown("mine") == desk.shown()


def test_registering_an_unconfirmed_id_asks_for_it_afresh_under_the_family_that_the_user_names(
    desk: Desk,
) -> None:
    desk.tell("t", family="images/omni-image")
    desk.fail(desk.claim(Stage.VERIFY), ApiRequestInvalid("1200"))

    assert not desk.ledger.registrations.register("t", account=ACCOUNT, family=FAMILY)
    lease = desk.claim(Stage.VERIFY)
    assert (lease.state, lease.family_hint, lease.asked) == (State.REPORTED, FAMILY, 0)


def test_a_known_family_beats_a_made_up_one(desk: Desk) -> None:
    desk.tell("t", family="foo/bar")
    desk.tell("t", family=FAMILY)
    desk.tell("t", family="images/omni-image")

    assert desk.claim(Stage.VERIFY).family_hint == FAMILY


def test_a_row_registered_by_its_external_id_takes_the_answers_id(desk: Desk) -> None:
    desk.ledger.registrations.register("mine", account=ACCOUNT, family=FAMILY, request={"n": 1})
    lease = desk.claim(Stage.VERIFY)

    desk.say(answer("t", external_task_id="mine"), asked_as=lease.task_id)

    (row,) = desk.rows("SELECT * FROM tasks")
    assert (row["task_id"], row["external_task_id"], row["state"]) == ("t", "mine", "succeeded")
    assert (row["discovered_by"], json.loads(row["request"])) == ("registration", {"n": 1})
    assert not desk.ledger.registrations.register("mine", account=ACCOUNT, family=FAMILY)


@pytest.mark.parametrize("by", [DiscoveredBy.SWEEP, DiscoveredBy.CALLBACK])
@pytest.mark.parametrize("name", ["order-7", "831768251064815642"])
def test_what_was_registered_as_an_external_id_and_a_callback_by_id_become_one_row(
    desk: Desk, by: DiscoveredBy, name: str
) -> None:
    as_external = name if name.isdigit() else None  # it looks like a task id
    desk.ledger.registrations.register(
        name, account=ACCOUNT, family=FAMILY, external_task_id=as_external, request={"n": 1}
    )
    desk.clock.advance(SECOND)
    desk.tell("t")

    desk.say(answer("t", external_task_id=name), by=by)

    (row,) = desk.rows("SELECT * FROM tasks")
    assert (row["task_id"], row["external_task_id"], row["callbacks"]) == ("t", name, 1)
    assert (row["discovered_by"], json.loads(row["request"])) == ("registration", {"n": 1})
    assert "task.merged" in [line["event"] for line in desk.shown()["history"]]


def test_a_placeholder_that_is_asked_for_while_another_answer_merges_it_ends_in_one_row(desk: Desk) -> None:
    desk.ledger.registrations.register("mine", account=ACCOUNT, family=FAMILY, external_task_id="mine")
    lease = desk.claim(Stage.VERIFY)
    desk.say(answer("t", external_task_id="mine"), by=DiscoveredBy.SWEEP)

    desk.say(answer("t", external_task_id="mine"), asked_as=lease.task_id)

    (row,) = desk.rows("SELECT * FROM tasks")
    assert (row["task_id"], row["lease_token"], row["state"]) == ("t", None, "succeeded")


def test_an_unproven_id_that_looks_like_another_s_external_id_stays_a_task_of_its_own(desk: Desk) -> None:
    desk.tell("828338674605228111")

    desk.say(answer("t", external_task_id="828338674605228111"), by=DiscoveredBy.SWEEP)

    assert [row["state"] for row in desk.rows("SELECT state FROM tasks ORDER BY id")] == [
        "reported",
        "succeeded",
    ]


@pytest.mark.parametrize("by", DiscoveredBy)
@pytest.mark.parametrize(
    "own", ["831768251064815642", "CiX3kmh7cG8AAAAAAAA_-g", "0b1f3c1e-7f6b-4d0a-9c35-2f8f8d7c1a11"]
)
def test_a_registered_id_that_is_another_s_external_id_stays_a_task_of_its_own_until_it_is_asked_for(
    desk: Desk, by: DiscoveredBy, own: str
) -> None:
    desk.ledger.registrations.register(own, account=ACCOUNT, family=FAMILY, request={"n": 1})

    desk.say(answer("2", external_task_id=own), by=by)
    desk.say(answer("2", external_task_id=own), by=by, asked_as="2")

    assert [row["task_id"] for row in desk.rows("SELECT task_id FROM tasks ORDER BY id")] == [own, "2"]
    assert json.loads(desk.row(own)["request"]) == {"n": 1}
    assert desk.row("2")["request"] is None


def test_a_confirmed_task_is_never_merged_into_another(desk: Desk) -> None:
    desk.say(answer("a", status=Status.RUNNING))

    desk.say(answer("b", external_task_id="a"), asked_as="a")

    assert sorted(row["task_id"] for row in desk.rows("SELECT task_id FROM tasks")) == ["a", "b"]


# --- history ----------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_only("hundreds of claims")
def test_history_tells_what_happened_and_does_not_grow_for_ever(desk: Desk) -> None:
    desk.bring(State.BURIED)
    for _ in range(60):
        desk.ledger.registrations.retry(["t"], account=ACCOUNT)
        desk.claim(Stage.VERIFY)
        desk.say(answer())
        desk.fail(desk.claim(Stage.ARCHIVE), NeverMedia("a web page"))

    events = [line["event"] for line in desk.shown()["history"]]
    assert len(events) <= 110
    assert set(events) == {"task.retry_requested", "task.moved", "task.buried"}


def test_an_unconfirmed_buried_id_that_turns_out_to_have_no_results_costs_the_page_nothing(
    desk: Desk,
) -> None:
    desk.tell("b")
    (lease,) = desk.ledger.claims.verify(count=1, offset=0, account=ACCOUNT)
    desk.fail(lease, ApiRequestInvalid("1200"))
    desk.clock.advance(SECOND)

    answers_of_a_page = [answer("good"), answer("b", Status.SUCCEEDED, assets=())]
    desk.ledger.records.record(
        answers_of_a_page, account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=RAND
    )

    assert desk.state("good") is State.SUCCEEDED
    assert (desk.state("b"), desk.row("b")["reason"]) == (State.BURIED, "results_missing")
