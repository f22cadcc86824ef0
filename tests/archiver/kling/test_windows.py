"""A list by time is read whole, whatever its order, its bounds and the life of its cursors."""

import random
from collections.abc import Iterator

import pytest

from archiver.failures import ApiAnswerUnreadable, ApiBadParameter, ApiServerError
from archiver.kling.new_standard import NewStandardTask
from archiver.kling.new_standard_calls import WindowPage
from archiver.kling.windows import PAGES_MAX, read_window

START, END = 1_790_000_000_000, 1_790_000_000_000 + 3_600_000


class Api:
    """Rows at times, served `size` at a time in an order of its own; the cursor is a place in a window."""

    def __init__(self, times: list[int], *, size: int = 10, cursor_pages: int | None = None) -> None:
        self.times = times
        self.size = size
        self.cursor_pages = cursor_pages
        self.calls = 0
        self.bounds = (True, True)

    def __call__(self, start: int, end: int, cursor: str) -> WindowPage:
        self.calls += 1
        at = int(cursor or 0)
        if self.cursor_pages is not None and at > self.cursor_pages * self.size:
            raise ApiBadParameter("cursor expired")
        within = [one for one in self.times if self._is_within(one, start, end)]
        random.Random(f"{start}-{end}").shuffle(within)
        page = within[at : at + self.size]
        more = at + self.size < len(within)
        return WindowPage(
            tuple(NewStandardTask("tasks", {"id": str(one)}) for one in page),
            len(page),
            (),
            str(at + self.size) if more else "",
            has_more=more,
        )

    def _is_within(self, at: int, start: int, end: int) -> bool:
        return start < at < end or (self.bounds[0] and at == start) or (self.bounds[1] and at == end)


def ids(read: Iterator[WindowPage]) -> set[str]:
    return {str(shown.document["id"]) for page in read for shown in page.shown}


@pytest.fixture
def api() -> Api:
    """500 rows, some of them where a stretch is cut in halves."""
    cuts = [START + (END - START) * eighth // 8 for eighth in range(1, 8)]
    return Api(cuts + [START + 1 + 3_599_998 * number // 492 for number in range(493)])


def test_every_page_is_read_whatever_the_order(api: Api) -> None:
    assert ids(read_window(api, start=START, end=END)) == {str(one) for one in api.times}
    assert api.calls == 50


@pytest.mark.parametrize("cursor_pages", [0, 1, 3])
@pytest.mark.parametrize("bounds", [(True, True), (False, False), (True, False)])
def test_a_cursor_that_stops_working_costs_calls_and_no_row(
    api: Api, cursor_pages: int, bounds: tuple[bool, bool]
) -> None:
    api.cursor_pages, api.bounds = cursor_pages, bounds

    assert ids(read_window(api, start=START, end=END)) == {str(one) for one in api.times}
    assert api.calls < 500


def test_a_cursor_that_leads_in_a_circle_is_left(api: Api) -> None:
    def circle(start: int, end: int, _cursor: str) -> WindowPage:
        page = api(start, end, "")
        return WindowPage(page.shown, page.rows, (), "again" if page.has_more else "", has_more=page.has_more)

    assert ids(read_window(circle, start=START, end=END)) == {str(one) for one in api.times}


def test_a_window_that_says_more_and_gives_no_cursor_is_read_in_halves(api: Api) -> None:
    def mute(start: int, end: int, cursor: str) -> WindowPage:
        page = api(start, end, cursor)
        return WindowPage(page.shown, page.rows, (), "", has_more=page.has_more)

    assert ids(read_window(mute, start=START, end=END)) == {str(one) for one in api.times}


def test_pages_without_end_are_not_read_without_end() -> None:
    asked: list[str] = []

    def endless(_start: int, _end: int, cursor: str) -> WindowPage:
        asked.append(cursor)
        return WindowPage((), 0, (), str(len(asked)), has_more=True)

    with pytest.raises(ApiAnswerUnreadable):
        ids(read_window(endless, start=START, end=START + 4000))
    assert len(asked) == PAGES_MAX + 1


def test_a_failure_of_the_first_page_is_raised() -> None:
    def broken(_start: int, _end: int, _cursor: str) -> WindowPage:
        raise ApiServerError("x")

    with pytest.raises(ApiServerError):
        ids(read_window(broken, start=START, end=END))
