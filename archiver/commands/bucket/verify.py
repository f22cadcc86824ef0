"""`verify`: every object in the bucket against manifests and ledger."""

import contextlib
import re

import typer

from archiver.audit.sample import Sample
from archiver.audit.verification import Verification, VerifiedAccount
from archiver.commands.bucket.chosen_folders import ChosenFolders, chosen_folders, names_of
from archiver.commands.bucket.progress import VerifyProgress
from archiver.commands.bucket.report import VerifyReport, ended_sentence, resumed_sentence
from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import invocation_of, no_daemon_sentence
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
    now = invocation_of(context).now
    share = _sample(context, sample, seed=seed, now=now())
    with (
        chosen_folders(
            context, family=family, since=since, until=until, account=account, transfers=transfers
        ) as chosen,
        chosen.ledger() as ledger,
        VerifyProgress() as progress,
    ):
        verification = Verification(
            chosen.store,
            ledger,
            [VerifiedAccount(each.name, names_of(each), each.s3_prefix) for each in chosen.accounts],
            span=chosen.span,
            sample=share,
            repair=repair,
            now=now,
            on_bytes=progress.advance,
            threads=transfers,
        )
        if restart:
            verification.restart()
        elif verification.resume() and (began_at := verification.resumed_from) is not None:
            progress.print_note(resumed_sentence(verification.counts, resumed_from=began_at))
        if progress.is_shown:
            progress.begin(verification.bytes_expected(), done=verification.counts.bytes)
        report = VerifyReport(progress, differences=differences, json=json)
        _run(verification, report, progress)
        advice = no_daemon_sentence(ledger.daemons.alive())
        doubt = _doubt(verification, chosen)
    report.print_summary(verification.counts, resumed_from=verification.resumed_from, advice=advice)
    if doubt is not None:
        progress.print_note(doubt)
    if verification.counts.faults or doubt is not None:
        raise typer.Exit(WRONG)


def _run(verification: Verification, report: VerifyReport, progress: VerifyProgress) -> None:
    """Print the findings. If anything ends the run early, save its place and print it."""
    findings = verification.run()
    try:
        for finding in findings:
            report.print_finding(finding)
    except BaseException:
        findings.close()
        if verification.counts.folders:
            progress.print_note(ended_sentence(verification.reached))
        # What has ended the run is what has to be said: the next run begins where this one saved last.
        with contextlib.suppress(LedgerUnavailable):
            verification.save()
        raise


def _doubt(verification: Verification, chosen: ChosenFolders) -> str | None:
    """Where nothing was compared, though not because of the sample. Raises Failure, Stopped."""
    counts = verification.counts
    if counts.folders or counts.faults or verification.tasks_expected():
        return None
    return chosen.doubt()


def _sample(context: typer.Context, written: str, *, seed: int | None, now: int) -> Sample:
    """By default another one each day. Ends with a usage error."""
    share = _SHARE.fullmatch(written.strip())
    percent = float(share[1]) if share else 0.0
    if not 0 < percent <= 100:
        context.fail("--sample must be a share of the tasks, such as 10% or 0.5%.")
    if percent == 100:
        return Sample()
    return Sample(percent, now // DAY_MS if seed is None else seed)
