"""Usage of `rename-account`."""

from typing import Annotated

import typer

from archiver.commands.usage.options import AsJson


def rename_account(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The name in the ledger.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The name in the settings.")],
    *,
    json: AsJson = False,
) -> None:
    """Rename an account in the ledger.

    Stop kling-receiver first. The bucket does not change: all keys stay, and existing manifests keep the old name.
    So set KLING_ACCOUNT_FORMER_NAMES. You cannot merge two accounts. If a run is interrupted, run it again: it renames
    OLD, or says that it is renamed already. In all other cases exit status 1 if the ledger does not know OLD or already
    has NEW.

    \b
    Example: KLING_ACCOUNT is now team-eu
      kling-archiver rename-account default team-eu
    """
