"""`move-ledger`: from SQLite to PostgreSQL, or back."""

import time

import typer
from rich.progress import TaskID, TaskProgressColumn

from archiver.commands.terminal.invocation import invocation_of
from archiver.commands.terminal.live import CountDisplay
from archiver.commands.terminal.printing import console, print_json, print_line, print_note, table
from archiver.config import urls
from archiver.ledger import unix_ms
from archiver.ledger.moving.copying import Progress as MoveProgress
from archiver.ledger.moving.move import Moved
from archiver.ledger.moving.move import move_ledger as move
from archiver.phrases import count_of


def move_ledger(context: typer.Context, *, source: str, target: str, json: bool) -> None:
    """What `usage.ledger.move_ledger` says."""
    invocation = invocation_of(context)
    settings = invocation.settings()
    old, new = (_url(context, *given) for given in (("FROM", source), ("TO", target)))
    now = None if invocation.now is unix_ms else invocation.now
    with _Display() as display:
        moved = move(old, new, watch=display.show, now=now)
    if json:
        print_json(_as_json(moved))
    elif moved.tables:
        _print(moved)
    else:
        print_line(f"The ledger {moved.source} was moved to {moved.target} before; that move has ended.")
    if moved.replaced_texts:
        print_note(
            f"{count_of(moved.replaced_texts, 'text')} had a NUL, which PostgreSQL cannot hold; U+FFFD stands there."
        )
    if settings.ledger_url == old:
        print_note(f"the settings still name the old ledger: set KLING_LEDGER_URL to {moved.target}.")


def _url(context: typer.Context, name: str, given: str) -> str:
    try:
        return urls.ledger_url(given)
    except ValueError as error:
        context.fail(f"{name} {error}.")


def _as_json(moved: Moved) -> dict[str, object]:
    return {
        "from": moved.source,
        "to": moved.target,
        "rows": moved.rows,
        "seconds": round(moved.seconds, 1),
        "replaced_texts": moved.replaced_texts,
        "tables": [
            {"table": name, "rows": digest.rows, "digest": digest.hex}
            for name, digest in moved.tables.items()
        ],
    }


def _print(moved: Moved) -> None:
    rows = [(name, f"{digest.rows:,}", digest.hex[:16]) for name, digest in moved.tables.items()]
    console().print(table(("table", "rows", "digest of both"), rows, numbers=("rows",)))
    print_line(
        f"{moved.rows:,} rows moved from {moved.source} to {moved.target} in {moved.seconds:.1f} s "
        f"({moved.rows / max(moved.seconds, 0.001):,.0f} rows/s)."
    )


class _Display(CountDisplay):
    """The progress: the phase of the move, with rows per second and the time left."""

    def __init__(self) -> None:
        super().__init__(TaskProgressColumn())
        self._phase = ""
        self._began = 0.0
        self._line: TaskID | None = None

    def show(self, at: MoveProgress) -> None:
        """Begin a new line for each phase."""
        if self._line is None or at.phase != self._phase:
            self._phase, self._began = at.phase, time.monotonic()
            self._line = self._progress.add_task(at.phase.value, total=None, rate="")
        seconds = time.monotonic() - self._began
        rate = f"{at.rows / seconds:,.0f}/s" if at.rows and seconds > 0 else ""
        self._progress.update(self._line, total=at.rows_total or None, completed=at.rows, rate=rate)
