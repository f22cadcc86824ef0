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

    Its prompt, its URLs and its history are gone at once; its ids stay, so that no callback, sweep, query or `rebuild`
    brings it back. Its links answer 404, and nobody is told of it. What lies in the bucket is yours to delete: the keys
    are printed. There is no way back. Exit status 1 if no task has this id.

    \b
    Example: and delete what lies in the bucket
      kling-archiver forget 831768251064815642
      aws s3 rm --recursive s3://my-results/images/generations/2026/11/26/8317…/
    """
