"""The tasks that a command is about: named ids, or all of one kind, in one account or in all."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import typer

from archiver.commands.terminal.invocation import chosen_accounts, invocation_of, of_accounts
from archiver.commands.terminal.printing import print_note
from archiver.composition.accounts import require_account
from archiver.config.settings import Settings
from archiver.create.registration import is_identifier
from archiver.ledger import Ledger
from archiver.phrases import shown_id

BATCH_ROWS = 500
"""Ids in one transaction: a callback never waits longer than one batch takes."""


@dataclasses.dataclass(frozen=True)
class ChosenTasks:
    """Tasks of `accounts` in an open ledger. `task_ids` is None for all of the command's kind."""

    ledger: Ledger
    accounts: Sequence[Settings]
    task_ids: Sequence[str] | None

    @property
    def account_names(self) -> list[str]:
        return [account.name for account in self.accounts]

    def print_unknown(self, task_ids: Sequence[str]) -> None:
        """Note ids that no account has."""
        for task_id in task_ids:
            print_note(f"no task {of_accounts(self.accounts)} has the id or external id {shown_id(task_id)}.")


@contextlib.contextmanager
def chosen_tasks(
    context: typer.Context,
    task_ids: Sequence[str] | None,
    *,
    all_of_kind: bool,
    option: str,
    account: str | None,
) -> Iterator[ChosenTasks]:
    """The ledger is open within. Ends with a usage error unless there are either ids or `option`."""
    if bool(task_ids) == all_of_kind:
        context.fail(f"Give either the ids of tasks or {option}.")
    invocation = invocation_of(context)
    settings = invocation.settings()
    with contextlib.closing(invocation.ledger(settings)) as ledger:
        require_account(ledger, settings)
        accounts = chosen_accounts(context, settings, name=account)
        yield ChosenTasks(ledger, accounts, None if all_of_kind else list(dict.fromkeys(task_ids or ())))


def batches(task_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Well-formed ids, `BATCH_ROWS` at a time."""
    known = [task_id for task_id in task_ids if is_identifier(task_id)]
    for start in range(0, len(known), BATCH_ROWS):
        yield known[start : start + BATCH_ROWS]
