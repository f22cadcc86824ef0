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
    """Copy an SQLite ledger into a file, while the daemon runs.

    The copy shows one moment, is checked, and is readable by you only: it has prompts and signed URLs. Callbacks hardly
    wait for it. To restore it, stop kling-receiver, move the old ledger away with its -wal and -shm files, put the copy
    in its place, and start. For a ledger in PostgreSQL use pg_dump (exit status 2).

    \b
    Example: one for each day
      kling-archiver backup "/var/backups/kling-$(date +%F).db"
    """
