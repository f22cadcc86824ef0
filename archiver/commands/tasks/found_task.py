"""The one task that a command is about, and its links."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence

import typer

from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import chosen_accounts, invocation_of, of_accounts
from archiver.commands.terminal.printing import moment, print_note
from archiver.config.settings import Settings
from archiver.create.registration import is_identifier
from archiver.failures import TaskForgotten
from archiver.ledger import TaskView, Tombstone
from archiver.phrases import shown_id
from archiver.store.links import links_of_shown, signer_of


@dataclasses.dataclass(frozen=True)
class FoundTask:
    """A task, and the settings of its account."""

    view: TaskView
    account: Settings

    def links(self) -> Mapping[str, str]:
        """By stem; empty where its account has no link secret or no public URL, and for a task that the API has not
        confirmed."""
        return links_of_shown(signer_of(self.account.link_secrets(), self.account.public_url), self.view)


class ForgottenTask(TaskForgotten):
    """The task was forgotten."""

    def __init__(self, tombstone: Tombstone) -> None:
        at = moment(tombstone.forgotten_at)
        super().__init__(f"{tombstone.task_id} was forgotten on {at} (UTC).", what_to_do="")
        self.tombstone = tombstone


def only_one(context: typer.Context, accounts: Sequence[Settings]) -> Settings | None:
    """The only account that has the task, or None. Ends with a usage error if several have it."""
    if len(accounts) > 1:
        names = " and ".join(account.name for account in accounts)
        context.fail(f"The accounts {names} both have this task: choose with --account.")
    return accounts[0] if accounts else None


def found_task(context: typer.Context, settings: Settings, *, task_id: str, account: str | None) -> FoundTask:
    """The task with this id or external id. Ends with a usage error where several accounts have it, and with exit
    status 1 where none has. Raises ForgottenTask where the one that had it is forgotten."""
    with contextlib.closing(invocation_of(context).ledger(settings)) as ledger:
        accounts = chosen_accounts(context, settings, name=account)
        shown = [
            (ledger.views.show(task_id, account=each.name), each)
            for each in accounts
            if is_identifier(task_id)
        ]
        forgotten = [
            tombstone
            for view, each in shown
            if view is None and (tombstone := ledger.views.forgotten(task_id, account=each.name)) is not None
        ]
    found = [FoundTask(view, each) for view, each in shown if view is not None]
    only_one(context, [task.account for task in found])
    if not found and forgotten:
        raise ForgottenTask(forgotten[0])
    if not found:
        print_note(
            f"no task {of_accounts(accounts)} has the id or external id {shown_id(task_id)}. To follow a "
            "new task: kling-archiver register ID --family FAMILY"
        )
        raise typer.Exit(WRONG)
    return found[0]
