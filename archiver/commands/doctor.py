"""`doctor`: prints every check of `audit.doctor`."""

import collections
import sys
from collections.abc import Iterable, Iterator

import typer
from rich.table import Table
from rich.text import Text

from archiver.audit import doctor as checks
from archiver.audit.doctor import Check, Finding, Verdict
from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import invocation_of
from archiver.commands.terminal.printing import clean, console, print_json, print_line
from archiver.composition.examined import examined
from archiver.config.settings import Need
from archiver.phrases import count_of

_NEED = (
    Need.KLING,
    Need.STORE,
    Need.CALLBACK_URL,
    Need.ADMIN,
    Need.LINKS,
    Need.GATEWAY,
    Need.FORWARDS,
    Need.ALERTS,
)
_VERDICT_WIDTH = 10
_STYLE = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red"}


def doctor(context: typer.Context, *, no_writes: bool, json: bool) -> None:
    """What `usage.doctor` says."""
    invocation = invocation_of(context)
    settings = invocation.settings(*_NEED)
    with examined(settings, environ=invocation.environment, may_write=not no_writes) as subject:
        found = checks.run(checks.all_checks(subject), secrets=settings.secrets())
        if json:
            findings = [finding for _, each in found for finding in each]
            print_json([finding.as_json() for finding in findings])
        else:
            findings = list(_printed(found, several=len(settings.accounts) > 1))
    if any(finding.verdict is Verdict.FAILED for finding in findings):
        raise typer.Exit(WRONG)


def _printed(found: Iterable[tuple[Check, list[Finding]]], *, several: bool) -> Iterator[Finding]:
    """Print each as soon as it is known, below its heading, and the count at the end."""
    screen = console()
    group = ""
    counts = collections.Counter[Verdict]()
    for check, findings in found:
        if check.group != group:
            screen.print(Text(f"\n{check.group}" if group else check.group, style="bold"))
            group = check.group
        for finding in findings:
            counts[finding.verdict] += 1
            if screen.is_terminal:
                screen.print(_row(finding, several=several))
            else:
                _print_plain(finding, several=several)
            yield finding
        sys.stdout.flush()
    screen.print(_summary(counts))


def _print_plain(finding: Finding, *, several: bool) -> None:
    """Without a space at the end of a line, for `diff` and mails."""
    print_line(f"  {finding.verdict:<8} {_said(finding, several=several)}")
    if finding.what_to_do:
        print_line(f"  {'':<8} {finding.what_to_do}")


def _row(finding: Finding, *, several: bool) -> Table:
    """The verdict, and beside it each line of the message."""
    said = Text(clean(_said(finding, several=several)))
    if finding.what_to_do:
        said.append(f"\n{clean(finding.what_to_do)}", style="dim")
    row = Table.grid(padding=(0, 1))
    row.add_column(width=_VERDICT_WIDTH)
    row.add_column(overflow="fold")
    row.add_row(Text(f"  {finding.verdict}", style=_STYLE[finding.verdict]), said)
    return row


def _said(finding: Finding, *, several: bool) -> str:
    return f"{finding.account}: {finding.message}" if several and finding.account else finding.message


def _summary(counts: "collections.Counter[Verdict]") -> Text:
    total = count_of(counts.total(), "check")
    failed, warned = counts[Verdict.FAILED], counts[Verdict.WARNING]
    if not failed and not warned:
        return Text(f"\nAll is well: {total}.", style=_STYLE[Verdict.OK])
    parts = [f"{failed} failed"] if failed else []
    parts += [count_of(warned, "warning")] if warned else []
    worst = Verdict.FAILED if failed else Verdict.WARNING
    return Text(f"\n{', '.join(parts)} of {total}.", style=_STYLE[worst])
