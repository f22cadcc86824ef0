"""How anything is shown: data on standard output, words for the operator on standard error.

Rules:

1. Nothing from outside reaches a terminal as it came: control characters are spelled out, and no text is ever
   read as markup. An error message of the API cannot move anybody's cursor.
2. In a pipe there is no colour, no bar, and nothing is cut or wrapped to a width that nobody has: what `grep` looks
   for stands on one line.
3. JSON is ASCII, so that no locale can refuse or damage it.
"""

import contextlib
import datetime
import json
from collections.abc import Iterable, Sequence

import typer
from rich import box
from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 100_000
"""Columns of what is no terminal."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


class _Console(Console):
    """Rich's own answer to a reader that has gone is to exit with status 1; ours is in `endings`."""

    def on_broken_pipe(self) -> None:
        """Called while the BrokenPipeError is handled."""
        raise  # noqa: PLE0704 -- Rich calls this inside its `except BrokenPipeError`


def console(*, stderr: bool = False) -> Console:
    """Standard output or error as it is now."""
    found = _Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not found.is_terminal:
        found.width = PIPE_WIDTH
    if found.no_color:
        # Rich's NO_COLOR still writes bold and dim; who sets it wants plain text.
        return _Console(
            stderr=stderr, markup=False, highlight=False, emoji=False, color_system=None, width=found.width
        )
    return found


def say(sentence: str, *, screen: Console | None = None) -> None:
    """Tell the operator something that is not data. If nobody can be told, the work still goes on.

    While a bar is shown, `screen` is its console, which knows how to print above it.
    """
    with contextlib.suppress(OSError):
        (screen or console(stderr=True)).print(f"kling-archiver: {clean(sentence)}")


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2))


def print_line(line: str = "") -> None:
    """One line of data."""
    console().print(clean(line))


def clean(text: str) -> str:
    """`text` with everything but line ends that does not print spelled out (`\\x1b`)."""
    return "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[str] = ()) -> Table:
    """A table of plain text; the columns named in `numbers` are set to the right, None is a dash."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*("—" if cell is None else clean(str(cell)) for cell in row))
    return made


def facts(rows: Iterable[tuple[str, object]]) -> Table:
    """Names and values below each other."""
    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True, style="dim")
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, "—" if value is None else clean(str(value)))
    return made


def moment(written: str) -> str:
    """A time as the ledger tells it, for people: `2026-11-20 12:11:03`, in UTC."""
    return f"{datetime.datetime.fromisoformat(written):%Y-%m-%d %H:%M:%S}"


def milliseconds(written: str) -> int:
    """The same as Unix ms."""
    return round(datetime.datetime.fromisoformat(written).timestamp() * 1000)


def when(written: str | None, *, now: int) -> str | None:
    """A time in UTC with how far away it is from `now` (Unix ms); None stays None."""
    if written is None:
        return None
    return f"{moment(written)[:-3]} ({distance(milliseconds(written) - now)})"


def distance(difference_ms: int) -> str:
    """`in 6.9 days` or `4 minutes ago`."""
    length = span(abs(difference_ms))
    return f"in {length}" if difference_ms > 0 else f"{length} ago"


def span(length_ms: int) -> str:
    """A length of time in the unit that tells most: never fewer than two of it, but for seconds."""
    seconds = length_ms // 1000
    if seconds >= 2 * _DAY:
        return f"{seconds * 10 // _DAY / 10:.1f} days"  # rounded down: 6.97 days are not 7
    for unit, name in ((_HOUR, "hours"), (_MINUTE, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return "1 second" if seconds == 1 else f"{seconds} seconds"


def count_of(count: int, noun: str) -> str:
    """`1 task`, `3 tasks`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
