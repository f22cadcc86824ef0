"""Usage of `deploy`."""

import enum
from typing import Annotated

import typer

from archiver.commands.usage.options import AsJson


class DeployAction(enum.StrEnum):
    """What to do."""

    LIST = "list"
    SHOW = "show"


def deploy(
    context: typer.Context,
    action: Annotated[DeployAction, typer.Argument(metavar="list|show")],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="show: a name that list prints, or its end.")
    ] = None,
    *,
    json: AsJson = False,
) -> None:
    """Print files for running it: unit, compose, policies, schema.

    They are those of the version that is installed. list names them; show prints one as it is, to be written into a
    file and adapted. Needs no settings.

    \b
    Example: the unit of systemd
      kling-archiver deploy show kling-receiver.service > kling-receiver.service
    """
