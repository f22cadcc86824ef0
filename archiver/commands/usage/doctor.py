"""Usage of `doctor`."""

from typing import Annotated

import typer

from archiver.commands.usage.options import AsJson


def doctor(
    context: typer.Context,
    *,
    no_writes: Annotated[
        bool, typer.Option("--no-writes", help="Put no object to see what the store does with it.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Look at everything that the daemon depends on.

    Settings, ledger, Kling's API with the list of each family, the bucket, the public URL as this machine sees it, and
    the machine itself: each ok, warning or failed, with what to do. Each check ends within seconds, and all run beside
    each other, with or without a daemon.

    Puts one small object, always the same, at PREFIX/kling-archiver/doctor.txt, and leaves it there. The daemon is told
    how the store takes it. --no-writes leaves that out.

    Exit status 1 if a check has failed; warnings alone are 0.

    \b
    Example: what has failed, for a script
      kling-archiver doctor --json | jq '.[] | select(.result == "failed")'
    """
