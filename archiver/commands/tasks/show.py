"""`show`: everything that the ledger knows about one task."""

from collections.abc import Iterator

import typer

from archiver.commands.tasks.found_task import ForgottenTask, FoundTask, found_task
from archiver.commands.terminal.invocation import invocation_of
from archiver.commands.terminal.printing import (
    console,
    moment,
    object_url,
    print_json,
    print_line,
    properties,
    table,
    when,
)
from archiver.config.settings import Need
from archiver.ledger import AssetView, ForwardView, TaskView, Tombstone
from archiver.model import State


def show(context: typer.Context, *, task_id: str, account: str | None, json: bool) -> None:
    """What `usage.tasks.show` says."""
    invocation = invocation_of(context)
    settings = invocation.settings(Need.LINKS, Need.FORWARDS)
    try:
        task = found_task(context, settings, task_id=task_id, account=account)
    except ForgottenTask as error:
        _print_forgotten(error.tombstone, json=json)
        return
    if json:
        print_json(task.view.as_json(task.links(), operator_url=settings.operator_url()))
    else:
        _print_task(task, operator_url=settings.operator_url(), now=invocation.now())


def _print_forgotten(task: Tombstone, *, json: bool) -> None:
    if json:
        print_json(task.as_json())
        return
    rows = {
        "task": task.task_id,
        "external id": task.external_task_id,
        "account": task.account,
        "family": task.family,
        "state": "forgotten",
        "forgotten (UTC)": moment(task.forgotten_at),
    }
    console().print(properties(rows.items()))


def _print_task(found: FoundTask, *, operator_url: str | None, now: int) -> None:
    screen = console()
    task, links, bucket = found.view, found.links(), found.account.s3_bucket
    screen.print(properties(_properties(task, bucket=bucket, now=now)))
    if task.assets:
        print_line()
        rows = [
            [asset.name or asset.asset.stem, asset.bytes, _where(asset, bucket=bucket)]
            for asset in task.assets
        ]
        screen.print(table(["file", "bytes", "object"], rows, numbers=["bytes"]))
    if links:
        print_line()
        screen.print(table(["link"], [[link] for link in links.values()]))
    if task.forwards:
        print_line()
        told = [_told(forward, operator_url=operator_url, now=now) for forward in task.forwards]
        screen.print(table(["told", "to", "state", "attempts", "due (UTC)"], told, numbers=["attempts"]))
    if task.history:
        print_line()
        lines = [[moment(line.at), line.event, line.detail] for line in task.history]
        screen.print(table(["at (UTC)", "event", "detail"], lines))


def _told(forward: ForwardView, *, operator_url: str | None, now: int) -> list[object]:
    to = forward.shown_target(operator_url=operator_url)
    return [forward.event, to, forward.state, forward.attempts, when(forward.due_at, now=now)]


def _properties(task: TaskView, *, bucket: str, now: int) -> Iterator[tuple[str, object]]:
    yield "task", task.task_id
    yield "external id", task.external_task_id
    yield "account", task.account
    yield "family", task.family
    yield "state", task.state
    if task.reason or task.message:
        yield "reason", task.reason
        yield "message", task.message
        if task.what_to_do and task.what_to_do != task.message:
            yield "what to do", task.what_to_do
    yield "attempts", task.attempts
    if task.due_at:
        yield "due (UTC)", "now" if task.due_at <= now else when(task.due_at, now=now)
    yield "created (UTC)", when(task.created_at, now=now)
    yield "updated (UTC)", when(task.updated_at, now=now)
    if task.state not in (State.ARCHIVED, State.FAILED):
        yield "expires (UTC)", when(task.expires_at, now=now)
    yield "found by", f"{task.discovered_by}, callbacks: {task.callbacks}"
    yield "manifest", object_url(task.manifest_key, bucket=bucket)
    if task.amendment_keys:
        urls = [object_url(key, bucket=bucket) or key for key in task.amendment_keys]
        yield "amendments", "\n".join(urls)


def _where(asset: AssetView, *, bucket: str) -> str:
    if asset.is_stored:
        return str(object_url(asset.key, bucket=bucket))
    return f"not stored: {asset.reason or 'not tried yet'}"
