"""`acknowledge`: records that an operator has seen that tasks are lost or buried, or that objects are missing."""

import itertools
from collections.abc import Iterator, Sequence

import typer

from archiver.commands.tasks.chosen_tasks import ChosenTasks, batches, chosen_tasks
from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.printing import print_json, print_line, print_note
from archiver.ledger import Acknowledged
from archiver.phrases import count_of


def acknowledge(
    context: typer.Context, *, task_ids: list[str] | None, lost: bool, account: str | None, json: bool
) -> None:
    """What `usage.tasks.acknowledge` says."""
    with chosen_tasks(context, task_ids, all_of_kind=lost, option="--lost", account=account) as chosen:
        outcomes = (
            dict.fromkeys(_all_lost(chosen), Acknowledged.DONE)
            if chosen.task_ids is None
            else _acknowledge(chosen, chosen.task_ids)
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
        print_note(
            f"{task_id} is neither lost nor buried, no object of it is missing, no forward is dead, "
            "and it is not in doubt who created it."
        )
    chosen.print_unknown(unknown)
    if no_problem or unknown:
        raise typer.Exit(WRONG)


def _all_lost(chosen: ChosenTasks) -> Iterator[str]:
    """One transaction a batch."""
    acknowledgements = chosen.ledger.acknowledgements
    for account in chosen.account_names:
        while batch := acknowledgements.acknowledge_lost(account=account):
            yield from batch


def _acknowledge(chosen: ChosenTasks, task_ids: Sequence[str]) -> dict[str, Acknowledged]:
    """An id is unknown if no account has it."""
    outcomes = dict.fromkeys(task_ids, Acknowledged.UNKNOWN)
    for account, batch in itertools.product(chosen.account_names, batches(task_ids)):
        found = chosen.ledger.acknowledgements.acknowledge(batch, account=account)
        outcomes |= {
            task_id: outcome
            for task_id, outcome in found.items()
            if outcomes[task_id] is Acknowledged.UNKNOWN or outcome is Acknowledged.DONE
        }
    return outcomes
