"""`status`: the whole ledger at a glance, and with `--check` what needs an operator."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import typer

from archiver.commands.status_checks import part_of, problems
from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import AsJson, invocation_of
from archiver.commands.terminal.printing import console, print_json, print_line, properties, span, table, when
from archiver.families import swept
from archiver.ledger import DaemonView, HoldView, Obstacle, StatusView


def status(
    context: typer.Context,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Print only problems; exit status 1 if there are any.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Show the whole ledger at a glance.

    Counts tasks by state, and shows what is held and what to do about it.

    With --check, these are problems: a lost or buried task, a hold of over an hour, a deadline in under 7 days, a
    family without a successful sweep for a day, tasks of an account that the settings do not name.

    \b
    Example: for cron; prints nothing while all is well
      kling-archiver status --check || notify-operator
    """
    invocation = invocation_of(context)
    settings, now = invocation.settings(), invocation.now()
    families = {
        account.name: swept(account.families, has_api_key=account.api_key is not None)
        for account in settings.accounts
    }
    several = len(families) > 1
    with contextlib.closing(invocation.ledger(settings)) as ledger:
        view = ledger.views.status(accounts=families if several else None)
        found = problems(ledger, view, families=families, now=now) if check else []
        obstacle = ledger.database.obstacle()
    if json:
        document = view.as_json(several_accounts=several)
        print_json({**document, "problems": found} if check else document)
    elif check:
        for problem in found:
            print_line(problem)
    else:
        _print_status(view, obstacle, families=_all(families), several=several, now=now)
    if found:
        raise typer.Exit(WRONG)


def _all(families: Mapping[str, Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(itertools.chain.from_iterable(families.values())))


def _print_status(
    status: StatusView, obstacle: Obstacle | None, *, families: Sequence[str], several: bool, now: int
) -> None:
    screen = console()
    states = status.states
    screen.print(table(list(states), [list(states.values())], numbers=list(states)))
    print_line()
    screen.print(
        table(
            ["family", "last sweep (UTC)", "missed callbacks"],
            _sweeps(status, families, now=now),
            numbers=["missed callbacks"],
        )
    )
    print_line()
    screen.print(
        properties(
            [
                ("nearest deadline (UTC)", when(status.earliest_deadline, now=now)),
                ("last callback (UTC)", when(status.last_callback_at, now=now)),
                *_hold_properties(status.holds, several=several, now=now),
                *_clock_properties(status.clock_skew_ms),
                *_daemon_properties(status.daemons, now=now),
                *([("ledger", obstacle.message), ("", obstacle.what_to_do)] if obstacle else []),
            ]
        )
    )


def _sweeps(status: StatusView, families: Sequence[str], *, now: int) -> list[list[object]]:
    """The configured families, then others that the ledger knows."""
    named = [*families, *(family for family in status.last_sweep if family not in families)]
    return [
        [
            family,
            when(status.last_sweep.get(family), now=now) or "never",
            status.missed_callbacks.get(family, 0),
        ]
        for family in named
    ]


def _hold_properties(holds: Sequence[HoldView], *, several: bool, now: int) -> Iterator[tuple[str, object]]:
    if not holds:
        yield "held", "nothing"
    for hold in holds:
        yield (
            "held",
            f"{part_of(hold, several=several)}: {hold.reason}, since {when(hold.since, now=now)}",
        )
        yield from (("", sentence) for sentence in (hold.message, hold.what_to_do) if sentence)


def _clock_properties(skew_ms: int | None) -> Iterator[tuple[str, object]]:
    """Less than a second may be the time that an answer took."""
    if skew_ms is not None and abs(skew_ms) >= 1000:
        side = "behind" if skew_ms > 0 else "ahead of"
        yield "clock", f"{span(abs(skew_ms))} {side} the API's"


def _daemon_properties(daemons: Sequence[DaemonView], *, now: int) -> Iterator[tuple[str, object]]:
    if not daemons:
        yield "daemon", "none runs on this ledger: nothing is verified or archived"
    for daemon in daemons:
        started = when(daemon.started_at, now=now)
        yield "daemon", f"{daemon.name}, version {daemon.version}, process {daemon.pid}, since {started}"
