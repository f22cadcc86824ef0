"""Usage of `sweep`."""

from typing import Annotated

import typer

from archiver.commands.usage.options import AccountName, AsJson


def sweep(
    context: typer.Context,
    *,
    full: Annotated[bool, typer.Option("--full", help="Read all pages of the last 31 days.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; count what a sweep would find.")
    ] = False,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Find tasks whose callbacks are missing.

    Reads the newest list pages of every family in KLING_FAMILIES, or all pages if the daily full sweep is due. With
    an API Key it also reads the last hours, or all 31 days, of /tasks, and of /solutions if KLING_FAMILIES names one.
    The tasks that it finds go into the ledger, and kling-receiver brings them into the bucket. If a daemon runs, the
    daemon does the sweep or the count, within its query rate, and this command shows its progress.

    \b
    Example: count what a first start would archive
      kling-archiver sweep --full --dry-run
    """
