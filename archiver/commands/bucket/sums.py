"""`sums`: the SHA-256 of every file, for `sha256sum -c` and `rclone checksum`."""

import json as json_format
import threading

import typer

from archiver.audit.sums import Sum
from archiver.audit.sums import sums as sums_of
from archiver.commands.bucket.chosen_folders import chosen_span, names_of, patient_store
from archiver.commands.terminal.exit_status import WRONG, sentence_of
from archiver.commands.terminal.invocation import chosen_accounts, invocation_of
from archiver.commands.terminal.printing import print_note
from archiver.config.settings import Need

THREADS = 8


def sums(
    context: typer.Context,
    *,
    family: str | None,
    since: str | None,
    until: str | None,
    account: str | None,
    json: bool,
) -> None:
    """What `usage.bucket.sums` says."""
    invocation = invocation_of(context)
    settings = invocation.settings(Need.STORE)
    accounts = chosen_accounts(context, settings, name=account)
    span = chosen_span(context, family=family, since=since, until=until, now=invocation.now())
    stop = threading.Event()
    store = patient_store(settings, invocation, stop=stop, transfers=THREADS)
    refused = 0
    try:
        for each in accounts:
            for found in sums_of(store, prefix=each.s3_prefix, names=names_of(each), span=span):
                if isinstance(found, Sum):
                    _print(found, json=json)
                else:
                    refused += 1
                    print_note(sentence_of(found))
    finally:
        stop.set()
    if refused:
        raise typer.Exit(WRONG)


def _print(found: Sum, *, json: bool) -> None:
    """Not through Rich, which takes ten times as long: there may be millions."""
    values = {"key": found.key, "sha256": found.sha256, "bytes": found.bytes}
    typer.echo(json_format.dumps(values) if json else found.line())
