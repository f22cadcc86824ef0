"""The parts of `make torture`. One more is one more line here."""

from collections.abc import Callable, Mapping

from tests.torture import effects, kills, power
from tests.torture.figures import Figure
from tests.torture.options import Options

Part = Callable[[Options], list[Figure]]

PARTS: Mapping[str, Part] = {
    "effects": effects.measure,
    "power": power.measure,
    "kills": kills.measure,
}
"""Name of a part → the function that measures it. What it raises counts as a failure of the part."""
