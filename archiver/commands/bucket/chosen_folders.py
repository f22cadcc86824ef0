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
from archiver.failures import BucketForbidden, Failure
from archiver.families import FAMILIES, similar
from archiver.ledger import Ledger
from archiver.model import FAMILY
from archiver.store import probing
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
        """Open the ledger for these accounts. Raises LedgerUnusable, LedgerUnavailable, SettingsError."""
        with contextlib.closing(self.invocation.ledger(self.settings)) as ledger:
            require_account(ledger, self.settings)
            yield ledger

    def doubt(self) -> str | None:
        """Why a command that found nothing may have looked in the wrong place. None if the bucket is empty, as after a
        new installation. Raises Failure, Stopped."""
        if not self.span.is_everything:
            return "Nothing fits --family, --since and --until."
        prefixes = sorted({each.s3_prefix for each in self.accounts})
        if "" not in prefixes and not any(map(self._has_objects, prefixes)) and self._has_objects(""):
            return f"The bucket has objects, but none below {', '.join(prefixes)}: look at KLING_S3_PREFIX."
        return None

    def _has_objects(self, prefix: str) -> bool:
        """Whether there are objects besides those of `doctor`."""
        try:
            page = self.store.list_after(prefix, after="", keys_max=10)
        except BucketForbidden:
            return False  # the rights end at our prefix, so it is right
        return any(not key.endswith(probing.KEY) for key in page.sizes)


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
    """The account's present and former names: manifests have any of them."""
    return frozenset({account.name, *account.account_former_names})


def _span(
    context: typer.Context, *, family: str | None, since: str | None, until: str | None, now: int
) -> Span:
    if family is not None and not FAMILY.fullmatch(family):
        context.fail("--family must be a family such as images/generations.")
    if family is not None and family not in FAMILIES:
        near = similar(family)
        hint = f"; did you mean {near}?" if near else "."
        print_note(f"this version does not know the family {family}{hint}")
    try:
        first = None if since is None else parse_time(since, now=now)
        last = None if until is None else parse_time(until, now=now)
    except ValueError as error:
        context.fail(f"--since and --until {error}.")
    span = Span.of_times(family=family, since=first, until=last)
    if span.since_day is not None and span.until_day is not None and span.since_day > span.until_day:
        context.fail("--since is later than --until.")
    return span


def _print_trouble(error: Failure) -> None:
    print_note(f"{sentence_of(error)} Trying again for up to {PATIENCE_SECONDS:.0f} s.")
