"""The parts of `make torture`."""

from collections.abc import Callable, Mapping

from tests.torture import blind, crowds, deadlines, effects, floods, kills, power
from tests.torture.figures import Figure
from tests.torture.fleet import siege
from tests.torture.options import Options

Part = Callable[[Options], list[Figure]]

PARTS: Mapping[str, Part] = {
    "effects": effects.measure,
    "power": power.measure,
    "flood": floods.measure,
    "deadlines": deadlines.measure,
    "hopeless": crowds.measure_hopeless,
    "ban": crowds.measure_ban,
    "storm": crowds.measure_storm,
    "lost": crowds.measure_lost,
    "blind": blind.measure,
    "kills": kills.measure,
}
"""Each by name. An exception counts as a failure of the part."""

PARTS_POSTGRESQL: Mapping[str, Part] = {"fleet": siege.measure}
"""Those of `--ledger postgresql`."""
