"""`sums`: the SHA-256 of every file, for `sha256sum -c` and `rclone checksum`."""

import json as json_format

import typer

from archiver.audit.sums import Sum
from archiver.audit.sums import sums as sums_of
from archiver.commands.bucket.chosen_folders import chosen_folders, names_of
from archiver.commands.terminal.exit_status import WRONG, sentence_of
from archiver.commands.terminal.printing import print_note

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
    found_any, refused, doubt = False, 0, None
    with chosen_folders(
        context, family=family, since=since, until=until, account=account, transfers=THREADS
    ) as chosen:
        for each in chosen.accounts:
            found = sums_of(chosen.store, prefix=each.s3_prefix, names=names_of(each), span=chosen.span)
            for one in found:
                found_any = True
                if isinstance(one, Sum):
                    _print(one, json=json)
                else:
                    refused += 1
                    print_note(sentence_of(one))
        if not found_any:
            doubt = chosen.doubt()
            print_note("No manifest was found." if doubt is None else f"No manifest was found. {doubt}")
    if refused or doubt is not None:
        raise typer.Exit(WRONG)


def _print(found: Sum, *, json: bool) -> None:
    """Print lines without Rich, which takes ten times as long: there may be millions."""
    values = {"key": found.key, "sha256": found.sha256, "bytes": found.bytes}
    typer.echo(json_format.dumps(values) if json else found.line())
