"""Usage of `acknowledge`."""

from typing import Annotated

import typer

from archiver.commands.usage.options import AccountName, AsJson, TaskIds


def acknowledge(
    context: typer.Context,
    task_ids: TaskIds = None,
    *,
    lost: Annotated[bool, typer.Option("--lost", help="All lost tasks.")] = False,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """End the problem of lost or buried tasks that you have seen.

    Also ends the problem of tasks with missing objects or dead forwards, and of creates without an answer (give the
    reference that the problem names). The tasks do not change, and the daemon tries them as before. A buried task
    becomes a problem again if it is buried for another reason or is lost. Exit status 1 if an id is unknown, or the
    task has no such problem.

    \b
    Example: after looking into what was lost
      kling-archiver acknowledge --lost
    """
