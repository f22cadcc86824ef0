"""Options that several commands take."""

from typing import Annotated

import typer

from archiver.commands.usage.completing import accounts, task_ids

AccountName = Annotated[
    str | None,
    typer.Option(
        "--account", metavar="NAME", help="Which account, if there are several.", autocompletion=accounts
    ),
]
TaskId = Annotated[
    str, typer.Argument(metavar="ID", help="Id or external id of the task.", autocompletion=task_ids)
]
TaskIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="Ids or external ids of the tasks.", autocompletion=task_ids),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
