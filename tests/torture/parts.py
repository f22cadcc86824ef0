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

PARTS_POSTGRESQL: Mapping[str, Part] = {
    "effects": effects.measure_on_postgresql,
    "flood": floods.measure_on_postgresql,
    "blind": blind.measure_on_postgresql,
    "fleet": siege.measure,
}
"""Those of `--ledger postgresql`."""

_RULES = "rules of the engine, on a clock that jumps as an SQLite file changes; no rule knows the database"
NOT_ON_POSTGRESQL: Mapping[str, str] = {
    "power": "snapshots of the ledger's file; fleet kills PostgreSQL, and fills its disk",
    "kills": "the one daemon that SQLite takes; fleet kills each of many",
    **dict.fromkeys(("deadlines", "hopeless", "ban", "storm", "lost"), _RULES),
}
"""Parts that make no sense there, and why."""
