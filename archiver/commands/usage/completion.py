"""Usage of `completion`."""

import enum
from typing import Annotated

import typer


class Shell(enum.StrEnum):
    """Which shell."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    context: typer.Context, shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish")]
) -> None:
    """Print the script for completion in bash, zsh or fish.

    It completes commands, options, families, states, accounts, and the ids of the newest tasks. Needs no settings.

    \b
    Example: in ~/.bashrc
      source <(kling-archiver completion bash)

    \b
    Example: in ~/.zshrc, after compinit
      source <(kling-archiver completion zsh)

    \b
    Example: for fish
      kling-archiver completion fish \\
        > ~/.config/fish/completions/kling-archiver.fish
    """
