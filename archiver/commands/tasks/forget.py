"""`forget`: erase a task from the ledger, for good."""

import contextlib
from collections.abc import Iterator

import typer

from archiver.commands.tasks.found_task import only_one
from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import chosen_accounts, invocation_of, of_accounts
from archiver.commands.terminal.printing import moment, object_url, print_json, print_line, print_note
from archiver.composition.accounts import require_account
from archiver.config.settings import Settings
from archiver.create.registration import is_identifier
from archiver.ledger import Forgotten, Ledger
from archiver.model import State, rfc3339, task_folder
from archiver.phrases import shown_id

TRANSFER_SECONDS = 60
"""Within this time a worker that was putting a file of the task has noticed, and stopped."""


def forget(context: typer.Context, *, task_id: str, account: str | None, json: bool) -> None:
    """What `usage.tasks.forget` says."""
    invocation = invocation_of(context)
    settings = invocation.settings()
    accounts = chosen_accounts(context, settings, name=account)
    with contextlib.closing(invocation.ledger(settings)) as ledger:
        require_account(ledger, settings)
        known = [each for each in accounts if is_identifier(task_id) and _is_known(ledger, task_id, each)]
        chosen = only_one(context, known)
        forgotten = None if chosen is None else ledger.tombstones.forget(task_id, account=chosen.name)
    if chosen is None or forgotten is None:
        print_note(
            f"no task {of_accounts(accounts)} has the id or external id {shown_id(task_id)}: there is nothing to "
            "forget. One that the next sweep would bring can be forgotten once it is there."
        )
        raise typer.Exit(WRONG)
    if json:
        print_json(_as_json(forgotten, chosen))
    else:
        _print(forgotten, chosen)


def _is_known(ledger: Ledger, task_id: str, account: Settings) -> bool:
    views = ledger.views
    shown = views.show(task_id, account=account.name) or views.forgotten(task_id, account=account.name)
    return shown is not None


def _folder(forgotten: Forgotten, account: Settings) -> str | None:
    """None where the API had not confirmed the task: there is none."""
    task = forgotten.tombstone
    if task.family is None or task.created_at is None:
        return None
    key = task_folder(
        prefix=account.s3_prefix, family=task.family, created_at=task.created_at, task_id=task.task_id
    )
    return _url(key, account)


def _url(key: str, account: Settings) -> str:
    return object_url(key, bucket=account.s3_bucket) or key


def _as_json(forgotten: Forgotten, account: Settings) -> dict[str, object]:
    task = forgotten.tombstone
    return {
        "task_id": task.task_id,
        "account": task.account,
        "external_task_id": task.external_task_id,
        "forgotten_at": rfc3339(task.forgotten_at),
        "new": forgotten.state is not None,
        "was": forgotten.state,
        "objects": [_url(key, account) for key in forgotten.keys],
        "folder": _folder(forgotten, account),
    }


def _print(forgotten: Forgotten, account: Settings) -> None:
    for line in _lines(forgotten, account):
        print_line(line)


def _lines(forgotten: Forgotten, account: Settings) -> Iterator[str]:
    task = forgotten.tombstone
    if forgotten.state is None:
        yield f"{task.task_id} was forgotten on {moment(task.forgotten_at)} (UTC) already."
    else:
        yield f"{task.task_id} is forgotten; it was {forgotten.state}."
    folder = _folder(forgotten, account)
    if folder is None:
        return
    if forgotten.keys:
        yield "Its objects are still in the bucket, and yours to delete:"
        yield from (f"  {_url(key, account)}" for key in forgotten.keys)
    yield f"All that it may have in the bucket lies in {folder}"
    if forgotten.state not in (None, State.ARCHIVED, State.FAILED):
        yield f"A transfer that is under way may still put a file there, for {TRANSFER_SECONDS} s at most."
