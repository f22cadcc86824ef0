"""`forwards`: lists forwards to applications, and sends them again."""

import contextlib
from collections.abc import Sequence

import typer
from rich.progress import SpinnerColumn, TextColumn

from archiver.commands.tasks.chosen_tasks import BATCH_ROWS
from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import (
    Invocation,
    chosen_accounts,
    invocation_of,
    no_daemon_sentence,
    of_accounts,
)
from archiver.commands.terminal.live import LiveDisplay
from archiver.commands.terminal.printing import (
    console,
    print_json,
    print_line,
    print_note,
    table,
    when,
)
from archiver.commands.usage.forwards import ForwardAction, ShownState
from archiver.composition.accounts import require_account
from archiver.config.settings import Need, Settings
from archiver.ledger import ForwardState, ForwardView, Ledger
from archiver.ledger.tables.forwards import EVENT_OF_STATE
from archiver.phrases import count_of, shown_id
from archiver.times import parse_time

NEVER = 2**52
"""Unix ms."""


def forwards(
    context: typer.Context,
    *,
    action: ForwardAction,
    names: list[str] | None,
    state: ShownState | None,
    limit: int,
    dead: bool,
    since: str | None,
    until: str | None,
    account: str | None,
    json: bool,
) -> None:
    """What `usage.forwards` says."""
    invocation = invocation_of(context)
    settings = invocation.settings(Need.FORWARDS)
    _require_fitting(context, action, names, state=state, dead=dead, since=since, until=until)
    accounts = chosen_accounts(context, settings, name=account)
    with contextlib.closing(invocation.ledger(settings)) as ledger:
        require_account(ledger, settings)
        match action:
            case ForwardAction.LIST:
                _list(ledger, settings, accounts, state, limit=limit, json=json, now=invocation.now())
            case ForwardAction.RETRY:
                _retry(ledger, accounts, names, json=json)
            case ForwardAction.SEND:
                span = _span(context, invocation, since=since, until=until)
                _send(context, ledger, settings, accounts, span=span, json=json)


def _require_fitting(
    context: typer.Context,
    action: ForwardAction,
    names: list[str] | None,
    *,
    state: ShownState | None,
    dead: bool,
    since: str | None,
    until: str | None,
) -> None:
    if action is ForwardAction.RETRY:
        if bool(names) == dead:
            context.fail("Give either the ids of tasks or forwards, or --dead.")
    elif names or dead:
        context.fail("ID and --dead belong to: forwards retry.")
    if action is ForwardAction.SEND and since is None:
        context.fail("Give --since: the time of the oldest task to send.")
    if action is not ForwardAction.SEND and (since or until):
        context.fail("--since and --until belong to: forwards send.")
    if action is not ForwardAction.LIST and state is not None:
        context.fail("--state belongs to: forwards list.")


def _span(
    context: typer.Context, invocation: Invocation, *, since: str | None, until: str | None
) -> tuple[int, int]:
    now = invocation.now()
    try:
        # Our clock may be behind the API's, so a `send` up to now has no upper bound.
        end = NEVER if until is None else parse_time(until, now=now)
        return parse_time(since or "0s", now=now), end
    except ValueError as error:
        context.fail(f"--since and --until {error}.")


# --- list -----------------------------------------------------------------------------------------------------------


def _list(
    ledger: Ledger,
    settings: Settings,
    accounts: Sequence[Settings],
    state: ShownState | None,
    *,
    limit: int,
    json: bool,
    now: int,
) -> None:
    chosen = None if state is None else ForwardState(state)
    views = [
        view
        for account in accounts
        for view in ledger.forward_orders.list(account=account.name, state=chosen, count_max=limit)
    ]
    views = sorted(views, key=lambda view: view.queued_at, reverse=True)[:limit]
    operator_url = settings.operator_url()
    if json:
        print_json([view.as_listed(operator_url=operator_url) for view in views])
        return
    if not views:
        print_line("No forwards.")
        return
    headings = ["task", "event", "to", "state", "attempts", "due (UTC)", "last answer", "webhook id"]
    rows = [_row(view, operator_url=operator_url, now=now) for view in views]
    console().print(table(headings, rows, numbers=["attempts"]))


def _row(view: ForwardView, *, operator_url: str | None, now: int) -> list[object]:
    return [
        view.task_id,
        view.event,
        view.shown_target(operator_url=operator_url),
        view.state,
        view.attempts,
        when(view.due_at, now=now),
        view.last_status or view.reason,
        view.webhook_id,
    ]


# --- retry and send -------------------------------------------------------------------------------------------------


def _retry(ledger: Ledger, accounts: Sequence[Settings], names: list[str] | None, *, json: bool) -> None:
    queued, unknown = 0, dict.fromkeys(names or ())
    with _Display("sent again") as display:
        for account in accounts:
            if names is None or not names:
                while batch := ledger.forward_orders.retry_dead(account=account.name):
                    queued += batch
                    display.show(queued)
                continue
            for start in range(0, len(names), BATCH_ROWS):
                batch_names = names[start : start + BATCH_ROWS]
                found = ledger.forward_orders.retry(batch_names, account=account.name)
                unknown = {name: None for name in unknown if name not in found}
                queued += sum(found.values())
                display.show(queued)
    _print_queued(ledger, queued, json=json, unknown=list(unknown))
    for name in unknown:
        print_note(f"no task or forward {of_accounts(accounts)} has the id {shown_id(name)}.")
    if unknown:
        raise typer.Exit(WRONG)


def _send(
    context: typer.Context,
    ledger: Ledger,
    settings: Settings,
    accounts: Sequence[Settings],
    *,
    span: tuple[int, int],
    json: bool,
) -> None:
    """One transaction a batch: an interrupted command has queued the first batches."""
    if settings.forward_url is None:
        context.fail("KLING_FORWARD_URL is not set: name the application that is to be told.")
    queued = 0
    with _Display("queued") as display:
        for account in accounts:
            for state in EVENT_OF_STATE:
                is_done, after = False, (0, 0)
                while not is_done:
                    progress = ledger.forward_orders.send(
                        state, account=account.name, since=span[0], until=span[1], after=after
                    )
                    queued += progress.queued
                    is_done, after = progress.is_done, progress.after
                    display.show(queued)
    _print_queued(ledger, queued, json=json, unknown=[])


def _print_queued(ledger: Ledger, queued: int, *, json: bool, unknown: Sequence[str]) -> None:
    if json:
        print_json({"queued": queued, "unknown": list(unknown)})
    else:
        print_line(f"{count_of(queued, 'forward')} will be sent now.")
    advice = no_daemon_sentence(ledger.daemons.alive())
    if advice and queued:
        print_note(advice)


class _Display(LiveDisplay):
    """The progress: how many forwards are queued."""

    def __init__(self, what: str) -> None:
        super().__init__(SpinnerColumn(), TextColumn("{task.completed:,.0f} {task.description}"))
        self._line = self._progress.add_task(what, total=None)

    def show(self, count: int) -> None:
        """So far."""
        self._progress.update(self._line, completed=count)
