"""`backup`: a copy of an SQLite ledger, beside the running daemon."""

import pathlib
import shlex
import time

import typer

from archiver.commands.terminal.exit_status import USAGE, WRONG
from archiver.commands.terminal.invocation import invocation_of
from archiver.commands.terminal.live import ByteDisplay
from archiver.commands.terminal.printing import print_json, print_line, print_note
from archiver.ledger.databases.opening import is_postgres, shown_url
from archiver.ledger.moving.backup import BackupMisplaced, BackupProgress, BackupRefused, back_up


def backup(context: typer.Context, *, file: pathlib.Path, json: bool) -> None:
    """What `usage.ledger.backup` says."""
    settings = invocation_of(context).settings()
    if is_postgres(settings.ledger_url):
        print_note(
            "the ledger is in PostgreSQL, which makes its own copies: pg_dump --format=custom "
            f"--file={shlex.quote(str(file))} {shlex.quote(shown_url(settings.ledger_url))}"
        )
        raise typer.Exit(USAGE)
    try:
        with _Display() as display:
            made = back_up(settings.ledger_url, file, watch=display.show, rest=time.sleep)
    except BackupRefused as error:
        print_note(f"{error}. Nothing was left behind.")
        raise typer.Exit(USAGE if isinstance(error, BackupMisplaced) else WRONG) from error
    if json:
        print_json({"file": str(made.file), "bytes": made.bytes, "seconds": round(made.seconds, 1)})
    else:
        print_line(
            f"{made.file} is a whole copy of the ledger: {made.bytes:,} bytes in {made.seconds:.1f} s, checked."
        )


class _Display(ByteDisplay):
    """The progress: how much is copied."""

    def __init__(self) -> None:
        super().__init__("copying")

    def show(self, at: BackupProgress) -> None:
        """What comes after the last page is the check."""
        step = "checking" if at.bytes == at.bytes_total else "copying"
        self._progress.update(self._line, description=step, completed=at.bytes, total=at.bytes_total)
