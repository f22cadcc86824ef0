"""Options that several commands take."""

from typing import Annotated

import typer

AccountName = Annotated[
    str | None, typer.Option("--account", metavar="NAME", help="Which account, if there are several.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
