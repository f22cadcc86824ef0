"""Usage of `retry`."""

from typing import Annotated

import typer

from archiver.commands.usage.options import AccountName, AsJson, TaskIds


def retry(
    context: typer.Context,
    task_ids: TaskIds = None,
    *,
    buried: Annotated[bool, typer.Option("--buried", help="All buried tasks.")] = False,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Ask the API for some tasks again, now.

    The daemon continues from the answer. Archived tasks do not change: their manifest is final. Exit status 1 if an
    id is unknown; the other ids are retried.

    \b
    Example: after removing the cause
      kling-archiver retry --buried
    """
