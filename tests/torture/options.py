"""The options of `make torture`, and how a part reports progress."""

import dataclasses
import pathlib
from collections.abc import Callable


def _silent(_done: int, _of: int) -> None:
    """No-op."""


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """`folder` is the part's own and empty; random choices come from `seed` alone."""

    folder: pathlib.Path
    rounds: int
    """How often a part repeats its experiment."""
    seed: int
    on_progress: Callable[[int, int], None] = _silent
    """Called with (steps done, steps in all)."""
