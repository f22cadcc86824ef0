"""A Rich progress display that lives as long as a `with` block."""

from types import TracebackType
from typing import Self

from rich.progress import Progress


class LiveDisplay:
    """Shows `progress` within the block."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

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
