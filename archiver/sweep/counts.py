"""The counts of a sweep."""

import dataclasses
import enum

COUNTED_MAX = 500_000
"""About 60 MB of ids."""


class CountedIds:
    """The ids that a dry run has counted, in the memory of the process that asks the API. Beyond `COUNTED_MAX` ids, a
    task that is shown again counts again."""

    def __init__(self, *, ids_max: int = COUNTED_MAX) -> None:
        self._ids: set[str] = set()
        self._ids_max = ids_max

    def add(self, task_id: str) -> bool:
        """Add an id; whether it is new."""
        if task_id in self._ids:
            return False
        if len(self._ids) < self._ids_max:
            self._ids.add(task_id)
        return True


class SweepEnd(enum.StrEnum):
    """How a sweep of one family ended."""

    FINISHED = "finished"
    BUSY = "busy"
    """Another sweeper has the family."""
    OVERTAKEN = "overtaken"
    """Another sweeper took the family while this one read."""


@dataclasses.dataclass
class PageCounts:
    """The counts of one page."""

    rows: int = 0
    malformed: int = 0
    found: int = 0
    """Tasks that the ledger did not have."""
    moved: int = 0
    passed_by: int = 0
    """Tasks first seen after their deadline: their results are deleted."""
    to_archive: int = 0
    """Dry run: succeeded tasks that are not in the bucket yet."""
    files: int = 0
    """Dry run: the files of those tasks."""
    open: int = 0
    """Tasks that wait for something in the ledger; the stop rule of lists needs them."""


@dataclasses.dataclass
class SweepCounts:
    """The counts of one sweep of one family: the sum of its pages."""

    family: str
    full: bool
    end: SweepEnd = SweepEnd.FINISHED
    pages: int = 0
    rows: int = 0
    found: int = 0
    moved: int = 0
    passed_by: int = 0
    malformed: int = 0
    to_archive: int = 0
    files: int = 0

    def add(self, page: PageCounts) -> None:
        """Add one page."""
        self.pages += 1
        self.rows += page.rows
        self.found += page.found
        self.moved += page.moved
        self.passed_by += page.passed_by
        self.malformed += page.malformed
        self.to_archive += page.to_archive
        self.files += page.files
