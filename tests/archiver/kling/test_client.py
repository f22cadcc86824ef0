"""The API client against a real HTTP server that says whatever a test makes it say: questions about one task."""

import contextlib
import json

import pytest

from archiver import failures
from archiver.kling.credentials import ApiKey
from archiver.kling.limiter import Priority
from tests.harness.scripted_api import TASK_ID, Api, Clients, Reply, envelope, list_page, query, row, sample


def test_a_task_is_asked_for_under_its_family_s_path(api: Api, clients: Clients) -> None:
    api.says(sample("generations_single.json"))
    task = query(clients())

    assert task.task_id == TASK_ID
    assert [asset.stem for asset in task.assets] == ["0", "0.watermark", "1"]
    assert task.document == json.loads(sample("generations_single.json"))["data"]
    assert [asked.path for asked in api.asked] == [f"/v1/images/generations/{TASK_ID}"]
    assert clients.observed == [("query", "0")]


def test_a_request_says_who_asks_and_carries_nothing_else(api: Api, clients: Clients) -> None:
    api.says(Reply(envelope(row()), headers={"Set-Cookie": "session=1; Path=/"}))
    client = clients()
    query(client)
    query(client)

    assert api.asked[1].headers["user-agent"].startswith("kling-archiver/")
    assert set(api.asked[1].headers) == {
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "connection",
        "authorization",
    }


def test_a_base_url_may_carry_a_path(api: Api, clients: Clients) -> None:
    api.says(envelope(row()))
    query(clients(path="/kling/"))

    assert api.asked[0].path == f"/kling/v1/images/generations/{TASK_ID}"


def test_a_proxy_of_the_environment_does_not_stand_before_loopback(
    api: Api, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    api.says(envelope(row()))

    assert query(clients()).task_id == TASK_ID


@pytest.mark.parametrize(
    ("external", "segment"),
    [
        ("order 7/é", "order%207%2F%C3%A9"),
        ("../../x?y#z", "..%2F..%2Fx%3Fy%23z"),
        ("%41", "%2541"),
        ("a\0b", "a%00b"),
    ],
)
def test_an_external_id_is_one_path_segment_whatever_it_holds(
    api: Api, clients: Clients, external: str, segment: str
) -> None:
    api.says(envelope(row(task_info={"external_task_id": external})))
    with contextlib.suppress(failures.ApiAnswerUnreadable):  # NUL is not stored, so it cannot be compared
        assert query(clients(), external).task_id == TASK_ID

    assert api.asked[0].path == f"/v1/images/generations/{segment}"


@pytest.mark.parametrize("identifier", ["", ".", "..", "\ud800", "x" * 1025])
def test_an_id_that_would_ask_for_something_else_is_not_asked_for(
    api: Api, clients: Clients, identifier: str
) -> None:
    with pytest.raises(failures.ApiRequestInvalid):
        query(clients(), identifier)
    assert api.asked == []


@pytest.mark.parametrize(
    "data",
    [row("828338674605228999"), [row("1"), row("2")], "x", 7, {"task_status": "succeed"}],
)
def test_an_answer_about_anything_else_does_not_count(api: Api, clients: Clients, data: object) -> None:
    api.says(envelope(data))

    with pytest.raises(failures.ApiAnswerUnreadable):
        query(clients())


@pytest.mark.parametrize("data", [[], {}, None])
def test_an_answer_without_a_task_shows_none(api: Api, clients: Clients, data: object) -> None:
    api.says(envelope(data))

    with pytest.raises(failures.TaskNotShown):
        query(clients())


def test_an_array_around_the_task_is_harmless(api: Api, clients: Clients) -> None:
    api.says(envelope([row("1"), row()]))

    assert query(clients()).task_id == TASK_ID


def test_the_new_standard_is_asked_at_tasks_and_needs_an_api_key(api: Api, clients: Clients) -> None:
    api.says(sample("tasks_query.json"))
    task = query(clients(ApiKey("sk-live-1")), "930810057590833241", family="tasks/image")

    assert task.family == "tasks/image"
    assert api.asked[0].path == "/tasks?task_ids=930810057590833241"
    assert clients.observed == [("tasks", "0")]
    with pytest.raises(failures.NeedsApiKey):
        query(clients(), "930810057590833241", family="tasks/image")
    with pytest.raises(failures.ApiRequestInvalid):
        query(clients(ApiKey("sk-live-1")), "a,b", family="solutions/virtual_try_on")


def test_an_id_that_tasks_leaves_out_is_not_found(api: Api, clients: Clients) -> None:
    api.says(envelope([]))

    with pytest.raises(failures.TaskNotFound):
        query(clients(ApiKey("sk-live-1")), "1", family="tasks/video")


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("body", [b"<html>", envelope(None, code=1203)])
def test_a_question_that_the_api_does_not_offer_is_told_from_a_task_that_is_not_there(
    api: Api, clients: Clients, status: int, body: bytes
) -> None:
    client = clients(ApiKey("sk-live-1"))
    api.says(Reply(body, status))

    for ask in (
        lambda: list_page(client),
        lambda: client.collection("tasks", query={"task_ids": "1"}, priority=Priority.VERIFY),
        lambda: query(client, "1", family="tasks/video"),
    ):
        with pytest.raises(failures.NotOffered):
            ask()
    with pytest.raises(failures.Failure) as single:
        query(client)
    assert not isinstance(single.value, failures.NotOffered | failures.TaskNotFound)


def test_a_collection_is_asked_with_an_api_key_only(api: Api, clients: Clients) -> None:
    api.says(envelope([]))
    clients(ApiKey("sk-live-1")).collection("solutions", query={"task_ids": "1,2"}, priority=Priority.VERIFY)
    with pytest.raises(failures.NeedsApiKey):
        clients().collection("solutions", query={"task_ids": "1,2"}, priority=Priority.VERIFY)

    assert [asked.path for asked in api.asked] == ["/solutions?task_ids=1,2"]
    assert clients.observed == [("tasks", "0")]
