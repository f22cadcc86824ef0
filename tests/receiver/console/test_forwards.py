"""The page of forwards, by HTTP."""

from archiver.ledger import ForwardState
from archiver.model import State
from receiver.console.pages.forwards import ROWS_MAX
from tests.harness.console import HttpConsole, csrf_of
from tests.harness.ledgers import ACCOUNT, SECOND


def kill(console: HttpConsole, count: int) -> list[str]:
    """So many forwards are dead; their tasks, the latest first."""
    desk = console.desk
    desk.ledger.forwards.set_operator(is_told=True)
    for number in range(count):
        desk.bring(State.FAILED, f"t{number}")
        (lease,) = desk.ledger.forwards.claim("", accounts=[ACCOUNT], count=1)
        desk.ledger.forwards.dead(lease, status=500, reason="http_500", is_problem=True)
        desk.clock.advance(SECOND)
    return [f"t{number}" for number in reversed(range(count))]


def tasks_of(text: str) -> list[str]:
    """The tasks in the table, from above."""
    rows = text.partition("<tbody>")[2].split("<tr>")[1:]
    return [row.partition('<a class="mono"')[2].partition(">")[2].partition("<")[0] for row in rows]


def counts(console: HttpConsole) -> dict[str, int]:
    return {state: count for state, count in console.desk.ledger.forward_orders.counts().items() if count}


def test_dead_forwards_are_listed_page_by_page_the_latest_first(console: HttpConsole) -> None:
    expected = kill(console, ROWS_MAX + 3)
    console.log_in()

    first = console.get("forwards")
    following = first.text.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    second = console.client.get(first.url.join(following))

    assert tasks_of(first.text) + tasks_of(second.text) == expected
    assert 'rel="next"' not in second.text
    assert "http_500" in first.text
    assert tasks_of(console.get("forwards?page=nonsense&state=nonsense").text) == tasks_of(first.text)


def test_one_forward_is_sent_again(console: HttpConsole) -> None:
    kill(console, 2)
    console.log_in()
    page = console.get("forwards")
    form = {
        "csrf": csrf_of(page),
        "account": ACCOUNT,
        "task_id": "t1",
        "state": "dead",
        "webhook_id": page.text.partition('name="webhook_id" value="')[2].partition('"')[0],
    }

    answer = console.post("forwards/replay", form)

    assert answer.headers["location"] == "../../console/forwards?state=dead&sent=1"
    assert (
        "1 forward will be sent again" in console.client.get(answer.url.join(answer.headers["location"])).text
    )
    assert counts(console) == {ForwardState.DEAD: 1, ForwardState.WAITING: 1}
    for changes in (
        {"webhook_id": "fwd_0"},
        {"webhook_id": "t0"},
        {"account": "other"},
        {"task_id": "t0"},
        {"task_id": ""},
    ):
        assert console.post("forwards/replay", form | changes).status_code == 404
    assert counts(console) == {ForwardState.DEAD: 1, ForwardState.WAITING: 1}


def test_all_dead_forwards_are_sent_again(console: HttpConsole) -> None:
    kill(console, 3)
    console.log_in()

    answer = console.post("forwards/replay-dead", {"csrf": csrf_of(console.get("forwards"))})

    assert answer.headers["location"] == "../../console/forwards?sent=3"
    assert counts(console) == {ForwardState.WAITING: 3}
    page = console.get("forwards?state=waiting").text
    assert tasks_of(page) == ["t2", "t1", "t0"]
    assert "replay" not in page
