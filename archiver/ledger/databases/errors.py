"""A driver's errors as sentences for an operator."""

import contextlib
import pathlib
import sqlite3
from collections.abc import Iterator, Sequence

from sqlalchemy import exc

from archiver.failures import LedgerMalformed, LedgerUnavailable

_MALFORMED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class LedgerUnusable(Exception):
    """The ledger cannot be used; the message says which file, why, and what to do."""


class LedgerMissing(LedgerUnusable):
    """There is no ledger yet, and the caller does not create one."""


class LedgerOld(LedgerUnusable):
    """An earlier version's, and the caller does not migrate it."""


class LedgerUnfit(LedgerUnusable):
    """The same settings may work later: a folder that is not mounted yet, a right that is not granted, an older server.

    The person who repairs that may not know this program. So a supervisor should start the daemon again until it works.
    """


class LedgerRefused(LedgerUnfit):
    """A server refuses these settings. The ledger behind it may be intact, but cannot be examined.

    The refusal may pass without new settings: the server may be under maintenance, or go down during the TLS handshake.
    """

    def __init__(self, said: str, *, what_to_do: str) -> None:
        super().__init__(f"{said}. {what_to_do.removesuffix('.')}")
        self.said = said
        self.what_to_do = what_to_do


class LedgerAltered(LedgerUnfit):
    """Its schema is not the one that its revision stands for. `remedies` are the statements that make it so, if there
    are any that do; else it is empty."""

    def __init__(self, name: str, differences: str, *, remedies: Sequence[str]) -> None:
        self.said = f"the ledger {name} is not as this version makes it: {differences}"
        self.remedies = remedies
        self.what_to_do = _make_anew(remedies) if remedies else _NOT_OURS
        super().__init__(f"{self.said}. {self.what_to_do.removesuffix('.')}")


_NOT_OURS = (
    "It is of a program that was never released, or was changed by hand. Start the program that it is of, undo the "
    "change, or restore a copy of the ledger. Else begin with a new ledger (KLING_LEDGER_URL): it finds the tasks of "
    "the last 30 days again, and `kling-archiver rebuild` adds what the bucket has."
)


def _make_anew(remedies: Sequence[str]) -> str:
    return f"Something has removed it, or its making did not end. Run this on the database: {'; '.join(remedies)}"


class LedgerTaken(LedgerUnfit):
    """A daemon works on this SQLite ledger, which takes only one, or is just ending. `said` is the message without what
    to do."""

    def __init__(self, said: str) -> None:
        super().__init__(
            f"{said}. One SQLite ledger takes one daemon: stop the other one, or give this one a KLING_LEDGER_URL of "
            "its own."
        )
        self.said = said


@contextlib.contextmanager
def translated(path: pathlib.Path) -> Iterator[None]:
    """Driver errors as `LedgerUnavailable`; IntegrityError and the like are bugs of ours and pass through."""
    try:
        yield
    except (exc.IntegrityError, exc.ProgrammingError, exc.DataError):
        raise
    except exc.DatabaseError as error:
        raise _failure(path, error.orig) from error
    except sqlite3.Error as error:
        raise _failure(path, error) from error
    except exc.TimeoutError as error:
        raise LedgerUnavailable(f"the ledger {path} is busy: too many are reading it") from error


def _failure(path: pathlib.Path, error: BaseException | None) -> LedgerUnavailable:
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int) and code & 0xFF in _MALFORMED:  # the low byte of an extended code
        return LedgerMalformed(f"the ledger {path} is damaged: {error}")
    return LedgerUnavailable(f"the ledger {path} cannot be used: {error}")
