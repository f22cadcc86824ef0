"""The result of a sweep, as a table or as JSON."""

import dataclasses

from archiver.commands.terminal.printing import console, print_line, table
from archiver.failures import Failure
from archiver.ledger import ToldFailure
from archiver.phrases import count_of
from archiver.sweep.counts import SweepCounts

_SWEPT = ("pages", "rows", "found", "moved", "passed_by", "malformed")
_DRY = ("pages", "rows", "to_archive", "files", "passed_by", "malformed")

_SELDOM = ("passed_by", "malformed")
"""Columns that are left out while all their counts are 0."""


@dataclasses.dataclass
class FamilySwept:
    counts: SweepCounts
    failure: Failure | ToldFailure | None = None
    account: str | None = None
    """None if it is the only one."""


def as_json(swept: list[FamilySwept], *, dry_run: bool) -> dict[str, object]:
    """The contract's shape; `error` is null after a complete sweep."""
    names = _DRY if dry_run else _SWEPT
    return {
        "dry_run": dry_run,
        "families": [
            {
                **({} if family.account is None else {"account": family.account}),
                "family": family.counts.family,
                "full": family.counts.full,
                **{name: getattr(family.counts, name) for name in names},
                "error": _error(family.failure),
            }
            for family in swept
        ],
        "total": {name: _total(swept, name) for name in names},
    }


def _error(failure: Failure | ToldFailure | None) -> dict[str, str] | None:
    if failure is None:
        return None
    return {"reason": failure.reason, "message": str(failure), "what_to_do": failure.what_to_do}


def _total(swept: list[FamilySwept], name: str) -> int:
    return sum(getattr(family.counts, name) for family in swept)


def _label(swept: FamilySwept) -> str:
    name = swept.counts.family if swept.account is None else f"{swept.account}: {swept.counts.family}"
    return f"{name} (failed)" if swept.failure else name


def print_report(swept: list[FamilySwept], *, dry_run: bool) -> None:
    names = [name for name in (_DRY if dry_run else _SWEPT) if name not in _SELDOM or _total(swept, name)]
    headings = ["family", *(name.replace("_", " ") for name in names)]
    rows = [[_label(family), *(getattr(family.counts, name) for name in names)] for family in swept]
    console().print(table(headings, rows, numbers=headings[1:]))
    print_line()
    tasks, files = _total(swept, "to_archive"), _total(swept, "files")
    found, moved = _total(swept, "found"), _total(swept, "moved")
    if dry_run:
        minimum = "at least " if any(family.failure for family in swept) else ""
        print_line(
            f"A sweep would find {minimum}{count_of(tasks, 'task')} to archive, with {count_of(files, 'file')}."
        )
    else:
        print_line(f"{count_of(found, 'new task')} found, {moved} changed state.")
