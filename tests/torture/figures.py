"""Figures, their bounds, and the table of all figures."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """A number that a part measured. Without bounds it is only printed."""

    name: str
    value: float
    minimum: float | None = None
    maximum: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the value is within its bounds; NaN never is."""
        above = self.minimum is None or self.value >= self.minimum
        return above and (self.maximum is None or self.value <= self.maximum)

    @property
    def must(self) -> str:
        """The bounds as text: `≥ 1, ≤ 5`."""
        if self.minimum is not None and self.minimum == self.maximum:
            return _number(self.minimum)
        bounds = [f"≥ {_number(self.minimum)}"] if self.minimum is not None else []
        bounds += [f"≤ {_number(self.maximum)}"] if self.maximum is not None else []
        return ", ".join(bounds)


def none_of(name: str, value: float) -> Figure:
    """A figure that must be 0."""
    return Figure(name, value, minimum=0, maximum=0)


def table(figures: Mapping[str, Sequence[Figure]]) -> str:
    """One line a figure: part, name, value, bounds, and `WRONG` if it is out of them."""
    rows = list(_rows(figures))
    widths = [max(len(row[place]) for row in rows) for place in range(4)]
    return "".join(
        f"{part:<{widths[0]}}  {name:<{widths[1]}}  {value:>{widths[2]}}  {must:>{widths[3]}}  {word}".rstrip()
        + "\n"
        for part, name, value, must, word in rows
    )


def _rows(figures: Mapping[str, Sequence[Figure]]) -> Iterator[tuple[str, str, str, str, str]]:
    yield ("part", "figure", "value", "must be", "")
    for part, measured in figures.items():
        for figure in measured:
            word = "" if figure.holds else "WRONG"
            yield (part, figure.name, _number(figure.value), figure.must, word)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"
