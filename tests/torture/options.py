"""What the person who starts `make torture` decides, and how a part tells how far it is."""

import dataclasses
import pathlib
from collections.abc import Callable


def _silent(_done: int, _of: int) -> None:
    """Nobody looks."""


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """Given to every part. `folder` is the part's own and empty; random choices come from `seed` alone."""

    folder: pathlib.Path
    rounds: int
    """How often the thing that a part repeats is repeated."""
    seed: int
    tell: Callable[[int, int], None] = _silent
    """Called with (steps done, steps in all) as the part goes on."""
