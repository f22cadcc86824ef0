"""Usage of `rebuild`."""

from typing import Annotated

import typer

from archiver.commands.usage.bucket.verify import FamilyName, SinceDay, UntilDay
from archiver.commands.usage.options import AccountName, AsJson


def rebuild(
    context: typer.Context,
    *,
    transfers: Annotated[int, typer.Option("--transfers", min=1, max=64, help="Manifests at once.")] = 8,
    family: FamilyName = None,
    since: SinceDay = None,
    until: UntilDay = None,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Add the tasks that the ledger lacks, from the manifests in the bucket.

    For a ledger that was lost, or restored from an old copy. Start kling-receiver first: it makes the ledger, and may
    run meanwhile. What the ledger has stays as it is, and forgotten tasks stay forgotten; nothing is fetched, and
    nobody is told. A run that is interrupted is started again: it reads only what is still lacking. Exit status 1 if a
    document cannot be used or a file is missing.

    \b
    Example: after the ledger was lost
      systemctl start kling-receiver
      kling-archiver rebuild
    """
