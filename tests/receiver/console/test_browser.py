"""The console in a real browser. `open_page` fails each test whose pages have said that anything is wrong."""

import pathlib
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from archiver.failures import BucketMissing
from archiver.model import Stage, State
from receiver.console.access.sessions import SESSION_SECONDS
from tests.harness.browser import DESKTOP, IS_WITHIN_FRAME, PHONE, OpenPage, violations_of
from tests.harness.console import ADMIN_TOKEN, ConsoleDesk, console_at, fill
from tests.harness.ledgers import ACCOUNT, DAY

PAGES = ["", "forwards", "forwards?state=waiting", "accounts", "nothing"]
NOT_FRESH = re.compile(
    r"Not fresh since 08:0\d: the daemon does not answer, or your session has ended\. Reload\."
)


@pytest.fixture
def console(tmp_path: pathlib.Path) -> Iterator[ConsoleDesk]:
    with console_at(tmp_path) as made:
        yield made


def type_token(page: Page, token: str = ADMIN_TOKEN) -> None:
    page.get_by_label("Admin token").fill(token)
    page.get_by_role("button", name="Log in").click()


@pytest.mark.parametrize(
    ("is_empty", "viewport", "scheme"),
    [(True, DESKTOP, "light"), (False, PHONE, "light"), (False, DESKTOP, "dark")],
)
def test_every_page_can_be_read_by_everybody(
    console: ConsoleDesk, open_page: OpenPage, is_empty: bool, viewport: dict[str, int], scheme: str
) -> None:
    """axe finds nothing, and a phone need not be pushed sideways."""
    if not is_empty:
        fill(console.desk)
    page = open_page(viewport=viewport, color_scheme=scheme, bypass_csp=True)
    page.goto(f"{console.url}/login")
    found = {"login": violations_of(page)}
    console.enter(page)
    for below in PAGES:
        page.goto(f"{console.url}/{below}" if below else console.url)
        found[below] = violations_of(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), below
        if viewport == PHONE:
            assert page.evaluate(IS_WITHIN_FRAME), below

    assert found == {below: [] for below in ["login", *PAGES]}


def test_the_overview_says_what_is_wrong_first_and_then_all_that_status_says(
    console: ConsoleDesk, open_page: OpenPage
) -> None:
    fill(console.desk)
    page = console.enter(open_page())

    expect(page.get_by_role("heading", level=1)).to_have_text(
        "5 problems: lost, hold, deadline, buried, forwards_dead."
    )
    text = page.get_by_role("main").inner_text()
    for said in (
        "Create the bucket, or correct KLING_S3_BUCKET",
        "11 since counting began",
        "8 confirmed tasks wait for the bucket",
        "Not in this count: 1 lost, 1 reported, 1 unknown.",
        "Last callback\n5 minutes ago",
        "Nearest deadline\nin 47 hours",
        "door, work, version 0.1.0",
    ):
        assert said in text
    assert page.get_by_role("listitem").filter(has_text="archived").last.inner_text() == "archived\n11"
    expect(page.get_by_role("link", name="Dead forwards")).to_have_attribute("href", "console/forwards")
    chart = page.get_by_role("figure").first
    assert chart.get_by_role("img").get_attribute("aria-labelledby") == "throughput-chart-title"
    chart.get_by_text("As numbers").click()
    assert chart.get_by_role("row").all_inner_texts()[-3:] == [
        "23 Sep, 14:00\t3",
        "23 Sep, 15:00\t7",
        "23 Sep, 16:00\t1",
    ]


def test_the_overview_stays_fresh_and_a_reader_keeps_what_he_has_opened(
    console: ConsoleDesk, open_page: OpenPage
) -> None:
    page = open_page()
    page.clock.install()
    console.enter(page)
    console.desk.bring(State.RUNNING)
    page.clock.fast_forward(16_000)
    expect(page.get_by_text("As numbers")).to_be_visible()

    page.get_by_text("As numbers").click()
    page.evaluate("document.activeElement.blur()")
    console.desk.bring(State.FAILED, "f")
    page.clock.fast_forward(16_000)

    expect(page.get_by_role("listitem").filter(has_text="failed")).to_have_text("failed 1")
    expect(page.get_by_role("row").first).to_be_visible()


@pytest.mark.parametrize("failure", ["no answer", "a crash", "another page"])
def test_an_overview_that_cannot_be_refreshed_says_since_when_until_it_can(
    console: ConsoleDesk, open_page: OpenPage, failure: str
) -> None:
    page = open_page()
    page.clock.install(time="2026-11-20T08:00:00Z")
    console.enter(page)
    line, stale = page.locator("#stale"), page.locator(".verdict.stale")
    expect(line).to_be_hidden()
    expect(stale).to_have_count(0)

    if failure == "no answer":
        page.evaluate("window.kept = fetch; window.fetch = () => Promise.reject(new TypeError()); 0")
    else:
        status = 500 if failure == "a crash" else 200
        page.route("**/console", lambda route: route.fulfill(status=status, body="<p>A proxy's</p>"))
    page.clock.fast_forward(16_000)
    expect(line).to_have_text(NOT_FRESH)
    expect(stale).to_have_count(1)

    page.evaluate("window.fetch = window.kept || fetch; 0")
    page.unroute("**/console")
    page.clock.fast_forward(16_000)
    expect(line).to_be_hidden()
    expect(stale).to_have_count(0)


def test_an_overview_that_is_in_use_says_that_it_is_not_fresh(
    console: ConsoleDesk, open_page: OpenPage
) -> None:
    page = open_page()
    page.clock.install()
    console.enter(page)
    page.get_by_role("main").focus()
    page.clock.fast_forward(50_000)
    expect(page.locator("#stale")).to_be_hidden()

    page.clock.fast_forward(20_000)

    expect(page.locator("#stale")).to_contain_text("it waits while you use or select something here. Reload.")
    expect(page.locator(".verdict.stale")).to_have_count(1)


def test_an_overview_whose_session_has_ended_goes_to_the_login(
    console: ConsoleDesk, open_page: OpenPage
) -> None:
    page = open_page()
    page.clock.install()
    console.enter(page)
    console.desk.clock.advance(SESSION_SECONDS * 1000)

    page.clock.fast_forward(16_000)

    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_everything_can_be_done_by_the_keyboard_alone(console: ConsoleDesk, open_page: OpenPage) -> None:
    fill(console.desk)
    page = open_page()
    page.goto(console.url)
    page.keyboard.type(ADMIN_TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_url(console.url)

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    tab_to(page, "Forwards", back=True)
    page.keyboard.press("Enter")
    page.wait_for_url("**/forwards")
    tab_to(page, "Send again: archived of archived-0-1")
    page.keyboard.press("Enter")

    expect(page.get_by_role("status")).to_have_text("1 forward will be sent again.")
    tab_to(page, "Log out")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def tab_to(page: Page, name: str, *, back: bool = False) -> None:
    """Until the focus, which is always seen, is on the link or button of this name."""
    focused = "(e => e.getAttribute('aria-label') || e.innerText.trim())(document.activeElement)"
    for _ in range(30):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        if page.evaluate(focused) == name:
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    pytest.fail(f"no way to {name}")


def test_everything_works_without_scripts(console: ConsoleDesk, open_page: OpenPage) -> None:
    fill(console.desk)
    page = open_page(java_script_enabled=False)
    page.goto(f"{console.url}/forwards")
    type_token(page, "a-wrong-token-0123456789abcdef")
    expect(page.get_by_role("alert")).to_contain_text("not the admin token")

    type_token(page)
    page.get_by_role("button", name="Send 1 dead forward again").click()
    expect(page.get_by_role("status")).to_have_text("1 forward will be sent again.")
    page.get_by_role("link", name="Accounts").click()
    expect(page.get_by_role("heading", level=2).first).to_have_text(ACCOUNT)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_a_session_that_has_ended_leads_back_to_the_page_and_two_tabs_share_one(
    console: ConsoleDesk, open_page: OpenPage
) -> None:
    first = console.enter(open_page())
    second = first.context.new_page()
    second.goto(f"{console.url}/accounts")
    expect(second.get_by_role("heading", level=1)).to_have_text("Accounts")

    console.desk.clock.advance(SESSION_SECONDS * 1000)
    second.get_by_role("link", name="Forwards").click()
    type_token(second)
    expect(second.get_by_role("heading", level=1)).to_have_text("Forwards")

    first.get_by_role("button", name="Log out").click()  # a form of the session before
    expect(first.get_by_role("heading", level=1)).to_have_text("Not done")
    second.get_by_role("button", name="Log out").click()
    first.get_by_role("link", name="Overview", exact=True).click()
    expect(first.get_by_role("heading", level=1)).to_have_text("Log in")


def test_texts_from_outside_are_shown_and_not_executed(console: ConsoleDesk, open_page: OpenPage) -> None:
    written = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    console.desk.ledger.holds.set(BucketMissing(written), account=ACCOUNT, stage=Stage.ARCHIVE)
    console.desk.clock.advance(DAY)

    page = console.enter(open_page())

    expect(page.get_by_role("main")).to_contain_text(written)
