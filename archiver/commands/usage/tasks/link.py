"""Usage of `link`."""

from typing import Annotated

import typer

from archiver.commands.usage.options import AccountName, AsJson, TaskId


def link(
    context: typer.Context,
    task_id: TaskId,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One of its files, such as 0.png or 0.")
    ] = None,
    *,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Print the links of a task's files.

    One a line. A link exists from the first answer of the API that names the file, and stays valid. It opens the
    file for everyone who has it. Needs KLING_LINK_SECRET and KLING_PUBLIC_URL, with the daemon's values. Exit
    status 1 if no task has this id, or the task has no such file.

    \b
    Example: the link of one picture, to be stored or opened
      kling-archiver link 831768251064815642 0.png
    """
