"""Pages of tasks: which are meant, in which order, what a search by text finds, and that none reads the whole table."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from archiver.failures import NeverMedia
from archiver.ledger.views import FilterProblem, TaskFilter, owners, pages, walks
from archiver.model import DiscoveredBy, Stage, State, Status
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, MINUTE, START, Desk, Place, answer

OMNI = "images/omni-image"


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    made = Desk(place)
    yield made
    made.close()


def ids(
    desk: Desk, chosen: TaskFilter | None = None, *, limit: int = 100, page: str | None = None
) -> list[str]:
    found = desk.ledger.views.tasks(chosen or TaskFilter(), limit=limit, page=page)
    return [row.task_id for row in found.rows]


def all_ids(desk: Desk, chosen: TaskFilter, *, limit: int) -> list[str]:
    """Of every page."""
    found, page = [], None
    while True:
        answered = desk.ledger.views.tasks(chosen, limit=limit, page=page)
        found += [row.task_id for row in answered.rows]
        assert len(answered.rows) <= limit
        if answered.next_page is None:
            return found
        page = answered.next_page


def register(desk: Desk, task_id: str, **options: Any) -> None:
    desk.ledger.registrations.register(task_id, account=ACCOUNT, family=FAMILY, **options)


def test_pages_have_every_task_once_newest_first_whatever_their_states(desk: Desk) -> None:
    for number in range(12):
        created_at = START - (number * 5 % 12) // 2 * MINUTE  # two of each age
        state = (Status.RUNNING, Status.FAILED, Status.SUCCEEDED)[number % 3]
        desk.say(answer(f"t{number}", state, created_at=created_at, message="policy"))
    desk.clock.advance(1)
    desk.tell("newest")
    ages = {row["task_id"]: (-row["deadline_at"], -row["id"]) for row in desk.rows("SELECT * FROM tasks")}

    for limit in (1, 2, 5, 12, 13, 100):
        assert all_ids(desk, TaskFilter(), limit=limit) == sorted(ages, key=lambda task_id: ages[task_id])
    assert ids(desk)[0] == "newest"


def lives(desk: Desk) -> None:
    """Tasks of three states, two families and two accounts; the API has not confirmed three of them."""
    desk.say(answer("running", Status.RUNNING, created_at=START))
    desk.say(answer("failed", Status.FAILED, created_at=START - DAY, message="policy"))
    desk.say(answer("omni", Status.FAILED, family=OMNI, created_at=START - 2 * DAY, message="policy"))
    desk.tell("told", family=FAMILY)
    desk.tell("told-omni", family=OMNI)
    desk.ledger.registrations.register("other-told", account="other", family=FAMILY)
    desk.ledger.records.record(
        [answer("other", Status.RUNNING, created_at=START - 3 * DAY)],
        account="other",
        discovered_by=DiscoveredBy.SWEEP,
        rand=0.5,
    )


FILTERS = [
    (TaskFilter(state=State.FAILED), ["failed", "omni"]),
    (TaskFilter(state=State.LOST), []),
    (TaskFilter(family=OMNI), ["told-omni", "omni"]),
    (TaskFilter(family=FAMILY), ["other-told", "told", "running", "failed", "other"]),
    (TaskFilter(family="videos/text2video"), []),
    (TaskFilter(account="other"), ["other-told", "other"]),
    (TaskFilter(account="nobody"), []),
    (TaskFilter(account=ACCOUNT, family=FAMILY), ["told", "running", "failed"]),
    (TaskFilter(account=ACCOUNT, family=FAMILY, state=State.FAILED), ["failed"]),
    (TaskFilter(account=ACCOUNT, state=State.REPORTED), ["told-omni", "told"]),
    (TaskFilter(since=START - DAY), ["other-told", "told-omni", "told", "running", "failed"]),
    (TaskFilter(until=START - DAY), ["omni", "other"]),
    (TaskFilter(since=START - 2 * DAY, until=START - DAY), ["omni"]),
    (TaskFilter(family=FAMILY, until=START), ["failed", "other"]),
]


def test_a_filter_leaves_only_what_it_names(desk: Desk) -> None:
    lives(desk)

    for chosen, expected in FILTERS:
        assert ids(desk, chosen) == expected, chosen
        assert all_ids(desk, chosen, limit=1) == expected, chosen


def test_a_buried_task_is_listed_once_whether_the_api_has_confirmed_it_or_not(desk: Desk) -> None:
    desk.bring(State.BURIED, "confirmed")
    desk.tell("unconfirmed")
    desk.fail(desk.claim(Stage.VERIFY), NeverMedia("a web page"))

    for chosen in (TaskFilter(), TaskFilter(family=FAMILY), TaskFilter(account=ACCOUNT, state=State.BURIED)):
        assert sorted(ids(desk, chosen)) == ["confirmed", "unconfirmed"]


TEXTS: list[tuple[str, bool]] = [
    ("A red FOX", True),
    ("red fox in the snow", True),
    ("étoile", True),
    ("ÉTOILE", True),
    ("狐狸", True),
    ("50% off_", True),
    ("50X off", False),
    ('he said "no"\\', True),
    ("line\nbreak", True),
    ("𐐨", True),
    ("16:9", True),
    ("prompt", False),
    ('": "', False),
    ("\\u72d0", False),
    ("shop-1", True),
    ("SHOP-1", True),
    ("risk control", True),
    ("blue fox", False),
    ("_", True),
    ("%%", False),
    ("!", False),
]


def test_a_text_is_found_in_request_external_id_and_message_as_it_was_written(desk: Desk) -> None:
    prompt = 'A red fox in the snow, Étoile, 狐狸, 50% off_, he said "no"\\, a line\nbreak, 𐐀'
    request = {"prompt": prompt, "aspect_ratio": "16:9", "images": [{"n": 1}]}
    register(desk, "t", request=request, external_task_id="Shop-1")
    desk.say(
        answer(
            "t", Status.FAILED, external_task_id="Shop-1", message="Failure to pass the risk control system"
        )
    )
    desk.say(answer("other", Status.RUNNING))

    for text, is_found in TEXTS:
        assert ids(desk, TaskFilter(text=text)) == (["t"] if is_found else []), text


def test_a_text_goes_with_the_other_filters_and_over_pages(desk: Desk) -> None:
    for number in range(9):
        register(desk, f"t{number}", request={"prompt": "fox" if number % 2 else "hen"})
        desk.clock.advance(MINUTE)

    assert all_ids(desk, TaskFilter(text="FOX"), limit=2) == ["t7", "t5", "t3", "t1"]
    assert ids(desk, TaskFilter(text="fox", family=FAMILY, until=START + 4 * MINUTE)) == ["t3", "t1"]
    assert ids(desk, TaskFilter(text="fox", state=State.RUNNING)) == []


def test_a_text_that_is_the_id_of_a_task_finds_that_task_first_and_once(desk: Desk) -> None:
    for number in range(3):
        register(desk, f"t{number}", request={"prompt": "as t9 was"})
    register(desk, "t9", external_task_id="t9")

    for limit in (1, 2, 9):
        assert all_ids(desk, TaskFilter(text="t9"), limit=limit) == ["t9", "t2", "t1", "t0"]
        assert ids(desk, TaskFilter(text="t9"), limit=limit) == ["t9"], "the rest is not searched for it"
    assert ids(desk, TaskFilter(text="t1", account=ACCOUNT, family=FAMILY, state=State.REPORTED)) == ["t1"]
    assert ids(desk, TaskFilter(text="t1", since=START - DAY, until=START + DAY)) == ["t1"]
    for other in (
        TaskFilter(text="t1", account="other"),
        TaskFilter(text="t1", family=OMNI),
        TaskFilter(text="t1", state=State.FAILED),
        TaskFilter(text="t1", since=START + DAY),
        TaskFilter(text="t1", until=START),
    ):
        assert ids(desk, other) == []
    assert ids(desk, TaskFilter(text="T1")) == []


def test_all_tasks_of_an_id_come_on_one_page_even_if_it_is_to_have_fewer(desk: Desk) -> None:
    for account in (ACCOUNT, "other"):
        desk.ledger.registrations.register("t1", account=account, family=FAMILY)

    page = desk.ledger.views.tasks(TaskFilter(text="t1"), page=None, limit=1)
    assert sorted(row.account for row in page.rows) == sorted([ACCOUNT, "other"])
    assert ids(desk, TaskFilter(text="t1"), limit=1, page=page.next_page) == []


@pytest.mark.parametrize(
    "chosen", [TaskFilter(account=ACCOUNT, text="fox"), TaskFilter(family=FAMILY, text="fox")]
)
def test_a_search_finds_a_task_that_changes_its_state_between_two_steps(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, chosen: TaskFilter
) -> None:
    """The state is one that no task had when the search began, and the API's word is the first of this task."""
    register(desk, "old", request={"prompt": "fox"})
    for number in range(9):
        desk.clock.advance(MINUTE)
        register(desk, f"t{number}", request={"prompt": "hen"})
    move_to = pages._Search._move_to  # noqa: SLF001 -- between two steps
    steps: list[object] = []

    def move_and_change(search: pages._Search, *ends: Any) -> None:
        move_to(search, *ends)
        steps.append(ends)
        if len(steps) == 1:
            desk.say(answer("old", Status.FAILED, created_at=START, message="policy"))

    monkeypatch.setattr(pages._Search, "_move_to", move_and_change)  # noqa: SLF001 -- as above

    assert ids(desk, chosen, limit=2) == ["old"]
    assert len(steps) > 1


def test_of_a_request_that_is_very_long_a_text_is_found_and_no_more_is_read(desk: Desk) -> None:
    request = {"prompt": [f"{number} " + "x" * 8000 for number in range(9)] + ["a red fox"]}
    register(desk, "t", request=request)

    (row,) = desk.ledger.views.tasks(TaskFilter(text="RED fox"), limit=1).rows

    assert (row.task_id, row.prompt) == ("t", None)
    assert ids(desk, TaskFilter(text="blue fox")) == []


def test_a_search_ends_at_its_bound_and_says_how_far_back_it_has_looked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LOOKED_AT_MAX", 6)
    monkeypatch.setattr(pages, "STEP_ROWS", 2)
    for number in range(10):
        register(desk, f"t{number}", request={"prompt": "fox" if number in (2, 5, 9) else "hen"})
        desk.clock.advance(MINUTE)

    first = desk.ledger.views.tasks(TaskFilter(text="fox"), limit=1)
    second = desk.ledger.views.tasks(TaskFilter(text="fox"), limit=1, page=first.next_page)
    third = desk.ledger.views.tasks(TaskFilter(text="fox"), limit=1, page=second.next_page)

    assert [[row.task_id for row in page.rows] for page in (first, second, third)] == [["t9"], ["t5"], []]
    assert [page.searched_back_to for page in (first, second, third)] == [
        START + minutes * MINUTE for minutes in (9, 5, 4)
    ]
    assert third.next_page is None
    assert (first.further_page, second.further_page) == (None, None)
    further = desk.ledger.views.tasks(TaskFilter(text="fox"), limit=1, page=third.further_page)
    assert [row.task_id for row in further.rows] == ["t2"]


def test_a_search_that_goes_on_behind_its_bound_skips_no_task_of_the_same_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LOOKED_AT_MAX", 3)
    for number in range(8):
        register(desk, f"t{number}", request={"prompt": "fox" if number == 2 else "hen"})

    first = desk.ledger.views.tasks(TaskFilter(text="fox"), limit=5)
    second = desk.ledger.views.tasks(TaskFilter(text="fox"), limit=5, page=first.further_page)
    third = desk.ledger.views.tasks(TaskFilter(text="fox"), limit=5, page=second.further_page)

    assert [[row.task_id for row in page.rows] for page in (first, second, third)] == [[], ["t2"], []]
    assert (first.next_page, third.next_page, third.further_page) == (None, None, None)
    assert (first.searched_back_to, third.searched_back_to) == (START, None)


def test_a_search_that_takes_long_ends_its_page_and_the_next_one_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "SEARCH_SECONDS_MAX", 0)
    monkeypatch.setattr(pages, "STEP_ROWS", 2)
    for number in range(8):
        register(desk, f"t{number}", request={"prompt": "fox" if number == 2 else "hen"})

    found, page = [], desk.ledger.views.tasks(TaskFilter(text="fox"), limit=1)
    for _ in range(8):
        found.append([row.task_id for row in page.rows])
        if page.next_page is not None:
            page = desk.ledger.views.tasks(TaskFilter(text="fox"), limit=1, page=page.next_page)

    assert len([rows for rows in found if not rows]) > 1, "it took several pages"
    assert ["t2"] in found


def test_one_search_by_text_looks_at_rows_at_a_time_and_other_pages_do_not_wait(desk: Desk) -> None:
    register(desk, "t1", request={"prompt": "fox"})
    with ThreadPoolExecutor(1) as pool:
        with pages.SEARCHING:
            search = pool.submit(desk.ledger.views.tasks, TaskFilter(text="fox"), limit=1)
            listed = desk.ledger.views.tasks(TaskFilter(), limit=1)
            assert not search.done()

        assert [row.task_id for row in search.result(timeout=60).rows] == ["t1"]
    assert [row.task_id for row in listed.rows] == ["t1"]


def test_a_flood_of_ids_that_are_not_meant_does_not_come_before_those_that_are(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "UNINDEXED_ROWS_MAX", 5)
    desk.tell("mine", family=OMNI)
    for number in range(9):
        desk.clock.advance(1)
        desk.tell(f"forged-{number}", family=FAMILY)
        desk.ledger.registrations.register(f"other-{number}", account="other", family=FAMILY)

    assert ids(desk, TaskFilter(family=OMNI), limit=1) == ["mine"]
    assert ids(desk, TaskFilter(account="other"), limit=5) == [f"other-{n}" for n in (8, 7, 6, 5, 4)]


def test_invented_families_leave_no_page_empty(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "UNINDEXED_ROWS_MAX", 6)
    for number in range(owners.FAMILIES_MAX + 1):
        desk.clock.advance(1)
        desk.tell(f"forged-{number}", family=f"invented/family-{number}")
    for number in range(20):
        desk.clock.advance(1)
        desk.ledger.registrations.register(f"other-{number}", account="other", family=FAMILY)
    desk.clock.advance(1)
    desk.say(answer("running", Status.RUNNING, created_at=desk.clock()))

    mine = ["running", *(f"forged-{number}" for number in range(owners.FAMILIES_MAX, -1, -1))]

    assert ids(desk, TaskFilter(account=ACCOUNT), limit=2) == mine[:2]
    assert all_ids(desk, TaskFilter(account=ACCOUNT), limit=7) == mine
    assert ids(desk, TaskFilter(family="invented/family-3")) == ["forged-3"]


def test_a_page_of_an_account_or_family_without_tasks_is_the_last_one_and_empty(desk: Desk) -> None:
    desk.tell()

    for chosen in (
        TaskFilter(account="nobody"),
        TaskFilter(account="nobody", state=State.RUNNING),
        TaskFilter(account=ACCOUNT, state=State.RUNNING, text="fox"),
        TaskFilter(family=OMNI, state=State.RUNNING),
    ):
        page = desk.ledger.views.tasks(chosen, limit=1)
        assert (page.rows, page.next_page, page.further_page) == ((), None, None)


def test_a_filter_holds_also_where_there_are_too_many_owners_for_a_walk_each(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "WALKS_MAX", 0)
    lives(desk)

    for chosen, expected in FILTERS:
        assert ids(desk, chosen) == expected, chosen


def test_nothing_is_said_of_how_far_back_when_all_was_looked_at(desk: Desk) -> None:
    register(desk, "t", request={"prompt": "fox"})

    assert desk.ledger.views.tasks(TaskFilter(text="fox"), limit=1).searched_back_to is None
    assert desk.ledger.views.tasks(TaskFilter(text="hen"), limit=1).searched_back_to is None
    assert desk.ledger.views.tasks(TaskFilter(), limit=1).searched_back_to is None


def test_a_row_has_what_the_contract_names_and_its_files_on_demand(desk: Desk) -> None:
    register(desk, "t", request={"prompt": "x" * 600}, external_task_id="mine")
    desk.bring(State.ARCHIVED)

    (row,) = desk.ledger.views.tasks(TaskFilter(), limit=1, with_assets=True).rows

    assert row.as_json() == {
        "task_id": "t",
        "account": ACCOUNT,
        "family": FAMILY,
        "external_task_id": "mine",
        "state": "archived",
        "reason": None,
        "message": None,
        "created_at": "2026-09-21T14:13:20.000Z",
        "updated_at": "2026-09-21T14:13:44.000Z",
        "archived_at": "2026-09-21T14:13:20.000Z",
        "expires_at": "2026-10-21T14:13:20.000Z",
        "discovered_by": "registration",
        "manifest_key": "f/manifest.json",
        "prompt": "x" * 499 + "…",
    }
    assert [(asset.asset.stem, asset.name, asset.bytes) for asset in row.assets] == [("0", "0.png", 10)]
    assert desk.ledger.views.tasks(TaskFilter(), limit=1).rows[0].assets == ()


def test_a_page_that_no_answer_named_is_refused_with_a_sentence(desk: Desk) -> None:
    for page in ("", "1.2", "1.2.3.4", "-1.2.3", "1.2.x", "9" * 400 + ".1.1", "1.2.3\n", "١.٢.٣"):
        with pytest.raises(FilterProblem, match=r"^page must be"):
            desk.ledger.views.tasks(TaskFilter(), page=page, limit=1)


@pytest.mark.parametrize("text", ["a\0b", "\udc80", "x" * 501])
def test_a_text_that_no_row_can_have_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(FilterProblem, match=r"^text must "):
        TaskFilter(text=text)


def test_any_page_of_the_right_form_is_harmless(desk: Desk) -> None:
    desk.tell()

    for page in ("0.0.0", "999999999999999.999999999999999999.999999999"):
        assert len(ids(desk, page=page)) <= 1
        assert len(ids(desk, TaskFilter(text="x"), page=page)) <= 1


WALKED = [
    TaskFilter(),
    TaskFilter(state=State.FAILED, since=START - DAY, until=START),
    TaskFilter(family=FAMILY),
    TaskFilter(account=ACCOUNT, family=FAMILY, state=State.FAILED),
    TaskFilter(text="fox"),
    TaskFilter(text="fox", account=ACCOUNT),
]


@pytest.mark.sqlite_only("how SQLite goes about it")
def test_a_page_walks_along_indexes_and_reads_no_table(desk: Desk) -> None:
    lives(desk)
    statements: list[tuple[TaskFilter, str, Any]] = []
    chosen = TaskFilter()

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith(("SELECT", "WITH")):
            statements.append((chosen, statement, parameters))

    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        for chosen in WALKED:
            all_ids(desk, chosen, limit=1)
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)

    assert statements
    for chosen, statement, parameters in statements:
        details = [str(row["detail"]) for row in desk.rows(f"EXPLAIN QUERY PLAN {statement}", *parameters)]
        of_tasks = [detail for detail in details if re.search(r"\btasks(_\d)?\b", detail)]
        assert of_tasks or "task_counts" in statement
        # Along the tasks of a state a page of one owner would pass those of all others.
        indexes = (
            "by_state"
            if chosen.account is None and chosen.family is None
            else "by_family|by_hint|unconfirmed"
        )
        for detail in of_tasks:
            assert re.match(
                rf"SEARCH tasks(_\d)? USING ((COVERING )?INDEX tasks_({indexes}) \(|INTEGER PRIMARY KEY"
                r"|INDEX sqlite_autoindex_tasks_1 \(account=\? AND task_id=\?\))",
                detail,
            ), detail
