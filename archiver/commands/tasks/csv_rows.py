"""CSV for spreadsheets (RFC 4180, UTF-8). Prompts and messages come from outside: none may be a formula."""

import csv
import io
import re
from collections.abc import Iterable

from archiver.commands.terminal.printing import clean

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Characters that begin a formula, and their full-width forms, which spreadsheets treat alike."""
_FORMULA_INSIDE = re.compile(rf"""(;[ "]*)(?=[{re.escape("".join(_FORMULA))}])""")
"""Where a spreadsheet that separates cells by semicolons takes the rest for another cell."""


def csv_line(values: Iterable[object]) -> bytes:
    """One row, with its line end. None is an empty cell."""
    line = io.StringIO()
    csv.writer(line).writerow(["" if value is None else _cell(str(value)) for value in values])
    return line.getvalue().encode()


def _cell(text: str) -> str:
    """A quote before it makes a spreadsheet read it as text."""
    quoted = _FORMULA_INSIDE.sub(r"\1'", text)
    return clean(f"'{quoted}" if text.lstrip(" ").startswith(_FORMULA) else quoted)
