"""The progress of `verify` on standard error at a terminal: bytes, rate and time left. Nothing in a pipe."""

import sys

from archiver.commands.terminal.live import ByteDisplay
from archiver.commands.terminal.printing import print_note


class VerifyProgress(ByteDisplay):
    """Thread-safe."""

    def __init__(self) -> None:
        super().__init__("Verifying")
        self._is_beside_output = self.is_shown and sys.stdout.isatty()

    def begin(self, total_bytes: int, *, done: int) -> None:
        """The run reads `total_bytes`; an earlier run has read `done` of them."""
        self._progress.update(self._line, total=max(total_bytes, done), completed=done)

    def advance(self, size: int) -> None:
        self._progress.advance(self._line, size)

    def write(self, line: str) -> None:
        """To standard output, where a reader has it at once: above the bar, if that is the same terminal."""
        if self._is_beside_output:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def print_note(self, sentence: str) -> None:
        print_note(sentence, screen=self._progress.console)
