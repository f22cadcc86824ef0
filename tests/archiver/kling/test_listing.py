"""Reading a list from its newest end, whatever the list does meanwhile. Reads are counted; there is no HTTP."""

import dataclasses
import random
from collections.abc import Callable

import pytest

from archiver.kling.listing import PAGES_MAX, Listing, Order
from archiver.kling.pages import Page
from archiver.model import Status, Task

PAGE_ROWS = 10


def row(number: int, *, created_at: int | None = None) -> Task:
    """The `number`-th task of the account."""
    return Task(
        task_id=f"t{number}",
        family="images/generations",
        status=Status.RUNNING,
        message="",
        created_at=1_790_000_000_000 + number * 1000 if created_at is None else created_at,
        updated_at=None,
        external_task_id=None,
        assets=(),
        document={},
    )


@dataclasses.dataclass
class Server:
    """A list as Kling might serve it: rows in an order, pages of some size, holes, and changes between two reads."""

    rows: list[Task]
    page_rows: int = PAGE_ROWS
    holes: frozenset[int] = frozenset()
    """Pages that come out empty although there are rows behind them."""
    hidden: frozenset[str] = frozenset()
    """Rows that keep their place and are not shown: their pages come out short."""
    before_read: Callable[["Server", int], object] = lambda _server, _number: None
    asked: list[int] = dataclasses.field(default_factory=list)

    def __call__(self, number: int) -> Page:
        assert 1 <= number <= PAGES_MAX, "the API refuses such a page"
        self.before_read(self, number)
        self.asked.append(number)
        window = self.rows[(number - 1) * self.page_rows : number * self.page_rows]
        if number in self.holes:
            window = []
        return page(*(task for task in window if task.task_id not in self.hidden))


def page(*tasks: Task) -> Page:
    return Page(tasks, tuple(task.task_id for task in tasks), rows=len(tasks), malformed=0)


def newest_first(count: int) -> list[Task]:
    return [row(number) for number in reversed(range(count))]


def oldest_first(count: int) -> list[Task]:
    return [row(number) for number in range(count)]


def read_all(listing: Listing) -> list[str]:
    return [task_id for one in listing.pages() for task_id in one.ids]


def ids(count: int) -> list[str]:
    return [f"t{number}" for number in range(count)]


# --- orders -------------------------------------------------------------------------------------------------------


def test_a_list_that_runs_newest_first_is_read_forwards_to_two_empty_pages() -> None:
    server = Server(newest_first(35))
    listing = Listing(server)

    assert read_all(listing) == ids(35)[::-1]
    assert server.asked == [1, 2, 3, 4, 5, 6]
    assert (listing.order, listing.sorted, listing.oldest_first) == (Order.NEWEST_FIRST, True, False)


def test_a_list_that_runs_oldest_first_is_read_from_its_last_page() -> None:
    server = Server(oldest_first(35))
    listing = Listing(server)

    found = read_all(listing)

    assert (found[:5], found[-10:]) == (["t30", "t31", "t32", "t33", "t34"], ids(10))
    assert sorted(found) == sorted(ids(35))
    assert (listing.order, listing.sorted, listing.oldest_first) == (Order.OLDEST_FIRST, True, True)
    assert listing.last_page == 4


def test_once_the_end_is_known_finding_it_again_takes_three_reads() -> None:
    server = Server(oldest_first(2345))
    listing = Listing(server, oldest_first=True, last_page=235)

    first = next(iter(listing.pages()))

    assert first.ids[-1] == "t2344"
    assert server.asked == [235, 236, 237]


@pytest.mark.parametrize("last", [1, 2, 3, 100, 999, 1000])
@pytest.mark.parametrize("remembered", [None, 1, 2, 3, 99, 101, 500, 999, 1000])
def test_the_last_page_is_found_from_wherever_it_was_before(last: int, remembered: int | None) -> None:
    server = Server(oldest_first(last * 2), page_rows=2)

    first = next(iter(Listing(server, oldest_first=True, last_page=remembered).pages()))

    assert first.ids[-1] == f"t{last * 2 - 1}"
    assert len(server.asked) <= 60


@pytest.mark.parametrize("count", [1, 2, 5, 10, 11, 20])
@pytest.mark.parametrize("remembered", [None, 1, 2, 7])
def test_a_list_of_a_page_or_two_is_shown_whole_whatever_was_remembered(
    count: int, remembered: int | None
) -> None:
    for rows in (newest_first(count), oldest_first(count)):
        for oldest in (False, True):
            listing = Listing(Server(rows), oldest_first=oldest, last_page=remembered)
            assert set(read_all(listing)) == set(ids(count))


def test_an_empty_page_before_the_last_one_is_not_taken_for_the_end() -> None:
    for hole in (3, 6, 7, 8):
        server = Server(oldest_first(88), holes=frozenset({hole}))
        assert next(iter(Listing(server, oldest_first=True).pages())).ids[-1] == "t87"


def test_a_list_without_any_order_is_read_to_its_end_and_never_called_sorted() -> None:
    rows = oldest_first(300)
    random.Random(1).shuffle(rows)
    listing = Listing(Server(rows))

    assert sorted(read_all(listing)) == sorted(ids(300))
    assert (listing.order, listing.sorted) == (Order.NONE, False)


def test_neighbours_of_the_same_moment_or_a_little_out_of_order_leave_a_list_sorted() -> None:
    rows = newest_first(100)
    for place in (3, 15, 47, 91):
        rows[place], rows[place + 1] = rows[place + 1], rows[place]
    rows[60:70] = [row(39 - number, created_at=rows[60].created_at) for number in range(10)]
    listing = Listing(Server(rows))

    assert len(read_all(listing)) == 100
    assert listing.sorted


def test_a_short_page_out_of_order_does_not_decide_for_the_whole_list() -> None:
    rows = [*newest_first(30), row(-2), row(-1)]  # the last page alone runs oldest first
    listing = Listing(Server(rows))

    read_all(listing)

    assert (listing.order, listing.sorted) == (Order.NEWEST_FIRST, True)


def test_rows_without_a_time_say_nothing_about_the_order() -> None:
    rows = [dataclasses.replace(task, created_at=None) for task in newest_first(25)]
    listing = Listing(Server(rows))

    assert len(read_all(listing)) == 25
    assert (listing.order, listing.sorted) == (Order.UNTOLD, False)


# --- turning round -------------------------------------------------------------------------------------------------


def test_a_list_whose_first_page_tells_no_order_is_turned_round_at_the_first_that_does() -> None:
    rows = oldest_first(55)
    rows[:10] = [dataclasses.replace(task, created_at=rows[0].created_at) for task in rows[:10]]
    server = Server(rows)

    found = read_all(Listing(server))

    assert set(found) == set(ids(55))
    assert found.index("t54") < found.index("t11")


def test_a_list_that_has_turned_round_since_last_time_is_started_over_from_its_other_end() -> None:
    listing = Listing(Server(newest_first(55)), oldest_first=True, last_page=6)

    found = read_all(listing)

    assert found == ids(55)[::-1]
    assert (listing.oldest_first, listing.sorted, listing.last_page) == (False, True, None)


def test_a_list_that_turns_round_while_it_is_read_is_turned_after_once_only() -> None:
    def turn(server: Server, number: int) -> None:
        if number == 3:
            server.rows.reverse()

    server = Server(newest_first(300), before_read=turn)

    read_all(Listing(server))

    assert len(server.asked) < 150


# --- lists that change while they are read -----------------------------------------------------------------------


@pytest.mark.parametrize("pushed", [1, 7, 10, 25])
def test_new_tasks_on_top_show_rows_twice_and_hide_none(pushed: int) -> None:
    fresh = iter(range(100, 10_000))

    def push(server: Server, number: int) -> None:
        if number in (2, 3):
            server.rows[:0] = [row(next(fresh)) for _ in range(pushed)]

    found = read_all(Listing(Server(newest_first(60), before_read=push)))

    assert set(ids(60)) <= set(found)


@pytest.mark.parametrize("purged", [1, 7, 10, 15])
def test_old_tasks_that_vanish_while_a_list_is_read_backwards_hide_none_that_stays(purged: int) -> None:
    def purge(server: Server, number: int) -> None:
        if number == 3:
            del server.rows[:purged]

    server = Server(oldest_first(60), before_read=purge)

    found = read_all(Listing(server, oldest_first=True, last_page=6))

    assert {f"t{number}" for number in range(60) if number >= 2 * purged} <= set(found)


def test_a_list_that_shrinks_to_nothing_ends() -> None:
    def vanish(server: Server, number: int) -> None:
        if number == 2:
            server.rows.clear()

    for oldest in (False, True):
        rows = oldest_first(60) if oldest else newest_first(60)
        server = Server(rows, before_read=vanish)
        read_all(Listing(server, oldest_first=oldest, last_page=6))
        assert len(server.asked) < 20


def test_tasks_that_come_while_a_list_runs_oldest_first_are_there_next_time() -> None:
    server = Server(oldest_first(60))
    first = Listing(server, oldest_first=True)
    reading = first.pages()
    next(reading)
    server.rows += [row(number) for number in range(60, 85)]
    list(reading)

    again = read_all(Listing(server, oldest_first=True, last_page=first.last_page))

    assert set(again) == set(ids(85))


def test_a_short_page_in_the_middle_is_not_the_end() -> None:
    hidden = frozenset(["t25", "t26", *(f"t{number}" for number in range(10, 20))])
    server = Server(newest_first(60), hidden=hidden)

    found = read_all(Listing(server))

    assert set(found) == set(ids(60)) - hidden


def test_smaller_pages_than_asked_for_are_read_all_the_same() -> None:
    server = Server(newest_first(60), page_rows=3)

    assert read_all(Listing(server)) == ids(60)[::-1]
    assert len(server.asked) == 22


# --- ends ------------------------------------------------------------------------------------------------------------


def test_an_empty_list_takes_two_reads() -> None:
    server = Server([])

    assert read_all(Listing(server)) == []
    assert server.asked == [1, 2]
    assert read_all(Listing(Server([]), oldest_first=True)) == []


def test_a_server_that_ignores_the_page_number_is_noticed_after_three_repetitions() -> None:
    server = Server(newest_first(10))
    asked: list[int] = []

    def same(number: int) -> Page:
        asked.append(number)
        return server(1)

    listing = Listing(same)

    assert read_all(listing) == ids(10)[::-1]
    assert (listing.stands_still, asked) == (True, [1, 2, 3, 4])


@pytest.mark.parametrize("oldest", [False, True])
def test_a_thousand_full_pages_are_read_and_said_to_overflow(oldest: bool) -> None:
    rows = oldest_first(20_000) if oldest else newest_first(20_000)
    server = Server(rows, page_rows=20)
    listing = Listing(server, oldest_first=oldest, last_page=999)

    assert len(set(read_all(listing))) == 20_000
    assert listing.overflows
    assert len(server.asked) <= 1003


@pytest.mark.parametrize("oldest", [False, True])
def test_a_thousandth_page_that_is_not_full_overflows_nothing(oldest: bool) -> None:
    rows = oldest_first(19_990) if oldest else newest_first(19_990)
    listing = Listing(Server(rows, page_rows=20), oldest_first=oldest, last_page=1000)

    assert len(set(read_all(listing))) == 19_990
    assert not listing.overflows


def test_a_list_that_runs_oldest_first_overflows_even_where_reading_stops_early() -> None:
    listing = Listing(Server(oldest_first(30_000), page_rows=20), oldest_first=True, last_page=1000)
    reading = listing.pages()

    next(reading)
    next(reading)

    assert listing.overflows


def test_reading_stops_when_the_caller_stops() -> None:
    server = Server(newest_first(100))
    reading = Listing(server).pages()

    next(reading)

    assert server.asked == [1]
