"""What a failure is: its slug, its disposition, what the operator has to do."""

import enum
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from archiver.model import StoredAsset

NAMED_FILES_MAX = 5
"""Files that one sentence names."""


class Disposition(enum.StrEnum):
    RETRY = "retry"
    HOLD = "hold"
    BURY = "bury"


class HostVerdict(enum.Enum):
    """What a failed fetch shows about the file's host."""

    UNTOLD = enum.auto()
    """The host was not asked, or is not at fault."""
    DOWN = enum.auto()
    """The host would have delivered no file at all."""
    ADDRESS = enum.auto()
    """Its name has an address that is refused."""
    REFUSES = enum.auto()
    """It answered and gave nothing: its access rule may be at fault, or this URL."""
    ANSWERS = enum.auto()
    """It answered; this file alone is at fault."""


class Outside(enum.StrEnum):
    """An outside service that all tasks of an account share."""

    API = "api"
    STORE = "store"


class Failure(Exception):
    """`str(failure)` is a sentence for people, safe to log and to store."""

    reason: ClassVar[str] = "unexpected"
    disposition: Disposition = Disposition.RETRY
    outside: ClassVar[Outside | None] = None
    """Set if one such failure may concern the task only, but several in a row without a success mean that the whole API
    or store fails; `as_hold` then makes it a hold. None if `disposition` alone decides."""
    is_of_process: ClassVar[bool] = False
    """A failure of network or credentials: it may concern only this machine or this process's settings, while other
    processes work."""
    is_probed: ClassVar[bool] = True
    """Whether tasks probe the hold. Otherwise only a start of the daemon ends it, and its tasks are judged anew."""
    what_to_do: str = ""
    host_verdict: ClassVar[HostVerdict] = HostVerdict.UNTOLD

    def __init__(
        self,
        message: str,
        *,
        family: str | None = None,
        host: str | None = None,
        what_to_do: str | None = None,
    ) -> None:
        """`what_to_do` replaces the class's usual sentence by one that names the cause."""
        super().__init__(message)
        if what_to_do is not None:
            self.what_to_do = what_to_do
        self.family = family
        """Set if the hold concerns this family only."""
        self.host = host
        """The CDN host that failed."""

    def as_hold(self) -> Self:
        """Turn this failure into a hold: similar failures have shown that no task can go on."""
        self.disposition = Disposition.HOLD
        return self


class LeaseLost(Exception):
    """Another worker may hold the lease: write nothing. Not a failure of the task."""


class TaskForgotten(Failure):
    """An operator has forgotten the task: it is never followed again, whatever names it."""

    reason = "task_forgotten"
    what_to_do = "Nothing was changed or created. A new task needs another id or external id."


class LedgerUnavailable(Failure):
    """The ledger is locked, full, read-only or unreachable. Nothing was written, unless a server's answer was lost.
    Callbacks get a 503, and the engine waits."""

    reason = "ledger_unavailable"
    what_to_do = (
        "Check that no other program writes to the ledger, and that its disk is not full and not read-only."
    )


class LedgerNotReached(LedgerUnavailable):
    """The database server does not answer, or answers that it cannot now."""

    what_to_do = "Start the PostgreSQL server, or correct KLING_LEDGER_URL."


class LoopStalled(Failure):
    """A thread of the engine hangs. Never raised: `pulses.watch` finds it from outside."""

    reason = "loop_stalled"
    disposition = Disposition.HOLD
    is_probed = False
    what_to_do = (
        "Restart the process, unless systemd, Kubernetes or Compose does it within minutes. Its log event loop.stalled "
        "says where it hangs: please report that."
    )


class LedgerMalformed(LedgerUnavailable):
    """SQLite finds its own file damaged."""

    reason = "ledger_malformed"
    what_to_do = (
        "Stop kling-receiver. Move the ledger away together with its -wal and -shm files, or restore a copy, and start "
        "again: nothing in the bucket is lost, and a new ledger finds the tasks of the last 30 days again."
    )


def reason_of(error: Exception) -> str:
    """The failure's slug; `unexpected` for any other exception."""
    return error.reason if isinstance(error, Failure) else Failure.reason


class PartlyDone(Exception):
    """A task failed with `cause` after some of its assets were stored."""

    def __init__(
        self, cause: Exception, *, stored: Sequence[StoredAsset], failed: Mapping[str, Exception]
    ) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.stored = tuple(stored)
        self.failed = dict(failed)


def files_of(error: Exception, failed: Mapping[str, Exception]) -> list[str]:
    """The stems of those files (stem → failure) that failed as the whole task did."""
    return sorted(stem for stem, each in failed.items() if reason_of(each) == reason_of(error))


def sentence_of(error: Exception, failed: Mapping[str, Exception]) -> str:
    """What happened, and to which files (stem → failure)."""
    stems = files_of(error, failed)
    if not stems:
        return str(error)
    named = ", ".join(stems[:NAMED_FILES_MAX])
    more = len(stems) - NAMED_FILES_MAX
    named += f" and {more} more" if more > 0 else ""
    return f"file{'s' if len(stems) > 1 else ''} {named}: {error}"


class Stopped(Exception):
    """The process is stopping: the lease is given back, and costs no attempt."""


class Deposed(Stopped):
    """Another process now asks for the account: nothing was written, and running work is given back."""

    def __init__(self, account: str) -> None:
        super().__init__(
            f"another process asks for the account {account}" if account else "another process has it"
        )
