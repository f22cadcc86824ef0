"""Ids that need escaping: every link to their pages, and every retry, finds them."""

import html
import pathlib
import re

import pytest
from httpx2 import Client

from archiver.model import State
from tests.harness.console import ADMIN_TOKEN, HttpConsole, console_at, csrf_of
from tests.harness.ledgers import ACCOUNT

IDS = ["order/42", "a?b", "x#1", "a/../../../forwards", "..\\up", "x;y z", "x/retry", "/", "狐狸"]


@pytest.mark.parametrize("task_id", IDS)
def test_a_task_of_any_id_is_found_by_its_link_and_retried(console: HttpConsole, task_id: str) -> None:
    console.desk.bring(State.BURIED, task_id)
    console.log_in()
    tasks = console.get("tasks")

    page = console.client.get(tasks.url.join(attribute(tasks.text, r'class="mono" href')))
    retry = page.url.join(attribute(page.text, "action", holding="/retry"))
    done = console.client.post(retry, data={"csrf": csrf_of(page)})
    after = console.client.get(done.url.join(done.headers["location"]))
    overview = console.client.get(after.url.join(attribute(after.text, r'class="brand" href')))

    assert (page.status_code, done.status_code, after.status_code) == (200, 303, 200)
    assert "Kling will be asked for this task again now." in after.text
    assert html.escape(task_id, quote=False) in after.text
    assert str(overview.url) == "http://testserver/console"


def test_an_id_in_a_problem_leads_to_its_task_and_the_search_finds_it(console: HttpConsole) -> None:
    task_id = "882000000000000042"
    console.desk.bring(State.BURIED, task_id)
    console.log_in()
    overview = console.get("")

    page = console.client.get(overview.url.join(attribute(overview.text, "href", holding=f"/{task_id}")))
    found = console.client.get(overview.url.join("console/tasks"), params={"text": task_id})

    assert page.status_code == 200
    assert f'class="message">1 task buried: <a href="console/tasks/{ACCOUNT}/{task_id}">' in overview.text
    assert f"tasks/{ACCOUNT}/{task_id}" in found.text
    others = console.client.get(found.url.join(attribute(found.text, 'rel="next" href')))
    assert "No further task matches." in others.text


@pytest.mark.parametrize("task_id", ["order/42", "a?b", "a/../../../forwards"])
def test_a_login_leads_back_to_a_task_of_any_id(console: HttpConsole, task_id: str) -> None:
    console.desk.bring(State.BURIED, task_id)
    console.log_in()
    tasks = console.get("tasks")
    link = tasks.url.join(attribute(tasks.text, r'class="mono" href'))
    console.client = console.browser()

    answer = console.client.get(link)
    login = console.client.get(answer.url.join(answer.headers["location"]))
    form = {"csrf": csrf_of(login), "token": ADMIN_TOKEN, "next": attribute(login.text, 'name="next" value')}
    back = console.post("login", form)

    assert back.url.join(back.headers["location"]) == link
    assert f"tasks/{ACCOUNT}/" in str(link)


def test_an_id_that_looks_escaped_is_escaped_once_more(tmp_path: pathlib.Path) -> None:
    """On a socket: starlette's test client would unescape it twice."""
    with console_at(tmp_path) as served, Client() as client:
        served.desk.bring(State.BURIED, "50%25off")
        form = {"csrf": csrf_of(client.get(f"{served.url}/login")), "token": ADMIN_TOKEN}
        client.post(f"{served.url}/login", data=form)
        tasks = client.get(f"{served.url}/tasks")

        page = client.get(tasks.url.join(attribute(tasks.text, r'class="mono" href')))
        retry = page.url.join(attribute(page.text, "action", holding="/retry"))
        done = client.post(retry, data={"csrf": csrf_of(page)}, follow_redirects=True)

    assert done.status_code == 200
    assert "Kling will be asked for this task again now." in done.text
    assert "50%25off" in done.text


def attribute(text: str, name: str, *, holding: str = "") -> str:
    """The value of the first such attribute."""
    return next(html.unescape(value) for value in re.findall(rf'{name}="([^"]*)"', text) if holding in value)
