"""Usage of `backup`."""

import pathlib
from typing import Annotated

import typer

from archiver.commands.usage.options import AsJson


def backup(
    context: typer.Context,
    file: Annotated[pathlib.Path, typer.Argument(metavar="FILE", help="Where to; it must not exist.")],
    *,
    json: AsJson = False,
) -> None:
    """Copy an SQLite ledger into a file, beside the running daemon.

    The copy is of one moment, checked, and readable by you alone: it holds prompts and signed URLs. Callbacks do not
    wait for it. To restore one, stop kling-receiver, move the old ledger away with its -wal and -shm files, put the
    copy in its place, and start. A ledger in PostgreSQL is copied by pg_dump (exit status 2).

    \b
    Example: one for each day
      kling-archiver backup "/backups/kling-$(date +%F).db"
    """
