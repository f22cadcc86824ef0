"""`status`: the whole ledger at a glance, and whether anything in it needs somebody."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from archiver.commands.status_checks import part_of, problems
from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import AsJson, invocation_of
from archiver.commands.terminal.printing import console, facts, print_json, print_line, span, table, when
from archiver.families import swept

_HOLD_KEYS = ("stage", "reason", "since", "what_to_do")


def status(
    context: typer.Context,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Print only what is wrong; exit status 1 if anything is.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Show the whole ledger at a glance.

    How many tasks are in which state, what is held up, and what to do about it.

    With --check: anything lost or buried, a hold over an hour, a deadline under 7 days, or a family without a
    successful sweep in a day is printed and makes the exit status 1.

    \b
    Example: a line for cron, silent while all is well
      kling-archiver status --check || notify-somebody
    """
    invocation = invocation_of(context)
    settings, now = invocation.settings(), invocation.now()
    families = {
        account.account: swept(account.families, has_api_key=account.api_key is not None)
        for account in settings.accounts
    }
    several = len(families) > 1
    with contextlib.closing(invocation.ledger(settings, create=False)) as ledger:
        found = ledger.status(accounts=families if several else None)
        wrong = problems(ledger, found, families=families, now=now) if check else []
    if json:
        shown = _as_json(found, several=several)
        print_json({**shown, "problems": wrong} if check else shown)
    elif check:
        for problem in wrong:
            print_line(problem)
    else:
        _print_status(found, families=_all(families), several=several, now=now)
    if wrong:
        raise typer.Exit(WRONG)


def _all(families: Mapping[str, Sequence[str]]) -> list[str]:
    """The families of all accounts, each once."""
    return list(dict.fromkeys(itertools.chain.from_iterable(families.values())))


def _as_json(status: Mapping[str, Any], *, several: bool) -> dict[str, Any]:
    """The shape of the contract: of a hold what scripts may rely on, and nothing that only people read. Its account is
    named where there are several. What a script wants to know of the clock, `/readyz` says."""
    names = ("account", *_HOLD_KEYS) if several else _HOLD_KEYS
    holds = [{name: hold[name] for name in names} for hold in status["holds"]]
    return {name: value for name, value in status.items() if name != "clock_skew_seconds"} | {"holds": holds}


def _print_status(status: Mapping[str, Any], *, families: Sequence[str], several: bool, now: int) -> None:
    screen = console()
    states = status["states"]
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
        facts(
            [
                ("nearest deadline (UTC)", when(status["earliest_deadline"], now=now)),
                ("last callback (UTC)", when(status["last_callback_at"], now=now)),
                *_hold_facts(status["holds"], several=several, now=now),
                *_clock_facts(status["clock_skew_seconds"]),
                *_daemon_facts(status["daemons"], now=now),
            ]
        )
    )


def _sweeps(status: Mapping[str, Any], families: Sequence[str], *, now: int) -> list[list[object]]:
    """The configured families, and those that the ledger knows besides."""
    named = [*families, *(family for family in status["last_sweep"] if family not in families)]
    return [
        [
            family,
            when(status["last_sweep"].get(family), now=now) or "never",
            status["missed_callbacks"].get(family, 0),
        ]
        for family in named
    ]


def _hold_facts(
    holds: Sequence[Mapping[str, Any]], *, several: bool, now: int
) -> Iterator[tuple[str, object]]:
    """What is held and since when, and below it why and what to do."""
    if not holds:
        yield "held", "nothing"
    for hold in holds:
        yield (
            "held",
            f"{part_of(hold, several=several)}: {hold['reason']}, since {when(hold['since'], now=now)}",
        )
        yield from (("", sentence) for sentence in (hold["message"], hold["what_to_do"]) if sentence)


def _clock_facts(skew_seconds: float | None) -> Iterator[tuple[str, object]]:
    """Only where it is off by more than an answer may take on its way."""
    if skew_seconds is not None and abs(skew_seconds) >= 1:
        way = "behind" if skew_seconds > 0 else "ahead of"
        yield "clock", f"{span(round(abs(skew_seconds) * 1000))} {way} the API's"


def _daemon_facts(daemons: Sequence[Mapping[str, Any]], *, now: int) -> Iterator[tuple[str, object]]:
    if not daemons:
        yield "daemon", "none runs on this ledger: nothing is verified or archived"
    for one in daemons:
        started = when(one["started_at"], now=now)
        yield "daemon", f"{one['version']} on {one['host']}, process {one['pid']}, since {started}"
