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

    Begins with whether all is well, then lists the problems and what to do about each. Counts tasks by state.

    With --check only the problems, each with its code: no_worker, no_door (no daemon has given a sign of life for two
    minutes, or it was killed on this machine), account_unasked, door_closed (callbacks cannot be committed), hold,
    waiting (a succeeded task is not in the bucket after an hour), lost (for a week) and buried (both until
    acknowledged), deadline (in under 7 days), sweep_late (none in three intervals, an hour at least),
    amendment_waiting, objects_missing, forwards_dead (an application could not be told of tasks), disk_low,
    settings.

    \b
    Example: for cron; prints nothing while all is well
      kling-archiver status --check || notify-operator
    """
