"""Runs checks beside each other, and hands out what each has found, in the order of the table.

1. Each check has a time limit, and so have all of them together. A check that exceeds it is reported as failed. Its
   thread is left alone, and ends with the process.
2. A check that breaks is a finding too, and takes no other with it.
3. No finding contains a secret: messages may quote a server's answer, so they are redacted.
"""

import dataclasses
import queue
import threading
import time
from collections.abc import Collection, Iterator, Sequence

from archiver import log
from archiver.audit.doctor.finding import Check, Finding, Verdict
from archiver.failures import Failure
from archiver.ledger import LedgerUnusable
from archiver.redaction import Redaction

CHECKS_AT_ONCE = 32
TOTAL_SECONDS_MAX = 60.0
_BUG = "This is a bug in kling-archiver; please report it with the lines above."


def run(
    checks: Sequence[Check], *, secrets: Collection[str] = (), seconds_max: float = TOTAL_SECONDS_MAX
) -> Iterator[tuple[Check, list[Finding]]]:
    """Each check with its findings, as soon as it and those before it have ended."""
    redaction = Redaction(secrets)
    running = [_Running(check) for check in checks]
    waiting: queue.SimpleQueue[_Running] = queue.SimpleQueue()
    for one in running:
        waiting.put(one)
    _start(waiting, min(CHECKS_AT_ONCE, len(running)))
    ends_at = time.monotonic() + seconds_max
    for one in running:
        yield one.check, [_safe(finding, one.check, redaction) for finding in one.result(ends_at=ends_at)]


def _start(waiting: "queue.SimpleQueue[_Running]", count: int) -> None:
    """Start as many threads as the system allows. If it allows none, this thread runs every check."""
    for started in range(count):
        try:
            threading.Thread(target=_work, args=(waiting,), name="doctor", daemon=True).start()
        except RuntimeError:  # a limit of memory or of processes
            if started == 0:
                _work(waiting)
            return


class _Running:
    """A check and what it has found so far."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self._found: list[Finding] = []
        self._begun = threading.Event()
        self._ended = threading.Event()
        self._began_at = 0.0

    def run(self) -> None:
        self._began_at = time.monotonic()
        self._begun.set()
        try:
            for finding in self.check.find():
                self._found.append(finding)
        except Exception as error:  # noqa: BLE001 -- rule 2
            self._found.append(_raised(self.check, error))
        finally:
            self._ended.set()

    def result(self, *, ends_at: float) -> list[Finding]:
        """Wait for the check's own end, but no longer than until `ends_at` (by the monotonic clock)."""
        self._begun.wait(max(0.0, ends_at - time.monotonic()))
        if self._begun.is_set():
            ends_at = min(ends_at, self._began_at + self.check.seconds_max)
        if self._ended.wait(max(0.0, ends_at - time.monotonic())):
            return self._found
        begun = self._begun.is_set()
        said = f"no answer within {self.check.seconds_max:g} s" if begun else "not looked at in time"
        message = f"{self.check.what}: {said}"
        late = self.check.late if begun else "Run it again."
        return [*self._found, Finding(Verdict.FAILED, message, late)]


def _work(waiting: "queue.SimpleQueue[_Running]") -> None:
    while True:
        try:
            one = waiting.get_nowait()
        except queue.Empty:
            return
        one.run()


def _raised(check: Check, error: Exception) -> Finding:
    if isinstance(error, Failure):
        said = str(error).removeprefix(f"{check.what.partition(',')[0]}: ")
        return Finding(Verdict.FAILED, f"{check.what}: {said}", error.what_to_do)
    if isinstance(error, LedgerUnusable):
        return Finding(Verdict.FAILED, str(error))
    log.get().exception("command.crashed")
    return Finding(Verdict.FAILED, f"{check.what}: the check has crashed ({type(error).__name__})", _BUG)


def _safe(finding: Finding, check: Check, redaction: Redaction) -> Finding:
    return dataclasses.replace(
        finding,
        message=redaction.text(finding.message),
        what_to_do=redaction.text(finding.what_to_do),
        check=finding.check or check.name,
        account=finding.account or check.account,
    )
