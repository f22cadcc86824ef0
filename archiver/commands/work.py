"""`work`: a process that does everything except taking callbacks."""

import typer

from archiver.commands.terminal.invocation import invocation_of
from archiver.commands.terminal.printing import print_note
from archiver.config.roles import ProcessRole


def work(context: typer.Context) -> None:
    """What `usage.work` says."""
    # The one import of the edge from here: it serves HTTP, and its process is the daemon's, without a door.
    from receiver import daemon  # noqa: PLC0415 -- no other command needs it

    try:
        status = daemon.run(invocation_of(context).environment, role=ProcessRole.WORK)
    except daemon.Refused as refusal:
        print_note(str(refusal))
        raise typer.Exit(refusal.status) from refusal
    raise typer.Exit(status)
