"""The one loop of every sweep."""

from collections.abc import Callable, Generator, Iterable
from typing import Protocol, TypeVar

from archiver.failures import Disposition, Failure
from archiver.kling.pages import is_mostly_unreadable, unreadable_page
from archiver.sweep.counts import PageCounts, SweepCounts, SweepEnd

PAGE_TRIES = 4
"""How often a page is requested. If the lease ends meanwhile, the next renewal finds out."""

UNREADABLE_PAGES_MAX = 3
"""A sweep ends after this many pages in a row without a readable row: the list has another format."""

Answer = TypeVar("Answer")
Page = TypeVar("Page")
Page_contra = TypeVar("Page_contra", contravariant=True)
StopRule = Callable[[Page, PageCounts], bool]
"""Whether, after this page, the rest of the source cannot matter."""


class Sink(Protocol[Page_contra]):
    """Where pages go: into the ledger or, in a dry run, into a forecast."""

    def take(self, page: Page_contra, /) -> PageCounts:
        """Take one page. Raises Failure."""


class SweepLease(Protocol):
    """The right to sweep a family."""

    def renew(self) -> bool:
        """Keep the family; False if another sweeper has it now."""


class NoLease:
    """The lease of a dry run, which writes nothing and so needs none."""

    def renew(self) -> bool:
        return True


def ask_again(ask: Callable[[], Answer], *, except_for: tuple[type[Failure], ...] = ()) -> Answer:
    """Call `ask()`, and repeat it while it fails for a reason that may soon pass: one bad answer must not restart a
    full sweep. Raises Failure; kinds in `except_for` are raised at once."""
    for _ in range(PAGE_TRIES - 1):
        try:
            return ask()
        except except_for:
            raise
        except Failure as error:
            if error.disposition is not Disposition.RETRY:
                raise
    return ask()


def sweep(
    source: Iterable[Page],
    sink: Sink[Page],
    lease: SweepLease,
    counts: SweepCounts,
    *,
    until: StopRule[Page],
) -> Generator[PageCounts, None, Failure | None]:
    """Read `source` into `sink`, page by page: each is in `counts` when it is yielded. Raises Failure and Stopped.

    After a page that is mostly unreadable the sweep goes on. It returns that failure in the end, and raises it after
    `UNREADABLE_PAGES_MAX` pages in a row without a readable row. Without its lease a sweep takes no further page, and
    ends OVERTAKEN.
    """
    failure: Failure | None = None
    unreadable = 0
    for page in source:
        if not lease.renew():
            counts.end = SweepEnd.OVERTAKEN
            return None
        taken = sink.take(page)
        counts.add(taken)
        is_last = until(page, taken)
        if is_mostly_unreadable(rows=taken.rows, malformed=taken.malformed):
            failure = failure or unreadable_page(rows=taken.rows, malformed=taken.malformed)
        unreadable = unreadable + 1 if 0 < taken.rows == taken.malformed else 0
        yield taken
        if failure is not None and unreadable == UNREADABLE_PAGES_MAX:
            raise failure
        if is_last:
            break
    return failure
