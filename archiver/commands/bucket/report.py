"""The output of `verify`: a line for each object on standard output; the reasons and the sum on standard error."""

import dataclasses
import json as json_format

from archiver.audit.objects import ObjectFinding, Symbol
from archiver.audit.reached import Reached, VerifyCounts
from archiver.commands.bucket.progress import VerifyProgress
from archiver.commands.terminal.printing import clean
from archiver.model import rfc3339
from archiver.phrases import count_of

REASONS_MAX = 100
"""How many reasons are printed; `--json` has them all."""
ADVICE_MAX = 10
_ALL_WELL = "All is as it should be."
_NOTHING = "Nothing was compared: neither the bucket nor the ledger has a task that was chosen."


class VerifyReport:
    """The output of one run."""

    def __init__(self, progress: VerifyProgress, *, differences: bool, json: bool) -> None:
        """`differences`: leave out correct objects."""
        self._progress = progress
        self._differences = differences
        self._json = json
        self._reasons = 0
        self._advice: dict[str, None] = {}

    def print_finding(self, finding: ObjectFinding) -> None:
        if finding.symbol is Symbol.SAME and self._differences:
            return
        if self._json:
            self._progress.write(json_format.dumps(finding.as_json()))
            return
        self._progress.write(f"{finding.symbol} {clean(finding.key)}")
        if finding.is_fault:
            self._print_reason(finding)

    def print_summary(self, counts: VerifyCounts, *, resumed_from: int | None, advice: str | None) -> None:
        """`resumed_from`: when the interrupted run began, Unix ms, whose rest this was. `advice` tells that no daemon
        runs to fetch what is wanted back."""
        since = None if resumed_from is None else rfc3339(resumed_from)
        if self._json:
            summary = dataclasses.asdict(counts) | {"faults": counts.faults, "resumed_from": since}
            self._progress.write(json_format.dumps({"summary": summary}))
        else:
            self._print_sentences(counts)
            if since is not None:
                self._progress.print_note(f"This includes what an interrupted run has checked since {since}.")
        if counts.wanted_back and advice:
            self._progress.print_note(advice)

    def _print_reason(self, finding: ObjectFinding) -> None:
        if finding.what_to_do and len(self._advice) < ADVICE_MAX:
            self._advice[finding.what_to_do] = None
        self._reasons += 1
        if self._reasons <= REASONS_MAX:
            self._progress.print_note(f"{finding.key}: {finding.message}.")
        elif self._reasons == REASONS_MAX + 1:
            self._progress.print_note("further reasons are left out here: --json has them.")

    def _print_sentences(self, counts: VerifyCounts) -> None:
        verdict = f"{count_of(counts.faults, 'fault')}." if counts.faults else _ALL_WELL
        if not counts.folders and not counts.faults:
            verdict = _NOTHING
        checked = f"{count_of(counts.folders, 'folder')}, {counts.bytes / 1e9:.3f} GB read"
        numbers = ", ".join(
            f"{value} {name}"
            for name, value in (
                ("same", counts.same),
                ("different", counts.different),
                ("missing", counts.missing),
                ("unreadable", counts.errors),
                ("named nowhere", counts.extra),
            )
            if value or name == "same"
        )
        self._progress.print_note(f"{verdict} {checked}: {numbers}.")
        for sentence in (*self._advice, *_notes(counts)):
            self._progress.print_note(sentence)


def _notes(counts: VerifyCounts) -> list[str]:
    notes = {
        f"{count_of(counts.wanted_back, 'object')} will be put back: a file if Kling still has its bytes.": (
            counts.wanted_back
        ),
        f"{count_of(counts.unlisted, 'task')} of the ledger not compared: the listing of the bucket did not show them, "
        "though their manifests are there. If this comes again, the store lists wrongly.": counts.unlisted,
        f"{count_of(counts.unknown, 'folder')} of tasks that the ledger does not have: `rebuild` reads them into it.": (
            counts.unknown
        ),
        f"{count_of(counts.forgotten, 'folder')} of tasks that were forgotten: passed over.": counts.forgotten,
        f"{count_of(counts.elsewhere, 'folder')} below another prefix than the account's, read too.": counts.elsewhere,
        f"{count_of(counts.in_work, 'folder')} of tasks that are not archived yet.": counts.in_work,
        f"{count_of(counts.suspect, 'file')} marked as suspect in the manifest, and as they came.": counts.suspect,
    }
    return [sentence for sentence, count in notes.items() if count]


def ended_sentence(reached: Reached) -> str:
    """The sentence for a run that ends early."""
    comparing = (
        ", while it looked for what the ledger has and the bucket lacks" if reached.is_ledgers_turn else ""
    )
    return (
        f"ended after {count_of(reached.counts.folders, 'folder')}, the last one {clean(reached.folder)}{comparing}. "
        "Within a day, the same command goes on there."
    )


def resumed_sentence(counts: VerifyCounts, *, resumed_from: int) -> str:
    """The sentence for a run that resumes an interrupted one, which began then (Unix ms)."""
    faults = f", {count_of(counts.faults, 'fault')} among them" if counts.faults else ""
    return (
        f"goes on after {count_of(counts.folders, 'folder')} that an interrupted run has checked since "
        f"{rfc3339(resumed_from)}{faults}; "
        "--restart begins anew."
    )
