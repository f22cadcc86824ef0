"""Which folders of the bucket a command is about, and the store that it reads them with."""

import threading

import typer

from archiver.audit.patience import PATIENCE_SECONDS, PatientStore
from archiver.audit.places import Span
from archiver.commands.terminal.exit_status import sentence_of
from archiver.commands.terminal.invocation import Invocation
from archiver.commands.terminal.printing import print_note
from archiver.composition.outside import build_reading_store
from archiver.config.settings import Settings
from archiver.failures import Failure
from archiver.model import FAMILY
from archiver.times import parse_time


def chosen_span(
    context: typer.Context, *, family: str | None, since: str | None, until: str | None, now: int
) -> Span:
    """Ends with a usage error."""
    if family is not None and not FAMILY.fullmatch(family):
        context.fail("--family must be a family such as images/generations.")
    try:
        first = None if since is None else parse_time(since, now=now)
        last = None if until is None else parse_time(until, now=now)
    except ValueError as error:
        context.fail(f"--since and --until {error}.")
    return Span.of_times(family=family, since=first, until=last)


def patient_store(
    settings: Settings, invocation: Invocation, *, stop: threading.Event, transfers: int
) -> PatientStore:
    """Notes trouble on standard error. Raises SettingsError."""

    def print_trouble(error: Failure) -> None:
        print_note(f"{sentence_of(error)} Trying again for up to {PATIENCE_SECONDS:.0f} s.")

    return PatientStore(
        build_reading_store(settings, transfers=transfers),
        stop=stop,
        wait=invocation.wait,
        on_trouble=print_trouble,
    )


def names_of(account: Settings) -> frozenset[str]:
    """The account's name and those that it had: manifests bear any of them."""
    return frozenset({account.name, *account.account_former_names})
