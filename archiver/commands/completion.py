"""`completion`: prints the completion script for a shell."""

import sys

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]  # from a private module of its own

from archiver.commands.terminal.group import COMPLETE_VARIABLE
from archiver.commands.usage.completion import Shell


def completion(context: typer.Context, *, shell: Shell) -> None:
    """What `usage.completion` says."""
    del context
    script = get_completion_script(
        prog_name="kling-archiver", complete_var=COMPLETE_VARIABLE, shell=shell.value
    )
    sys.stdout.write(script + "\n")
