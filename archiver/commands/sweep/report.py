"""What a sweep has found, as a table or as JSON."""

import dataclasses

from archiver.commands.terminal.printing import console, count_of, print_line, table
from archiver.failures import Failure
from archiver.sweep.stage import SweepCounts

_SWEPT = ("pages", "rows", "found", "moved", "passed_by", "malformed")
_DRY = ("pages", "rows", "to_archive", "files", "passed_by", "malformed")

_SELDOM = ("passed_by", "malformed")
"""Columns that are left out while there is nothing to say in them."""


@dataclasses.dataclass
class FamilySwept:
    """One family: what was counted, and why it was not read to its end."""

    counts: SweepCounts
    failure: Failure | None = None
    account: str | None = None
    """Named where there are several."""


def as_json(swept: list[FamilySwept], *, dry_run: bool) -> dict[str, object]:
    """`families`, one object each with `error` null or saying what failed, and `total`."""
    names = _DRY if dry_run else _SWEPT
    return {
        "dry_run": dry_run,
        "families": [
            {
                **({} if one.account is None else {"account": one.account}),
                "family": one.counts.family,
                "full": one.counts.full,
                **{name: getattr(one.counts, name) for name in names},
                "error": _error(one.failure),
            }
            for one in swept
        ],
        "total": {name: _total(swept, name) for name in names},
    }


def _error(failure: Failure | None) -> dict[str, str] | None:
    if failure is None:
        return None
    return {"reason": failure.reason, "message": str(failure), "what_to_do": failure.what_to_do}


def _total(swept: list[FamilySwept], name: str) -> int:
    return sum(getattr(one.counts, name) for one in swept)


def _label(one: FamilySwept) -> str:
    family = one.counts.family if one.account is None else f"{one.account}: {one.counts.family}"
    return f"{family} (failed)" if one.failure else family


def print_report(swept: list[FamilySwept], *, dry_run: bool) -> None:
    """A table with a line for each family, and a sentence that sums it up."""
    names = [name for name in (_DRY if dry_run else _SWEPT) if name not in _SELDOM or _total(swept, name)]
    headings = ["family", *(name.replace("_", " ") for name in names)]
    rows = [[_label(one), *(getattr(one.counts, name) for name in names)] for one in swept]
    console().print(table(headings, rows, numbers=headings[1:]))
    print_line()
    tasks, files = _total(swept, "to_archive"), _total(swept, "files")
    found, moved = _total(swept, "found"), _total(swept, "moved")
    if dry_run:
        least = "at least " if any(one.failure for one in swept) else ""
        print_line(f"A sweep would bring {least}{count_of(tasks, 'task')} with {count_of(files, 'file')}.")
    else:
        print_line(f"{count_of(found, 'task')} found that the ledger did not have, {moved} moved on.")
