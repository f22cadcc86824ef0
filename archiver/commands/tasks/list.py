"""`list`: tasks, the newest first, read a page at a time: a million rows need as much memory as five hundred."""

import contextlib
import json as json_format
from collections.abc import Callable, Iterator

import typer

from archiver.commands.tasks.csv_rows import csv_line
from archiver.commands.terminal.invocation import chosen_accounts, invocation_of
from archiver.commands.terminal.printing import console, moment, print_line, print_note, table
from archiver.commands.usage.tasks.list import ListFormat, TaskState
from archiver.config.settings import Settings
from archiver.ledger import Ledger
from archiver.ledger.views import FilterProblem, ListedTask, TaskFilter, TaskPage
from archiver.phrases import count_of

TABLE_ROWS = 100
"""The number of rows if no limit is given."""
PAGE_ROWS = 500

_Print = Callable[[Iterator[TaskPage]], None]


def list(  # noqa: A001 -- the name of the command
    context: typer.Context,
    *,
    state: TaskState | None,
    family: str | None,
    account: str | None,
    since: str | None,
    until: str | None,
    text: str | None,
    limit: int | None,
    format: ListFormat | None,  # noqa: A002 -- the name of the option
    json: bool,
) -> None:
    """What `usage.tasks.list` says."""
    if json and format is not None:
        context.fail("Give either --json or --format.")
    invocation = invocation_of(context)
    settings = invocation.settings()
    chosen_accounts(context, settings, name=account)
    written = {
        "state": state,
        "family": family,
        "account": account,
        "since": since,
        "until": until,
        "text": text,
    }
    try:
        given = {name: str(value) for name, value in written.items() if value is not None}
        chosen = TaskFilter.parse(given, now=invocation.now())
    except FilterProblem as problem:
        context.fail(f"--{problem}")
    is_table = not json and format in (None, ListFormat.TABLE)
    if limit is None and is_table:
        limit = TABLE_ROWS
    with contextlib.closing(invocation.ledger(settings)) as ledger:
        pages = _Pages(ledger, chosen, limit=limit)
        _printer(settings, format, json=json)(iter(pages))
    _say_what_is_left_out(pages, limit, is_table=is_table)


class _Pages:
    """Pages of up to `limit` tasks in total; None means all. `last` is the task that was read last."""

    def __init__(self, ledger: Ledger, chosen: TaskFilter, *, limit: int | None) -> None:
        self._ledger = ledger
        self.chosen = chosen
        self._limit = limit
        self.last = TaskPage((), None, None)

    def __iter__(self) -> Iterator[TaskPage]:
        left, page = self._limit, None
        while left is None or left > 0:
            count = PAGE_ROWS if left is None else min(left, PAGE_ROWS)
            self.last = self._ledger.views.tasks(self.chosen, page=page, limit=count)
            yield self.last
            page = self.last.next_page
            if page is None:
                return
            left = None if left is None else left - len(self.last.rows)


def _say_what_is_left_out(pages: _Pages, limit: int | None, *, is_table: bool) -> None:
    last = pages.last
    if pages.chosen.text is not None and last.is_of_id:
        print_note("found by the id, searched no texts: see --limit.")
    elif pages.chosen.text is not None:
        print_note(_how_far_back(last.searched_back_to))
    elif last.next_page is not None and is_table:
        print_note(f"there are more than {count_of(limit or 0, 'task')}: see --limit, --since and --until.")


def _how_far_back(time: int | None) -> str:
    if time is None:
        return "searched back to the oldest task."
    before = moment(time + 1000).replace(" ", "T")
    return f"searched back to {moment(time)} (UTC); to go on from there: --until {before}Z"


# --- formats --------------------------------------------------------------------------------------------------------


def _printer(settings: Settings, format: ListFormat | None, *, json: bool) -> _Print:  # noqa: A002 -- as above
    bucket = settings.s3_bucket
    if json:
        return _print_array
    if format is ListFormat.JSONL:
        return _print_lines
    if format is ListFormat.CSV:
        return lambda pages: _print_csv(pages, bucket=bucket)
    return lambda pages: _print_tables(pages, bucket=bucket)


def _print_lines(pages: Iterator[TaskPage]) -> None:
    for page in pages:
        for task in page.rows:
            typer.echo(json_format.dumps(task.as_json()))


def _print_array(pages: Iterator[TaskPage]) -> None:
    before = "[\n"
    for page in pages:
        for task in page.rows:
            typer.echo(f"{before}  {json_format.dumps(task.as_json())}", nl=False)
            before = ",\n"
    typer.echo("[]" if before == "[\n" else "\n]")


def _print_csv(pages: Iterator[TaskPage], *, bucket: str | None) -> None:
    """Print CSV, always in UTF-8: spreadsheets are told to read UTF-8."""
    names = None
    for page in pages:
        for task in page.rows:
            values = {**task.as_json(), "manifest_key": _url(task.manifest_key, bucket)}
            if names is None:
                names = [*values]
                typer.echo(csv_line(names), nl=False)
            typer.echo(csv_line(values.values()), nl=False)


def _print_tables(pages: Iterator[TaskPage], *, bucket: str | None) -> None:
    """One for each page: the widths of columns are not known before all rows are."""
    headings = ["created (UTC)", "task", "family", "state", "reason", "external id", "prompt", "manifest"]
    is_empty = True
    for page in pages:
        if page.rows:
            is_empty = False
            console().print(table(headings, [_cells(task, bucket) for task in page.rows]))
    if is_empty:
        print_line("No tasks.")


def _cells(task: ListedTask, bucket: str | None) -> tuple[object, ...]:
    prompt = None if task.prompt is None else " ".join(task.prompt.split())
    return (
        None if task.created_at is None else moment(task.created_at),
        task.task_id,
        task.family,
        task.state,
        task.reason,
        task.external_task_id,
        prompt if prompt is None or len(prompt) <= 60 else f"{prompt[:59]}…",
        _url(task.manifest_key, bucket),
    )


def _url(key: str | None, bucket: str | None) -> str | None:
    return key if key is None or bucket is None else f"s3://{bucket}/{key}"
