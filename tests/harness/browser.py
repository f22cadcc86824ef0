"""A real Chromium for tests of pages: one for each process that runs tests, and a fresh profile for each test."""

import asyncio
import contextlib
import dataclasses
import shutil
from asyncio import _set_running_loop
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no types
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "chromium is missing: apt-get install chromium"
PHONE = {"width": 360, "height": 740}
IS_WITHIN_FRAME = (
    "[...document.querySelectorAll('.scroll')].every(frame => frame.scrollWidth <= frame.clientWidth)"
)
"""Whether no table is wider than its frame: what lies beside it would not be seen on a phone."""
DESKTOP = {"width": 1280, "height": 900}
MILLISECONDS_MAX = 60_000
"""For whatever a test waits for."""

OpenPage = Callable[..., Page]


@dataclasses.dataclass(frozen=True)
class _Started:
    browser: Browser
    loop: asyncio.AbstractEventLoop


@pytest.fixture(scope="session")
def _chromium() -> Iterator[_Started]:
    if CHROMIUM is None:
        pytest.skip(MISSING)
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with contextlib.ExitStack() as opened:
        playwright = opened.enter_context(sync_playwright())
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=arguments, timeout=MILLISECONDS_MAX
        )
        expect.set_options(timeout=MILLISECONDS_MAX)
        started = _Started(browser, asyncio.get_running_loop())
        _set_running_loop(None)
        yield started
        _set_running_loop(started.loop)
        browser.close()


@pytest.fixture
def open_page(_chromium: _Started) -> Iterator[OpenPage]:
    """`open_page(**options)`: a page in a new profile, with what `Browser.new_context` takes (`viewport=PHONE`,
    `color_scheme="dark"`, `java_script_enabled=False`). The test fails if a page has said that anything is wrong, such
    as a violation of its content security policy; `bypass_csp=True` is for `violations_of`."""
    said: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # That a page was 403 or 404 is what tests ask for.
        if (
            message.type in {"error", "warning"}
            and "the server responded with a status of" not in message.text
        ):
            said.append(message.text)

    with _playing(_chromium), contextlib.ExitStack() as opened:

        def open_(**options: Any) -> Page:
            context = _chromium.browser.new_context(**{"viewport": DESKTOP, **options})
            opened.callback(context.close)
            context.set_default_timeout(MILLISECONDS_MAX)
            page = context.new_page()
            page.on("console", note)
            page.on("pageerror", lambda error: said.append(str(error)))
            return page

        yield open_
    assert said == []


@contextlib.contextmanager
def _playing(started: _Started) -> Iterator[None]:
    """Playwright's event loop counts as running for as long as it is used: other tests could run none beside it."""
    _set_running_loop(started.loop)
    try:
        yield
    finally:
        _set_running_loop(None)


def violations_of(page: Page) -> list[str]:
    """What axe finds: the rules, and where they are broken. The page must be one that bypasses its policy."""
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]
