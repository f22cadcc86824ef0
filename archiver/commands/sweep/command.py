"""`sweep`: reads the account's lists now, without waiting for the daemon's next sweep."""

import contextlib
import tempfile
from collections.abc import Callable, Sequence

import typer

from archiver.commands.sweep.asker import Asker
from archiver.commands.sweep.progress import SweepProgress
from archiver.commands.sweep.report import FamilySwept, as_json, print_report
from archiver.commands.sweep.requests import show_dry_run, show_request
from archiver.commands.terminal.exit_status import WRONG, sentence_of
from archiver.commands.terminal.invocation import (
    Invocation,
    chosen_accounts,
    configure_log,
    invocation_of,
    no_daemon_sentence,
)
from archiver.commands.terminal.printing import print_json, print_note
from archiver.composition.accounts import require_account
from archiver.config.settings import Need, Settings
from archiver.failures import Failure, LedgerUnavailable
from archiver.families import swept as families_swept
from archiver.ledger import Ledger, LedgerMissing, ToldFailure
from archiver.sweep.counts import SweepCounts, SweepEnd
from archiver.sweep.dry_run import FamilyForecast
from archiver.sweep.requested import concerns_every_family

BUSY_POLL_SECONDS = 1.0


def sweep(context: typer.Context, *, full: bool, dry_run: bool, account: str | None, json: bool) -> None:
    """What `usage.sweep` says."""
    invocation = invocation_of(context)
    settings = invocation.settings(Need.KLING)
    with contextlib.ExitStack() as stack:
        accounts = chosen_accounts(context, settings, name=account)
        ledger = _open(invocation, settings, dry_run=dry_run, stack=stack)
        require_account(ledger, settings)
        results = [
            result
            for chosen in accounts
            for result in _sweep_all(
                chosen,
                ledger,
                full=full,
                dry_run=dry_run,
                several=len(accounts) > 1,
                wait=invocation.wait,
            )
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
    account: Settings,
    ledger: Ledger,
    *,
    full: bool,
    dry_run: bool,
    several: bool,
    wait: Callable[[float], object],
) -> list[FamilySwept]:
    results: list[FamilySwept] = []
    with contextlib.ExitStack() as opened:
        families = families_swept(account.families, has_api_key=account.api_key is not None)
        progress = opened.enter_context(SweepProgress(account=account.name if several else None))
        configure_log(account)  # again: the progress bar is on standard error now, and log lines go above it
        asker = opened.enter_context(Asker(account, ledger, progress))
        if dry_run:
            forecasts = _forecast(ledger, asker, families, full=full, progress=progress, wait=wait)
            name = account.name if several else None
            return [FamilySwept(forecast.counts, forecast.failure, name) for forecast in forecasts]
        for family in families:
            result = FamilySwept(SweepCounts(family, full), account=account.name if several else None)
            results.append(result)
            progress.begin(family)
            try:
                result.counts, result.failure = _sweep_family(
                    ledger, asker, family, full=full, progress=progress, wait=wait
                )
            except LedgerUnavailable:
                raise
            except Failure as error:
                result.failure = error
            if result.failure is None:
                progress.end(result.counts)
                continue
            result.counts = progress.last_of(family) or result.counts
            progress.print_note(f"{family}: {sentence_of(result.failure)}")
            if _concerns_every_family(result.failure):
                break
    return results


def _forecast(
    ledger: Ledger,
    asker: Asker,
    families: Sequence[str],
    *,
    full: bool,
    progress: SweepProgress,
    wait: Callable[[float], object],
) -> list[FamilyForecast]:
    """Leave it to the process that asks for the account; only where none does, ask here. Raises LedgerUnavailable."""
    for family in families:
        progress.begin(family)
    while True:
        if asker.has_another():
            forecasts = show_dry_run(ledger, asker, families, full=full, progress=progress, wait=wait)
        else:
            forecasts = asker.dry_run(families, full=full)
        if forecasts is not None:
            break
        progress.wait(families[0])
        wait(BUSY_POLL_SECONDS)
    for forecast in forecasts:
        if forecast.failure is None:
            progress.end(forecast.counts)
        else:
            progress.print_note(f"{forecast.counts.family}: {sentence_of(forecast.failure)}")
    return forecasts


def _sweep_family(
    ledger: Ledger,
    asker: Asker,
    family: str,
    *,
    full: bool,
    progress: SweepProgress,
    wait: Callable[[float], object],
) -> tuple[SweepCounts, ToldFailure | None]:
    """Leave it to the process that asks for the account; only where none does, ask here. Raises Failure."""
    earlier: list[SweepCounts] = []
    while True:
        if asker.has_another():
            ended = show_request(ledger, asker, family, full=full, progress=progress, wait=wait)
            if ended is not None:
                counts, failure = ended
                break
            continue
        counts, failure = asker.sweep(family, full=full), None
        if counts.end is SweepEnd.FINISHED:
            break
        earlier.append(counts)  # of an overtaken sweep: the next one no longer finds its tasks new
        progress.wait(family)
        wait(BUSY_POLL_SECONDS)
    counts.found += sum(each.found for each in earlier)
    counts.moved += sum(each.moved for each in earlier)
    return counts, failure


def _concerns_every_family(failure: Failure | ToldFailure) -> bool:
    if isinstance(failure, ToldFailure):
        return failure.concerns_account
    return concerns_every_family(failure)
