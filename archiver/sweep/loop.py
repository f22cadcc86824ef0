"""The one loop of every sweep."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from archiver.failures import Disposition, Failure
from archiver.sweep.counts import PageCounts, SweepCounts, SweepEnd

PAGE_TRIES = 4
"""How often a page is asked for. Should that outlast the lease, the next renewal tells."""

Answer = TypeVar("Answer")
Page = TypeVar("Page")
Page_contra = TypeVar("Page_contra", contravariant=True)
StopRule = Callable[[Page, PageCounts], bool]
"""Whether, after this page, the rest of the source cannot matter."""


class Sink(Protocol[Page_contra]):
    """Where pages go: into the ledger, or, in a dry run, into a forecast."""

    def take(self, page: Page_contra, /) -> PageCounts:
        """Take one page. Raises Failure."""


class SweepLease(Protocol):
    """The right to sweep a family."""

    def renew(self) -> bool:
        """Keep it; False when another sweeper has the family."""


class NoLease:
    """For a dry run: it writes nothing, so it is in nothing's way."""

    def renew(self) -> bool:
        return True


def ask_again(ask: Callable[[], Answer], *, except_for: tuple[type[Failure], ...] = ()) -> Answer:
    """`ask()`, repeated while it fails with what may soon be over: one bad answer must not restart a full sweep. Raises
    Failure; those of `except_for` at once."""
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
    on_page: Callable[[SweepCounts], None],
) -> None:
    """Read `source` into `sink`, and add each page to `counts` before `on_page`. Without its lease a sweep takes no
    further page, and ends OVERTAKEN. Raises Failure and Stopped."""
    for page in source:
        if not lease.renew():
            counts.end = SweepEnd.OVERTAKEN
            return
        page_counts = sink.take(page)
        counts.add(page_counts)
        on_page(counts)
        if until(page, page_counts):
            return
