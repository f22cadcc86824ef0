"""The one task that a command is about, and its links."""

import contextlib
import dataclasses
from collections.abc import Mapping

import typer

from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import chosen_accounts, invocation_of, of_accounts
from archiver.commands.terminal.printing import print_note
from archiver.config.settings import Settings
from archiver.create.registration import is_identifier
from archiver.ledger import TaskView
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


def found_task(context: typer.Context, settings: Settings, *, task_id: str, account: str | None) -> FoundTask:
    """The task with this id or external id. Ends with a usage error where several accounts have it, and with exit
    status 1 where none has."""
    with contextlib.closing(invocation_of(context).ledger(settings)) as ledger:
        accounts = chosen_accounts(context, settings, name=account)
        shown = [
            (ledger.views.show(task_id, account=each.name), each)
            for each in accounts
            if is_identifier(task_id)
        ]
    found = [FoundTask(view, each) for view, each in shown if view is not None]
    if len(found) > 1:
        names = " and ".join(task.account.name for task in found)
        context.fail(f"The accounts {names} both have this task: choose with --account.")
    if not found:
        print_note(
            f"no task {of_accounts(accounts)} has the id or external id {task_id}. To follow a "
            "new task: kling-archiver register ID --family FAMILY"
        )
        raise typer.Exit(WRONG)
    return found[0]
