"""Usage of `status`."""

from typing import Annotated

import typer

from archiver.commands.usage.options import AsJson


def status(
    context: typer.Context,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Print only problems; exit status 1 if there are any.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Show the whole ledger at a glance.

    Begins with the verdict, then lists the problems and what to do about each. Counts tasks by state.

    With --check only the problems, each with its code: no_worker and no_door (no sign of life for two minutes, or
    killed on this machine), account_unasked (no worker asks Kling about an account), door_closed (callbacks cannot
    be committed), hold (a stage has stopped), waiting (a succeeded task is not in the bucket after an hour),
    deadline (it has less than 7 days left), lost (for a week) and buried (both until acknowledged), sweep_late (no
    sweep in three intervals and at least an hour), amendment_waiting, objects_missing, forwards_dead (an
    application has not accepted a forward in 7 days, or a create got no answer and its task is not certain),
    disk_low, settings.

    \b
    Example: for cron; prints nothing while all is well
      kling-archiver status --check || notify-operator
    """
