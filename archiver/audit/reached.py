"""The progress of `verify`, and its counts so far."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Self

from archiver.audit.objects import CheckedFolder, ObjectFinding, Symbol


@dataclasses.dataclass(slots=True)
class VerifyCounts:
    """The counts so far, including those from before an interruption."""

    folders: int = 0
    bytes: int = 0
    """The bytes of all objects that are right."""
    same: int = 0
    different: int = 0
    missing: int = 0
    extra: int = 0
    errors: int = 0
    wanted_back: int = 0
    """Objects that are to be put back."""
    in_work: int = 0
    """Folders of tasks that are not archived yet."""
    unknown: int = 0
    """Folders of tasks that the ledger does not have."""
    forgotten: int = 0
    """Folders of tasks that were forgotten: their objects are the owner's affair, and are passed over."""
    elsewhere: int = 0
    """Folders that lie below another prefix than the account's: they are read too."""
    unlisted: int = 0
    """Archived tasks that the listing of the bucket did not show, though their manifests are there: nothing of them was
    compared."""
    suspect: int = 0
    """Files that are as they came, and are doubted."""

    @property
    def faults(self) -> int:
        return self.different + self.missing + self.errors + self.unlisted

    def add(self, folder: CheckedFolder) -> None:
        self.folders += 1
        self.in_work += folder.is_in_work
        self.unknown += folder.is_unknown
        self.forgotten += folder.is_forgotten
        self.elsewhere += folder.is_elsewhere
        self.suspect += folder.suspects
        self.add_findings(folder.findings)

    def add_findings(self, findings: Iterable[ObjectFinding]) -> None:
        for finding in findings:
            name = _COUNTED[finding.symbol]
            setattr(self, name, getattr(self, name) + 1)
            self.bytes += finding.bytes


_COUNTED = {
    Symbol.SAME: "same",
    Symbol.DIFFERENT: "different",
    Symbol.MISSING: "missing",
    Symbol.EXTRA: "extra",
    Symbol.ERROR: "errors",
}


@dataclasses.dataclass(slots=True)
class Reached:
    """The progress of a run."""

    account: str
    began_at: int
    """When the first of its runs began, Unix ms."""
    is_ledgers_turn: bool = False
    """The first pass (the bucket) is done, and the second (the ledger) has begun."""
    after_key: str = ""
    folder: str = ""
    """The last folder that is done."""
    after_row: int = 0
    awaited: int = 0
    """Tasks of the account that a listing had to show, less those that it has shown: the rest of them is unlisted."""
    counts: VerifyCounts = dataclasses.field(default_factory=VerifyCounts)

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def of_json(cls, saved: dict[str, Any]) -> Self:
        """Raises TypeError if another version has saved it."""
        return cls(**saved | {"counts": VerifyCounts(**saved["counts"])})
