"""Usage of `rebuild`."""

from typing import Annotated

import typer

from archiver.commands.usage.bucket.verify import FamilyName, SinceDay, UntilDay
from archiver.commands.usage.options import AccountName, AsJson


def rebuild(
    context: typer.Context,
    *,
    transfers: Annotated[
        int, typer.Option("--transfers", min=1, max=64, help="How many manifests at once.")
    ] = 8,
    family: FamilyName = None,
    since: SinceDay = None,
    until: UntilDay = None,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Add the tasks that the ledger lacks, from the manifests in the bucket.

    Use it when the ledger was lost, or restored from an old copy. Start kling-receiver first: it creates the ledger,
    and may run meanwhile. Tasks in the ledger do not change, and forgotten tasks stay forgotten. Nothing is fetched,
    and no forward is sent. After an interruption, start it again: it reads only what is still missing. Exit status 1 if
    a document cannot be used or a file is missing, or if no task was found and the options or KLING_S3_PREFIX may be
    why.

    \b
    Example: after the ledger was lost
      systemctl start kling-receiver
      kling-archiver rebuild
    """
