"""The loop of every sweep, without API and ledger."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from archiver.failures import ApiBadParameter, ApiCredentialsRefused, ApiServerError, Failure
from archiver.sweep.counts import PageCounts, SweepCounts, SweepEnd
from archiver.sweep.loop import PAGE_TRIES, NoLease, ask_again, sweep


@dataclasses.dataclass
class Sink:
    taken: list[int] = dataclasses.field(default_factory=list)

    def take(self, page: int) -> PageCounts:
        if page < 0:
            raise ApiServerError("no room")
        self.taken.append(page)
        return PageCounts(rows=page, found=1)


@dataclasses.dataclass
class Lease:
    renewals: int

    def renew(self) -> bool:
        self.renewals -= 1
        return self.renewals >= 0


@dataclasses.dataclass
class Source:
    pages: list[int]
    read: int = 0

    def __iter__(self) -> Iterator[int]:
        for page in self.pages:
            self.read += 1
            yield page


def never(_page: int, _counts: PageCounts) -> bool:
    return False


def run(source: Source, sink: Sink, counts: SweepCounts, **named: object) -> list[tuple[int, int]]:
    """(pages, rows) after each page."""
    lease = named.get("lease", NoLease())
    until = named.get("until", never)
    assert isinstance(lease, NoLease | Lease)
    assert callable(until)
    return [(counts.pages, counts.rows) for _ in sweep(source, sink, lease, counts, until=until)]


@pytest.fixture
def counts() -> SweepCounts:
    return SweepCounts("images/generations", full=True)


def test_every_page_is_taken_counted_and_shown_in_order(counts: SweepCounts) -> None:
    sink = Sink()

    assert run(Source([3, 5]), sink, counts) == [(1, 3), (2, 8)]
    assert (sink.taken, counts.found, counts.end) == ([3, 5], 2, SweepEnd.FINISHED)


def test_a_sweep_that_lost_its_lease_takes_no_further_page(counts: SweepCounts) -> None:
    sink, source = Sink(), Source([3, 5, 7])

    assert run(source, sink, counts, lease=Lease(renewals=1)) == [(1, 3)]
    assert (sink.taken, source.read, counts.end) == ([3], 2, SweepEnd.OVERTAKEN)


def test_no_page_is_read_after_the_one_that_meets_the_stop_rule(counts: SweepCounts) -> None:
    sink, source = Sink(), Source([3, 5, 7])

    def until(page: int, page_counts: PageCounts) -> bool:
        assert page_counts.rows == page
        return page == 5

    run(source, sink, counts, until=until)
    assert (sink.taken, source.read, counts.end) == ([3, 5], 2, SweepEnd.FINISHED)


def test_what_was_taken_before_a_failure_stays_counted(counts: SweepCounts) -> None:
    with pytest.raises(ApiServerError):
        run(Source([3, -1]), Sink(), counts)

    assert (counts.pages, counts.rows) == (1, 3)


def test_every_count_of_a_page_is_added(counts: SweepCounts) -> None:
    names = [field.name for field in dataclasses.fields(PageCounts) if field.name != "open"]
    page = PageCounts(**{name: number for number, name in enumerate(names, start=1)})

    counts.add(page)
    counts.add(page)

    assert counts.pages == 2
    assert [getattr(counts, name) for name in names] == [2 * getattr(page, name) for name in names]


def failing(*errors: Failure) -> tuple[Callable[[], str], list[Failure]]:
    waiting = list(errors)

    def ask() -> str:
        if waiting:
            raise waiting.pop(0)
        return "page"

    return ask, waiting


def test_a_failure_that_may_soon_be_over_is_asked_again() -> None:
    ask, _ = failing(*[ApiServerError("down")] * (PAGE_TRIES - 1))

    assert ask_again(ask) == "page"


def test_the_last_try_fails() -> None:
    ask, left = failing(*[ApiServerError("down")] * (PAGE_TRIES + 1))

    with pytest.raises(ApiServerError):
        ask_again(ask)
    assert len(left) == 1


@pytest.mark.parametrize("error", [ApiCredentialsRefused("no"), ApiBadParameter("cursor")])
def test_a_request_that_will_be_refused_again_is_sent_once(error: Failure) -> None:
    ask, left = failing(error, error)

    with pytest.raises(type(error)):
        ask_again(ask, except_for=(ApiBadParameter,))
    assert len(left) == 1
