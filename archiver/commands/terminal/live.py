"""A live display on standard error that lasts as long as a `with` block. It shows nothing in a pipe."""

from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from archiver.commands.terminal.printing import console


class LiveDisplay:
    """Shows lines of these columns within the block. A line vanishes at its end if it `is_transient`."""

    def __init__(self, *columns: ProgressColumn, is_transient: bool = False) -> None:
        screen = console(stderr=True)
        self.is_shown = screen.is_terminal
        self._progress = Progress(*columns, console=screen, disable=not self.is_shown, transient=is_transient)

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


class ByteDisplay(LiveDisplay):
    """One bar of bytes, with their rate and the time left."""

    def __init__(self, description: str) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._line = self._progress.add_task(description, total=None)


class CountDisplay(LiveDisplay):
    """Bars of things that are counted: `how_many` shows the number, the field `rate` how many a second."""

    def __init__(self, how_many: ProgressColumn) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            how_many,
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
