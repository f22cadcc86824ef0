"""What a check is, and what it finds."""

import dataclasses
import enum
from collections.abc import Callable, Iterable, Iterator

SECONDS_MAX = 10.0
"""The limit of one check."""


class Verdict(enum.StrEnum):
    """The words are a contract: `--json` and `--check` print them."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What one check has shown."""

    verdict: Verdict
    message: str
    what_to_do: str = ""
    check: str = ""
    """Its name, where one check finds several things; else empty."""
    account: str | None = None
    """None for what concerns every account."""

    def as_json(self) -> dict[str, object]:
        """A row of `doctor --json`."""
        return {
            "check": self.check,
            "result": self.verdict.value,
            "message": self.message,
            "what_to_do": self.what_to_do,
            "account": self.account,
        }


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing to look at. `find` may block and may raise; `running` gives it an end."""

    name: str
    group: str
    """The heading above the check."""
    what: str
    """What the check looks at, in words: the message begins with it if the check raises or does not end."""
    find: Callable[[], Iterable[Finding]]
    account: str | None = None
    seconds_max: float = SECONDS_MAX
    late: str = ""
    """What to do if the check does not end in time."""


def ok(message: str, *, check: str = "") -> Finding:
    return Finding(Verdict.OK, message, check=check)


def warning(message: str, what_to_do: str, *, check: str = "") -> Finding:
    return Finding(Verdict.WARNING, message, what_to_do, check)


def failed(message: str, what_to_do: str, *, check: str = "") -> Finding:
    return Finding(Verdict.FAILED, message, what_to_do, check)


def named(check: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Give this name to findings that have none."""
    for finding in findings:
        yield finding if finding.check else dataclasses.replace(finding, check=check)
