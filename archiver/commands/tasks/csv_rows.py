"""CSV for spreadsheets (RFC 4180, UTF-8). Prompts and messages come from outside: none may be a formula."""

import csv
import io
from collections.abc import Iterable

from archiver.commands.terminal.printing import clean

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a formula begins with; a spreadsheet takes the wide forms for the same."""


def csv_line(values: Iterable[object]) -> bytes:
    """One row, with its line end. None is an empty cell."""
    line = io.StringIO()
    csv.writer(line).writerow(["" if value is None else _cell(str(value)) for value in values])
    return line.getvalue().encode()


def _cell(text: str) -> str:
    """A quote before it makes a spreadsheet read it as text."""
    return f"'{clean(text)}" if text.lstrip(" ").startswith(_FORMULA) else clean(text)
