"""Usage of `show`."""

import typer

from archiver.commands.usage.options import AccountName, AsJson, TaskId


def show(
    context: typer.Context,
    task_id: TaskId,
    *,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Show one task.

    Its state and the reason, its files and their keys in the bucket, and its history. Looks in all accounts. Exit
    status 1 if no task has this id.

    \b
    Example: the key of its manifest in the bucket
      kling-archiver show 831768251064815642 --json | jq -r .manifest_key
    """
