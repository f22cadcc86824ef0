"""`kling-archiver`, the command line: hands the environment to a command.

Garbage collection is off. It would cost a command a third of its time and find nothing: Python runs it several times
during the imports and once more at the end, each time over everything that was imported.
"""

import gc
import io
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]  # Typer imports it from a private module

from archiver import lookups
from archiver.commands.terminal.group import COMPLETE_VARIABLE, Commands, add_first_lines
from archiver.commands.terminal.signals import handle_signals
from archiver.ending import end_process
from archiver.version import VERSION

NAME = "kling-archiver"

app = typer.Typer(
    name=NAME,
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    # Plain help and plain tracebacks: Typer's show local variables, and some of ours are secrets.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
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
    """Watch and operate kling-receiver, on the same ledger.

    Settings come from KLING_… environment variables or from the TOML file that KLING_CONFIG names.

    \b
    All settings:
      kling-archiver deploy show settings.md

    \b
    Exit status:
      0  done
      1  something is wrong with the data: an unknown id, a failed check or sweep
      2  usage or settings

    \b
    Example:
      KLING_LEDGER_URL=sqlite:////data/kling-ledger.db kling-archiver status
    """


add_first_lines(app)


def main(arguments: Sequence[str] | None = None) -> int:
    gc.disable()  # until the command is imported
    handle_signals()
    lookups.bound_all()
    _prepare_streams()
    if COMPLETE_VARIABLE in os.environ:
        completion_init()
    run = typer.main.get_command(app)
    try:
        run.main(args=arguments, prog_name=NAME, obj=os.environ)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    finally:
        gc.freeze()  # nothing that is here is looked at when the process ends
    return 0


def _prepare_streams() -> None:
    """Replace closed streams by /dev/null, and escape characters that the locale lacks."""
    if sys.stdout is None or sys.stderr is None:
        null = pathlib.Path(os.devnull).open("w")  # noqa: SIM115 -- open for as long as the process lives
        sys.stdout, sys.stderr = sys.stdout or null, sys.stderr or null
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def run() -> NoReturn:
    """The program: `main`, and the end of the process."""
    end_process(main())


if __name__ == "__main__":
    run()
