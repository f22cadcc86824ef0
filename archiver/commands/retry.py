"""`retry`: ask the API afresh for some tasks, now."""

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
    accounts_meant,
    invocation_of,
    no_daemon_sentence,
    of_accounts,
)
from archiver.commands.terminal.printing import console, count_of, print_json, print_line, say
from archiver.composition import require_account
from archiver.create.registration import is_identifier
from archiver.ledger import Ledger, RetryResult
from archiver.model import State

BATCH_ROWS = 500
"""Ids a transaction: what a callback has to wait for is never longer than that."""


def retry(
    context: typer.Context,
    task_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Ids or external ids of the tasks.")
    ] = None,
    *,
    buried: Annotated[bool, typer.Option("--buried", help="Every buried task.")] = False,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Ask the API afresh for some tasks, now.

    The work goes on with what it says. Archived tasks stay as they are: their manifest is final. Exit status 1 when
    an id is unknown; the others are retried all the same.

    \b
    Example: after the cause was removed
      kling-archiver retry --buried
    """
    if bool(task_ids) == buried:
        context.fail("Name the tasks to retry, or give --buried: one of the two.")
    invocation = invocation_of(context)
    settings = invocation.settings()
    with contextlib.closing(invocation.ledger(settings, create=False)) as ledger:
        require_account(ledger, settings)
        accounts = accounts_meant(context, settings, name=account)
        done = _retry_all(ledger, None if buried else task_ids, accounts=[one.account for one in accounts])
        daemons = ledger.status()["daemons"]
    if json:
        print_json({"retried": done.retried, "archived": done.archived, "unknown": done.not_known})
    else:
        _print(done)
    for task_id in done.not_known:
        say(f"no task {of_accounts(accounts)} has the id or external id {task_id}.")
    advice = no_daemon_sentence(daemons)
    if advice and done.retried:
        say(advice)
    if done.not_known:
        raise typer.Exit(WRONG)


def _retry_all(ledger: Ledger, task_ids: list[str] | None, *, accounts: Sequence[str]) -> RetryResult:
    """These tasks, or every buried one, in each of the accounts that has them; unknown is what none of them has."""
    done, not_known = RetryResult(0, (), ()), dict.fromkeys(task_ids or ())
    for account in accounts:
        chosen = ledger.ids_in(State.BURIED, account=account) if task_ids is None else task_ids
        one = _retry(ledger, dict.fromkeys(chosen), account=account)
        not_known = {task_id: None for task_id in not_known if task_id in one.not_known}
        done = RetryResult(done.retried + one.retried, (), done.archived + one.archived)
    return dataclasses.replace(done, not_known=tuple(not_known))


def _retry(ledger: Ledger, task_ids: Iterable[str], *, account: str) -> RetryResult:
    """In batches, one transaction each. Interrupted between two, the first ones are retried and the rest not."""
    ids = list(task_ids)
    impossible = tuple(one for one in ids if not is_identifier(one))
    waiting = iter([one for one in ids if is_identifier(one)])
    done = RetryResult(0, impossible, ())
    batches = list(iter(lambda: list(itertools.islice(waiting, BATCH_ROWS)), []))
    screen = console(stderr=True)
    hidden = not screen.is_terminal or len(batches) < 2
    for batch in track(batches, description="Retrying", console=screen, disable=hidden):
        one = ledger.retry_tasks(batch, account=account)
        done = RetryResult(
            done.retried + one.retried, done.not_known + one.not_known, done.archived + one.archived
        )
    return done


def _print(done: RetryResult) -> None:
    print_line(f"{count_of(done.retried, 'task')} will be asked for again now.")
    for task_id in done.archived:
        print_line(f"{task_id} is archived already and stays as it is.")
