"""`rebuild`: the tasks that the ledger lacks, from the manifests in the bucket."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator

import typer
from rich.progress import MofNCompleteColumn

from archiver.audit.rebuild import Rebuild, RebuildCounts, RebuiltAccount
from archiver.commands.bucket.chosen_folders import chosen_folders, names_of
from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.live import CountDisplay
from archiver.commands.terminal.printing import object_url, print_json, print_line, print_note
from archiver.failures import Failure, Stopped
from archiver.phrases import count_of

COUNTING_TRANSFERS = 1
"""Connections for counting, besides those that read the documents."""


def rebuild(
    context: typer.Context,
    *,
    transfers: int,
    family: str | None,
    since: str | None,
    until: str | None,
    account: str | None,
    json: bool,
) -> None:
    """What `usage.ledger.rebuild` says."""
    began = time.monotonic()
    with (
        chosen_folders(
            context,
            family=family,
            since=since,
            until=until,
            account=account,
            transfers=transfers + COUNTING_TRANSFERS,
        ) as chosen,
        chosen.ledger() as ledger,
        _Display() as display,
    ):
        run = Rebuild(
            chosen.store,
            ledger,
            [RebuiltAccount(each.name, names_of(each), each.s3_prefix) for each in chosen.accounts],
            span=chosen.span,
            threads=transfers,
            on_folder=display.advance,
        )
        display.begin_counting(run)
        with contextlib.closing(run.run()) as problems:
            for problem in problems:
                url = object_url(problem.key, bucket=chosen.settings.s3_bucket)
                display.note(f"{url}: {problem.message}. {problem.what_to_do}")
        doubt = None if run.counts.folders else chosen.doubt()
    seconds = time.monotonic() - began
    if json:
        print_json({**dataclasses.asdict(run.counts), "seconds": round(seconds, 1)})
    else:
        for line in _lines(run.counts, seconds=seconds):
            print_line(line)
    if doubt is not None:
        print_note(doubt)
    if run.counts.broken or run.counts.missing or run.counts.unread or doubt is not None:
        raise typer.Exit(WRONG)


def _lines(counts: RebuildCounts, *, seconds: float) -> Iterator[str]:
    rate = counts.folders / max(seconds, 0.001)
    yield (
        f"{count_of(counts.folders, 'task')} in the bucket, {counts.added:,} of them added to the ledger, in "
        f"{seconds:.0f} s ({rate:,.0f}/s)."
    )
    for number, said in (
        (counts.lost, "of the added ones are lost: only some of their files could be saved"),
        (counts.amended, "have got amendments that the ledger lacked"),
        (counts.completed, "have got the request or the external id that the ledger lacked"),
        (counts.known, "the ledger had already"),
        (
            counts.in_work,
            f"the ledger has in another state ({_by_state(counts)}): the daemon adopts what it is to archive",
        ),
        (counts.forgotten, "are forgotten, and stay so"),
        (counts.unfinished, "have no manifest: they were at work"),
        (counts.broken, "documents cannot be used"),
        (counts.missing, "files are not as their manifests say"),
        (counts.unread, "files cannot be looked at; their tasks are added"),
    ):
        if number:
            yield f"{number:,} {said}."


def _by_state(counts: RebuildCounts) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in sorted(counts.in_work_states.items()))


class _Display(CountDisplay):
    """How many folders are done, of how many, once they are counted; nothing in a pipe."""

    def __init__(self) -> None:
        super().__init__(MofNCompleteColumn())
        self._line = self._progress.add_task("Rebuilding", total=None, rate="")
        self._began = time.monotonic()
        self._done = 0

    def advance(self) -> None:
        self._done += 1
        rate = self._done / max(time.monotonic() - self._began, 0.001)
        self._progress.update(self._line, completed=self._done, rate=f"{rate:,.0f}/s")

    def note(self, sentence: str) -> None:
        print_note(sentence.rstrip(), screen=self._progress.console)

    def begin_counting(self, run: Rebuild) -> None:
        """Count the folders beside the run, by a listing of its own: reading their documents takes much longer.

        The command does not wait for the thread: its LIST may hang for a minute, and Ctrl-C must work at once.
        """
        if self.is_shown:
            threading.Thread(target=self._count, args=(run,), name="count", daemon=True).start()

    def _count(self, run: Rebuild) -> None:
        # The run meets the same failure, and reports it.
        with contextlib.suppress(Failure, Stopped):
            self._progress.update(self._line, total=run.count_folders())
