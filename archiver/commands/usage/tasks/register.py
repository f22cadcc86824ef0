"""Usage of `register`."""

from typing import Annotated

import typer

from archiver.commands.usage.completing import families
from archiver.commands.usage.options import AccountName, AsJson


def register(
    context: typer.Context,
    task_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the task, or its external id.")],
    *,
    family: Annotated[
        str,
        typer.Option(
            "--family", metavar="F", help="As in the API's path: images/generations.", autocompletion=families
        ),
    ],
    external_task_id: Annotated[
        str | None,
        typer.Option("--external-task-id", "--external-id", metavar="X", help="Its external id."),
    ] = None,
    request: Annotated[
        str | None,
        typer.Option("--request", metavar="JSON", help="The body of the create call, for the manifest."),
    ] = None,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Follow a task.

    kling-receiver then asks the API for it, even if no callback and no sweep finds it.

    \b
    Example: right after creating a task
      kling-archiver register 831768251064815642 --family images/generations
    """
