"""The pages of tasks by HTTP alone: filters, pages, retries, and what a page may load."""

import dataclasses
import re
from typing import Any
from urllib.parse import urlencode

import pytest

from archiver.failures import StoreCredentialsMissing
from archiver.model import State
from receiver.console.pages import tasks
from receiver.console.parts import FilePlaces
from tests.harness.console import HttpConsole, csrf_of
from tests.harness.gallery import HOSTILE, archive_files, fill_tasks
from tests.harness.ledgers import ACCOUNT, FAMILY, MINUTE, answer, asset

TASK = f"tasks/{ACCOUNT}/831768251064815640"


def shown(console: HttpConsole, **query: str) -> list[str]:
    """The ids in the table, in their order."""
    answer = console.get(f"tasks?{urlencode(query)}" if query else "tasks")
    assert answer.status_code == 200, answer.text
    return re.findall(r'<th scope="row"><a class="mono"[^>]*>([^<]+)', answer.text)


def beside(console: HttpConsole, places: FilePlaces, **parts: Any) -> HttpConsole:
    """Another console of the same ledger, with tasks in it, logged in."""
    fill_tasks(console.desk)
    made = HttpConsole(console.desk, file_places=places, **parts)
    made.log_in()
    return made


def policy_of(console: HttpConsole, below: str) -> str:
    return console.get(below).headers["content-security-policy"]


def test_no_page_of_tasks_is_shown_without_a_login(console: HttpConsole) -> None:
    fill_tasks(console.desk)

    for below in ("tasks", TASK):
        answer = console.get(below)
        assert (answer.status_code, "login" in answer.headers["location"]) == (303, True)
    assert console.post(f"{TASK}/retry", {}).headers["location"].endswith("console/login?ended=1")


def test_tasks_are_filtered_like_those_of_list(console: HttpConsole) -> None:
    fill_tasks(console.desk)
    console.log_in()

    assert shown(console)[:2] == ["831768251064815660", "hostile"]
    assert shown(console, state="failed") == ["hostile"]
    assert shown(console, family="videos/text2video") == ["831768251064815650"]
    assert shown(console, text="RED fox") == ["831768251064815640"]
    assert shown(console, text="狐狸") == ["831768251064815642"]
    assert shown(console, since="2026-09-21T16:00Z", until="2026-09-21T17:16:00Z") == ["831768251064815642"]
    assert shown(console, account="other") == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("state=gone", "State must be one of"),
        ("family=x", "Family must be one such as"),
        ("since=soon", "Since must be a time"),
        ("page=x", "Page must be the next_page"),
        ("text=%00", "Text must be text"),
    ],
)
def test_a_meaningless_filter_is_reported_above_the_form(console: HttpConsole, query: str, said: str) -> None:
    console.log_in()

    answer = console.get(f"tasks?{query}")

    assert answer.status_code == 400
    assert f'role="alert">{said}' in answer.text


def test_pages_lead_to_each_other_with_their_filters(
    console: HttpConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "ROWS", 2)
    fill_tasks(console.desk)
    console.log_in()
    seen, below = [], "tasks?state=archived"
    while below:
        answer = console.get(below)
        seen += re.findall(r'<th scope="row"><a class="mono"[^>]*>([^<]+)', answer.text)
        following = re.search(r'rel="next" href="[^"?]*([^"]+)"', answer.text)
        below = f"tasks{following[1]}".replace("&amp;", "&") if following else ""

    assert seen == [f"8317682510648156{number}" for number in (51, 50, 42, 41, 40)]


def test_a_search_says_how_far_back_it_looked_and_goes_on_from_there(
    console: HttpConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.ledger.views.pages.LOOKED_AT_MAX", 4)
    fill_tasks(console.desk)
    console.log_in()

    answer = console.get("tasks?text=golden")
    assert "Searched back to" in answer.text
    further = re.search(r'href="[^"?]*(\?[^"]+)">Search further back', answer.text)
    assert further is not None
    answer = console.get(f"tasks{further[1].replace('&amp;', '&')}")
    assert "831768251064815640" in answer.text
    assert "Search further back" not in answer.text


def test_a_page_without_rows_says_that_older_tasks_were_not_looked_at(
    console: HttpConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        console.desk.tell(f"mine-{number}", family=f"invented/family-{number}")
    for number in range(3):
        console.desk.clock.advance(MINUTE)
        console.desk.ledger.registrations.register(f"other-{number}", account="other", family=FAMILY)
    monkeypatch.setattr("archiver.ledger.views.walks.WALKS_MAX", 0)
    monkeypatch.setattr("archiver.ledger.views.pages.UNINDEXED_ROWS_MAX", 2)
    monkeypatch.setattr("archiver.ledger.views.pages.STEP_ROWS", 2)
    console.log_in()

    answer = console.get(f"tasks?account={ACCOUNT}")

    assert "mine" not in answer.text
    assert "No task matches" not in answer.text
    assert "there are older ones" in answer.text
    assert 'rel="next"' in answer.text
    assert "No task matches." in console.get("tasks?state=lost").text


def test_a_page_may_load_from_the_store_and_from_nowhere_else(console: HttpConsole) -> None:
    places = FilePlaces(presign=lambda key: f"https://b.s3.example.com/{key}?X-Amz-Signature=0")
    other = beside(console, places)

    for below in ("tasks?view=gallery", TASK):
        policy = policy_of(other, below)
        assert "img-src 'self' https://b.s3.example.com;" in policy
        assert "media-src 'self' https://b.s3.example.com;" in policy
    assert "img-src 'self';" in policy_of(other, "tasks")
    assert "img-src 'self';" in policy_of(other, "tasks/default/hostile")


def test_links_are_preferred_and_where_they_lead_may_be_loaded_too(console: HttpConsole) -> None:
    link = "https://kling.example.com/files/m/default/0.png"
    places = FilePlaces(links_lead_to="https://cdn.example.com/x/")

    page = beside(console, places, links=lambda _: {"0": link}).get(TASK)

    assert f'src="{link}"' in page.text
    policy = page.headers["content-security-policy"]
    assert "img-src 'self' https://cdn.example.com https://kling.example.com;" in policy


def test_without_any_url_a_page_still_names_the_keys(console: HttpConsole) -> None:
    def refuse(_: str) -> str:
        raise StoreCredentialsMissing("no credentials")

    other = beside(console, FilePlaces(presign=refuse))
    page, gallery = other.get(TASK), other.get("tasks?view=gallery")

    assert (page.status_code, gallery.status_code) == (200, 200)
    assert "s3://my-results/kling/images/generations/2026/09/21/831768251064815640/0.png" in page.text
    assert "<img src=" not in page.text.partition("<main")[2]


def test_a_retry_needs_the_csrf_token_of_the_session_and_is_done_once(console: HttpConsole) -> None:
    console.desk.bring(State.BURIED, "buried")
    console.log_in()
    page = console.get(f"tasks/{ACCOUNT}/buried")

    refused = console.post(f"tasks/{ACCOUNT}/buried/retry", {"csrf": "wrong"})
    events = [line["event"] for line in console.desk.shown("buried")["history"]]
    done = console.post(f"tasks/{ACCOUNT}/buried/retry", {"csrf": csrf_of(page)})

    assert (refused.status_code, "task.retry_requested" in events) == (403, False)
    assert (done.status_code, done.headers["location"]) == (
        303,
        "../../../../console/tasks/default/buried?retried=1",
    )
    assert [line["event"] for line in console.desk.shown("buried")["history"]][-1] == "task.retry_requested"
    assert (
        "Kling will be asked for this task again now."
        in console.get(f"tasks/{ACCOUNT}/buried?retried=1").text
    )


def test_an_archived_task_offers_no_retry_and_takes_none(console: HttpConsole) -> None:
    archive_files(console.desk, "1", "0.png", prompt="x")
    console.log_in()
    page = console.get(f"tasks/{ACCOUNT}/1")

    assert "Retry now" not in page.text
    assert (
        console.post(f"tasks/{ACCOUNT}/1/retry", {"csrf": csrf_of(page)})
        .headers["location"]
        .endswith("retried=0")
    )


@pytest.mark.parametrize("below", ["default/unknown", "other/1", "default/%00", "default/" + "x" * 300])
def test_a_task_that_is_not_there_is_not_found(console: HttpConsole, below: str) -> None:
    console.desk.tell("1")
    console.log_in()
    csrf = csrf_of(console.get("tasks"))

    assert console.get(f"tasks/{below}").status_code == 404
    assert console.post(f"tasks/{below}/retry", {"csrf": csrf}).status_code == 404


def test_a_forgotten_task_says_so_and_nothing_else(console: HttpConsole) -> None:
    archive_files(console.desk, "1", "0.png", prompt="a secret prompt")
    console.desk.ledger.tombstones.forget("1", account=ACCOUNT)
    console.log_in()

    page = console.get(f"tasks/{ACCOUNT}/1")

    assert "forgotten" in page.text
    assert "a secret prompt" not in page.text
    assert shown(console) == []


def test_hostile_texts_are_texts_everywhere(console: HttpConsole) -> None:
    fill_tasks(console.desk)
    console.log_in()

    searched = urlencode({"text": HOSTILE})
    for below in (
        "tasks",
        f"tasks?{searched}",
        f"tasks/{ACCOUNT}/hostile",
        "tasks?view=gallery&state=failed",
    ):
        page = console.get(below).text
        assert "<script>document" not in page
        assert "src=x onerror" not in page.replace("&lt;img src=x onerror", "")
        assert "&lt;script&gt;" in page


def test_a_task_shows_what_it_was_asked_for_why_it_waits_and_what_to_do(console: HttpConsole) -> None:
    console.desk.ledger.registrations.register(
        "t", account=ACCOUNT, family=FAMILY, request={"prompt": "a red fox", "n": 1}
    )
    console.desk.bring(State.BURIED, "t")
    console.desk.clock.advance(MINUTE)
    console.log_in()

    page = console.get(f"tasks/{ACCOUNT}/t").text

    reasons = ("not_media", "What to do", "Retry now", "Kling deletes it")
    for said in ("a red fox", "&#34;n&#34;: 1", "task.registered", *reasons):
        assert said in page, said


@pytest.mark.parametrize(
    ("url", "is_linked"),
    [
        ("https://cdn.klingai.com/late.png?signature=abc", True),
        ("http://127.0.0.1:9000/late.png", True),
        ("javascript:alert(1)", False),
    ],
)
def test_a_file_that_is_not_stored_leads_to_klings_url_unless_no_browser_should_go_there(
    console: HttpConsole, url: str, is_linked: bool
) -> None:
    late = dataclasses.replace(asset("0"), url=url)
    console.desk.say(answer("late", created_at=console.desk.clock(), assets=(late,)))
    console.log_in()

    page = console.get(f"tasks/{ACCOUNT}/late")
    assert (f'<a href="{url}" rel="noreferrer">0</a>' in page.text) == is_linked
    assert ("javascript:" not in page.text) or is_linked
    assert "not stored: <code>not tried yet</code>" in page.text
