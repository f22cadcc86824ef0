"""The progress of a sweep on standard error: a bar for each family at a terminal, nothing in a pipe.

The number of pages is unknown until the last one, so the bar only shows that something moves.
"""

from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn

from archiver.commands.terminal.live import LiveDisplay
from archiver.commands.terminal.printing import clean, print_note
from archiver.phrases import count_of
from archiver.sweep.counts import SweepCounts


class SweepProgress(LiveDisplay):
    def __init__(self, *, account: str | None = None) -> None:
        self._before = "" if account is None else f"{account}: "
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[seen]}"),
            TimeElapsedColumn(),
        )
        self._lines: dict[str, TaskID] = {}
        self._last: dict[str, SweepCounts] = {}
        self._waiting: set[str] = set()
        self._is_daemons = False

    def begin(self, family: str) -> None:
        self._lines[family] = self._progress.add_task(clean(self._before + family), total=None, seen="")

    def page(self, counts: SweepCounts) -> None:
        self._last[counts.family] = counts
        self._waiting.discard(counts.family)
        seen = f"{count_of(counts.pages, 'page')}, {count_of(counts.rows, 'row')}, {counts.found} found"
        self._progress.update(self._lines[counts.family], seen=seen)

    def wait(self, family: str) -> None:
        """Show that another sweep has the family; print a note the first time."""
        if family in self._waiting:
            return
        self._waiting.add(family)
        self._progress.update(self._lines[family], seen="waiting")
        self.print_note(f"{family}: another sweep is running; waiting for its end (Ctrl-C to give up).")

    def leave_to_daemon(self, sentence: str) -> None:
        """Print, once, that the daemon does it."""
        if not self._is_daemons:
            self._is_daemons = True
            self.print_note(sentence)

    def print_note(self, sentence: str) -> None:
        print_note(self._before + sentence, screen=self._progress.console)

    def end(self, counts: SweepCounts) -> None:
        self.page(counts)
        self._progress.update(self._lines[counts.family], total=1, completed=1)

    def last_of(self, family: str) -> SweepCounts | None:
        return self._last.get(family)
