"""`status`: the whole ledger at a glance, and with `--check` what needs an operator."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence

import typer

from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import Invocation, invocation_of
from archiver.commands.terminal.printing import console, print_json, print_line, properties, table, when
from archiver.composition.accounts import expected_of
from archiver.config.settings import Settings
from archiver.failures import LedgerUnavailable
from archiver.ledger import DaemonView, HoldView, LedgerRefused, StatusView
from archiver.model import Problem
from archiver.phrases import span
from archiver.problems import NONE_RUNS, Expected, door_closed, look, part_of, verdict


def status(context: typer.Context, *, check: bool, json: bool) -> None:
    """What `usage.status` says."""
    invocation = invocation_of(context)
    settings, now = invocation.settings(), invocation.now()
    expected = expected_of(settings)
    several = len(expected.families) > 1
    view, problems = _look(invocation, settings, expected, is_script=check and json)
    if view is not None and several:
        view = view.only(expected.families)
    if json:
        document = view.as_json(several_accounts=several) if view else {}
        print_json({**document, "problems": [problem.as_json() for problem in problems]})
    else:
        if not check:
            said = verdict(problems, view)
            good = "bold yellow" if said == NONE_RUNS else "bold green"
            print_line(said, style="bold red" if problems else good)
        for problem in problems:
            print_line(f"{problem.code}: {problem.message}. {problem.what_to_do}".rstrip())
        if view is not None and not check:
            _print_status(view, families=_all(expected.families), several=several, now=now)
    if view is None or (check and problems):
        raise typer.Exit(WRONG)


def _look(
    invocation: Invocation, settings: Settings, expected: Expected, *, is_script: bool
) -> tuple[StatusView | None, list[Problem]]:
    """For a script, a ledger that cannot be opened is a problem like others."""
    try:
        with contextlib.closing(invocation.ledger(settings)) as ledger:
            return look(ledger, expected)
    except (LedgerUnavailable, LedgerRefused) as error:
        if not is_script:
            raise
        return None, [door_closed(error)]


def _all(families: Mapping[str, Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(itertools.chain.from_iterable(families.values())))


def _print_status(status: StatusView, *, families: Sequence[str], several: bool, now: int) -> None:
    screen = console()
    states = status.states
    print_line()
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
                *_daemon_properties(status.alive_daemons, now=now),
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


def _clock_properties(skew_ms: int | None) -> Iterator[tuple[str, object]]:
    """Less than a second may be the time that an answer took."""
    if skew_ms is not None and abs(skew_ms) >= 1000:
        side = "behind" if skew_ms > 0 else "ahead of"
        yield "clock", f"{span(abs(skew_ms))} {side} the API's"


def _daemon_properties(daemons: Sequence[DaemonView], *, now: int) -> Iterator[tuple[str, object]]:
    if not daemons:
        yield "daemon", "none runs on this ledger: nothing is verified or archived"
    for daemon in daemons:
        name = daemon.name if len(daemon.serves) > 1 else f"{daemon.name} ({', '.join(daemon.serves)} only)"
        started = when(daemon.started_at, now=now)
        yield "daemon", f"{name}, version {daemon.version}, process {daemon.pid}, since {started}"
