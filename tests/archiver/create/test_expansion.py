"""From the picture that is wanted to the four ratios of an expansion."""

import math
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.create.expansion import Expansion, expansion_to, pixels_of, ratio_of


def test_the_example_of_the_api_pages_comes_out_the_same() -> None:
    expected = Expansion(up=0.1495, down=0.1495, left=0.6547, right=0.6547)

    assert expansion_to(100, 100, ratio=16 / 9, area=3) == expected


def test_without_an_area_it_is_the_smallest_with_the_ratio() -> None:
    assert expansion_to(100, 100, ratio=2) == Expansion(left=0.5, right=0.5)
    assert expansion_to(200, 100, ratio=1) == Expansion(up=0.5, down=0.5)


def test_without_a_ratio_the_image_keeps_its_own() -> None:
    assert expansion_to(1600, 900, area=2.25) == Expansion(up=0.25, down=0.25, left=0.25, right=0.25)


@pytest.mark.parametrize(
    ("width", "height", "ratio", "area", "said"),
    [
        (100, 100, 4.0, None, "needs 4.00 times the image's area, and the API allows at most 3"),
        (
            100,
            100,
            2.0,
            1.5,
            "must be from 2 (the smallest that gives this image the target ratio) to 3, not 1.5",
        ),
        (100, 100, 1.0, 3.1, "must be from 1 (the smallest"),
        (100, 100, None, 0.5, "to 3, not 0.5"),
        (100, 100, None, math.nan, "not nan"),
        (100, 100, math.inf, None, "two positive numbers"),
        (100, 100, 0.0, None, "two positive numbers"),
        (0, 100, 1.0, None, "no width or height"),
    ],
)
def test_an_impossible_expansion_is_refused_with_what_is_possible(
    width: int, height: int, ratio: float | None, area: float | None, said: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        expansion_to(width, height, ratio=ratio, area=area)


_PIXELS = st.integers(300, 6000)


@given(_PIXELS, _PIXELS, st.floats(0.334, 2.99), st.floats(0, 1) | st.none())
def test_every_expansion_has_the_ratio_and_the_area_and_stays_within_the_limits(
    width: int, height: int, stretch: float, share: float | None
) -> None:
    ratio, area_min = stretch * width / height, max(stretch, 1 / stretch)
    area = None if share is None else area_min + share * (3 - area_min)
    found = expansion_to(width, height, ratio=ratio, area=area)

    sides = (found.up, found.down, found.left, found.right)
    assert all(0 <= side <= 2 for side in sides)
    assert all(round(side, 4) == side for side in sides)
    exact = [Fraction(str(side)) for side in sides]
    assert (1 + exact[0] + exact[1]) * (1 + exact[2] + exact[3]) <= 3
    assert not found.is_too_large
    new_width, new_height = width * (1 + found.left + found.right), height * (1 + found.up + found.down)
    assert new_width / new_height == pytest.approx(ratio, rel=0.001)
    assert found.area == pytest.approx(area_min if area is None else area, rel=0.001)


@pytest.mark.parametrize(("written", "ratio"), [("16:9", 16 / 9), (" 1:1 ", 1), ("2.35:1", 2.35)])
def test_a_ratio_is_two_numbers(written: str, ratio: float) -> None:
    assert ratio_of(written) == ratio


@pytest.mark.parametrize("written", ["16/9", "16:0", "0:9", ":", "a:b", "-1:2", "1:2:3", "1e9:1", ""])
def test_anything_else_is_no_ratio(written: str) -> None:
    with pytest.raises(ValueError, match="width:height"):
        ratio_of(written)


def test_pixels_are_two_whole_numbers() -> None:
    assert (pixels_of("1024x768"), pixels_of("300×750")) == ((1024, 768), (300, 750))
    with pytest.raises(ValueError, match="1024x768"):
        pixels_of("0x5")
