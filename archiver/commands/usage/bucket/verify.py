"""Usage of `verify`."""

from typing import Annotated

import typer

from archiver.commands.usage.completing import families
from archiver.commands.usage.options import AccountName, AsJson

FamilyName = Annotated[
    str | None,
    typer.Option(
        "--family", metavar="F", help="Only this family, such as images/generations.", autocompletion=families
    ),
]
SinceDay = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="T", help="Only tasks created on this day (UTC) or later: 2026-11-20, 7d."
    ),
]
UntilDay = Annotated[
    str | None, typer.Option("--until", metavar="T", help="Only tasks created on this day (UTC) or earlier.")
]


def verify(
    context: typer.Context,
    *,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Let the daemon put back what is missing: files if Kling still has them."
        ),
    ] = False,
    differences: Annotated[
        bool, typer.Option("--differences", help="Leave out correct objects (=).")
    ] = False,
    sample: Annotated[
        str,
        typer.Option("--sample", metavar="N%", help="Only this share of the tasks, chosen by their keys."),
    ] = "100%",
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            help="Which share: with 10%, seeds 0 to 9 cover all tasks. By default it changes each day.",
        ),
    ] = None,
    transfers: Annotated[
        int, typer.Option("--transfers", min=1, max=64, help="How many task folders at once.")
    ] = 8,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, and do not resume an interrupted run.")
    ] = False,
    family: FamilyName = None,
    since: SinceDay = None,
    until: UntilDay = None,
    account: AccountName = None,
    json: AsJson = False,
) -> None:
    """Compare every object in the bucket with manifests and ledger.

    Reads and hashes every object. Prints one line for each, with the symbols of rclone: = correct, * other bytes,
    + missing, - named by no manifest (no fault), ! cannot be read. Exit status 1 if there is any *, + or !, or if
    nothing was compared and the options or KLING_S3_PREFIX may be why.

    After an interruption, start it again within a day with the same options: it resumes.

    \b
    Example: check a tenth every night, and put back what is missing
      kling-archiver verify --sample 10% --differences --repair
    """
