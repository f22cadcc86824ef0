"""How a command ends: one clear message on standard error, and an exit status that scripts can trust.

    0 done, 1 something is wrong with the data (or the API, or the ledger is busy), 2 usage or settings,
    130 interrupted, 141 whoever read our output has gone

A mistake of the user's is never a traceback. A mistake of ours is one, through the log and its redaction.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from archiver import log
from archiver.commands.terminal.printing import say
from archiver.config.settings import SettingsError
from archiver.failures import Failure, LedgerUnavailable, Stopped
from archiver.ledger import LedgerUnusable

WRONG = 1
USAGE = 2
INTERRUPTED = 130
READER_GONE = 141
"""128 + SIGPIPE, as a shell reports it."""


class Commands(TyperGroup):
    """The group of all commands; whichever runs, it ends as this module says."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _ending():
            return super().invoke(ctx)


@contextlib.contextmanager
def _ending() -> Iterator[None]:
    try:
        yield
        sys.stdout.flush()
    except (SettingsError, LedgerUnusable) as error:
        say(str(error))
        raise typer.Exit(USAGE) from error
    except LedgerUnavailable as error:
        say(f"{error}. Is another program writing to it, or is its disk full or read-only?")
        raise typer.Exit(WRONG) from error
    except Failure as error:
        say(sentence_of(error))
        raise typer.Exit(WRONG) from error
    except (KeyboardInterrupt, Stopped) as error:
        say("interrupted. Nothing is lost: what was done is kept, and running it again does the rest.")
        raise typer.Exit(INTERRUPTED) from error
    except BrokenPipeError as error:
        _discard_output()
        raise typer.Exit(READER_GONE) from error
    except OSError as error:
        say(f"a file or stream cannot be used: {error}")
        _discard_output()
        raise typer.Exit(WRONG) from error
    except (typer.Exit, typer.TyperException):
        raise
    except Exception as error:  # the command line's last handler: a bare traceback may show signed URLs
        log.get().exception("command.crashed")
        say("this is a mistake in kling-archiver itself; please report it with the lines above.")
        raise typer.Exit(WRONG) from error


def sentence_of(error: Failure) -> str:
    """What went wrong, and what to do about it where that is known."""
    message = str(error)
    if error.what_to_do and not message.endswith((".", "!", "?")):
        message += "."
    return f"{message} {error.what_to_do}".rstrip()


def _discard_output() -> None:
    """What is still buffered has nowhere to go; Python would complain about it on its way out."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)
