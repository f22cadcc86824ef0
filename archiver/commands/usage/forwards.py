"""Usage of `forwards`."""

import enum
from typing import Annotated

import typer

from archiver.commands.usage.options import AccountName, AsJson


class ForwardAction(enum.StrEnum):
    """What to do."""

    LIST = "list"
    RETRY = "retry"
    SEND = "send"


class ShownState(enum.StrEnum):
    """As `forwards list` filters."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


def forwards(
    context: typer.Context,
    action: Annotated[ForwardAction, typer.Argument(metavar="list|retry|send")],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="retry: ids or external ids of tasks, or ids of forwards (fwd_…)."),
    ] = None,
    *,
    state: Annotated[ShownState | None, typer.Option("--state", help="list: only these.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="list: how many, newest first.")] = 100,
    dead: Annotated[bool, typer.Option("--dead", help="retry: all dead ones.")] = False,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="T", help="send: 2026-11-20, 2026-11-20T08:00Z, or 36h or 7d ago."),
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="T", help="send: by default, now.")] = None,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """List what applications are told of tasks, and tell them again.

    list shows it, the newest first. retry sends again what has ended: dead forwards, or single ones that were
    delivered. send tells KLING_FORWARD_URL of every task that was archived, failed or was lost since T, also of tasks
    that had ended before it was set. A forward that is sent again keeps its webhook-id. Exit status 1 if an id is
    unknown.

    \b
    Example: after the application was down for more than a week
      kling-archiver forwards retry --dead

    \b
    Example: tell a new application of the last 30 days
      kling-archiver forwards send --since 30d
    """
