"""`rebuild`: the tasks that the ledger lacks, from the manifests in the bucket."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from archiver.audit.rebuild import Rebuild, RebuildCounts, RebuildProblem, RebuiltAccount
from archiver.commands.bucket.chosen_folders import chosen_span, names_of, patient_store
from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import chosen_accounts, invocation_of
from archiver.commands.terminal.live import LiveDisplay
from archiver.commands.terminal.printing import console, print_json, print_line, print_note
from archiver.composition.accounts import require_account
from archiver.config.settings import Need
from archiver.failures import Failure, Stopped
from archiver.phrases import count_of


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
    invocation = invocation_of(context)
    settings = invocation.settings(Need.STORE)
    accounts = chosen_accounts(context, settings, name=account)
    span = chosen_span(context, family=family, since=since, until=until, now=invocation.now())
    stop, began = threading.Event(), time.monotonic()
    with contextlib.closing(invocation.ledger(settings)) as ledger, _Display() as display:
        require_account(ledger, settings)
        run = Rebuild(
            patient_store(settings, invocation, stop=stop, transfers=transfers + 1),
            ledger,
            [RebuiltAccount(each.name, names_of(each), each.s3_prefix) for each in accounts],
            span=span,
            threads=transfers,
            on_folder=display.advance,
        )
        with display.counting(run), _stopping(stop), contextlib.closing(run.run()) as problems:
            for problem in problems:
                display.note(f"{_url(problem, settings.s3_bucket)}: {problem.message}. {problem.what_to_do}")
    seconds = time.monotonic() - began
    if json:
        print_json({**dataclasses.asdict(run.counts), "seconds": round(seconds, 1)})
    else:
        for line in _lines(run.counts, seconds=seconds):
            print_line(line)
    if run.counts.broken or run.counts.missing:
        raise typer.Exit(WRONG)


@contextlib.contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """However the run ends, nothing goes on behind it."""
    try:
        yield
    finally:
        stop.set()


def _url(problem: RebuildProblem, bucket: str) -> str:
    return f"s3://{bucket}/{problem.key}"


def _lines(counts: RebuildCounts, *, seconds: float) -> Iterator[str]:
    rate = counts.folders / max(seconds, 0.001)
    yield (
        f"{count_of(counts.folders, 'task')} in the bucket, {counts.added:,} of them added to the ledger, in "
        f"{seconds:.0f} s ({rate:,.0f}/s)."
    )
    for number, said in (
        (counts.lost, "of the added ones are lost: only some of their files could be saved"),
        (counts.amended, "have got amendments that the ledger lacked"),
        (counts.known, "the ledger had already"),
        (
            counts.in_work,
            f"the ledger has in another state ({_by_state(counts)}): the daemon adopts what it is to archive",
        ),
        (counts.forgotten, "are forgotten, and stay so"),
        (counts.unfinished, "have no manifest: they were at work"),
        (counts.broken, "documents cannot be used"),
        (counts.missing, "files are not as their manifests say"),
    ):
        if number:
            yield f"{number:,} {said}."


def _by_state(counts: RebuildCounts) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in sorted(counts.in_work_states.items()))


class _Display(LiveDisplay):
    """How many folders are done, of how many, once they are counted; nothing in a pipe."""

    def __init__(self) -> None:
        screen = console(stderr=True)
        self._is_shown = screen.is_terminal
        super().__init__(
            Progress(
                TextColumn("Rebuilding"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=screen,
                disable=not screen.is_terminal,
            )
        )
        self._line = self._progress.add_task("", total=None, rate="")
        self._began = time.monotonic()
        self._done = 0

    def advance(self) -> None:
        self._done += 1
        rate = self._done / max(time.monotonic() - self._began, 0.001)
        self._progress.update(self._line, completed=self._done, rate=f"{rate:,.0f}/s")

    def note(self, sentence: str) -> None:
        print_note(sentence.rstrip(), screen=self._progress.console)

    @contextlib.contextmanager
    def counting(self, run: Rebuild) -> Iterator[None]:
        """Meanwhile the folders are counted, by a listing of its own: reading their documents takes much longer."""
        thread = threading.Thread(target=self._count, args=(run,), name="count", daemon=True)
        if self._is_shown:
            thread.start()
        try:
            yield
        finally:
            if self._is_shown:
                thread.join()

    def _count(self, run: Rebuild) -> None:
        # The run meets the same failure, and says it.
        with contextlib.suppress(Failure, Stopped):
            self._progress.update(self._line, total=run.count_folders())
