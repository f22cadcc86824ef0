"""How `verify`, `sums` and `rebuild` begin: the folders of the bucket that they read, and the store to read them."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Sequence

import typer

from archiver.audit.patience import PATIENCE_SECONDS, PatientStore
from archiver.audit.places import Span
from archiver.commands.terminal.exit_status import sentence_of
from archiver.commands.terminal.invocation import Invocation, chosen_accounts, invocation_of
from archiver.commands.terminal.printing import print_note
from archiver.composition.accounts import require_account
from archiver.composition.outside import build_reading_store
from archiver.config.settings import Need, Settings
from archiver.failures import Failure
from archiver.ledger import Ledger
from archiver.model import FAMILY
from archiver.times import parse_time


@dataclasses.dataclass(frozen=True, slots=True)
class ChosenFolders:
    """What the options of a command chose."""

    invocation: Invocation
    settings: Settings
    accounts: Sequence[Settings]
    span: Span
    store: PatientStore
    """Reading and waiting end with the command."""

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """Of these accounts. Raises LedgerUnusable, LedgerUnavailable, SettingsError."""
        with contextlib.closing(self.invocation.ledger(self.settings)) as ledger:
            require_account(ledger, self.settings)
            yield ledger


@contextlib.contextmanager
def chosen_folders(
    context: typer.Context,
    *,
    family: str | None,
    since: str | None,
    until: str | None,
    account: str | None,
    transfers: int,
) -> Iterator[ChosenFolders]:
    """Trouble with the store is noted on standard error. Raises SettingsError; ends with a usage error."""
    invocation = invocation_of(context)
    settings = invocation.settings(Need.STORE)
    accounts = chosen_accounts(context, settings, name=account)
    span = _span(context, family=family, since=since, until=until, now=invocation.now())
    stop = threading.Event()
    store = PatientStore(
        build_reading_store(settings, transfers=transfers),
        stop=stop,
        wait=invocation.wait,
        on_trouble=_print_trouble,
    )
    try:
        yield ChosenFolders(invocation, settings, accounts, span, store)
    finally:
        stop.set()


def names_of(account: Settings) -> frozenset[str]:
    """The account's name and those that it had: manifests bear any of them."""
    return frozenset({account.name, *account.account_former_names})


def _span(
    context: typer.Context, *, family: str | None, since: str | None, until: str | None, now: int
) -> Span:
    if family is not None and not FAMILY.fullmatch(family):
        context.fail("--family must be a family such as images/generations.")
    try:
        first = None if since is None else parse_time(since, now=now)
        last = None if until is None else parse_time(until, now=now)
    except ValueError as error:
        context.fail(f"--since and --until {error}.")
    return Span.of_times(family=family, since=first, until=last)


def _print_trouble(error: Failure) -> None:
    print_note(f"{sentence_of(error)} Trying again for up to {PATIENCE_SECONDS:.0f} s.")
