"""Many waiting ids at once: which lists are worth reading, how far, and what forged ids can cost."""

import random

import pytest
import structlog.testing

from archiver.failures import (
    LedgerUnavailable,
)
from archiver.kling.limiter import Priority
from archiver.ledger import PendingCounts
from archiver.model import Callback, DiscoveredBy, Stage, State, Status
from archiver.verify.matching import (
    FLOOD_IDS_MIN,
    LIST_IDS_MIN,
    WAITING_IDS_MAX,
    FamilyPlan,
    PageResult,
    plan,
)
from tests.harness.ledgers import ACCOUNT, FAMILY, HOUR, MINUTE, SECOND, answer
from tests.harness.questions import FAMILIES, Questions
from tests.simulator import LoggedRequest, faults

pytestmark = pytest.mark.usefixtures("lines")

EXPAND = "images/editing/expand"


# --- which lists, how far -------------------------------------------------------------------------------------------

CONFIGURED = (FAMILY, EXPAND)


def waiting(
    by_family: dict[str | None, int], *, confirmed: frozenset[str] = frozenset(), individually: int = 0
) -> PendingCounts:
    return PendingCounts(by_family=by_family, confirmed=confirmed, individually=individually)


@pytest.mark.parametrize(
    ("pending", "expected"),
    [
        (waiting({}), []),
        # Enough ids of one family, or with those that may be of any.
        (waiting({FAMILY: 2}), []),
        (waiting({FAMILY: 3}), [(FAMILY, 3)]),
        (waiting({FAMILY: 2, EXPAND: 3}), [(EXPAND, 3)]),
        (waiting({None: 2}), []),
        (waiting({None: 3}), [(FAMILY, 3), (EXPAND, 3)]),
        (waiting({FAMILY: 2, None: 1}), [(FAMILY, 3)]),
        (waiting({EXPAND: 1, None: 3}), [(EXPAND, 4), (FAMILY, 3)]),
        # A few behind ids that no list shows; the latter alone are no reason to read one.
        (waiting({}, individually=1000), []),
        (waiting({FAMILY: 1}, individually=2), []),
        (waiting({FAMILY: 1}, individually=3), [(FAMILY, 1)]),
        (waiting({None: 1}, individually=3), [(FAMILY, 1), (EXPAND, 1)]),
        # A known family needs no configuration; a made-up one is read for enough ids of its own only.
        (waiting({"images/omni-image": 1}, individually=3), [("images/omni-image", 1)]),
        (waiting({"made/up": 2, None: 1}, individually=1000), [(FAMILY, 1), (EXPAND, 1)]),
        (waiting({"made/up": 3}), [("made/up", 3)]),
        # What `/tasks` and `/solutions` know has no list.
        (waiting({"tasks/video": 100, "solutions/virtual_try_on": 100}), []),
    ],
)
def test_which_lists_are_worth_reading(pending: PendingCounts, expected: list[tuple[str, int]]) -> None:
    assert [(made.family, made.ids) for made in plan(pending, CONFIGURED)] == expected


def test_a_list_for_confirmed_tasks_goes_first() -> None:
    pending = waiting({FAMILY: 3, EXPAND: 3}, confirmed=frozenset({EXPAND}))

    priorities = {made.family: made.priority for made in plan(pending, CONFIGURED)}
    assert priorities == {FAMILY: Priority.MATCH, EXPAND: Priority.VERIFY}


@pytest.mark.parametrize(("ids", "pages_max"), [(3, 2), (29, 2), (30, 3), (500, 50), (501, 50), (2000, 200)])
def test_no_more_pages_are_read_than_ids_are_worth(ids: int, pages_max: int) -> None:
    assert [made.pages_max for made in plan(waiting({FAMILY: ids}), CONFIGURED)] == [pages_max]


@pytest.mark.parametrize(("individually", "reads_on"), [(FLOOD_IDS_MIN - 1, True), (FLOOD_IDS_MIN, False)])
def test_in_a_flood_the_last_hour_is_no_reason_to_read_on(individually: int, reads_on: bool) -> None:
    plans = plan(waiting({FAMILY: 3}, individually=individually), CONFIGURED)

    assert [made.reads_on_while_recent for made in plans] == [reads_on]


@pytest.mark.parametrize(
    ("reads_on_while_recent", "pages", "matched", "has_news", "is_recent", "is_done"),
    [
        (True, 1, 0, True, False, False),
        (True, 1, 0, False, True, False),
        (True, 1, 0, False, False, True),
        (False, 1, 0, True, True, False),
        (False, 1, 0, False, True, True),
        (True, 4, 29, True, True, False),
        (True, 5, 29, True, True, True),
        (True, 1, 30, True, True, True),
    ],
)
def test_how_far_a_list_is_read(
    *, reads_on_while_recent: bool, pages: int, matched: int, has_news: bool, is_recent: bool, is_done: bool
) -> None:
    family_plan = FamilyPlan(FAMILY, 30, 5, Priority.MATCH, reads_on_while_recent)

    assert family_plan.is_done(PageResult(pages, matched, has_news, is_recent)) is is_done


# --- list matching --------------------------------------------------------------------------------------------------


def test_a_few_waiting_ids_are_queried_individually(questions: Questions) -> None:
    ids = questions.history(LIST_IDS_MIN - 1)
    questions.tell(*ids)

    questions.step()

    assert questions.states(*ids) == {State.SUCCEEDED}
    assert questions.calls == {"query": LIST_IDS_MIN - 1}


def test_many_waiting_ids_of_a_family_are_answered_for_by_one_list_page(questions: Questions) -> None:
    ids = questions.history(400)
    questions.tell(*ids)

    assert questions.step().count == 400
    assert questions.states(*ids) == {State.SUCCEEDED}
    assert questions.calls == {"list": 1}
    assert {questions.desk.shown(task_id)["discovered_by"] for task_id in ids[:9]} == {"callback"}


def test_running_tasks_are_answered_for_by_lists_too(questions: Questions) -> None:
    ids = questions.history(50, status="processing")
    questions.tell(*ids)
    questions.step()
    questions.clock.advance(MINUTE)
    for task_id in ids:
        questions.sim.succeed(task_id)

    questions.step()

    assert questions.states(*ids) == {State.SUCCEEDED}
    assert questions.calls == {"list": 2}


@pytest.mark.parametrize("order", ["oldest", "newest", "any"])
def test_a_burst_of_2000_genuine_callbacks_costs_at_most_a_hundredth_of_a_call_each(
    questions: Questions, order: str
) -> None:
    ids = questions.history(2000)
    if order == "newest":
        ids.reverse()
    elif order == "any":
        random.Random(1).shuffle(ids)
    bursts = iter([ids[500:1000], ids[1000:1500], ids[1500:]])

    def more_come_while_a_list_is_read(request: LoggedRequest) -> None:
        if request.kind == "list" and (burst := next(bursts, None)):
            questions.clock.advance(1)
            questions.tell(*burst)

    questions.sim.on_request(more_come_while_a_list_is_read)
    questions.tell(*ids[:500])
    while questions.desk.ledger.claims.any_due(Stage.VERIFY, account=ACCOUNT):
        questions.step()
        questions.clock.advance(1)

    assert questions.states(*ids) == {State.SUCCEEDED}
    assert sum(questions.calls.values()) <= 20


def test_ids_without_a_family_are_looked_for_in_every_configured_list(questions: Questions) -> None:
    ids = questions.history(5, family=EXPAND) + questions.history(5, family="images/omni-image")
    questions.tell(*ids, family=None)

    questions.step()

    assert questions.states(*ids) == {State.SUCCEEDED}
    assert "query" not in questions.calls
    assert questions.sim.requests["list"] <= 2 * len(FAMILIES)


def test_ids_that_no_page_shows_are_queried_individually(questions: Questions) -> None:
    listed = questions.history(5)
    hidden = questions.history(1)
    questions.sim.hide_from_list(hidden[0])
    questions.tell(*listed, *hidden)

    questions.step()

    assert questions.states(*listed, *hidden) == {State.SUCCEEDED}
    assert questions.sim.requests["query"] == 1


def test_ids_that_came_while_a_list_was_read_wait_for_the_next_list(questions: Questions) -> None:
    early, late = questions.history(5), questions.history(5)

    def tell_late(request: LoggedRequest) -> None:
        if request.kind == "list" and questions.sim.requests["list"] == 1:
            questions.clock.advance(1)
            questions.tell(*late)
            for task_id in late:
                questions.sim.hide_from_list(task_id)

    questions.sim.on_request(tell_late)
    questions.tell(*early)
    questions.step()
    assert questions.calls == {"list": 1}
    assert questions.states(*late) == {State.REPORTED}

    for task_id in late:
        questions.sim.hide_from_list(task_id, hidden=False)
    questions.step()
    assert questions.states(*late) == {State.SUCCEEDED}
    assert questions.calls == {"list": 2}


def test_a_list_that_runs_oldest_first_is_matched_from_its_end(questions: Questions) -> None:
    questions.sim.switches.list_order = "oldest_first"
    questions.sim.switches.list_page_rows_max = 10
    questions.history(95, age=HOUR)
    ids = questions.history(5)
    questions.tell(*ids)

    questions.step()

    assert questions.states(*ids) == {State.SUCCEEDED}
    assert "query" not in questions.calls


@pytest.mark.parametrize("fault", [faults.Html(), faults.server_error()])
def test_a_list_that_cannot_be_read_is_no_reason_not_to_query_individually(
    questions: Questions, lines: list[structlog.typing.EventDict], fault: faults.Fault
) -> None:
    ids = questions.history(4)
    questions.tell(*ids)
    questions.sim.fault("list", fault)

    questions.step()

    assert questions.states(*ids) == {State.SUCCEEDED}
    assert questions.sim.requests["query"] == 4
    assert [line["family"] for line in lines if line["event"] == "list.unreadable"] == [FAMILY]
    assert questions.desk.ledger.holds.all() == ()


def test_a_ledger_that_is_away_is_not_taken_for_an_unreadable_list(
    questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise LedgerUnavailable("full")

    questions.tell(*questions.history(5))
    monkeypatch.setattr(questions.desk.ledger.records, "record", away)

    with pytest.raises(LedgerUnavailable):
        questions.list_matcher.match()


# --- forged ids -----------------------------------------------------------------------------------------------------


def test_forged_ids_do_not_keep_genuine_ones_waiting(questions: Questions) -> None:
    questions.tell(*(f"forged-{number}" for number in range(1000)))
    questions.clock.advance(1)
    ids = questions.history(5)
    questions.tell(*ids)

    questions.list_matcher.match()

    assert questions.states(*ids) == {State.SUCCEEDED}
    assert questions.sim.requests["list"] <= 2
    assert "query" not in questions.calls


def test_one_genuine_id_behind_a_flood_that_no_list_shows_is_found_by_a_list(questions: Questions) -> None:
    questions.tell(*(f"forged-{number}" for number in range(100)))
    questions.list_matcher.match()
    questions.clock.advance(SECOND)
    (task_id,) = questions.history(1)
    questions.tell(task_id)

    questions.list_matcher.match()

    assert questions.states(task_id) == {State.SUCCEEDED}


def test_unconfirmed_ids_get_what_verification_leaves_and_individual_queries_the_background(
    questions: Questions,
) -> None:
    questions.tell(*(f"forged-{number}" for number in range(20)))
    questions.step()
    assert questions.limiter.heard == [Priority.MATCH] + [Priority.BACKGROUND] * 4

    questions.limiter.heard.clear()
    questions.desk.say(answer("known", Status.RUNNING))
    questions.clock.advance(MINUTE)
    questions.tell(*(f"more-{number}" for number in range(20)))
    questions.list_matcher.match()
    assert set(questions.limiter.heard) == {Priority.VERIFY}


def test_made_up_families_are_not_worth_a_list_each(questions: Questions) -> None:
    questions.desk.ledger.callbacks.record(
        [Callback(ACCOUNT, f"forged-{n}", Status.SUCCEEDED, f"made/up-{n // 5}") for n in range(50)]
    )

    questions.list_matcher.match()

    assert questions.calls == {}


def test_ids_under_made_up_families_do_not_stand_before_genuine_ones_that_wait_for_a_list(
    questions: Questions,
) -> None:
    questions.desk.ledger.callbacks.record(
        [
            Callback(ACCOUNT, f"forged-{n}", Status.SUCCEEDED, f"made/up-{n // 2}")
            for n in range(WAITING_IDS_MAX + 10)
        ]
    )
    questions.clock.advance(SECOND)
    (task_id,) = questions.history(1)
    questions.tell(task_id)

    questions.list_matcher.match()

    assert questions.states(task_id) == {State.SUCCEEDED}
    assert questions.calls == {"list": 1}


def test_in_a_flood_a_list_is_not_read_beyond_a_page_of_known_tasks(questions: Questions) -> None:
    questions.history(1600, age=MINUTE)
    questions.sweeper.sweep(FAMILY, full=True)
    for flood in ("first", "second"):
        questions.tell(*(f"{flood}-{number}" for number in range(FLOOD_IDS_MIN)))
        read = questions.sim.requests["list"]
        questions.list_matcher.match()
        questions.clock.advance(SECOND)
    assert questions.sim.requests["list"] - read == 1
    questions.tell(*(f"third-{number}" for number in range(FLOOD_IDS_MIN)))
    (task_id,) = questions.history(1)
    questions.tell(task_id)

    questions.list_matcher.match()

    assert questions.states(task_id) == {State.SUCCEEDED}
    assert questions.sim.requests["list"] - read == 3


def test_a_flood_of_forged_ids_costs_a_bounded_number_of_calls_a_round(questions: Questions) -> None:
    for number in range(10):
        questions.tell(*(f"forged-{number}-{n}" for n in range(50)))
        questions.step()
        questions.clock.advance(SECOND)

    assert questions.sim.requests["list"] <= 10
    assert questions.sim.requests["query"] <= 10 * 4 * len(FAMILIES)


# --- what else a list brings -----------------------------------------------------------------------------------------


def test_other_tasks_of_a_list_page_are_recorded_as_by_a_sweep(questions: Questions) -> None:
    named, unnamed = questions.history(5), questions.history(5)
    questions.tell(*named)

    questions.step()

    assert questions.states(*unnamed) == {State.SUCCEEDED}
    assert questions.desk.shown(unnamed[0])["discovered_by"] == DiscoveredBy.SWEEP


def test_refused_lists_delay_no_id_while_individual_queries_work(questions: Questions) -> None:
    """As by a gateway that answers 401 for what it does not serve."""
    questions.sim.fault("list", faults.ErrorCode(401, 1002))
    ids = []
    for _ in range(10):
        some = questions.history(4)
        ids += some
        questions.tell(*some)
        for _ in range(10):
            questions.step()
            questions.clock.advance(2 * SECOND)

    assert questions.states(*ids) == {State.SUCCEEDED}
    assert questions.desk.ledger.holds.all() == ()
    assert questions.calls["list"] <= 5
