"""What a command starts from: its environment, the settings, and a ledger opened beside the daemon.

1. A command requires only the settings that it uses, so `status` works without credentials.
2. A command never creates or migrates a ledger: an empty one at a misspelled path would look healthy, and the daemon
   beside it may be older.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import cast

import typer

from archiver import log
from archiver.commands.terminal.printing import print_note
from archiver.config.settings import Need, Settings
from archiver.ledger import DaemonView, Ledger, Service, unix_ms


@dataclasses.dataclass(frozen=True, slots=True)
class Invocation:
    """`now()` is Unix ms, `wait(seconds)` sleeps."""

    environment: Mapping[str, str]
    now: Callable[[], int] = unix_ms
    wait: Callable[[float], object] = time.sleep

    def settings(self, *need: Need) -> Settings:
        """Load the settings and configure the log. Raises SettingsError, also if `need` is missing."""
        settings = Settings.load(self.environment, need=need)
        configure_log(settings)
        for warning in (*settings.unknown, *settings.misspelled):
            print_note(warning)
        return settings

    def ledger(self, settings: Settings) -> Ledger:
        """Raises LedgerUnusable (LedgerMissing before a daemon's first start), LedgerUnavailable."""
        now = None if self.now is unix_ms else self.now  # the database has a clock of its own
        return Ledger.open(settings.ledger_url, daemon=False, now=now)


def invocation_of(context: typer.Context) -> Invocation:
    return cast("Invocation", context.obj)


def configure_log(settings: Settings) -> None:
    """The default level is `warning`: a command prints its result itself."""
    log.configure(
        format=settings.log_format_at(terminal=sys.stderr.isatty()),
        level=settings.log_level if "log_level" in settings.model_fields_set else "warning",
        secrets=settings.secrets(),
    )


def chosen_accounts(context: typer.Context, settings: Settings, *, name: str | None) -> tuple[Settings, ...]:
    """The account that --account names, or all. Ends with a usage error if there is none of that name."""
    if name is None:
        return settings.accounts
    found = tuple(account for account in settings.accounts if account.name == name)
    if not found:
        context.fail(f"--account must be one of: {', '.join(_names(settings))}.")
    return found


def chosen_account(context: typer.Context, settings: Settings, *, name: str | None) -> Settings:
    """Ends with a usage error if there are several accounts and none is named."""
    found = chosen_accounts(context, settings, name=name)
    if len(found) > 1:
        context.fail(f"There are several accounts: add --account with one of: {', '.join(_names(settings))}.")
    return found[0]


def _names(settings: Settings) -> list[str]:
    return [account.name for account in settings.accounts]


def of_accounts(accounts: Collection[Settings]) -> str:
    names = " and ".join(account.name for account in accounts)
    return f"of the account{'s' if len(accounts) > 1 else ''} {names}"


def no_daemon_sentence(daemons: Collection[DaemonView]) -> str | None:
    """A note if no daemon runs to do the work."""
    if any(Service.WORK in daemon.serves for daemon in daemons):
        return None
    return "No kling-receiver has been seen on this ledger for two minutes; the work waits until one runs."
