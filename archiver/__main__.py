"""`kling-archiver`: the command line. It hands the environment to a command, and nothing else is decided here."""

import io
import os
import pathlib
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer

from archiver.commands.register import register
from archiver.commands.rename_account import rename_account
from archiver.commands.retry import retry
from archiver.commands.show import show
from archiver.commands.status import status
from archiver.commands.submit.command import submit
from archiver.commands.sweep.command import sweep
from archiver.commands.terminal.exit_status import Commands
from archiver.commands.terminal.invocation import Invocation
from archiver.version import VERSION

NAME = "kling-archiver"

app = typer.Typer(
    name=NAME,
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    # Plain help and plain tracebacks: Typer's own show local variables, and among ours are secrets.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{NAME} {VERSION}")
        raise typer.Exit


@app.callback()
def _program(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Look after what kling-receiver archives. Works beside it, on the same ledger.

    Settings come from KLING_… environment variables or from the TOML file that KLING_CONFIG names; README has the
    table.

    \b
    Exit status:
      0  done
      1  something is wrong with the data: an unknown id, a failed check or sweep
      2  usage or settings

    \b
    Example:
      KLING_LEDGER_URL=sqlite:////data/kling-ledger.db kling-archiver status
    """


for command in (sweep, status, show, retry, register, submit, rename_account):
    app.command()(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    signal.signal(signal.SIGTERM, _end)
    _prepare_streams()
    run = typer.main.get_command(app)
    try:
        run.main(args=arguments, prog_name=NAME, obj=Invocation(os.environ))
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 1
    return 0


def _prepare_streams() -> None:
    """Make output possible whatever the caller left us: a closed stream swallows what is written to it, and what a
    narrow locale cannot show is spelled out."""
    if sys.stdout is None or sys.stderr is None:
        nowhere = pathlib.Path(os.devnull).open("w")  # noqa: SIM115 -- open for as long as the process lives
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _end(number: int, _frame: FrameType | None) -> None:
    """Told to end: leave through every `finally`, so that a sweep gives its family back."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
