"""`show`: everything that the ledger knows about one task."""

import contextlib
from collections.abc import Iterator

import typer

from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import (
    chosen_accounts,
    invocation_of,
    of_accounts,
)
from archiver.commands.terminal.printing import (
    console,
    moment,
    print_json,
    print_line,
    print_note,
    properties,
    table,
    when,
)
from archiver.create.registration import is_identifier
from archiver.failures import Failure
from archiver.ledger import AssetView, TaskView
from archiver.model import State


def show(context: typer.Context, *, task_id: str, account: str | None, json: bool) -> None:
    """What `usage.show` says."""
    invocation = invocation_of(context)
    settings = invocation.settings()
    with contextlib.closing(invocation.ledger(settings)) as ledger:
        accounts = chosen_accounts(context, settings, name=account)
        found = [ledger.views.show(task_id, account=each.name) for each in accounts if is_identifier(task_id)]
    tasks = [task for task in found if task is not None]
    if len(tasks) > 1:
        names = " and ".join(task.account for task in tasks)
        context.fail(f"The accounts {names} both have this task: choose with --account.")
    if not tasks:
        print_note(
            f"no task {of_accounts(accounts)} has the id or external id {task_id}. To follow a "
            "new task: kling-archiver register ID --family FAMILY"
        )
        raise typer.Exit(WRONG)
    (task,) = tasks
    if json:
        print_json(task.as_json())
    else:
        _print_task(task, now=invocation.now())


def _print_task(task: TaskView, *, now: int) -> None:
    screen = console()
    screen.print(properties(_properties(task, now=now)))
    if task.assets:
        print_line()
        rows = [[asset.name, asset.bytes, _where(asset)] for asset in task.assets]
        screen.print(table(["file", "bytes", "key"], rows, numbers=["bytes"]))
    if task.history:
        print_line()
        lines = [[moment(line.at), line.event, line.detail] for line in task.history]
        screen.print(table(["at (UTC)", "event", "detail"], lines))


def _properties(task: TaskView, *, now: int) -> Iterator[tuple[str, object]]:
    yield "task", task.task_id
    yield "external id", task.external_task_id
    yield "account", task.account
    yield "family", task.family
    yield "state", task.state
    if task.reason or task.message:
        yield "reason", task.reason
        yield "message", task.message
        advice = what_to_do(task.reason)
        if advice and advice != task.message:
            yield "what to do", advice
    yield "attempts", task.attempts
    if task.due_at:
        yield "due (UTC)", "now" if task.due_at <= now else when(task.due_at, now=now)
    yield "created (UTC)", when(task.created_at, now=now)
    yield "updated (UTC)", when(task.updated_at, now=now)
    if task.state not in (State.ARCHIVED, State.FAILED):
        yield "expires (UTC)", when(task.expires_at, now=now)
    yield "found by", f"{task.discovered_by}, callbacks: {task.callbacks}"
    yield "manifest", task.manifest_key
    if task.amendment_keys:
        yield "amendments", "\n".join(task.amendment_keys)


def _where(asset: AssetView) -> str:
    if asset.is_stored:
        return str(asset.key)
    return f"not stored: {asset.reason or 'not tried yet'}"


def what_to_do(reason: str | None) -> str:
    """What an operator can do about a reason; empty if nothing."""
    return next((kind.what_to_do for kind in _subclasses(Failure) if kind.reason == reason), "")


def _subclasses(kind: type[Failure]) -> Iterator[type[Failure]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from _subclasses(subclass)
