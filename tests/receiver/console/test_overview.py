"""The overview in a real browser."""

import pathlib

from tests.harness.browser import OpenPage
from tests.harness.console import console_at


def test_an_operator_logs_in_and_reads_the_verdict_first(tmp_path: pathlib.Path, open_page: OpenPage) -> None:
    with console_at(tmp_path) as console:
        page = console.enter(open_page())

        assert page.get_by_role("heading", level=1).inner_text() == "2 problems: no_worker, no_door."
