"""Pages by HTTP: several accounts, and a ledger that cannot be read."""

import contextlib
import pathlib
from collections.abc import Callable

import pytest

from archiver.failures import LedgerUnavailable
from archiver.model import Callback, State, Status
from archiver.problems import Expected
from receiver.console.pages.charts import Bar, chart_of, nice_ceiling
from receiver.console.parts import ConsoleAccount
from tests.harness.console import HttpConsole, fill, http_console
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, MINUTE, SECOND, answer


def unavailable(*_: object, **__: object) -> object:
    raise LedgerUnavailable("the disk is full", what_to_do="Make room.")


def broken(*_: object, **__: object) -> object:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("read", "status", "said"),
    [
        (unavailable, 503, ["1 problem: door_closed.", "the disk is full", "Make room."]),
        (broken, 500, ["Something went wrong", "It has been logged."]),
    ],
)
def test_an_overview_that_cannot_be_read_says_why(
    console: HttpConsole,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[..., object],
    status: int,
    said: list[str],
) -> None:
    console.log_in()
    monkeypatch.setattr(console.desk.ledger.views, "status", read)
    console.client = console.browser(raises=False, like=console.client)

    answer = console.get()

    assert answer.status_code == status
    assert [words for words in said if words not in answer.text] == []


def test_a_page_of_a_ledger_that_cannot_be_read_says_what_to_do(
    console: HttpConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    console.log_in()
    monkeypatch.setattr(console.desk.ledger.forward_orders, "page", unavailable)

    answer = console.get("forwards")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "The ledger cannot be used now: the disk is full. Make room." in answer.text


def test_pages_say_which_account_they_speak_of_where_there_are_several(tmp_path: pathlib.Path) -> None:
    accounts = [
        ConsoleAccount(
            name, [FAMILY], base_url="https://api.example.com", credentials="API Key", prefix=f"{name}/"
        )
        for name in (ACCOUNT, "eu")
    ]
    expected = Expected({account.name: account.families for account in accounts}, 300_000)
    with (
        http_console(tmp_path, accounts=accounts, expected=expected) as console,
        contextlib.closing(console.desk),
    ):
        fill(console.desk)
        console.desk.ledger.callbacks.record([Callback("former", "f", Status.SUCCEEDED, FAMILY)])
        console.log_in()
        overview, forwards, shown = (console.get(below).text for below in ("", "forwards", "accounts"))

    assert ">eu</td>" in overview
    assert f">{ACCOUNT}</td>" in forwards
    assert [name in shown for name in (f">{ACCOUNT}<", ">eu<", ">former<")] == [True] * 3
    assert "kling-archiver rename-account former NEW" in shown
    assert shown.count("The settings do not name this account") == 1


def test_an_overview_with_lost_and_unconfirmed_tasks_does_not_say_that_all_is_in_the_bucket(
    console: HttpConsole,
) -> None:
    desk = console.desk
    desk.say(answer("lost", created_at=desk.clock() - 30 * DAY + SECOND))
    desk.clock.advance(MINUTE)
    desk.ledger.deadlines.expire()
    desk.tell("reported")
    console.log_in()

    text = console.get().text

    assert "No confirmed task waits for the bucket</figcaption>" in text
    assert "Not in this count: 1 lost, 1 reported." in text


def test_a_chart_has_a_bar_for_each_value_and_two_lines_of_whole_numbers() -> None:
    chart = chart_of([Bar("none", 0), Bar("unknown", None), Bar("one", 1), Bar("most", 1000)])

    assert [drawn.height > 0 for drawn in chart.bars] == [False, False, True, True]
    assert chart.bars[-1].y + chart.bars[-1].height == chart.base
    assert [line.value for line in chart.lines] == [500, 1000]
    assert chart_of([]).bars == []


def test_an_axis_ends_at_a_number_that_people_read_easily() -> None:
    values = (0, 1, 2, 3, 5, 10, 11, 39, 41, 999, 1001, 40_001)

    assert [nice_ceiling(value) for value in values] == [2, 2, 2, 4, 10, 10, 20, 40, 100, 1000, 2000, 100_000]


def test_the_states_of_a_ledger_are_all_named(console: HttpConsole) -> None:
    console.log_in()

    assert [state for state in State if f'<span class="name">{state}</span>' not in console.get().text] == []
