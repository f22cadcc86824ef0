"""Bar charts, drawn here: a list of bars → the shapes of an SVG, whose colours come from the style sheet.

Nothing is drawn by a script, and no attribute is a style, which the pages' policy forbids.
"""

import dataclasses
import math
from collections.abc import Sequence

WIDTH, HEIGHT = 520, 180
LEFT, RIGHT, TOP, BOTTOM = 48, 2, 14, 26
"""Room for the labels around the bars."""
_GAP_SHARE = 0.25
"""The share of a bar's place that is a gap."""
_BAR_HEIGHT_MIN = 2.0
"""So that a bar of 1 beside one of 1,000 is visible."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """One value and what it is called."""

    name: str
    value: int | None
    """None where it is unknown."""
    label: str = ""
    """Below the axis; most bars have none."""
    kind: str = ""
    """A class of the style sheet."""


@dataclasses.dataclass(frozen=True, slots=True)
class DrawnBar:
    """A bar as it is drawn."""

    bar: Bar
    x: float
    y: float
    width: float
    height: float
    middle: float


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A line across the chart and its value."""

    y: float
    value: int


@dataclasses.dataclass(frozen=True, slots=True)
class Chart:
    """What `chart.html` draws."""

    bars: Sequence[DrawnBar]
    lines: Sequence[Line]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    base: int = HEIGHT - BOTTOM


def chart_of(bars: Sequence[Bar]) -> Chart:
    top = nice_ceiling(max((bar.value or 0 for bar in bars), default=0))
    place = (WIDTH - LEFT - RIGHT) / max(1, len(bars))
    room = HEIGHT - TOP - BOTTOM
    drawn = []
    for number, bar in enumerate(bars):
        height = max(_BAR_HEIGHT_MIN, room * bar.value / top) if bar.value else 0.0
        x = LEFT + number * place + place * _GAP_SHARE / 2
        drawn.append(
            DrawnBar(
                bar,
                x=round(x, 1),
                y=round(HEIGHT - BOTTOM - height, 1),
                width=round(place * (1 - _GAP_SHARE), 1),
                height=round(height, 1),
                middle=round(LEFT + (number + 0.5) * place, 1),
            )
        )
    lines = [
        Line(round(HEIGHT - BOTTOM - room * value / top, 1), value) for value in (top // 2, top) if value
    ]
    return Chart(drawn, lines)


def nice_ceiling(value: int) -> int:
    """The next larger number of 2, 4, 10, 20, 40, 100 …, so that half of it is a whole number."""
    if value <= 2:
        return 2
    power: int = 10 ** int(math.log10(value))
    return next(ceiling for ceiling in (power, 2 * power, 4 * power, 10 * power) if ceiling >= value)
