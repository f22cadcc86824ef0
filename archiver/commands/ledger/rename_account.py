"""`rename-account`: move an account's history to the name that the settings use now."""

import contextlib

import typer

from archiver.commands.terminal.exit_status import WRONG
from archiver.commands.terminal.invocation import invocation_of
from archiver.commands.terminal.printing import moment, print_json, print_line, print_note
from archiver.ledger import Ledger, LedgerTaken, LedgerUnusable
from archiver.ledger.accounts import Renaming
from archiver.model import ACCOUNT_NAME
from archiver.phrases import count_of, listing

_STOP_FIRST = (
    "processes work on this ledger and would go on writing under the old name: stop them first ({}). One that was "
    "killed counts for two minutes"
)


def rename_account(context: typer.Context, *, old: str, new: str, json: bool) -> None:
    """What `usage.ledger.rename_account` says."""
    if not ACCOUNT_NAME.fullmatch(new) or new == old:
        context.fail("NEW must be another name, of 1 to 64 letters, digits, `.`, `_` or `-`.")
    invocation = invocation_of(context)
    settings = invocation.settings()
    try:  # with the daemon's lock, where there is one
        opened = Ledger.open(settings.ledger_url, daemon=True, create=False, now=invocation.now)
    except LedgerTaken as error:
        raise LedgerUnusable(
            f"{error.said}, and would go on writing under the old name: stop it first."
        ) from error
    with contextlib.closing(opened) as ledger:
        if running := ledger.daemons.alive():
            raise LedgerUnusable(
                _STOP_FIRST.format(listing([one.name for one in running], count=len(running)))
            )
        known = ledger.accounts.names()
        moved = ledger.accounts.rename(old, new)
        before = _earlier_run(ledger, old, new, known=known) if moved is None else None
    if before is not None:
        moved = before.tasks
    if moved is None:
        print_note(_why_not(old, new, known=known))
        raise typer.Exit(WRONG)
    if json:
        print_json({"old": old, "new": new, "tasks": moved})
    elif before is not None:
        count, done_at = count_of(moved, "task"), moment(before.at)
        print_line(f"{old} is already renamed to {new}: {count} moved on {done_at} UTC.")
    else:
        print_line(f"{count_of(moved, 'task')} moved from {old} to {new}.")
    ours = {account.name: account.account_former_names for account in settings.accounts}
    if old not in ours.get(new, ()):
        print_note(
            f"manifests in the bucket keep the name {old}: add it to KLING_ACCOUNT_FORMER_NAMES, or to `former_names` "
            f"of {new} under [[accounts]]. Else they count as another account's if the ledger is ever lost."
        )
    if new not in {account.name for account in settings.accounts}:
        print_note(
            f"the settings name no account {new} yet: set KLING_ACCOUNT, or `name` under [[accounts]]."
        )


def _earlier_run(ledger: Ledger, old: str, new: str, *, known: list[str]) -> Renaming | None:
    """The run of this command that has done the work, and perhaps ended before it could say so."""
    last = ledger.accounts.last_renaming(old)
    is_done = last is not None and last.new == new and old not in known and new in known
    return last if is_done else None


def _why_not(old: str, new: str, *, known: list[str]) -> str:
    if old not in known:
        names = ", ".join(known) or "none"
        return f"the ledger does not know the account {old}; it knows: {names}."
    return f"the ledger already has an account {new}; two accounts cannot be merged."
