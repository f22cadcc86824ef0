"""What is seen of a sweep while it runs: a line with a bar for each family at a terminal, nothing in a pipe.

How many pages there are nobody knows before the last one, so the bar only shows that something moves.
"""

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from archiver.commands.terminal.printing import clean, console, count_of, say
from archiver.sweep.stage import SweepCounts


class SweepProgress:
    """Shows progress on standard error. Use as a context."""

    def __init__(self, *, account: str | None = None) -> None:
        """`account` stands before each family, where there are several."""
        self._before = "" if account is None else f"{account}: "
        screen = console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[seen]}"),
            TimeElapsedColumn(),
            console=screen,
            disable=not screen.is_terminal,
        )
        self._lines: dict[str, TaskID] = {}
        self._last: dict[str, SweepCounts] = {}
        self._waiting: set[str] = set()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, family: str) -> None:
        """A family is next."""
        self._lines[family] = self._progress.add_task(clean(self._before + family), total=None, seen="")

    def page(self, counts: SweepCounts) -> None:
        """One more page was read."""
        self._last[counts.family] = counts
        self._waiting.discard(counts.family)
        seen = f"{count_of(counts.pages, 'page')}, {count_of(counts.rows, 'row')}, {counts.found} found"
        self._progress.update(self._lines[counts.family], seen=seen)

    def wait(self, family: str) -> None:
        """Another sweep has the family; said once."""
        if family in self._waiting:
            return
        self._waiting.add(family)
        self._progress.update(self._lines[family], seen="waiting")
        self.say(f"{family}: another sweep is running; waiting for it to end (Ctrl-C to give up).")

    def say(self, sentence: str) -> None:
        """Tell the operator something, above the bars."""
        say(self._before + sentence, screen=self._progress.console)

    def end(self, counts: SweepCounts) -> None:
        """The family is done."""
        self.page(counts)
        self._progress.update(self._lines[counts.family], total=1, completed=1)

    def last_of(self, family: str) -> SweepCounts | None:
        """What was seen of a family up to now."""
        return self._last.get(family)
