"""`sweep`: read the lists of the account now, instead of when the daemon would."""

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
    accounts_meant,
    configure_log,
    invocation_of,
    no_daemon_sentence,
)
from archiver.commands.terminal.printing import print_json, say
from archiver.composition import build_account, require_account
from archiver.config.settings import Need, Settings
from archiver.engine.stages import Clock, build_sweeper
from archiver.failures import ApiTokenRefused, ApiUnreachable, Disposition, Failure, LedgerUnavailable
from archiver.families import swept as names_swept
from archiver.ledger import Ledger, LedgerMissing
from archiver.metrics import Metrics
from archiver.sweep.stage import SweepCounts, SweepEnd, Sweeper

BUSY_POLL_SECONDS = 1.0


def sweep(
    context: typer.Context,
    *,
    full: Annotated[bool, typer.Option("--full", help="Read all pages, back to the last 31 days.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; count what a sweep would bring.")
    ] = False,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Find tasks that no callback has told of.

    Reads the newest pages of every family in KLING_FAMILIES; all of them where the day's full sweep is still due. With
    an API Key, also what /tasks (and /solutions, where KLING_FAMILIES names one) shows of the last hours or 30 days.
    What it finds goes into the ledger, and kling-receiver brings it into the bucket.

    \b
    Example: how much would a first start bring?
      kling-archiver sweep --full --dry-run
    """
    invocation = invocation_of(context)
    settings = invocation.settings(Need.KLING)
    with contextlib.ExitStack() as stack:
        accounts = accounts_meant(context, settings, name=account)
        ledger = _open(invocation, settings, dry_run=dry_run, stack=stack)
        require_account(ledger, settings)
        swept = [
            one
            for meant in accounts
            for one in _sweep_all(meant, ledger, full=full, dry_run=dry_run, several=len(accounts) > 1)
        ]
        daemons = ledger.status()["daemons"]
    if json:
        print_json(as_json(swept, dry_run=dry_run))
    else:
        print_report(swept, dry_run=dry_run)
    advice = no_daemon_sentence(daemons)
    if advice and not dry_run and any(one.counts.found or one.counts.moved for one in swept):
        say(advice)
    if any(one.failure for one in swept):
        raise typer.Exit(WRONG)


def _open(
    invocation: Invocation, settings: Settings, *, dry_run: bool, stack: contextlib.ExitStack
) -> Ledger:
    """The ledger; for a dry run before the first start an empty one that goes when the command ends."""
    try:
        ledger = invocation.ledger(settings, create=not dry_run)
    except LedgerMissing:
        say("there is no ledger yet, so everything counts as new.")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kling-archiver-"))
        ledger = Ledger.open(f"sqlite:///{folder}/empty.db", daemon=False, now=invocation.now)
    stack.callback(ledger.close)
    return ledger


def _sweep_all(
    account: Settings, ledger: Ledger, *, full: bool, dry_run: bool, several: bool
) -> list[FamilySwept]:
    """Every family of one account; `several` says that it is not the only one."""
    stop, metrics = threading.Event(), Metrics()
    wired = build_account(account, metrics, stop=stop)
    client = wired.client
    sweeper = build_sweeper(wired, ledger=ledger, metrics=metrics, clock=Clock())
    swept: list[FamilySwept] = []
    name = account.account if several else None
    seen: set[str] | None = set() if dry_run else None
    with contextlib.closing(client), SweepProgress(account=name) as progress:
        configure_log(account)  # once more: the bar stands on standard error now, and log lines go above it
        for family in names_swept(account.families, has_api_key=client.has_api_key):
            one = FamilySwept(SweepCounts(family, full), account=name)
            swept.append(one)
            try:
                one.counts = _sweep_family(
                    sweeper, family, full=full, seen=seen, progress=progress, stop=stop
                )
            except LedgerUnavailable:
                raise
            except Failure as error:
                one.failure = error
                one.counts = progress.last_of(family) or one.counts
                progress.say(f"{family}: {sentence_of(error)}")
                if _concerns_every_family(error):
                    break
    return swept


def _sweep_family(
    sweeper: Sweeper,
    family: str,
    *,
    full: bool,
    seen: set[str] | None,
    progress: SweepProgress,
    stop: threading.Event,
) -> SweepCounts:
    """Sweep one family to its end, after whoever sweeps it now; with `seen` (ids counted so far) a dry run. Raises
    Failure."""
    earlier: list[SweepCounts] = []
    progress.begin(family)
    while True:
        every = full or sweeper.is_full_due(family)
        if seen is not None:
            counts = sweeper.dry_run(family, full=every, on_page=progress.page, seen=seen)
        else:
            counts = sweeper.sweep(family, full=every, on_page=progress.page)
        if counts.end is SweepEnd.FINISHED:
            break
        earlier.append(counts)  # of a sweep that was overtaken; what it has recorded is no longer new
        progress.wait(family)
        stop.wait(BUSY_POLL_SECONDS)
    counts.found += sum(one.found for one in earlier)
    counts.moved += sum(one.moved for one in earlier)
    progress.end(counts)
    return counts


def _concerns_every_family(error: Failure) -> bool:
    """Whether the other families need not be tried: a key that is refused, or a network that is not there, would
    only fail once more for each of them."""
    of_account = error.disposition is Disposition.HOLD and error.family is None
    return of_account or isinstance(error, ApiUnreachable | ApiTokenRefused)
