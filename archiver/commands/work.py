"""`work`: a process that does everything but take callbacks."""

import typer

from archiver.commands.terminal.exit_status import USAGE
from archiver.commands.terminal.invocation import invocation_of
from archiver.commands.terminal.printing import print_note
from archiver.config.roles import ProcessRole


def work(context: typer.Context) -> None:
    """Verify, archive and sweep on a PostgreSQL ledger.

    For several processes on one ledger, beside `kling-receiver --edge-only`: any number of each. Needs the
    credentials of Kling and of the bucket, and no callback token. Serves /healthz, /readyz and /metrics on
    KLING_PORT. SIGTERM ends it, and gives back what is not finished.

    \b
    Example: one of several, each with the same settings
      export KLING_LEDGER_URL=postgresql://kling@db/kling
      kling-archiver work
    """
    # The one import of the edge from here: it serves HTTP, and its process is the daemon's, without a door.
    from receiver import daemon  # noqa: PLC0415 -- no other command needs it

    try:
        status = daemon.run(invocation_of(context).environment, role=ProcessRole.WORK)
    except daemon.Refused as refusal:
        print_note(str(refusal))
        raise typer.Exit(USAGE) from refusal
    raise typer.Exit(status)
