"""`sweep`: read the account's lists now, without waiting for the daemon's next sweep."""

import contextlib
import tempfile
import threading
from typing import Annotated

import typer

from archiver.commands.sweep.progress import SweepProgress
from archiver.commands.sweep.report import FamilySwept, as_json, print_report
from archiver.commands.terminal.exit_status import WRONG, sentence_of
from archiver.commands.terminal.invocation import (
    AccountName,
    AsJson,
    Invocation,
    chosen_accounts,
    configure_log,
    invocation_of,
    no_daemon_sentence,
)
from archiver.commands.terminal.printing import print_json, print_note
from archiver.composition import build_account, require_account
from archiver.config.settings import Need, Settings
from archiver.engine.stages import Clock, build_sweeper
from archiver.failures import ApiTokenRefused, ApiUnreachable, Disposition, Failure, LedgerUnavailable
from archiver.families import swept as families_swept
from archiver.ledger import Ledger, LedgerMissing
from archiver.metrics import Metrics
from archiver.sweep.counts import SweepCounts, SweepEnd
from archiver.sweep.stage import Sweeper

BUSY_POLL_SECONDS = 1.0


def sweep(
    context: typer.Context,
    *,
    full: Annotated[bool, typer.Option("--full", help="Read all pages of the last 31 days.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; count what a sweep would find.")
    ] = False,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Find tasks whose callbacks are missing.

    Reads the newest list pages of every family in KLING_FAMILIES, or all pages if the day's full sweep is due. With an
    API Key it also reads /tasks (and /solutions, if KLING_FAMILIES names one), of the last hours or 30 days. Tasks
    found are recorded in the ledger; kling-receiver brings them into the bucket.

    \b
    Example: count what a first start would archive
      kling-archiver sweep --full --dry-run
    """
    invocation = invocation_of(context)
    settings = invocation.settings(Need.KLING)
    with contextlib.ExitStack() as stack:
        accounts = chosen_accounts(context, settings, name=account)
        ledger = _open(invocation, settings, dry_run=dry_run, stack=stack)
        require_account(ledger, settings)
        results = [
            result
            for chosen in accounts
            for result in _sweep_all(chosen, ledger, full=full, dry_run=dry_run, several=len(accounts) > 1)
        ]
        daemons = ledger.daemons.alive()
    if json:
        print_json(as_json(results, dry_run=dry_run))
    else:
        print_report(results, dry_run=dry_run)
    advice = no_daemon_sentence(daemons)
    if advice and not dry_run and any(result.counts.found or result.counts.moved for result in results):
        print_note(advice)
    if any(result.failure for result in results):
        raise typer.Exit(WRONG)


def _open(
    invocation: Invocation, settings: Settings, *, dry_run: bool, stack: contextlib.ExitStack
) -> Ledger:
    """A dry run before the first start gets an empty, temporary ledger."""
    try:
        ledger = invocation.ledger(settings)
    except LedgerMissing:
        if not dry_run:
            raise
        print_note("there is no ledger yet, so every task counts as new.")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kling-archiver-"))
        ledger = Ledger.open(f"sqlite:///{folder}/empty.db", daemon=True, now=invocation.now)
    stack.callback(ledger.close)
    return ledger


def _sweep_all(
    account: Settings, ledger: Ledger, *, full: bool, dry_run: bool, several: bool
) -> list[FamilySwept]:
    stop, metrics = threading.Event(), Metrics()
    wired = build_account(account, metrics, stop=stop)
    client = wired.client
    sweeper = build_sweeper(wired, ledger=ledger, metrics=metrics, clock=Clock())
    results: list[FamilySwept] = []
    name = account.name if several else None
    seen: set[str] | None = set() if dry_run else None
    with contextlib.closing(client), SweepProgress(account=name) as progress:
        configure_log(account)  # again: the progress bar is on standard error now, and log lines go above it
        for family in families_swept(account.families, has_api_key=client.has_api_key):
            result = FamilySwept(SweepCounts(family, full), account=name)
            results.append(result)
            try:
                result.counts = _sweep_family(
                    sweeper, family, full=full, seen=seen, progress=progress, stop=stop
                )
            except LedgerUnavailable:
                raise
            except Failure as error:
                result.failure = error
                result.counts = progress.last_of(family) or result.counts
                progress.print_note(f"{family}: {sentence_of(error)}")
                if _concerns_every_family(error):
                    break
    return results


def _sweep_family(
    sweeper: Sweeper,
    family: str,
    *,
    full: bool,
    seen: set[str] | None,
    progress: SweepProgress,
    stop: threading.Event,
) -> SweepCounts:
    """Wait if another sweep has the family. With `seen`, the ids counted so far, it is a dry run. Raises Failure."""
    earlier: list[SweepCounts] = []
    progress.begin(family)
    while True:
        is_full = full or sweeper.is_full_due(family)
        if seen is not None:
            counts = sweeper.dry_run(family, full=is_full, on_page=progress.page, counted=seen)
        else:
            counts = sweeper.sweep(family, full=is_full, on_page=progress.page)
        if counts.end is SweepEnd.FINISHED:
            break
        earlier.append(counts)  # of an overtaken sweep: the next one no longer finds its tasks new
        progress.wait(family)
        stop.wait(BUSY_POLL_SECONDS)
    counts.found += sum(each.found for each in earlier)
    counts.moved += sum(each.moved for each in earlier)
    progress.end(counts)
    return counts


def _concerns_every_family(error: Failure) -> bool:
    """Keys refused, or network down: every other family would fail the same way."""
    of_account = error.disposition is Disposition.HOLD and error.family is None
    return of_account or isinstance(error, ApiUnreachable | ApiTokenRefused)
