"""What the user sees. At a terminal: lines that scroll above progress bars. In a pipe: the lines alone.

A pipe gets no control codes, even under FORCE_COLOR, so that a log of it is readable.
"""

import dataclasses
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TextIO

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

STYLES = {
    "archived": "green",
    "right": "bold green",
    "wrong": "bold red",
    "killed": "bold yellow",
    "restart": "bold yellow",
    "ready": "bold",
    "forged": "magenta",
    "doubled": "magenta",
    "failed": "magenta",
    "created": "cyan",
    "deleted": "magenta",
    "links": "green",
    "told": "green",
}
"""By the first word of a line; other words are plain."""
LABEL_COLUMNS = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Tally:
    """The numbers below the lines."""

    finished: int
    """Tasks that the account has finished with success."""
    archived: int
    checked: int
    tasks: int
    """How many are expected so far."""
    bytes: int
    daemon: str


class View:
    """A terminal or a pipe. A context manager."""

    def __init__(self, stream: TextIO, *, live: bool) -> None:
        self._console = Console(file=stream, force_terminal=live, highlight=False, markup=False, emoji=False)
        self._live = live
        self._began_at = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
            disable=not live,
            expand=True,
            refresh_per_second=5,
        )
        self._bars: dict[str, TaskID] = {}

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

    def print_event(self, verb: str, sentence: str) -> None:
        """Print the time, what happened, and the sentence."""
        line = Text(f"{time.monotonic() - self._began_at:5.1f}s {verb:<8} {sentence}")
        line.stylize(STYLES.get(verb, ""), 7, 7 + len(verb))
        self._print(line)

    def print_line(self, line: str = "") -> None:
        """Print a line without wrapping it: addresses can be copied."""
        self._print(Text(line))

    def places(self, places: Sequence[tuple[str, str]]) -> None:
        """Print labels and addresses."""
        for label, place in places:
            line = Text(f"  {label:<{LABEL_COLUMNS}} {place}")
            line.stylize("dim", 0, LABEL_COLUMNS + 2)
            self._print(line)

    def summary(self, rows: Sequence[tuple[str, str]]) -> None:
        """Print a table of two columns."""
        table = Table(box=box.SIMPLE_HEAD if self._live else box.ASCII2, show_header=False)
        table.add_column()
        table.add_column(justify="right")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def show(self, tally: Tally) -> None:
        """Update the progress bars."""
        if not self._live:
            return
        self._bar("finished upstream", tally.finished, tally.tasks, "")
        self._bar("archived", tally.archived, tally.tasks, megabytes(tally.bytes))
        self._bar("checked", tally.checked, tally.tasks, tally.daemon)

    def _bar(self, name: str, completed: int, total: int, note: str) -> None:
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=total, note=note)
        self._progress.update(self._bars[name], completed=completed, total=total, note=note)

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)


def megabytes(count: int) -> str:
    """`12.3 MB`."""
    return f"{count / 1e6:.1f} MB"


def count_of(count: int, noun: str, plural: str = "") -> str:
    """`1 file`, `2 files`."""
    return f"1 {noun}" if count == 1 else f"{count} {plural or noun + 's'}"
