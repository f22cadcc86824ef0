"""Usage of `move-ledger`."""

from typing import Annotated

import typer

from archiver.commands.usage.options import AsJson


def move_ledger(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="URL of the ledger, as KLING_LEDGER_URL names it.")
    ],
    target: Annotated[str, typer.Argument(metavar="TO", help="URL of a file or database without tasks.")],
    *,
    json: AsJson = False,
) -> None:
    """Move the ledger to another database.

    Stop every kling-receiver and kling-archiver first; after a kill wait two minutes. The command compares counts
    and digests of all tables, and then renames the tables of the old ledger. They stay until you drop them. If the
    command is killed, run it again: one of the two ledgers is complete. Other users of the machine can see a
    password on a command line: leave it out of the URL, and put it into ~/.pgpass or the file that PGPASSFILE
    names.

    \b
    Example: from the default SQLite file to PostgreSQL
      kling-archiver move-ledger sqlite:////data/ledger.db postgresql://db/kling
    """
