"""How a command ends: one message on standard error, and an exit status for scripts.

    0 done
    1 something is wrong with the data, the API refused, or the ledger cannot be used now (also where its server refuses
      the login: nothing is known of the data)
    2 usage or settings
    130 interrupted by Ctrl-C; a second Ctrl-C kills the process, which a shell reports as 130 too
    143 terminated by SIGTERM (129 by SIGHUP)
    141 the reader of our output has gone

A command that may not simply be repeated says so at each of these ends (`last_sentence`).

An operator's mistake never prints a traceback. A bug does, through the log, which redacts secrets.
"""

import contextlib
import os
import sys
from collections.abc import Iterator

import typer

from archiver import log
from archiver.commands.terminal.last_sentence import LAST_SENTENCE, RUN_AGAIN
from archiver.commands.terminal.printing import print_note
from archiver.commands.terminal.signals import Terminated
from archiver.config.settings import SettingsError
from archiver.failures import Failure, Stopped
from archiver.ledger import LedgerRefused, LedgerUnusable, ToldFailure

WRONG = 1
USAGE = 2
INTERRUPTED = 130
READER_GONE = 141
"""128 + SIGPIPE, as a shell reports it."""


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Turns an exception of a command into its message and exit status."""
    LAST_SENTENCE.text = RUN_AGAIN
    try:
        yield
        sys.stdout.flush()
    except LedgerRefused as error:
        _print_failure(str(error))
        raise typer.Exit(WRONG) from error
    except (SettingsError, LedgerUnusable) as error:
        _print_failure(str(error))
        raise typer.Exit(USAGE) from error
    except Failure as error:
        _print_failure(sentence_of(error))
        raise typer.Exit(WRONG) from error
    except (KeyboardInterrupt, Stopped) as error:
        print_note(f"interrupted. {LAST_SENTENCE.text}")
        raise typer.Exit(INTERRUPTED) from error
    except Terminated:
        print_note(f"terminated. {LAST_SENTENCE.text}")
        raise
    except BrokenPipeError as error:
        _print_own_last_sentence()
        _discard_output()
        raise typer.Exit(READER_GONE) from error
    except OSError as error:
        _print_failure(f"a file or stream cannot be used: {error}")
        _discard_output()
        raise typer.Exit(WRONG) from error
    except (typer.Exit, typer.TyperException):
        raise
    except Exception as error:  # the last handler: a bare traceback may show signed URLs
        log.get().exception("command.crashed")
        _print_failure("this is a bug in kling-archiver; please report it with the lines above.")
        raise typer.Exit(WRONG) from error


def sentence_of(error: Failure | ToldFailure) -> str:
    """The message, and what to do about it."""
    message = str(error)
    if error.what_to_do and not message.endswith((".", "!", "?")):
        message += "."
    return f"{message} {error.what_to_do}".rstrip()


def _print_failure(sentence: str) -> None:
    print_note(sentence)
    _print_own_last_sentence()


def _print_own_last_sentence() -> None:
    """Not after a failure of a command that may simply be repeated: the message says what to do first."""
    if LAST_SENTENCE.text != RUN_AGAIN:
        print_note(LAST_SENTENCE.text)


def _discard_output() -> None:
    """Discard unwritten output: Python would complain at exit that it cannot flush it."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
