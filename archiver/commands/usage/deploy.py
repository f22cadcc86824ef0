"""Usage of `deploy`."""

import enum
from typing import Annotated

import typer

from archiver.commands.usage.completing import deploy_files
from archiver.commands.usage.options import AsJson


class DeployAction(enum.StrEnum):
    """What to do."""

    LIST = "list"
    SHOW = "show"


def deploy(
    context: typer.Context,
    action: Annotated[DeployAction, typer.Argument(metavar="list|show")],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="show: a name that list prints, or its end.", autocompletion=deploy_files
        ),
    ] = None,
    *,
    json: AsJson = False,
) -> None:
    """Print the files for deployment: unit, compose, policies, schema.

    They belong to the version that is installed. list names them; show prints one, which you write into a file and
    adapt. Needs no settings.

    \b
    Example: the systemd unit
      kling-archiver deploy show kling-receiver.service > kling-receiver.service
    """
