"""What a command starts from: the environment it was handed, settings, a ledger to work on beside the daemon.

Rules: a command asks only for the settings it cannot do without, so that `status` works on a machine that has no
credentials; and one that only reads never makes a ledger, because an empty one where a path is misspelled would
say that all is well.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, cast

import typer

from archiver import log
from archiver.commands.terminal.printing import say
from archiver.config.settings import Need, Settings
from archiver.ledger import Ledger, unix_ms

AccountName = Annotated[
    str | None, typer.Option("--account", metavar="NAME", help="Which account, where there are several.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@dataclasses.dataclass(frozen=True, slots=True)
class Invocation:
    """Where a command runs: its environment, the clock (Unix ms), and how it sleeps (seconds)."""

    environment: Mapping[str, str]
    now: Callable[[], int] = unix_ms
    wait: Callable[[float], object] = time.sleep

    def settings(self, *need: Need) -> Settings:
        """The settings, with what the command needs among them; the log is set up. Raises SettingsError."""
        settings = Settings.load(self.environment, need=need)
        configure_log(settings)
        for sentence in settings.unknown:
            say(sentence)
        return settings

    def ledger(self, settings: Settings, *, create: bool) -> Ledger:
        """The ledger, for use beside a running daemon. Raises LedgerUnusable, LedgerUnavailable."""
        return Ledger.open(settings.ledger_url, daemon=False, create=create, now=self.now)


def invocation_of(context: typer.Context) -> Invocation:
    """What the entry point has put there."""
    return cast("Invocation", context.obj)


def configure_log(settings: Settings) -> None:
    """Log to what standard error is now. A command tells its result itself, so only warnings are logged unless
    a level was asked for."""
    log.configure(
        format=settings.log_format_at(terminal=sys.stderr.isatty()),
        level=settings.log_level if "log_level" in settings.model_fields_set else "warning",
        secrets=settings.secrets(),
    )


def accounts_meant(context: typer.Context, settings: Settings, *, name: str | None) -> tuple[Settings, ...]:
    """The accounts that a command is about, each with its settings: the one that --account names, else all there are.

    Ends with a usage error where nobody has that name.
    """
    if name is None:
        return settings.accounts
    found = tuple(account for account in settings.accounts if account.account == name)
    if not found:
        context.fail(f"--account must be one of: {', '.join(_names(settings))}.")
    return found


def account_meant(context: typer.Context, settings: Settings, *, name: str | None) -> Settings:
    """The one account that a command is about. Ends with a usage error where that could be several."""
    found = accounts_meant(context, settings, name=name)
    if len(found) > 1:
        context.fail(f"There are several accounts: add --account with one of: {', '.join(_names(settings))}.")
    return found[0]


def _names(settings: Settings) -> list[str]:
    return [account.account for account in settings.accounts]


def of_accounts(accounts: Collection[Settings]) -> str:
    """`of the account default`, for a sentence about all of them."""
    names = " and ".join(account.account for account in accounts)
    return f"of the account{'s' if len(accounts) > 1 else ''} {names}"


def no_daemon_sentence(daemons: Collection[object]) -> str | None:
    """What to add after work was left to the daemon, where none is there to do it."""
    if daemons:
        return None
    return "No kling-receiver has been seen on this ledger for a minute: the work begins when one runs."
