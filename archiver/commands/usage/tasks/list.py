"""Usage of `list`."""

import enum
from typing import Annotated

import typer

from archiver.commands.usage.completing import families
from archiver.commands.usage.options import AccountName


class ListFormat(enum.StrEnum):
    """How tasks are printed."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


class TaskState(enum.StrEnum):
    """As `archiver.model.State`, which takes longer to import than a `--help` may."""

    REPORTED = "reported"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    ARCHIVED = "archived"
    FAILED = "failed"
    UNKNOWN = "unknown"
    BURIED = "buried"
    LOST = "lost"


def list(  # noqa: A001 -- the name of the command
    context: typer.Context,
    *,
    state: Annotated[
        TaskState | None,
        typer.Option("--state", metavar="S", help=f"One of: {', '.join(TaskState)}."),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            "--family", metavar="F", help="Only of this family: images/generations.", autocompletion=families
        ),
    ] = None,
    account: AccountName = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="T", help="2026-11-20, 2026-11-20T08:00Z, or 36h or 7d ago."),
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="T", help="Before this time.")] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="WORDS",
            help="A task id, or text in the external id, the request or the message.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=0, help="How many. By default all, and 100 in a table."),
    ] = None,
    format: Annotated[  # noqa: A002 -- the name of the option
        ListFormat | None, typer.Option("--format", help="By default, a table.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON array of what jsonl prints.")] = False,
) -> None:
    """List tasks, the newest first.

    Sorts by the time of creation; a task that the API has not confirmed yet counts from when the daemon first heard of
    it. --text ignores case and searches the newest 50,000 tasks that the other options select; a note says how far back
    that was. Table and CSV print manifests as s3://bucket/key. CSV is for spreadsheets: a cell that would be a formula
    begins with a quote.

    \b
    Example: tasks with these words in the prompt, as a spreadsheet
      kling-archiver list --text "red fox" --format csv > foxes.csv

    \b
    Example: the manifests of the last day
      kling-archiver list --since 24h --format jsonl | jq -r .manifest_key
    """
