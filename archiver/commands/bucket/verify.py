"""`verify`: every object in the bucket against manifests and ledger."""

import contextlib
import re
import sys
import threading

import typer

from archiver.audit.sample import Sample
from archiver.audit.verification import Verification, VerifiedAccount
from archiver.commands.bucket.chosen_folders import chosen_span, names_of, patient_store
from archiver.commands.bucket.progress import VerifyProgress
from archiver.commands.bucket.report import VerifyReport, resumed_sentence
from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import chosen_accounts, invocation_of, no_daemon_sentence
from archiver.composition.accounts import require_account
from archiver.config.settings import Need
from archiver.failures import LedgerUnavailable
from archiver.model import DAY_MS

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?) ?%?")


def verify(
    context: typer.Context,
    *,
    repair: bool,
    differences: bool,
    sample: str,
    seed: int | None,
    transfers: int,
    restart: bool,
    family: str | None,
    since: str | None,
    until: str | None,
    account: str | None,
    json: bool,
) -> None:
    """What `usage.bucket.verify` says."""
    invocation = invocation_of(context)
    settings = invocation.settings(Need.STORE)
    accounts = chosen_accounts(context, settings, name=account)
    span = chosen_span(context, family=family, since=since, until=until, now=invocation.now())
    chosen = _sample(context, sample, seed=seed, now=invocation.now())
    stop = threading.Event()
    with contextlib.closing(invocation.ledger(settings)) as ledger, VerifyProgress() as progress:
        require_account(ledger, settings)
        verification = Verification(
            patient_store(settings, invocation, stop=stop, transfers=transfers),
            ledger,
            [VerifiedAccount(each.name, names_of(each), each.s3_prefix) for each in accounts],
            span=span,
            sample=chosen,
            repair=repair,
            now=invocation.now,
            on_bytes=progress.advance,
            flush=sys.stdout.flush,
            threads=transfers,
        )
        if restart:
            verification.restart()
        elif verification.resume() and (began_at := verification.resumed_from) is not None:
            progress.print_note(resumed_sentence(verification.counts, resumed_from=began_at))
        if progress.is_shown:
            progress.begin(verification.bytes_expected(), done=verification.counts.bytes)
        report = VerifyReport(progress, differences=differences, json=json)
        _run(verification, stop, report)
        advice = no_daemon_sentence(ledger.daemons.alive())
    report.print_summary(verification.counts, resumed_from=verification.resumed_from, advice=advice)
    if verification.counts.faults:
        raise typer.Exit(WRONG)


def _run(verification: Verification, stop: threading.Event, report: VerifyReport) -> None:
    findings = verification.run()
    try:
        for finding in findings:
            report.print_finding(finding)
    except BaseException:
        stop.set()
        findings.close()
        # What has ended the run is what has to be said.
        with contextlib.suppress(LedgerUnavailable, OSError):
            verification.save()
        raise


def _sample(context: typer.Context, written: str, *, seed: int | None, now: int) -> Sample:
    """By default another one each day. Ends with a usage error."""
    share = _SHARE.fullmatch(written.strip())
    percent = float(share[1]) if share else 0.0
    if not 0 < percent <= 100:
        context.fail("--sample must be a share of the tasks, such as 10% or 0.5%.")
    if percent == 100:
        return Sample()
    return Sample(percent, now // DAY_MS if seed is None else seed)
