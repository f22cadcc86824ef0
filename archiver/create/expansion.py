"""The geometry of `images/editing/expand`: from the wanted picture to the four ratios that the API takes. No I/O.

A ratio is the length added on one side, as a multiple of the original's height (up, down) or width (left, right). The
API takes 0 to 2 for each, and at most 3 times the original's area.
"""

import dataclasses
import math
import re

RATIO_MAX = 2.0
AREA_MAX = 3.0
_DECIMALS = 10_000
_NOISE = 1e-9
"""Floating-point tolerance."""


DOWN, BOTTOM = "down_expansion_ratio", "bottom_expansion_ratio"
"""One parameter: older pages call it `bottom`, newer ones `down` (archiver/kling/API.md 6.1)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Expansion:
    up: float = 0.0
    down: float = 0.0
    left: float = 0.0
    right: float = 0.0

    @property
    def area(self) -> float:
        """The new picture's area, as a multiple of the original's."""
        return (1 + self.up + self.down) * (1 + self.left + self.right)

    @property
    def is_too_large(self) -> bool:
        return self.area > AREA_MAX + _NOISE

    def parameters(self) -> dict[str, float]:
        """The lower side is sent under both names: an API that knew only the other one would read 0."""
        return {
            "up_expansion_ratio": self.up,
            DOWN: self.down,
            BOTTOM: self.down,
            "left_expansion_ratio": self.left,
            "right_expansion_ratio": self.right,
        }


def expansion_to(
    width: int, height: int, *, ratio: float | None = None, area: float | None = None
) -> Expansion:
    """Expand equally on opposite sides to `ratio` (width ÷ height) and `area` (a multiple of the picture's).

    Without `ratio` the picture keeps its own; without `area` it takes the smallest that has the ratio. As in the API's
    example there are four decimals, rounded down so that an area of 3 stays within 3.

    Raises ValueError with a sentence that says what is possible.
    """
    if width < 1 or height < 1:
        raise ValueError("the image has no width or height")
    wanted = width / height if ratio is None else ratio
    if not (math.isfinite(wanted) and wanted > 0):
        raise ValueError("the target ratio must be two positive numbers, for example 16:9")
    stretch = wanted / (width / height)
    area_min = max(stretch, 1 / stretch)
    if area_min > AREA_MAX + _NOISE:
        raise ValueError(
            f"the target ratio needs {area_min:.2f} times the image's area, and the API allows at most {AREA_MAX:g}"
        )
    new_area = area_min if area is None else area
    if not area_min - _NOISE <= new_area <= AREA_MAX + _NOISE:
        raise ValueError(
            f"the area must be from {math.ceil(area_min * 100 - _NOISE) / 100:g} (the smallest that gives this image "
            f"the target ratio) to {AREA_MAX:g}, not {new_area:g}"
        )
    wider, higher = math.sqrt(new_area * stretch), math.sqrt(new_area / stretch)
    side, top = _half(wider), _half(higher)
    return Expansion(up=top, down=top, left=side, right=side)


def _half(grown: float) -> float:
    """What each of two equal sides adds when a length grows from 1 to `grown`, with four decimals."""
    return math.floor(max(0.0, (grown - 1) / 2) * _DECIMALS + _NOISE) / _DECIMALS


def ratio_of(text: str) -> float:
    """`16:9` as 1.78.

    Raises ValueError.
    """
    parts = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?):([0-9]{1,6}(?:\.[0-9]{1,6})?)", text.strip())
    if parts is None or float(parts[1]) <= 0 or float(parts[2]) <= 0:
        raise ValueError("must be width:height, for example 16:9")
    return float(parts[1]) / float(parts[2])


def pixels_of(text: str) -> tuple[int, int]:
    """`1024x768` as (1024, 768).

    Raises ValueError.
    """
    parts = re.fullmatch(r"([1-9][0-9]{0,5})[x×]([1-9][0-9]{0,5})", text.strip())
    if parts is None:
        raise ValueError("must be width x height in pixels, for example 1024x768")
    return int(parts[1]), int(parts[2])
