"""`acknowledge`: an operator has seen that some tasks are lost or buried, or that objects of theirs are missing."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import (
    AccountName,
    AsJson,
    chosen_accounts,
    invocation_of,
    of_accounts,
)
from archiver.commands.terminal.printing import print_json, print_line, print_note
from archiver.composition import require_account
from archiver.create.registration import is_identifier
from archiver.ledger import Acknowledged, Ledger
from archiver.phrases import count_of

BATCH_ROWS = 500
"""Ids a transaction: a callback never waits longer than one batch takes."""


def acknowledge(
    context: typer.Context,
    task_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Ids or external ids of the tasks.")
    ] = None,
    *,
    lost: Annotated[bool, typer.Option("--lost", help="All lost tasks.")] = False,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """End the problem of tasks that are lost or buried, or have objects missing in the bucket, and that you have seen.

    The tasks stay as they are, and are tried as before. A buried task is a problem again when another reason buries it,
    or when it is lost. Exit status 1 if an id is unknown, or of a task that has no such problem.

    \b
    Example: after looking into what was lost
      kling-archiver acknowledge --lost
    """
    if bool(task_ids) == lost:
        context.fail("Give either the ids of tasks or --lost.")
    invocation = invocation_of(context)
    settings = invocation.settings()
    with contextlib.closing(invocation.ledger(settings)) as ledger:
        require_account(ledger, settings)
        accounts = chosen_accounts(context, settings, name=account)
        names = [chosen.name for chosen in accounts]
        outcomes = (
            dict.fromkeys(_all_lost(ledger, names), Acknowledged.DONE)
            if task_ids is None
            else _acknowledge(ledger, list(dict.fromkeys(task_ids)), names)
        )
    by_outcome = {
        kind: [task_id for task_id, outcome in outcomes.items() if outcome is kind] for kind in Acknowledged
    }
    done = by_outcome[Acknowledged.DONE] + by_outcome[Acknowledged.ALREADY]
    no_problem, unknown = by_outcome[Acknowledged.NO_PROBLEM], by_outcome[Acknowledged.UNKNOWN]
    if json:
        print_json({"acknowledged": done, "no_problem": no_problem, "unknown": unknown})
    else:
        print_line(f"{count_of(len(done), 'task')} acknowledged.")
    for task_id in no_problem:
        print_note(f"{task_id} is neither lost nor buried, and no object of it is missing.")
    for task_id in unknown:
        print_note(f"no task {of_accounts(accounts)} has the id or external id {task_id}.")
    if no_problem or unknown:
        raise typer.Exit(WRONG)


def _all_lost(ledger: Ledger, accounts: Sequence[str]) -> Iterator[str]:
    """One transaction a batch."""
    for account in accounts:
        batches = iter(lambda: ledger.acknowledgements.acknowledge_lost(account=account), [])  # noqa: B023 -- used up before the next account
        yield from itertools.chain.from_iterable(batches)


def _acknowledge(ledger: Ledger, task_ids: Sequence[str], accounts: Sequence[str]) -> dict[str, Acknowledged]:
    """An id is unknown if no account has it."""
    outcomes = dict.fromkeys(task_ids, Acknowledged.UNKNOWN)
    known = [task_id for task_id in task_ids if is_identifier(task_id)]
    for account, start in itertools.product(accounts, range(0, len(known), BATCH_ROWS)):
        batch = known[start : start + BATCH_ROWS]
        found = ledger.acknowledgements.acknowledge(batch, account=account)
        outcomes |= {
            task_id: outcome
            for task_id, outcome in found.items()
            if outcomes[task_id] is Acknowledged.UNKNOWN or outcome is Acknowledged.DONE
        }
    return outcomes
