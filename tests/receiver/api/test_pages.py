"""`GET /api/tasks`, retry, stats: the filters, the pages, who is let in, and what is refused in which words."""

import pathlib
from collections.abc import Iterator

import pytest

from archiver.ledger.views import TaskFilter
from archiver.model import State
from tests.harness.api import ADMIN, OTHER_FAMILY, ApiDesk, fill

PATHS = [("GET", ""), ("GET", "/api/stats"), ("GET", "/api/openapi.json"), ("POST", "/api/tasks/1/retry")]


@pytest.fixture
def desk(tmp_path: pathlib.Path) -> Iterator[ApiDesk]:
    made = ApiDesk(tmp_path, "default")
    with made.running():
        fill(made.ledger)
        yield made


def test_a_page_has_the_rows_of_list_and_leads_to_the_next_one(desk: ApiDesk) -> None:
    first = desk.get("/api/tasks?limit=2")
    second = desk.get(f"/api/tasks?limit=2&page={first.json()['next_page']}")

    assert (first.status_code, second.status_code) == (200, 200)
    rows = [*first.json()["tasks"], *second.json()["tasks"]]
    assert sorted(row["task_id"] for row in rows) == ["1", "2", "3"]
    assert rows == [row.as_json() for row in desk.ledger.views.tasks(TaskFilter(), limit=9).rows]
    assert (second.json()["next_page"], second.json()["searched_back_to"]) == (None, None)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=archived", ["1"]),
        (f"family={OTHER_FAMILY}", ["3"]),
        ("account=default&state=buried", ["2"]),
        ("account=other", []),
        ("text=RED%20fox", ["1"]),
        ("text=order-1", ["1"]),
        ("since=0s", []),
        ("until=2020-01-01", []),
    ],
)
def test_filters_are_those_of_list(desk: ApiDesk, query: str, expected: list[str]) -> None:
    desk.clock.advance(10**12)
    assert [row["task_id"] for row in desk.get(f"/api/tasks?{query}").json()["tasks"]] == expected


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("state=gone", "state must be one of: reported, "),
        ("family=Nonsense", "family must be one such as"),
        ("account=%00", "account must be the name"),
        ("since=yesterday", "since must be a time such as"),
        ("until=2026-13-01", "until must be a time such as"),
        ("text=%00x", "text must be text"),
        (f"text={'x' * 501}", "text must have at most 500"),
        ("limit=0", "limit must be a number from 1 to 200"),
        ("limit=-1", "limit must be"),
        ("limit=201", "limit must be"),
        ("limit=%D9%A1", "limit must be"),
        ("page=x", "page must be the next_page"),
        ("page=", "page must be"),
        ("stat=archived", "There is an unknown parameter; the known ones are state, "),
        ("state=archived&state=lost", "A parameter was given twice."),
    ],
)
def test_a_filter_that_means_nothing_is_400_with_a_sentence(desk: ApiDesk, query: str, said: str) -> None:
    answer = desk.get(f"/api/tasks?{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, 1200)
    assert answer.json()["message"].startswith(said)


def test_a_search_says_how_far_back_it_has_looked(desk: ApiDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.ledger.views.pages.LOOKED_AT_MAX", 1)

    answer = desk.get("/api/tasks?text=no%20such").json()

    assert (answer["tasks"], answer["next_page"]) == ([], None)
    assert answer["searched_back_to"].endswith("Z")
    further = desk.get(f"/api/tasks?text=no%20such&page={answer['further_page']}").json()
    assert further["further_page"] != answer["further_page"]


def test_retry_has_the_task_asked_for_now(desk: ApiDesk) -> None:
    answer = desk.edge.client.post("/api/tasks/2/retry", headers={"Authorization": f"Bearer {ADMIN}"})

    assert (answer.status_code, answer.json()["data"]) == (
        200,
        {"task_id": "2", "account": "default", "was": "buried"},
    )
    shown = desk.ledger.views.show("2", account="default")
    assert shown is not None
    assert [line.event for line in shown.history][-1] == "task.retry_requested"
    assert desk.registered == ["default"]


def test_what_cannot_be_retried_says_why(desk: ApiDesk) -> None:
    desk.ledger.tombstones.forget("3", account="default")
    post = desk.edge.client.post
    headers = {"Authorization": f"Bearer {ADMIN}"}

    answers = [post(f"/api/tasks/{task_id}/retry", headers=headers) for task_id in ("1", "3", "9", "%00")]

    assert [answer.status_code for answer in answers] == [409, 409, 404, 404]
    assert "archived" in answers[0].json()["message"]
    assert "forgotten" in answers[1].json()["message"]
    assert desk.registered == []


def test_stats_are_what_status_prints(desk: ApiDesk) -> None:
    stats = desk.get("/api/stats").json()

    assert {state: stats["states"][state] for state in ("archived", "buried", "reported")} == {
        "archived": 1,
        "buried": 1,
        "reported": 1,
    }
    assert set(stats["states"]) == set(State)
    assert "no_worker" in [problem["code"] for problem in stats["problems"]]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_without_the_token_the_api_reveals_nothing(desk: ApiDesk, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {ADMIN}"}):
        answer = desk.edge.client.request(method, path or "/api/tasks?state=nonsense", headers=headers)

        assert (answer.status_code, answer.json()["code"]) == (401, 1000)
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_wrong_method_names_the_right_ones(desk: ApiDesk) -> None:
    answer = desk.edge.client.delete("/api/tasks", headers={"Authorization": f"Bearer {ADMIN}"})

    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
