"""The progress of `verify` on standard error at a terminal: bytes, rate and time left. Nothing in a pipe."""

import sys

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from archiver.commands.terminal.live import LiveDisplay
from archiver.commands.terminal.printing import console, print_note


class VerifyProgress(LiveDisplay):
    """Thread-safe."""

    def __init__(self) -> None:
        screen = console(stderr=True)
        self.is_shown = screen.is_terminal
        self._is_beside_output = screen.is_terminal and sys.stdout.isatty()
        super().__init__(
            Progress(
                TextColumn("Verifying"),
                BarColumn(bar_width=24),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=screen,
                disable=not screen.is_terminal,
            )
        )
        self._task = self._progress.add_task("", total=None)

    def begin(self, total_bytes: int, *, done: int) -> None:
        """So many bytes are to be read in all, of which an earlier run has read some."""
        self._progress.update(self._task, total=max(total_bytes, done), completed=done)

    def advance(self, size: int) -> None:
        self._progress.advance(self._task, size)

    def write(self, line: str) -> None:
        """To standard output, where a reader has it at once: above the bar, if that is the same terminal."""
        if self._is_beside_output:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def print_note(self, sentence: str) -> None:
        print_note(sentence, screen=self._progress.console)
