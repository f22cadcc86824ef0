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

    Or of tasks that have objects missing in the bucket. The tasks stay as they are, and are tried as before. A buried
    task is a problem again when another reason buries it, or when it is lost. Exit status 1 if an id is unknown, or of
    a task that has no such problem.

    \b
    Example: after looking into what was lost
      kling-archiver acknowledge --lost
    """
