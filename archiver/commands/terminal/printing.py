"""How commands print: data on standard output, notes for the operator on standard error.

1. Text from outside never reaches a terminal raw: control characters are escaped, nothing is read as markup.
2. A pipe gets no colour, no progress bar, and no cut or wrapped lines, so `grep` finds what it looks for.
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

from archiver.phrases import distance

PIPE_WIDTH = 100_000


class _Console(Console):
    """On a closed pipe Rich would exit with status 1; `exit_status` decides here."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 -- Rich calls this inside its `except BrokenPipeError`


def console(*, stderr: bool = False) -> Console:
    found = _Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not found.is_terminal:
        found.width = PIPE_WIDTH
    if found.no_color:
        # Under NO_COLOR Rich still writes bold and dim; we write plain text.
        return _Console(
            stderr=stderr, markup=False, highlight=False, emoji=False, color_system=None, width=found.width
        )
    return found


def print_note(sentence: str, *, screen: Console | None = None) -> None:
    """Do nothing if standard error is closed or full. Beside a progress bar, `screen` is its console."""
    with contextlib.suppress(OSError):
        (screen or console(stderr=True)).print(f"kling-archiver: {clean(sentence)}")


def print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


def print_line(line: str = "", *, style: str | None = None) -> None:
    """`style` is Rich's, and shows at a terminal with colours only. A line without a space, such as a URL, is broken by
    the terminal and not by us: it is copied whole."""
    console().print(clean(line), style=style, soft_wrap=" " not in line)


def object_url(key: str | None, *, bucket: str) -> str | None:
    """As other programs take it: `s3://bucket/key`; the key alone where the settings name no bucket."""
    return f"s3://{bucket}/{key}" if key and bucket else key


def clean(text: str) -> str:
    """Escape every unprintable character except newlines."""
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[str] = ()) -> Table:
    """Columns named in `numbers` are right-aligned; None is a dash."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*("—" if cell is None else clean(str(cell)) for cell in row))
    return made


def properties(rows: Iterable[tuple[str, object]]) -> Table:
    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True, style="dim")
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, "—" if value is None else clean(str(value)))
    return made


def moment(time: int) -> str:
    """Unix ms for people, in UTC: `2026-11-20 12:11:03`."""
    return f"{datetime.datetime.fromtimestamp(time // 1000, tz=datetime.UTC):%Y-%m-%d %H:%M:%S}"


def when(time: int | None, *, now: int) -> str | None:
    """A time with its distance from `now` (both Unix ms); None stays None."""
    if time is None:
        return None
    return f"{moment(time)[:-3]} ({distance(time - now)})"
