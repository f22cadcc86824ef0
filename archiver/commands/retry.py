"""`retry`: ask the API for some tasks again, now."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from rich.progress import track

from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import (
    AccountName,
    AsJson,
    chosen_accounts,
    invocation_of,
    no_daemon_sentence,
    of_accounts,
)
from archiver.commands.terminal.printing import console, print_json, print_line, print_note
from archiver.composition import require_account
from archiver.create.registration import is_identifier
from archiver.ledger import Ledger, RetryResult
from archiver.model import State
from archiver.phrases import count_of

BATCH_ROWS = 500
"""Ids a transaction: a callback never waits longer than one batch takes."""


def retry(
    context: typer.Context,
    task_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Ids or external ids of the tasks.")
    ] = None,
    *,
    buried: Annotated[bool, typer.Option("--buried", help="All buried tasks.")] = False,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Ask the API for some tasks again, now.

    The work goes on from its answer. Archived tasks do not change: their manifest is final. Exit status 1 if an id is
    unknown; the other ids are retried.

    \b
    Example: after removing the cause
      kling-archiver retry --buried
    """
    if bool(task_ids) == buried:
        context.fail("Give either the ids of tasks or --buried.")
    invocation = invocation_of(context)
    settings = invocation.settings()
    with contextlib.closing(invocation.ledger(settings)) as ledger:
        require_account(ledger, settings)
        accounts = chosen_accounts(context, settings, name=account)
        names = [chosen.name for chosen in accounts]
        result = _retry_all(ledger, None if buried else task_ids, accounts=names)
        daemons = ledger.daemons.alive()
    if json:
        print_json({"retried": result.retried, "archived": result.archived, "unknown": result.not_known})
    else:
        _print(result)
    for task_id in result.not_known:
        print_note(f"no task {of_accounts(accounts)} has the id or external id {task_id}.")
    advice = no_daemon_sentence(daemons)
    if advice and result.retried:
        print_note(advice)
    if result.not_known:
        raise typer.Exit(WRONG)


def _retry_all(ledger: Ledger, task_ids: list[str] | None, *, accounts: Sequence[str]) -> RetryResult:
    """None: all buried tasks. An id is unknown if no account has it."""
    total, not_known = RetryResult(0, (), ()), dict.fromkeys(task_ids or ())
    for account in accounts:
        chosen = ledger.views.ids_in(State.BURIED, account=account) if task_ids is None else task_ids
        result = _retry(ledger, dict.fromkeys(chosen), account=account)
        not_known = {task_id: None for task_id in not_known if task_id in result.not_known}
        total = _sum(total, result)
    return dataclasses.replace(total, not_known=tuple(not_known))


def _retry(ledger: Ledger, task_ids: Iterable[str], *, account: str) -> RetryResult:
    """One transaction a batch: an interrupted command has retried the first batches."""
    ids = list(task_ids)
    impossible = tuple(task_id for task_id in ids if not is_identifier(task_id))
    waiting = iter([task_id for task_id in ids if is_identifier(task_id)])
    result = RetryResult(0, impossible, ())
    batches = list(iter(lambda: list(itertools.islice(waiting, BATCH_ROWS)), []))
    screen = console(stderr=True)
    is_hidden = not screen.is_terminal or len(batches) < 2
    for batch in track(batches, description="Retrying", console=screen, disable=is_hidden):
        result = _sum(result, ledger.registrations.retry(batch, account=account))
    return result


def _sum(first: RetryResult, second: RetryResult) -> RetryResult:
    return RetryResult(
        first.retried + second.retried,
        first.not_known + second.not_known,
        first.archived + second.archived,
    )


def _print(result: RetryResult) -> None:
    print_line(f"{count_of(result.retried, 'task')} will be asked for again now.")
    for task_id in result.archived:
        print_line(f"{task_id} is already archived and does not change.")
