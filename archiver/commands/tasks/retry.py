"""`retry`: ask the API for some tasks again, now."""

import dataclasses
from collections.abc import Sequence

import typer
from rich.progress import track

from archiver.commands.tasks.chosen_tasks import ChosenTasks, batches, chosen_tasks
from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import no_daemon_sentence
from archiver.commands.terminal.printing import console, print_json, print_line, print_note
from archiver.create.registration import is_identifier
from archiver.ledger import Ledger, RetryResult
from archiver.model import State
from archiver.phrases import count_of


def retry(
    context: typer.Context, *, task_ids: list[str] | None, buried: bool, account: str | None, json: bool
) -> None:
    """What `usage.tasks.retry` says."""
    with chosen_tasks(context, task_ids, all_of_kind=buried, option="--buried", account=account) as chosen:
        result = _retry_all(chosen)
        daemons = chosen.ledger.daemons.alive()
    if json:
        print_json({"retried": result.retried, "archived": result.archived, "unknown": result.not_known})
    else:
        _print(result)
    chosen.print_unknown(result.not_known)
    advice = no_daemon_sentence(daemons)
    if advice and result.retried:
        print_note(advice)
    if result.not_known:
        raise typer.Exit(WRONG)


def _retry_all(chosen: ChosenTasks) -> RetryResult:
    """An id is unknown if no account has it."""
    ledger, not_known = chosen.ledger, dict.fromkeys(chosen.task_ids or ())
    total = RetryResult(0, (), ())
    for account in chosen.account_names:
        task_ids = chosen.task_ids
        if task_ids is None:
            task_ids = list(dict.fromkeys(ledger.views.ids_in(State.BURIED, account=account)))
        result = _retry(ledger, task_ids, account=account)
        not_known = {task_id: None for task_id in not_known if task_id in result.not_known}
        total = _sum(total, result)
    return dataclasses.replace(total, not_known=tuple(not_known))


def _retry(ledger: Ledger, task_ids: Sequence[str], *, account: str) -> RetryResult:
    """One transaction a batch: an interrupted command has retried the first batches."""
    impossible = tuple(task_id for task_id in task_ids if not is_identifier(task_id))
    result = RetryResult(0, impossible, ())
    waiting = list(batches(task_ids))
    screen = console(stderr=True)
    is_hidden = not screen.is_terminal or len(waiting) < 2
    for batch in track(waiting, description="Retrying", console=screen, disable=is_hidden):
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
