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
    """List forwards to your application, and send them again.

    A forward is a POST to an application about one task.

    list shows forwards, the newest first. retry sends dead forwards again, or single ones that were delivered. send
    makes a forward to KLING_FORWARD_URL for every task that was archived, failed or was lost since T, also for
    tasks that ended before you set it. When a forward is sent again, its webhook-id stays the same. Exit status 1
    if an id is unknown.

    \b
    Example: after the application was down for more than a week
      kling-archiver forwards retry --dead

    \b
    Example: send the tasks of the last 30 days to a new application
      kling-archiver forwards send --since 30d
    """
