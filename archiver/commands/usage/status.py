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

    \b
    Codes of problems:
      no_worker, no_door  no sign of life for two minutes, or killed on this
                          machine
      account_unasked     no worker asks Kling about an account
      door_closed         callbacks cannot be committed
      hold                a stage has stopped
      waiting             a succeeded task is not in the bucket after an hour
      deadline            a task has less than 7 days left
      lost, buried        until acknowledged; lost for a week at most
      sweep_late          no sweep in three intervals and at least an hour
      amendment_waiting   a file that was named later waits for an hour
      objects_missing     an archived object is gone
      forwards_dead       an application has not accepted a forward in 7 days,
                          or it is not certain whose task a lost create made
      disk_low            the ledger's disk is nearly full
      settings            a setting is doubtful, or the clock is wrong

    \b
    What to do about each (Runbook):
      kling-archiver deploy show README.md

    \b
    Example: for cron; prints nothing while all is well
      kling-archiver status --check || notify-operator
    """
