"""Usage of `forget`."""

import typer

from archiver.commands.usage.options import AccountName, AsJson, TaskId


def forget(
    context: typer.Context,
    task_id: TaskId,
    *,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Erase a task from the ledger, for good.

    Erases its prompt, its URLs and its history at once. Its ids stay, so that no callback, sweep, query or `rebuild`
    brings it back. Its links answer 404, and no forward is sent. The objects stay in the bucket: the command prints
    their keys, and you delete them. You cannot undo it. Exit status 1 if no task has this id.

    \b
    Example: forget a task, then delete its objects
      kling-archiver forget 831768251064815642
      aws s3 rm --recursive s3://my-results/images/generations/2026/11/26/8317…/
    """
