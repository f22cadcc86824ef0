"""Usage of `doctor`."""

from typing import Annotated

import typer

from archiver.commands.usage.options import AsJson


def doctor(
    context: typer.Context,
    *,
    no_writes: Annotated[bool, typer.Option("--no-writes", help="Put no object to test the store.")] = False,
    json: AsJson = False,
) -> None:
    """Check everything that the daemon depends on.

    Checks settings, ledger, Kling's API with the list of each family, the bucket, the public URL as this machine sees
    it, and the machine itself. Each check is ok, warning or failed, with what to do. All of it ends within a minute,
    with or without a daemon.

    Puts one small object, always the same, at <prefix>kling-archiver/doctor.txt, leaves it there, and notes in the
    ledger how the store answers. --no-writes skips that.

    Exit status 1 if a check has failed; warnings alone are 0.

    \b
    Example: what has failed, for a script
      kling-archiver doctor --json | jq '.[] | select(.result == "failed")'
    """
