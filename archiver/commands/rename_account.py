"""`rename-account`: give an account's history to the name that the settings call it by now."""

import contextlib
from typing import Annotated

import typer

from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import AsJson, invocation_of
from archiver.commands.terminal.printing import count_of, print_json, print_line, say
from archiver.ledger import Ledger
from archiver.model import ACCOUNT_NAME


def rename_account(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The name that the ledger knows it by.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The name that the settings have now.")],
    *,
    json: AsJson = False,
) -> None:
    """Rename an account in the ledger.

    Only while no kling-receiver works on it. The bucket stays as it is: manifests
    that are there keep the old name, and all keys stay where they are. Two accounts
    never become one. Exit status 1 when the ledger does not know OLD, or has NEW.

    \b
    Example: KLING_ACCOUNT is team-eu from now on
      kling-archiver rename-account default team-eu
    """
    if not ACCOUNT_NAME.fullmatch(new) or new == old:
        context.fail("NEW must be another name, of 1 to 64 letters, digits, `.`, `_` or `-`.")
    invocation = invocation_of(context)
    settings = invocation.settings()
    # As a daemon does: its lock keeps every daemon out, which would go on writing under the old name.
    opened = Ledger.open(settings.ledger_url, daemon=True, create=False, now=invocation.now)
    with contextlib.closing(opened) as ledger:
        known = ledger.accounts()
        moved = ledger.rename_account(old, new)
    if moved is None:
        say(_why_not(old, new, known=known))
        raise typer.Exit(WRONG)
    if json:
        print_json({"old": old, "new": new, "tasks": moved})
    else:
        print_line(f"{count_of(moved, 'task')} of {old} {'is' if moved == 1 else 'are'} of {new} now.")
    if new not in {account.account for account in settings.accounts}:
        say(
            f"no account is called {new} in the settings yet: set KLING_ACCOUNT, or `name` under [[accounts]]."
        )


def _why_not(old: str, new: str, *, known: list[str]) -> str:
    if old not in known:
        names = ", ".join(known) or "none"
        return f"the ledger does not know the account {old}; it knows: {names}."
    return f"the ledger has an account {new} already, and two accounts never become one."
