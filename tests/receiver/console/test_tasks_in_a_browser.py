"""The pages of tasks in a real browser. `open_page` fails each test whose pages have said that anything is wrong."""

import pathlib
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from archiver.model import State
from tests.harness.browser import DESKTOP, IS_WITHIN_FRAME, PHONE, OpenPage, violations_of
from tests.harness.console import ConsoleDesk, console_at
from tests.harness.gallery import fill_tasks, presigning_store
from tests.harness.ledgers import ACCOUNT

PAGES = [
    "tasks",
    "tasks?view=gallery",
    "tasks?text=fox&state=archived&since=7d",
    "tasks?state=gone",
    f"tasks/{ACCOUNT}/831768251064815640",
    f"tasks/{ACCOUNT}/831768251064815650",
    f"tasks/{ACCOUNT}/hostile",
]
IS_LOADED = "document.querySelector('main img').naturalWidth > 0"


@pytest.fixture
def console(tmp_path: pathlib.Path) -> Iterator[ConsoleDesk]:
    with presigning_store() as places, console_at(tmp_path, file_places=places) as made:
        yield made


@pytest.mark.parametrize(
    ("pages", "viewport", "scheme"),
    [(PAGES, PHONE, "light"), ([PAGES[0], PAGES[1], PAGES[-1]], DESKTOP, "dark")],
)
def test_every_page_of_tasks_can_be_read_by_everybody(
    console: ConsoleDesk, open_page: OpenPage, pages: list[str], viewport: dict[str, int], scheme: str
) -> None:
    """axe finds nothing, and a phone need not be pushed sideways."""
    page = console.enter(open_page(viewport=viewport, color_scheme=scheme, bypass_csp=True), "tasks")
    found = {"no task": violations_of(page)}
    fill_tasks(console.desk)
    for below in pages:
        page.goto(f"{console.url}/{below}")
        found[below] = violations_of(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), below
        if viewport == PHONE:
            assert page.evaluate(IS_WITHIN_FRAME), below

    assert found == {below: [] for below in found}


@pytest.mark.parametrize("has_scripts", [True, False])
def test_an_operator_finds_a_picture_by_its_prompt_and_looks_at_it(
    console: ConsoleDesk, open_page: OpenPage, has_scripts: bool
) -> None:
    fill_tasks(console.desk)
    page = console.enter(open_page(java_script_enabled=has_scripts))
    page.get_by_role("link", name="Tasks", exact=True).click()
    page.get_by_role("link", name="Gallery").click()
    expect(page.get_by_role("listitem").filter(has_text="ago")).to_have_count(5)
    wait_for_picture(page)
    page.get_by_label("Text").fill("RED fox")
    page.get_by_role("button", name="Show").click()

    page.get_by_role("link", name="A red fox in the snow").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("831768251064815640 archived")
    wait_for_picture(page)
    expect(page.get_by_role("figure")).to_have_count(2)


def wait_for_picture(page: Page) -> None:
    """It is there, from another origin, which the policy of the page names."""
    expect(page.locator("main img").first).to_be_visible()
    page.wait_for_function(IS_LOADED)


def test_films_and_sounds_have_controls(console: ConsoleDesk, open_page: OpenPage) -> None:
    fill_tasks(console.desk)
    page = console.enter(open_page(), f"tasks/{ACCOUNT}/831768251064815650")
    assert page.locator("video").get_attribute("controls") is not None

    page.goto(f"{console.url}/tasks/{ACCOUNT}/831768251064815651")
    assert page.locator("audio").get_attribute("controls") is not None


def test_a_task_is_retried_by_the_keyboard_alone(console: ConsoleDesk, open_page: OpenPage) -> None:
    console.desk.bring(State.BURIED, "buried")
    page = console.enter(open_page(), f"tasks/{ACCOUNT}/buried")
    page.get_by_role("link", name="Skip to the content").focus()
    page.keyboard.press("Enter")
    for _ in range(5):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Retry now":
            break

    page.keyboard.press("Enter")

    expect(page.get_by_role("status")).to_have_text("Kling will be asked for this task again now.")


def test_hostile_texts_run_nothing_and_turn_nothing_around(console: ConsoleDesk, open_page: OpenPage) -> None:
    fill_tasks(console.desk)
    page = console.enter(open_page())
    for below in ("tasks", f"tasks/{ACCOUNT}/hostile"):
        page.goto(f"{console.url}/{below}")
        assert "run" not in page.title()
    row = page.get_by_text("External id").locator("xpath=following-sibling::dd[1]")
    assert row.locator("bdi").count() == 1
