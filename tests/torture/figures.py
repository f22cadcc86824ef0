"""A figure, what it must be, and the table of all of them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One number that a part has measured. Without bounds it is only told."""

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the number is what it must be; a NaN never is, where there is a bound."""
        above = self.least is None or self.value >= self.least
        return above and (self.most is None or self.value <= self.most)

    @property
    def must(self) -> str:
        """The bounds as people write them."""
        if self.least is not None and self.least == self.most:
            return _number(self.least)
        bounds = [f"≥ {_number(self.least)}"] if self.least is not None else []
        bounds += [f"≤ {_number(self.most)}"] if self.most is not None else []
        return ", ".join(bounds)


def none_of(name: str, value: float) -> Figure:
    """A figure that must be 0: a loss, a surplus, a mistake."""
    return Figure(name, value, least=0, most=0)


def table(figures: Mapping[str, Sequence[Figure]]) -> str:
    """Figures by part, a line each: name, value, what it must be, and a word where it is not that."""
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
