"""`kling-receiver --check`: what the daemon would look at when it starts, printed. It creates nothing.

The looks are the daemon's own (archiver/engine/looks), one after the other, with what is said of each:

    ok       bucket kling-results
    failed   API of default: …
             what to do
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from archiver.engine.api_clocks import ApiClocks
from archiver.engine.looks.look import ApiLook, StoreLook
from archiver.engine.looks.machine import MachineLook
from archiver.engine.stages import Account
from archiver.failures import Failure, LedgerUnavailable
from archiver.fetch.spool import Spool
from archiver.ledger import LedgerUnusable, unix_ms
from archiver.ledger.databases.opening import perishable_file, require_usable
from archiver.store import Store

OK, WARNING, FAILED = "ok", "warning", "failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What one look has shown."""

    verdict: str
    message: str
    what_to_do: str = ""

    def lines(self) -> Iterator[str]:
        yield f"{self.verdict:<8} {self.message}"
        if self.what_to_do:
            yield f"{'':<8} {self.what_to_do}"


@dataclasses.dataclass(frozen=True)
class Checked:
    """What there is to look at, as the settings have it."""

    doubts: Sequence[str]
    """Sentences about the settings themselves."""
    ledger_url: str
    spool: Spool | None
    accounts: Sequence[Account]
    """Whose API is asked; none by a door, which has no spool and no store either."""
    bucket: str
    store: Store | None


def run(checked: Checked, *, write: Callable[[str], object]) -> int:
    """Print each finding as soon as it is known; 0, or 1 if anything has failed."""
    verdicts = set[str]()
    for finding in _findings(checked):
        verdicts.add(finding.verdict)
        for line in finding.lines():
            write(line + "\n")
    return int(FAILED in verdicts)


def _findings(checked: Checked) -> Iterator[Finding]:
    for sentence in checked.doubts:
        yield Finding(WARNING, sentence)
    yield from _ledger(checked.ledger_url)
    if checked.spool is not None:
        yield from _machine(MachineLook(checked.spool, checked.ledger_url))
    for account in checked.accounts:
        yield _looked(f"API of {account.name}", ApiLook(account.client, account.families).look)
        yield from _clock(account)
    if checked.store is None:
        return
    for account in checked.accounts:
        name = f"bucket {checked.bucket}" + (f", {account.prefix}" if account.prefix else "")
        yield _looked(name, StoreLook(checked.store, account.prefix).look)


def _looked(what: str, look: Callable[[], None]) -> Finding:
    try:
        look()
    except Failure as error:
        said = str(error).removeprefix(f"{what.partition(',')[0]}: ")
        return Finding(FAILED, f"{what}: {said}", error.what_to_do)
    return Finding(OK, what)


def _ledger(url: str) -> Iterator[Finding]:
    try:
        ledger = require_usable(url)
    except LedgerUnusable as error:
        yield Finding(FAILED, str(error))
    except LedgerUnavailable as error:
        yield Finding(FAILED, str(error), error.what_to_do)
    else:
        yield Finding(OK, f"ledger {ledger.name}" + ("" if ledger.exists else ", which the daemon will make"))
    if perishable := perishable_file(url):
        what_to_do = "Mount a volume at its folder (KLING_LEDGER_URL)."
        yield Finding(WARNING, f"the ledger {perishable} will vanish with this container", what_to_do)


def _machine(look: MachineLook) -> Iterator[Finding]:
    problems = look.look()
    for problem in problems:
        verdict = FAILED if problem.code == "disk_low" else WARNING
        yield Finding(verdict, problem.message, problem.what_to_do)
    if not problems:
        yield Finding(OK, "spool and disks")


def _clock(account: Account) -> Sequence[Finding]:
    client = account.client
    if client.answered_at is None:
        return []
    clocks = ApiClocks({account.name: client}, 0, now=unix_ms)
    for _, skew_ms in clocks.skewed():
        message = f"this machine's clock differs from the API's by {abs(skew_ms) / 1000:.0f} s"
        return [Finding(FAILED, message, "Set this machine's clock by NTP.")]
    if client.skew_ms is None:
        message = f"the API of {account.name} sends no Date: nothing checks this machine's clock"
        return [Finding(WARNING, message, "Keep this machine's clock right by NTP.")]
    return [Finding(OK, "clock")]
